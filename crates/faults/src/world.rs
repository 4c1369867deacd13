//! What a nemesis may lay hands on: the nodes' processes and the network between them.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::proxy::Network;
use crate::settle::Observer;
use crate::trouble::Trouble;

/// A node that comes back empty is refilled within this, or the next one is not wiped.
const REFILL: Duration = Duration::from_secs(15);

/// See the module.
pub(crate) struct World {
    /// The nodes.
    pub(crate) cluster: Cluster,
    /// The network, where there is a proxy in it.
    pub(crate) proxy: Option<Network>,
    /// Who reads all keys.
    pub(crate) observer: Observer,
    /// No node lacks what it was given.
    pub(crate) is_whole: bool,
}

impl World {
    /// The network.
    pub(crate) fn network(&self) -> Result<&Network, Trouble> {
        let missing = || Trouble::LeftOut("there is no proxy between the nodes".to_owned());
        self.proxy.as_ref().ok_or_else(missing)
    }

    /// Whatever is broken is made good, whoever broke it.
    pub(crate) fn restore(&mut self) -> Result<(), Trouble> {
        if let Some(network) = &self.proxy {
            network.heal();
        }
        for index in 0..self.cluster.len() {
            crate::disk::empty(self.cluster.home(index));
            self.cluster.set_clock(index, 0)?;
        }
        self.cluster.restore()
    }

    /// Reads every key from all its owners, which repairs those that lack it; says whether that was done.
    pub(crate) fn refill(&self) -> Result<bool, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(self.observer.refill(REFILL)))
    }
}
