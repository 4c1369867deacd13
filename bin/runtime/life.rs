//! A life of the node lasts from opening its directory until a stop or a disk failure; nothing of it outlives it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use annulus_node::{Effect, Node, Settings};
use annulus_storage::directory::DataDirectory;
use annulus_storage::{Engine, EngineError, Replica};
use rand::TryRng;
use tokio::net::TcpListener;

use super::acceptor::Acceptor;
use super::clock::Clock;
use super::driver::{Driver, NodeCell};
use super::inbox::Inbox;
use super::links::Links;
use super::service::Clients;
use super::syncer::SyncThread;
use crate::telemetry::{Gauges, Observed};

/// Why a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to, and all that was applied is durable.
    Stopped,
    /// The disk failed: the node has to be opened anew.
    DiskFailed(String),
    /// The directory is not this node's to use.
    Refused(String),
}

/// Why a life did not begin; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFailure {
    /// The engine or what it holds.
    #[error("cannot open the data directory: {0}")]
    Replica(#[from] annulus_storage::OpenError),
    /// The node's own records.
    #[error(transparent)]
    Node(#[from] annulus_node::OpenError),
    /// The system gave no thread, or no random numbers.
    #[error("{doing}: {detail}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        detail: String,
    },
}

impl From<EngineError> for OpenFailure {
    fn from(error: EngineError) -> OpenFailure {
        OpenFailure::Replica(error.into())
    }
}

/// What every life of a node is given.
pub(crate) struct Life<'a> {
    /// How the node is set.
    pub(crate) settings: Settings,
    /// Its directory, which the process keeps between lives.
    pub(crate) directory: &'a RefCell<DataDirectory>,
    /// The peer port.
    pub(crate) listener: Rc<TcpListener>,
    /// Who asks.
    pub(crate) clients: Rc<Clients>,
    /// Where figures go.
    pub(crate) gauges: Rc<Gauges>,
    /// The process's time.
    pub(crate) clock: Clock,
}

impl Life<'_> {
    /// Opens the node over `engine` and runs it until `stop`, or until the disk fails.
    ///
    /// # Errors
    /// [`OpenFailure`] where it could not be opened.
    pub(crate) async fn run<E: Engine + 'static>(
        &self,
        engine: E,
        stop: impl Future<Output = ()>,
    ) -> Result<Ended, OpenFailure> {
        let syncer = engine.syncer();
        let (node, effects) = self.open(engine)?;
        let counters = &self.gauges.counters;
        let (syncer, reports) =
            SyncThread::start(syncer, Arc::clone(&counters.syncs)).map_err(|error| OpenFailure::System {
                doing: "starting the disk's thread",
                detail: error.to_string(),
            })?;
        counters.opened.set(counters.opened.get() + 1);
        if counters.opened.get() > 1 {
            tracing::info!(node = %self.settings.name, "the data directory is open again");
        }
        let cell = Rc::new(NodeCell {
            node: RefCell::new(node),
            clock: self.clock,
        });
        let inbox = Rc::new(Inbox::default());
        let links = Links::new(Rc::clone(&inbox), cell.clone());
        let acceptor = Acceptor::start(
            Rc::clone(&self.listener),
            Rc::clone(&inbox),
            Rc::clone(&links),
            cell.clone(),
        );
        let observed = Observed {
            node: cell.clone(),
            inbox: Rc::clone(&inbox),
            links: Rc::clone(&links),
        };
        self.gauges.observed.replace(Some(observed));
        self.clients.attach(Rc::clone(&inbox));

        let driver = Driver {
            cell,
            inbox,
            links: Rc::clone(&links),
            clients: Rc::clone(&self.clients),
            syncer,
            reports,
            directory: self.directory,
            counters,
            requested: 0,
            synced: 0,
        };
        // A node that is to stop hears no more, or it might never be done.
        let ended = driver
            .run(effects, async {
                stop.await;
                acceptor.close().await;
            })
            .await;
        let reason = match &ended {
            Ended::Stopped => "the node is stopping",
            Ended::DiskFailed(reason) | Ended::Refused(reason) => reason,
        };
        self.clients.detach(reason);
        self.gauges.observed.take();
        // The engine's files are free for the next life only when everybody who sees the node is gone.
        acceptor.close().await;
        links.close().await;
        Ok(ended)
    }

    fn open<E: Engine>(&self, engine: E) -> Result<(Node<E>, Vec<Effect>), OpenFailure> {
        let mut replica = Replica::open(engine, self.settings.partitions)?;
        replica.set_hint_limit_bytes(self.settings.hint_bytes_per_peer);
        let mut seed = [0; 32];
        rand::rngs::SysRng
            .try_fill_bytes(&mut seed)
            .map_err(|error| OpenFailure::System {
                doing: "asking for random numbers",
                detail: error.to_string(),
            })?;
        let mut effects = Vec::new();
        let node = Node::open(self.settings.clone(), replica, self.clock.now(), seed, &mut effects)?;
        Ok((node, effects))
    }
}
