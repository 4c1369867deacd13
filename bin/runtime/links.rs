//! There is one link to each peer, whatever addresses lead to it, and it is dialled again for as long as it is down.
//!
//! A link carries messages one way: the dialler sends, and reads only to notice at once that the peer has closed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use annulus_membership::{Hello, HelloError};
use annulus_node::Input;
use annulus_protocol::{Handshake, HandshakeError, Message, Opening, Refused, negotiate};
use annulus_ring::NodeId;
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::NodeView;
use super::backoff::Backoff;
use super::inbox::Inbox;
use super::outbox::{Outbox, OutboxError};

/// How long an opening may take, on either side.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What was sent and not acknowledged for so long ends a connection (`TCP_USER_TIMEOUT`). Without it, TCP would stay
/// silent after a partition for about as long as the partition had lasted.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// After so long without a word the system asks whether the other side is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);

/// A node that is refused everywhere goes on trying for so long: a name may be taken by a life of its own that the others have not yet
/// missed.
const TURNED_AWAY_AFTER: Duration = Duration::from_secs(5);

/// Sets what a connection between nodes needs. A socket that is closed already refuses, which its first use will tell.
pub(crate) fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let millis = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, millis);
    let _ = rustix::net::sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER);
    let _ = rustix::net::sockopt::set_socket_keepalive(socket, true);
}

/// Why an address did not give a link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    /// It cannot be reached.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not answer.
    #[error("no answer within {HANDSHAKE_TIMEOUT:?}")]
    Silent,
    /// It closed before it said who it is.
    #[error("it closed the connection without a word")]
    Closed,
    /// What answers there is no node, or one with another protocol.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It does not want this node.
    #[error("it refuses this node: {0}")]
    Refused(Refused),
    /// This node does not want it.
    #[error("this node refuses it: {0}")]
    Unwanted(String),
}

impl DialError {
    fn is_refusal(&self) -> bool {
        matches!(self, DialError::Refused(_) | DialError::Unwanted(_))
    }

    /// At a start peers come one after the other, and that one is not there yet is no reason for alarm.
    fn tell(&self, address: &str) {
        match self {
            DialError::Io(_) | DialError::Silent | DialError::Closed => {
                tracing::info!(address, "no link yet: {self}; trying again");
            }
            DialError::Handshake(_) | DialError::Refused(_) | DialError::Unwanted(_) => {
                tracing::warn!(address, "no link: {self}; trying again");
            }
        }
    }
}

/// Where an address led.
enum Dialled {
    /// To this node.
    Myself,
    /// To a peer.
    Peer(TcpStream, Box<Hello>),
}

/// All links of a node.
pub(crate) struct Links {
    inbox: Rc<Inbox>,
    node: Rc<dyn NodeView>,
    asked: RefCell<BTreeSet<String>>,
    up: RefCell<BTreeMap<NodeId, Rc<Link>>>,
    /// A link went down.
    changed: Notify,
    /// A peer came: who waits to dial again need not wait any longer.
    nudged: Notify,
    diallers: RefCell<JoinSet<()>>,
    /// Addresses whose last word was that this node and the one there do not go together, with the reason.
    refusing: RefCell<BTreeMap<String, String>>,
    /// Whether any link was ever up: a node that had one is never turned away.
    had_one: Cell<bool>,
    started: tokio::time::Instant,
    refused: Notify,
    /// Addresses that lead back to this node.
    own: RefCell<BTreeSet<String>>,
}

/// A link that is up.
#[derive(Default)]
struct Link {
    outbox: Outbox,
    overflowed: Notify,
}

impl Links {
    /// No links yet.
    pub(crate) fn new(inbox: Rc<Inbox>, node: Rc<dyn NodeView>) -> Rc<Links> {
        Rc::new(Links {
            inbox,
            node,
            asked: RefCell::default(),
            up: RefCell::default(),
            changed: Notify::new(),
            nudged: Notify::new(),
            diallers: RefCell::default(),
            refusing: RefCell::default(),
            had_one: Cell::new(false),
            started: tokio::time::Instant::now(),
            refused: Notify::new(),
            own: RefCell::default(),
        })
    }

    /// Keeps a link to this address from now on; asked again, it is the same.
    pub(crate) fn connect(self: &Rc<Self>, address: String) {
        if self.asked.borrow_mut().insert(address.clone()) {
            self.diallers.borrow_mut().spawn_local(keep(Rc::clone(self), address));
        }
    }

