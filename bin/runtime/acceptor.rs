//! Peers are heard only after they said who they are, and a stranger costs a socket, 4 KiB and five seconds at most.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use annulus_membership::{Hello, HelloError};
use annulus_node::Input;
use annulus_protocol::{
    FrameError, FrameReader, Handshake, HandshakeError, Message, MessageError, Opening, Refused, negotiate,
};
use annulus_ring::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::NodeView;
use super::inbox::Inbox;
use super::links::{HANDSHAKE_TIMEOUT, Links, prepare};
use super::throttle::Throttle;

/// Connections that have not said who they are, at once.
const MAX_STRANGERS: usize = 256;

/// How long accepting pauses where the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two warnings that strangers can cause.
const WARN_AGAIN: Duration = Duration::from_secs(10);

/// Why a connection ended that the other side did not close.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it did not say who it is within {HANDSHAKE_TIMEOUT:?}")]
    Silent,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("it is refused: {0}")]
    Refused(Refused),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The peers that speak to a node.
pub(crate) struct Acceptor {
    inbox: Rc<Inbox>,
    links: Rc<Links>,
    node: Rc<dyn NodeView>,
    strangers: Cell<usize>,
    /// A peer speaks on one connection: dropping what is kept here ends the older one.
    speaking: RefCell<BTreeMap<NodeId, oneshot::Sender<()>>>,
    warnings: Throttle,
    tasks: RefCell<JoinSet<()>>,
}

impl Acceptor {
    /// Accepts peers from now on.
    pub(crate) fn start(
        listener: Rc<TcpListener>,
        inbox: Rc<Inbox>,
        links: Rc<Links>,
        node: Rc<dyn NodeView>,
    ) -> Rc<Acceptor> {
        let acceptor = Rc::new(Acceptor {
            inbox,
            links,
            node,
            strangers: Cell::new(0),
            speaking: RefCell::default(),
            warnings: Throttle::new(WARN_AGAIN),
            tasks: RefCell::default(),
        });
        acceptor
            .tasks
            .borrow_mut()
            .spawn_local(Rc::clone(&acceptor).accept(listener));
        acceptor
    }

    /// Accepts no more and closes every connection; returns when none of its tasks is left.
    pub(crate) async fn close(&self) {
        let mut tasks = self.tasks.take();
        tasks.shutdown().await;
    }

    async fn accept(self: Rc<Self>, listener: Rc<TcpListener>) {
        loop {
            match listener.accept().await {
                Ok((socket, address)) if self.strangers.get() < MAX_STRANGERS => {
                    self.strangers.set(self.strangers.get() + 1);
                    let mut tasks = self.tasks.borrow_mut();
                    // Those that have ended are taken out, so that the set holds the open ones only.
                    while tasks.try_join_next().is_some() {}
                    tasks.spawn_local(Rc::clone(&self).serve(socket, address.to_string()));
                }
                Ok((_, address)) => {
                    self.warn(
                        &address.to_string(),
                        &format!("{MAX_STRANGERS} others have not said yet who they are"),
                    );
                }
                Err(error) => {
                    self.warn("the peer port", &error.to_string());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, mut socket: TcpStream, address: String) {
        prepare(&socket);
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.greet(&mut socket)).await;
        self.strangers.set(self.strangers.get() - 1);
        let ended = match opened.unwrap_or(Err(PeerError::Silent)) {
            Ok(Some((hello, frames))) => self.listen(socket, hello, frames).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => {}
            // Connections break; the detector and the dialling side know what that means.
            Err(PeerError::Io(error)) => tracing::debug!(address, %error, "a peer's connection broke"),
            Err(error) => self.warn(&address, &error.to_string()),
        }
    }

    /// Hears who it is, and answers; none where it went away, or is this node itself.
    async fn greet(&self, socket: &mut TcpStream) -> Result<Option<(Hello, FrameReader)>, PeerError> {
        let mut handshake = Handshake::new();
        let theirs = loop {
            match handshake.opening()? {
                Some(Opening::Hello(theirs)) => break theirs,
                Some(Opening::Refused(refused)) => return Err(PeerError::Refused(refused)),
                None => {}
            }
            if socket.read_buf(handshake.space()).await? == 0 {
                return Ok(None);
            }
        };
        let mine = self.node.hello(Some(theirs.record.id()));
        let judged = negotiate(&mine, &theirs).map(|_| self.node.check(&theirs));
        let refused = match judged {
            Ok(Ok(())) => None,
            // It hears its own hello, and knows.
            Ok(Err(HelloError::Myself)) => {
                answer(socket, Opening::Hello(mine)).await?;
                return Ok(None);
            }
            Ok(Err(error)) => Some(Refused::new(error.to_string())),
            Err(refused) => Some(refused),
        };
        if let Some(refused) = refused {
            answer(socket, Opening::Refused(refused.clone())).await?;
            return Err(PeerError::Refused(refused));
        }
        answer(socket, Opening::Hello(mine)).await?;
        Ok(Some((theirs, handshake.into_frames())))
    }

    async fn listen(&self, socket: TcpStream, hello: Hello, frames: FrameReader) -> Result<(), PeerError> {
        let from = hello.record.id();
        let (place, replaced) = oneshot::channel();
        self.inbox.push(Input::Accepted { hello });
        self.links.nudge();
        tokio::select! {
            ended = self.hear(socket, from, frames, place) => ended,
            _ = replaced => Ok(()),
        }
    }

    /// The first message, not the handshake, takes the place of the peer's older connection: who dials a second address
    /// of the same node learns so only by the handshake, and closes.
    async fn hear(
        &self,
        mut socket: TcpStream,
        from: NodeId,
        mut frames: FrameReader,
        place: oneshot::Sender<()>,
    ) -> Result<(), PeerError> {
        let mut place = Some(place);
        loop {
            while let Some(frame) = frames.next_frame()? {
                let bytes = frame.len();
                self.inbox.push_message(from, Message::decode(frame)?, bytes);
                if let Some(place) = place.take() {
                    self.speaking.borrow_mut().insert(from, place);
                }
            }
            self.inbox.room().await;
            if socket.read_buf(frames.space()).await? == 0 {
                return Ok(());
            }
        }
    }

    fn warn(&self, address: &str, reason: &str) {
        if let Some(more) = self.warnings.admit(Instant::now()) {
            tracing::warn!(address, more, "a connection on the peer port was closed: {reason}");
        }
    }
}

async fn answer(socket: &mut TcpStream, opening: Opening) -> Result<(), PeerError> {
    let mut out = Vec::new();
    opening.append(&mut out)?;
    Ok(socket.write_all(&out).await?)
}
