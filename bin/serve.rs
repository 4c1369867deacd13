//! `annulus serve`: from a checked configuration to a running node, and to its end in order.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use annulus_coordinator::Request;
use annulus_http::{Limits, Service as _};
use annulus_node::Settings;
use annulus_ring::NodeName;
use annulus_storage::DataDirectory;
use annulus_storage::directory::DirectoryError;
use annulus_storage::engine::fjall::{FjallEngine, FjallOptions};
use annulus_storage::engine::memory::MemoryEngine;
use annulus_storage::engine::sled::{SledEngine, SledOptions};
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::config::{Config, Endpoint, EngineKind};
use crate::runtime::{Clients, Clock, Ended, Life, OpenFailure, Service};
use crate::telemetry::{self, Gauges};

/// After a disk failure the directory is looked at again this often.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// While the node cannot be opened, the log says so this often.
const SAY_AGAIN: u32 = 30;

/// Until the node is ready for the first time it is asked this often.
const LOOK_READY: Duration = Duration::from_millis(100);

/// And says why not after so many times.
const SAY_UNREADY: u32 = 100;

/// Connections that wait to be accepted. The usual 128 are full when a crowd comes back after a restart, and whom the
/// system then drops tries again only after a second.
const BACKLOG: u32 = 4096;

/// Why a node does not serve.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot listen on {address}: {error}; free it, or choose another with {option}")]
    Listen {
        option: &'static str,
        address: Endpoint,
        error: io::Error,
    },
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Open(#[from] OpenFailure),
    #[error("{0}")]
    Refused(String),
    #[error("{doing}: {error}")]
    System { doing: &'static str, error: io::Error },
}

/// Serves until it is told to stop: 0 after a clean stop, 1 otherwise.
pub(crate) fn run(config: &Config) -> ExitCode {
    telemetry::start(&config.log, config.log_format);
    match catch_unwind(AssertUnwindSafe(|| serve(config))) {
        Ok(Ok(())) => {
            tracing::info!(node = %config.name, "stopped");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            tracing::error!(node = %config.name, "{error}");
            ExitCode::FAILURE
        }
        // The panic hook has said what happened.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(config: &Config) -> Result<(), ServeError> {
    raise_file_limit(config);
    let system = |doing| move |error| ServeError::System { doing, error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("starting the runtime"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let signals = Signals::listen().map_err(system("listening for signals"))?;
        let directory = DataDirectory::open(&config.data_dir, config.name.as_str())?;
        directory.check_engine(config.engine.as_str())?;
        let http = listen("--http", &config.http).await?;
        let peer = listen("--peer", &config.peer).await?;
        Server::new(config, directory, &http, peer)?.run(http, signals).await
    })
}

/// Ten thousand idle clients are as many files; the soft limit is often 1024.
fn raise_file_limit(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    let files = if raised.is_ok() { limit.maximum } else { limit.current };
    if files.is_some_and(|files| files < config.max_connections as u64) {
        let files = files.unwrap_or_default();
        tracing::warn!(
            files,
            connections = config.max_connections,
            "fewer files may be open than --max-connections: raise ulimit -n"
        );
    }
}

async fn listen(option: &'static str, address: &Endpoint) -> Result<TcpListener, ServeError> {
    listen_at_one_of(address).await.map_err(|error| ServeError::Listen {
        option,
        address: address.clone(),
        error,
    })
}

/// The first address of a host that can be had.
async fn listen_at_one_of(address: &Endpoint) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host(address.to_string()).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // A restart must not wait for what is left of the connections before it.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What others are told to connect to: the configured address, with the port that the system gave where it was asked.
fn advertised(configured: &Endpoint, listener: &TcpListener) -> Result<String, ServeError> {
    if configured.port() != 0 {
        return Ok(configured.to_string());
    }
    let local = listener.local_addr().map_err(|error| ServeError::System {
        doing: "asking for the port",
        error,
    })?;
    Ok(configured.with_port(local.port()).to_string())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        poll_fn(
            |context| match (self.terminate.poll_recv(context), self.interrupt.poll_recv(context)) {
                (Poll::Ready(_), _) => Poll::Ready("SIGTERM"),
                (_, Poll::Ready(_)) => Poll::Ready("SIGINT"),
                _ => Poll::Pending,
            },
        )
        .await
    }
}

/// A process that serves one node, through all its lives.
struct Server<'a> {
    config: &'a Config,
    settings: Settings,
    directory: RefCell<DataDirectory>,
    peer: Rc<TcpListener>,
    clients: Rc<Clients>,
    gauges: Rc<Gauges>,
    clock: Clock,
    /// Survives a life, as a disk does.
    memory: MemoryEngine,
}