    /// Dials at once what is not up: a peer that has just come can be reached, most likely.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_waiters();
    }

    /// Closes all links and dials no more; returns when none of its tasks is left.
    pub(crate) async fn close(&self) {
        let mut diallers = self.diallers.take();
        diallers.shutdown().await;
    }

    /// Adds a message to the peer's next write, and says how many bytes that are; dropped where no link is up.
    pub(crate) fn send(&self, to: NodeId, message: &Message) -> usize {
        let up = self.up.borrow();
        let Some(link) = up.get(&to) else { return 0 };
        match link.outbox.append(message) {
            Ok(bytes) => return bytes,
            Err(OutboxError::Full { .. }) => link.overflowed.notify_one(),
            Err(error) => {
                tracing::error!(peer = %to, kind = message.kind(), %error, "a message is too large to be sent")
            }
        }
        0
    }

    /// How many links are up, and how many bytes wait in them.
    pub(crate) fn figures(&self) -> (usize, usize) {
        let up = self.up.borrow();
        (up.len(), up.values().map(|link| link.outbox.bytes()).sum())
    }

    /// Whether no peer has ever taken this node.
    pub(crate) fn never_met(&self) -> bool {
        !self.had_one.get()
    }

    /// Returns, with all reasons, where everybody who was asked has refused this node for a while, and nobody ever took it: its
    /// directory is of another cluster, or its name is taken, and serving would be a mistake.
    pub(crate) async fn turned_away(&self) -> String {
        loop {
            self.refused.notified().await;
            let refusing = self.refusing.borrow();
            let own = self.own.borrow();
            let refuses = |address: &String| own.contains(address) || refusing.contains_key(address);
            let all = self.asked.borrow().iter().all(refuses);
            if all && self.never_met() && self.started.elapsed() > TURNED_AWAY_AFTER {
                let reasons: Vec<String> = refusing
                    .iter()
                    .map(|(address, reason)| format!("{address}: {reason}"))
                    .collect();
                return format!(
                    "every address that this node knows refuses it ({}); correct --join, or start it with a directory of that cluster or \
                     an empty one",
                    reasons.join("; ")
                );
            }
        }
    }

    async fn dial(&self, address: &str, to: Option<NodeId>) -> Result<Dialled, DialError> {
        let opened = async {
            let mut socket = TcpStream::connect(address).await?;
            prepare(&socket);
            let mine = self.node.hello(to);
            let theirs = greet(&mut socket, &mine).await?;
            Ok((socket, mine, theirs))
        };
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, opened).await;
        let (socket, mine, theirs) = opened.unwrap_or(Err(DialError::Silent))?;
        negotiate(&mine, &theirs).map_err(|refused| DialError::Unwanted(refused.to_string()))?;
        match self.node.check(&theirs) {
            Ok(()) => Ok(Dialled::Peer(socket, Box::new(theirs))),
            Err(HelloError::Myself) => Ok(Dialled::Myself),
            Err(error) => Err(DialError::Unwanted(error.to_string())),
        }
    }

    /// Carries messages until the link breaks; says why it did.
    async fn run(&self, link: &Link, mut socket: TcpStream) -> String {
        let (reader, writer) = socket.split();
        tokio::select! {
            error = link.outbox.pump(writer) => error.to_string(),
            reason = closed(reader) => reason,
            () = link.overflowed.notified() => {
                format!("{} bytes wait for it: it reads too slowly, or not at all", link.outbox.bytes())
            }
        }
    }

    /// Returns once there is no link to `peer`.
    async fn until_down(&self, peer: NodeId) {
        while self.up.borrow().contains_key(&peer) {
            self.changed.notified().await;
        }
    }
}

/// Both say hello; the peer's is not checked yet.
async fn greet(socket: &mut TcpStream, mine: &Hello) -> Result<Hello, DialError> {
    let mut out = Vec::new();
    Opening::Hello(mine.clone())
        .append(&mut out)
        .map_err(HandshakeError::Frame)?;
    socket.write_all(&out).await?;
    let mut handshake = Handshake::new();
    loop {
        match handshake.opening()? {
            Some(Opening::Hello(theirs)) => return Ok(theirs),
            Some(Opening::Refused(refused)) => return Err(DialError::Refused(refused)),
            None => {}
        }
        if socket.read_buf(handshake.space()).await? == 0 {
            return Err(DialError::Closed);
        }
    }
}

/// Returns once the peer has closed; it has nothing to say on this connection.
async fn closed(mut reader: impl tokio::io::AsyncRead + Unpin) -> String {
    match reader.read(&mut [0; 1]).await {
        Ok(0) => "it closed the connection".to_owned(),
        Ok(_) => "it spoke where it only has to listen".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The life of one address: dial, carry, and again; it ends where the address is this node's own.
async fn keep(links: Rc<Links>, address: String) {
    let mut backoff = Backoff::new();
    let mut last_peer = None;
    let mut told = String::new();
    loop {
        match links.dial(&address, last_peer).await {
            Ok(Dialled::Myself) => {
                links.own.borrow_mut().insert(address);
                return;
            }
            Ok(Dialled::Peer(socket, hello)) => {
                links.had_one.set(true);
                let peer = hello.record.id();
                last_peer = Some(peer);
                backoff.reset();
                told.clear();
                if links.up.borrow().contains_key(&peer) {
                    drop(socket);
                    links.until_down(peer).await;
                } else {
                    carry(&links, &address, socket, *hello).await;
                }
            }
            Err(error) => {
                let text = error.to_string();
                if error.is_refusal() {
                    links.refusing.borrow_mut().insert(address.clone(), text.clone());
                    links.refused.notify_one();
                } else {
                    links.refusing.borrow_mut().remove(&address);
                }
                if text != told {
                    error.tell(&address);
                    told = text;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause(rand::rng().random())) => {}
            () = links.nudged.notified() => backoff.reset(),
        }
    }
}

async fn carry(links: &Links, address: &str, socket: TcpStream, hello: Hello) {
    let (peer, name) = (hello.record.id(), hello.record.member.name.clone());
    let link = Rc::new(Link::default());
    links.up.borrow_mut().insert(peer, Rc::clone(&link));
    links.inbox.push(Input::LinkUp { hello });
    tracing::info!(peer = %name, address, "link up");
    let reason = links.run(&link, socket).await;
    links.up.borrow_mut().remove(&peer);
    links.changed.notify_waiters();
    links.inbox.push(Input::LinkDown { peer });
    tracing::warn!(peer = %name, address, "link down: {reason}");
}
