//! When all is quiet, the owners of a key hold the same versions under the same dots, on their disks.

use annulus_causality::Dot;
use annulus_ring::{Address, NodeId, PartitionId};
use annulus_storage::Replica;

use crate::world::World;

/// What one owner has stored of a key.
pub(crate) type Stored = Vec<Dot>;

/// The live dots of each key on each of its owners' disks; nothing for a record that cannot be read.
pub(crate) fn stored(world: &World, node: usize, addresses: &[&Address]) -> Vec<Option<Stored>> {
    // A copy: the node goes on with its own.
    let disk = world.processes[node].disk.copy();
    let Ok(replica) = Replica::open(disk, world.partitions()) else {
        return vec![None; addresses.len()];
    };
    let read = |address: &&Address| replica.read(address).ok().map(|object| object.dots().collect());
    addresses.iter().map(read).collect()
}

/// # Errors
/// Which owners of which key differ, and in what.
pub(crate) fn compare(world: &World, keys: &[(Address, Vec<NodeId>)]) -> Result<(), String> {
    let mut held: Vec<Vec<(usize, Stored)>> = vec![Vec::new(); keys.len()];
    for node in 0..world.count() {
        let id = world.processes[node].id;
        let owned: Vec<usize> = (0..keys.len()).filter(|&key| keys[key].1.contains(&id)).collect();
        let addresses: Vec<&Address> = owned.iter().map(|&key| &keys[key].0).collect();
        for (key, stored) in owned.iter().zip(stored(world, node, &addresses)) {
            held[*key].extend(stored.map(|stored| (node, stored)));
        }
    }
    for ((address, _), held) in keys.iter().zip(held) {
        let PartitionId { index, .. } = address.partition;
        if let Some(((node, dots), rest)) = held.split_first()
            && let Some((other, others)) = rest.iter().find(|(_, others)| others != dots)
        {
            return Err(format!(
                "{}/{} in partition {index}: n{} holds {dots:?}, n{} holds {others:?}",
                address.bucket,
                String::from_utf8_lossy(address.key.as_bytes()),
                node + 1,
                other + 1,
            ));
        }
    }
    Ok(())
}

/// The hints on a node's disk, by owner: how many, and their bytes.
pub(crate) fn hints(world: &World, node: usize) -> String {
    let counts =
        Replica::open(world.processes[node].disk.copy(), world.partitions()).map(|replica| replica.hint_summary());
    let shown = counts.map(|counts| {
        let shown = counts.iter().map(|(owner, count)| match world.index(*owner) {
            Some(owner) => format!("{} for n{} ({} bytes)", count.hints, owner + 1, count.bytes),
            None => format!("{} for {owner}", count.hints),
        });
        shown.collect::<Vec<_>>().join(", ")
    });
    shown.unwrap_or_else(|error| error.to_string())
}
