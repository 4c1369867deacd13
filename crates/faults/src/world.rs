//! What a nemesis may lay hands on: the nodes' processes and the network between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::network::Network;
use crate::settle::Observer;
use crate::trouble::Trouble;

/// A node that comes back empty is refilled within this, or the next one is not wiped.
const REFILL: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct World {
    /// The nodes.
    pub(crate) cluster: Cluster,
    /// The network, where it can be broken.
    pub(crate) network: Option<Network>,
    /// Who reads all keys.
    pub(crate) observer: Observer,
    /// No node lacks what it was given.
    pub(crate) is_whole: Arc<AtomicBool>,
}

impl World {
    /// The network.
    pub(crate) fn network(&self) -> Result<&Network, Trouble> {
        let missing = || Trouble::LeftOut("nothing is between the nodes that could be broken".to_owned());
        self.network.as_ref().ok_or_else(missing)
    }

    /// Whatever is broken is made good, whoever broke it.
    pub(crate) fn restore(&mut self) -> Result<(), Trouble> {
        if let Some(network) = &self.network {
            network.heal(self.cluster.len())?;
        }
        for index in 0..self.cluster.len() {
            crate::disk::empty(self.cluster.home(index));
            self.cluster.set_clock(index, 0)?;
        }
        self.cluster.restore()
    }

    /// Looks whether a node that came back empty is refilled: it serves, doubts nothing, and no hint waits. The
    /// world is whole again once that is so, which nobody waits for: other faults may well come in between.
    pub(crate) fn refill(&self) -> Result<(), Trouble> {
        let (observer, is_whole) = (self.observer.clone(), Arc::clone(&self.is_whole));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            if runtime.block_on(observer.refill(REFILL)) {
                is_whole.store(true, Ordering::Release);
            }
        });
        Ok(())
    }
}