impl<'a> Server<'a> {
    fn new(
        config: &'a Config,
        directory: DataDirectory,
        http: &TcpListener,
        peer: TcpListener,
    ) -> Result<Server<'a>, ServeError> {
        let http = advertised(config.http_address(), http)?;
        let settings = settings(config, http, advertised(config.peer_address(), &peer)?);
        Ok(Server {
            config,
            settings,
            directory: RefCell::new(directory),
            peer: Rc::new(peer),
            clients: Rc::new(Clients::new("the node is opening its data directory")),
            gauges: Rc::default(),
            clock: Clock::start(),
            memory: MemoryEngine::new(),
        })
    }

    /// Serves clients throughout, and the node in one life after the other.
    async fn run(&self, listener: TcpListener, mut signals: Signals) -> Result<(), ServeError> {
        self.say_hello();
        let (drain, draining) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let service = Rc::new(Service {
            clients: Rc::clone(&self.clients),
            gauges: Rc::clone(&self.gauges),
        });
        tokio::task::spawn_local(say_ready(Rc::clone(&service), self.config.name.clone()));
        let http = annulus_http::serve(listener, service, limits(self.config), raised(draining));
        let http = tokio::task::spawn_local(http);
        let name = &self.config.name;
        let until_stopped = async {
            let which = signals.next().await;
            tracing::info!(node = %name, "{which}: finishing the requests under way; once more to stop at once");
            drain.send_replace(true);
            tokio::select! {
                ended = tokio::time::timeout(self.config.drain_timeout.0, http) => if ended.is_err() {
                    tracing::warn!(node = %name, "requests still under way after --drain-timeout are cut off");
                },
                which = signals.next() => abort(which),
            }
            stop.send_replace(true);
            abort(signals.next().await)
        };
        tokio::select! {
            ended = self.live(stopping) => ended,
            never = until_stopped => match never {},
        }
    }

    fn say_hello(&self) {
        tracing::info!(
            node = %self.config.name,
            http = self.settings.http,
            peer = self.settings.peer,
            data_dir = %self.config.data_dir.display(),
            engine = %self.config.engine,
            version = self.settings.version,
            "starting"
        );
    }

    /// One life after the other, until one ends as it was told to.
    async fn live(&self, stopping: watch::Receiver<bool>) -> Result<(), ServeError> {
        let mut ended = self.live_once(stopping.clone()).await.map_err(ServeError::Open)?;
        loop {
            match ended {
                Ended::Stopped => return Ok(()),
                Ended::Refused(reason) => return Err(ServeError::Refused(reason)),
                Ended::DiskFailed(_) => {}
            }
            ended = tokio::select! {
                ended = self.live_again(stopping.clone()) => ended,
                () = raised(stopping.clone()) => return Ok(()),
            };
        }
    }

    /// Waits for room, and opens the directory as often as it takes.
    async fn live_again(&self, stopping: watch::Receiver<bool>) -> Ended {
        for attempt in 0u32.. {
            tokio::time::sleep(TRY_AGAIN).await;
            let free = self.directory.borrow().free_bytes();
            let reason = match free {
                Ok(free) if free < self.config.min_free_bytes.0 => {
                    format!("{free} bytes are free, {} are needed", self.config.min_free_bytes)
                }
                _ => match self.live_once(stopping.clone()).await {
                    Ok(ended) => return ended,
                    Err(error) => error.to_string(),
                },
            };
            if attempt % SAY_AGAIN == 0 {
                tracing::error!(node = %self.config.name, "not serving; looking again every second: {reason}");
            }
            self.clients.detach(&format!("its disk failed: {reason}"));
        }
        unreachable!("a node that is asked every second is not asked four billion times")
    }

    async fn live_once(&self, stopping: watch::Receiver<bool>) -> Result<Ended, OpenFailure> {
        let life = Life {
            settings: self.settings.clone(),
            directory: &self.directory,
            listener: Rc::clone(&self.peer),
            clients: Rc::clone(&self.clients),
            gauges: Rc::clone(&self.gauges),
            clock: self.clock,
        };
        match self.config.engine {
            EngineKind::Memory => life.run(self.memory.clone(), raised(stopping)).await,
            EngineKind::Fjall => {
                let path = self.directory.borrow().engine_path(EngineKind::Fjall.as_str());
                let options = FjallOptions {
                    cache_bytes: self.config.cache_bytes.0,
                    // The node refuses writes before the engine has to, which costs reads, too.
                    reserve_bytes: self.config.min_free_bytes.0 / 2,
                    ..FjallOptions::default()
                };
                life.run(FjallEngine::open(&path, options)?, raised(stopping)).await
            }
            EngineKind::Sled => {
                let path = self.directory.borrow().engine_path(EngineKind::Sled.as_str());
                let options = SledOptions {
                    cache_bytes: self.config.cache_bytes.0,
                    // The node refuses writes before the engine has to, which costs reads, too.
                    reserve_bytes: self.config.min_free_bytes.0 / 2,
                };
                life.run(SledEngine::open(&path, options)?, raised(stopping)).await
            }
        }
    }
}

