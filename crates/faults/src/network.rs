//! The paths between nodes, whichever means there are to break them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;

use crate::netns::Namespaces;
use crate::proxy::Proxy;
use crate::trouble::Trouble;

/// The means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Means {
    /// A proxy on loopback, if a kind of fault needs it; needs no rights
    Proxy,
    /// Network namespaces: packets are dropped; of the faults of the network for partition only
    Namespaces,
}

/// How a path is: what one node sends to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path {
    /// Nothing gets through.
    pub(crate) cut: bool,
    /// All takes so long, but for a half that is random.
    pub(crate) delay: Duration,
    /// Of a thousand chunks, those that take longer by a retransmission.
    pub(crate) stalls_per_mille: u32,
    /// Of a thousand chunks, those after whose first half the connection is reset.
    pub(crate) tears_per_mille: u32,
    /// Of a thousand chunks, those of which a byte is changed, or lost.
    pub(crate) garbles_per_mille: u32,
    /// Counts resets: all connections that lead along the path end when it grows.
    pub(crate) resets: u64,
}

/// All paths, by sender and receiver.
pub(crate) type Paths = Vec<Vec<Path>>;

/// The handle of the nemesis.
#[derive(Clone)]
pub(crate) enum Network {
    /// A proxy.
    Proxy(Proxy),
    /// Namespaces, which know of cuts only.
    Namespaces(Namespaces, Arc<Mutex<Paths>>),
}

impl Network {
    /// Changes paths.
    pub(crate) fn change(&self, pairs: &[(usize, usize)], change: impl Fn(&mut Path)) -> Result<(), Trouble> {
        match self {
            Network::Proxy(proxy) => {
                proxy.change(|paths| pairs.iter().for_each(|&(from, to)| change(&mut paths[from][to])))
            }
            Network::Namespaces(namespaces, paths) => {
                let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
                for &(from, to) in pairs {
                    let path = &mut paths[from][to];
                    let was_cut = path.cut;
                    change(path);
                    if path.cut != was_cut {
                        namespaces.set_cut(from, to, path.cut)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// All paths between so many nodes are open and fast.
    pub(crate) fn heal(&self, nodes: usize) -> Result<(), Trouble> {
        let all: Vec<_> = (0..nodes)
            .flat_map(|from| (0..nodes).map(move |to| (from, to)))
            .collect();
        self.change(&all, |path| {
            *path = Path {
                resets: path.resets,
                ..Path::default()
            };
        })
    }
}

/// Open paths between so many nodes.
pub(crate) fn open(nodes: usize) -> Paths {
    vec![vec![Path::default(); nodes]; nodes]
}
