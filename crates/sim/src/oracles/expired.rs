//! When all is quiet, no version is stored that expired longer ago than clocks may differ.

use std::time::Duration;

use annulus_ring::{Address, NodeId};
use annulus_storage::Replica;

use crate::world::{EXPIRY_MARGIN, World};

/// Wall clocks that are right drift this far apart.
const DRIFT: Duration = Duration::from_secs(1);

/// # Errors
/// Which owner has stored what is long over.
pub(crate) fn check(world: &World, keys: &[(Address, Vec<NodeId>)]) -> Result<(), String> {
    let margin = (EXPIRY_MARGIN + DRIFT).as_millis() as u64;
    for process in &world.processes {
        let wall_ms = process.now(world.now).wall_millis.saturating_sub(margin);
        // A copy: the node goes on with its own. One that cannot be opened is another promise's.
        let Ok(replica) = Replica::open(process.disk.copy(), world.partitions()) else {
            continue;
        };
        for (address, _) in keys.iter().filter(|(_, owners)| owners.contains(&process.id)) {
            let Ok(object) = replica.read(address) else { continue };
            let expired = object
                .versions()
                .iter()
                .find(|(_, version)| version.is_expired(wall_ms));
            if let Some((dot, version)) = expired {
                return Err(format!(
                    "{} still stores {dot} of {}/{}, which expired at {:?} ms; it is {wall_ms} ms",
                    process.settings.name,
                    address.bucket,
                    String::from_utf8_lossy(address.key.as_bytes()),
                    version.expires,
                ));
            }
        }
    }
    Ok(())
}