/// Says once that the node is ready; before, now and then, why it is not yet.
async fn say_ready(service: Rc<Service>, name: NodeName) {
    for attempt in 1u32.. {
        match service.call(Request::Ready).await {
            Ok(_) => return tracing::info!(node = %name, "ready"),
            Err(reason) if attempt.is_multiple_of(SAY_UNREADY) => {
                tracing::info!(node = %name, "not ready yet: {reason}")
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_READY).await;
    }
}

/// Returns once the flag is up, or whoever could raise it is gone.
async fn raised(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// The operator does not want to wait: what was acknowledged is durable already.
fn abort(which: &str) -> ! {
    tracing::warn!("{which} again: stopping at once");
    std::process::exit(1)
}

fn settings(config: &Config, http: String, peer: String) -> Settings {
    Settings {
        join: config.join.iter().map(ToString::to_string).collect(),
        bootstrap_expect: config.bootstrap_expect,
        region: config.region.clone(),
        zone: config.zone.clone(),
        capacity: config.capacity,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        replicas: config.replicas,
        partitions: config.partitions,
        timeout: config.timeout.0,
        min_free_bytes: config.min_free_bytes.0,
        hint_bytes_per_peer: config.hint_bytes_per_peer.0,
        hint_lifetime: config.hint_lifetime.0,
        scrub_bytes_per_second: config.scrub_rate.0,
        catch_up_bytes_per_second: config.catch_up_rate.0,
        heartbeat: config.heartbeat.0,
        ..Settings::new(config.name.clone(), http, peer)
    }
}

fn limits(config: &Config) -> Limits {
    let bytes = |size: crate::config::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    Limits {
        max_value_bytes: bytes(config.max_value_bytes),
        request_timeout: config.request_timeout.0,
        idle_timeout: config.idle_timeout.0,
        max_connections: config.max_connections,
        max_inflight_bytes: bytes(config.max_inflight_bytes),
        max_inflight_requests: config.max_inflight_requests,
        ..Limits::default()
    }
}
