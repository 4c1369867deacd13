//! When all is quiet, no clock on any disk lists what a finished incarnation wrote: however often nodes were restarted, clocks are small.

use annulus_causality::CausalContext;
use annulus_storage::Replica;

use crate::world::World;

/// # Errors
/// Which clock has which finished incarnations open.
pub(crate) fn check(world: &World) -> Result<(), String> {
    let lives: Vec<(u64, u64)> = world
        .processes
        .iter()
        .filter_map(|process| {
            let node = process.node.as_ref()?;
            let hello = node.hello(process.now(world.now), None);
            Some((process.id.0, hello.record.incarnation))
        })
        .collect();
    for (index, process) in world.processes.iter().enumerate() {
        let Ok(replica) = Replica::open(process.disk.copy(), world.partitions()) else {
            continue;
        };
        for partition in replica.partitions() {
            for &(node, life) in &lives {
                let finished = replica.clock(partition).before(node, life);
                let closed = CausalContext::closed_below(node, life);
                if !finished.is_empty() && finished != closed {
                    return Err(format!("n{} has {finished} open in partition {partition}", index + 1));
                }
            }
        }
    }
    Ok(())
}
