//! Zones are numbered: what fails together has one number, and comparing two nodes' zones compares no names.

use crate::member::Member;

/// The zones of some members, numbered in order of their names.
pub(crate) struct Zones {
    /// Each node's zone.
    pub(crate) of: Vec<u16>,
    /// Each zone's nodes; no zone is empty.
    pub(crate) members: Vec<Vec<u16>>,
}

impl Zones {
    /// Zones of one name in two regions are two zones.
    pub(crate) fn of(members: &[Member]) -> Zones {
        let mut names: Vec<_> = members.iter().map(|member| (&member.region, &member.zone)).collect();
        names.sort_unstable();
        names.dedup();
        let mut zones = Zones {
            of: Vec::with_capacity(members.len()),
            members: vec![Vec::new(); names.len()],
        };
        for (member, node) in members.iter().zip(0..) {
            let zone = names.partition_point(|&name| name < (&member.region, &member.zone));
            zones.of.push(zone as u16);
            zones.members[zone].push(node);
        }
        zones
    }
}
