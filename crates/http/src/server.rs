//! Connections are accepted, watched and drained on one thread; none outlives its limits, and a full table of files
//! neither ends nor spins the loop.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use annulus_coordinator::{Reply, Request};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{
    activity::{Activity, Pace},
    connection::Socket,
    gate::Gate,
    limits::{Limits, READ_BUFFER_BYTES},
    metrics::{Metrics, increment},
    problem::TOO_MANY_CONNECTIONS,
    route,
};

/// How long accepting pauses after an error that is not one connection's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The node, as the public API sees it.
pub trait Service: 'static {
    /// Answers a request. The future runs inside the connection's task and is dropped where the connection ends before
    /// it: what must then go on is the node's to keep. That it ends, and when, is the node's too: its deadline bounds it.
    fn call(&self, request: Request) -> impl Future<Output = Reply> + 'static;

    /// The node's metrics as Prometheus text; this crate appends its own.
    fn metrics(&self) -> String;
}

/// What all connections share.
pub(crate) struct Server<S> {
    pub(crate) service: Rc<S>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Rc<Gate>,
    pace: Pace,
    clock: Rc<Cell<u32>>,
    draining: Cell<bool>,
    connections: RefCell<BTreeMap<u64, Rc<Activity>>>,
    changed: Notify,
}

/// What the requests of one connection share.
pub(crate) struct Connection<S> {
    pub(crate) server: Rc<Server<S>>,
    pub(crate) activity: Rc<Activity>,
}

/// Serves the API on `listener` until `shutdown` resolves, then drains: no more connections are accepted, idle ones are
/// closed at once, requests in progress are finished. Returns when all connections are gone; the caller bounds the time.
///
/// Must be called inside a [`tokio::task::LocalSet`]; every connection is a local task.
///
/// ```
/// use std::{future, rc::Rc};
///
/// use annulus_coordinator::{Answer, Reply, Request};
/// use annulus_http::{Limits, Service, serve};
///
/// struct AlwaysReady;
/// impl Service for AlwaysReady {
///     fn call(&self, _: Request) -> impl Future<Output = Reply> + 'static {
///         future::ready(Ok(Answer::Ready))
///     }
///     fn metrics(&self) -> String {
///         String::new()
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// tokio::task::LocalSet::new().block_on(&runtime, async {
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
///     serve(listener, Rc::new(AlwaysReady), Limits::default(), future::ready(())).await;
///     Ok(())
/// })
/// # }
/// ```
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Rc<S>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let server = Rc::new(Server::new(service, limits));
    let work = async {
        accept(&listener, &server, shutdown).await;
        drop(listener);
        server.drain().await;
    };
    tokio::select! {
        () = work => {}
        never = server.sweep() => match never {},
    }
}

async fn accept<S: Service>(listener: &TcpListener, server: &Rc<Server<S>>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => server.admit(stream),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                increment(&server.metrics.accept_errors);
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::select! {
                    () = &mut shutdown => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// The client was gone before its connection was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

impl<S: Service> Server<S> {
    fn new(service: Rc<S>, limits: Limits) -> Self {
        Self {
            service,
            metrics: Metrics::default(),
            gate: Gate::new(&limits),
            pace: Pace::new(&limits),
            limits,
            clock: Rc::default(),
            draining: Cell::new(false),
            connections: RefCell::default(),
            changed: Notify::new(),
        }
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    fn admit(self: &Rc<Self>, stream: TcpStream) {
        if self.connections() >= self.limits.max_connections {
            increment(&self.metrics.refused);
            let problem = TOO_MANY_CONNECTIONS
                .because("no further connection is accepted")
                .fact("outcome", "none");
            // A fresh socket's buffer takes so much; where it does not, there is nothing to be done for this client.
            let _ = stream.try_write(&problem.to_last_response());
            return;
        }
        increment(&self.metrics.accepted);
        // It fails on a socket that is closed already, which the first read will tell.
        let _ = stream.set_nodelay(true);
        let number = self.metrics.accepted.get();
        let activity = Rc::new(Activity::new(Rc::clone(&self.clock)));
        self.connections.borrow_mut().insert(number, Rc::clone(&activity));
        self.changed.notify_waiters();
        let entry = Entry {
            server: Rc::clone(self),
            number,
        };
        tokio::task::spawn_local(async move {
            run(&entry.server, stream, activity).await;
            drop(entry);
        });
    }

    /// One round a tick over the open connections, and none while there are none.
    async fn sweep(&self) -> Infallible {
        loop {
            if self.connections() == 0 {
                self.changed.notified().await;
            }
            tokio::time::sleep(self.pace.tick).await;
            self.clock.set(self.clock.get().wrapping_add(1));
            for activity in self.connections.borrow().values() {
                match activity.overdue(self.pace) {
                    Some(overdue) if !activity.is_abandoned() => {
                        self.metrics.closed_overdue(overdue);
                        activity.abandon();
                    }
                    _ => activity.slim(),
                }
            }
        }
    }

    async fn drain(&self) {
        self.draining.set(true);
        for activity in self.connections.borrow().values() {
            activity.wake();
        }
        while self.connections() > 0 {
            self.changed.notified().await;
        }
    }
}

/// A connection's place in the table.
struct Entry<S> {
    server: Rc<Server<S>>,
    number: u64,
}

impl<S> Drop for Entry<S> {
    fn drop(&mut self) {
        self.server.connections.borrow_mut().remove(&self.number);
        self.server.changed.notify_waiters();
    }
}

/// Serves one connection until it ends, the sweep gives it up, or it is drained.
async fn run<S: Service>(server: &Rc<Server<S>>, stream: TcpStream, activity: Rc<Activity>) {
    let io = TokioIo::new(Socket::new(stream, Rc::clone(&activity)));
    let shared = Rc::new(Connection {
        server: Rc::clone(server),
        activity: Rc::clone(&activity),
    });
    let service = service_fn(move |request| {
        let connection = Rc::clone(&shared);
        connection.activity.begin_request();
        async move { Ok::<_, Infallible>(route::answer(connection, request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            // Who has sent all may close that direction and still read (RFC 9112 §9.6): `nc` does.
            .half_close(true)
            .max_header_size(server.limits.max_header_bytes)
            .max_buf_size(READ_BUFFER_BYTES.max(server.limits.max_header_bytes))
            .serve_connection(io, service)
    );
    let mut told = false;
    poll_fn(|cx| {
        activity.keep_waker(cx.waker());
        if activity.is_abandoned() {
            return Poll::Ready(());
        }
        if server.draining.get() && !std::mem::replace(&mut told, true) {
            connection.as_mut().graceful_shutdown();
        }
        // Its error is the client's: it went away, or sent what hyper has answered already.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}
