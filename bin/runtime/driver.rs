//! What waits together is stepped together, and its effects leave together: one engine batch, one sync, one write a peer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use annulus_causality::Instant;
use annulus_membership::{Hello, HelloError};
use annulus_node::{Effect, Input, Level, Node};
use annulus_ring::NodeId;
use annulus_storage::Engine;
use annulus_storage::directory::DataDirectory;
use tokio::sync::mpsc;

use super::NodeView;
use super::clock::Clock;
use super::inbox::Inbox;
use super::life::Ended;
use super::links::Links;
use super::service::Clients;
use super::syncer::{Report, SyncThread};
use crate::telemetry::Counters;

/// Free space is looked at in a round once this has passed: heartbeats see to it that there are rounds.
const LOOK_AT_DISK: Duration = Duration::from_secs(1);

/// A node, shared between the driver and those who look at it between rounds.
pub(crate) struct NodeCell<E: Engine> {
    pub(crate) node: RefCell<Node<E>>,
    pub(crate) clock: Clock,
}

impl<E: Engine> NodeView for NodeCell<E> {
    fn hello(&self, to: Option<NodeId>) -> Hello {
        self.node.borrow().hello(self.clock.now(), to)
    }

    fn check(&self, hello: &Hello) -> Result<(), HelloError> {
        self.node.borrow().check_hello(hello)
    }

    fn metrics(&self) -> String {
        self.node.borrow().metrics()
    }
}

/// The interpreter of one node's effects.
pub(crate) struct Driver<'a, E: Engine> {
    pub(crate) cell: Rc<NodeCell<E>>,
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) links: Rc<Links>,
    pub(crate) clients: Rc<Clients>,
    pub(crate) syncer: SyncThread,
    pub(crate) reports: mpsc::UnboundedReceiver<Report>,
    pub(crate) directory: &'a RefCell<DataDirectory>,
    pub(crate) counters: &'a Counters,
    /// The newest batch that a sync was asked for.
    pub(crate) requested: u64,
    /// The newest batch that survives power loss.
    pub(crate) synced: u64,
}

impl<E: Engine> Driver<'_, E> {
    /// Runs rounds until the disk fails, or until `stop` and all that was applied is durable. `effects` are those of
    /// opening the node.
    pub(crate) async fn run(mut self, mut effects: Vec<Effect>, stop: impl Future<Output = ()>) -> Ended {
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        let mut inputs = Vec::new();
        let mut looked_at_disk = None;
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let now = self.cell.clock.instant();
            if looked_at_disk.is_none_or(|at| now >= at + LOOK_AT_DISK) {
                looked_at_disk = Some(now);
                inputs.extend(self.look_at_disk());
            }
            if let Err(ended) = self.round(&mut inputs, &mut effects) {
                return ended;
            }
            if stopping && self.requested == self.synced {
                return Ended::Stopped;
            }
            self.set(timer.as_mut());
            // A wake-up whose input an earlier round has taken is no reason for a round.
            while inputs.is_empty() && !timer.is_elapsed() {
                tokio::select! {
                    report = self.reports.recv() => inputs.push(self.on_report(report)),
                    () = self.inbox.arrived() => {}
                    reason = self.links.turned_away(), if self.links.never_met() => return Ended::Refused(reason),
                    () = timer.as_mut() => {}
                    () = stop.as_mut(), if !stopping => {
                        stopping = true;
                        break;
                    }
                }
                self.inbox.take(&mut inputs);
            }
        }
    }

    /// A timer that fires too early costs a look at the clock; one that is set anew each round costs more.
    fn set(&self, timer: Pin<&mut tokio::time::Sleep>) {
        let deadline = self.cell.node.borrow().next_deadline().unwrap_or(Instant::FAR_FUTURE);
        let wake_at = self.cell.clock.wake_at(deadline);
        if timer.is_elapsed() || wake_at < timer.deadline() {
            timer.reset(wake_at);
        }
    }

    /// Steps all that waits, applies what was staged, and does what is to be done.
    fn round(&mut self, inputs: &mut Vec<Input>, effects: &mut Vec<Effect>) -> Result<(), Ended> {
        let now = self.cell.clock.now();
        let mut node = self.cell.node.borrow_mut();
        self.counters.count_round(inputs.len());
        for input in inputs.drain(..) {
            node.step(now, input, effects);
        }
        if node.next_deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            node.on_deadline(now, effects);
        }
        node.finish(now, effects);
        let failure = node.failure().map(str::to_owned);
        drop(node);
        for effect in effects.drain(..) {
            self.execute(effect)?;
        }
        failure.map_or(Ok(()), |reason| Err(Ended::DiskFailed(reason)))
    }

    fn execute(&mut self, effect: Effect) -> Result<(), Ended> {
        match effect {
            Effect::Reply { id, reply } => self.clients.answer(id, reply),
            Effect::Send { to, message } => {
                let bytes = self.links.send(to, &message);
                self.counters.count_sent(message.kind(), bytes);
            }
            Effect::Connect { address } => self.links.connect(address),
            Effect::Sync { batch } => {
                self.requested = batch;
                self.syncer.request(batch);
            }
            Effect::Formed { cluster } => {
                let bound = self.directory.borrow_mut().bind_cluster(&cluster);
                bound.map_err(|error| Ended::Refused(error.to_string()))?;
            }
            Effect::Log { level, text } => match level {
                Level::Info => tracing::info!("{text}"),
                Level::Warn => tracing::warn!("{text}"),
                Level::Error => tracing::error!("{text}"),
            },
        }
        Ok(())
    }

    fn on_report(&mut self, report: Option<Report>) -> Input {
        match report {
            Some(Report::Synced(batch)) => {
                self.synced = batch;
                Input::Synced { batch }
            }
            Some(Report::Failed(reason)) => Input::StorageFailed { reason },
            None => Input::StorageFailed {
                reason: "the thread that syncs the disk has ended".to_owned(),
            },
        }
    }

    fn look_at_disk(&self) -> Option<Input> {
        let bytes = self.directory.borrow().free_bytes().ok()?;
        self.counters.free_bytes.set(bytes);
        Some(Input::FreeSpace { bytes })
    }
}
