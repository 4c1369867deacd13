//! Targets are each node's share of the capacity in whole replicas, and a table that meets them always exists.

use crate::zones::Zones;

/// Shares are computed in units of 2⁻³² of a replica: exact enough to round, and the same on every machine.
const FRACTION_BITS: u32 = 32;

/// How many replicas each node should own; the sum is `partitions · copies`.
///
/// A node owns at most one replica a partition. A zone passes at most as many as leave one for each of the other zones
/// that can take part, and at least one a partition where every zone must take part. Within these limits the shares
/// are proportional to capacity: one factor for all, where a limit does not bind. A share is rounded down or up, up
/// first for whoever holds that much already (so that rounding moves nothing), then by the largest remainder.
pub(super) fn targets(capacities: &[u32], zones: &Zones, partitions: u32, copies: usize, held: &[u32]) -> Vec<u32> {
    let total = partitions * copies as u32;
    let limits: Vec<ZoneLimits> = zones
        .members
        .iter()
        .map(|m| ZoneLimits::of(m.len(), zones, partitions, copies))
        .collect();
    let zone_share = |factor: u64, zone: usize| {
        let limits = &limits[zone];
        let sum: u128 = shares(factor, &zones.members[zone], capacities, partitions)
            .map(u128::from)
            .sum();
        sum.clamp(scaled(limits.least), scaled(limits.most))
    };
    let all = 0..zones.members.len();
    let factor = largest_factor(total, partitions, |factor| {
        all.clone().map(|zone| zone_share(factor, zone)).sum()
    });
    let zone_shares: Vec<u64> = all.clone().map(|zone| zone_share(factor, zone) as u64).collect();
    let zone_most: Vec<u32> = limits.iter().map(|limits| limits.most).collect();
    let zone_held: Vec<u32> = zones
        .members
        .iter()
        .map(|m| m.iter().map(|&node| held[usize::from(node)]).sum())
        .collect();
    let zone_targets = apportion(total, &zone_shares, &zone_most, &zone_held);

    let mut targets = vec![0; capacities.len()];
    for (members, &total) in zones.members.iter().zip(&zone_targets) {
        let shares = |factor| shares(factor, members, capacities, partitions);
        let factor = largest_factor(total, partitions, |factor| shares(factor).map(u128::from).sum());
        let held: Vec<u32> = members.iter().map(|&node| held[usize::from(node)]).collect();
        let most = vec![partitions; members.len()];
        let rounded = apportion(total, &shares(factor).collect::<Vec<_>>(), &most, &held);
        for (&node, target) in members.iter().zip(rounded) {
            targets[usize::from(node)] = target;
        }
    }
    targets
}

/// How many replicas a zone can pass in all.
struct ZoneLimits {
    least: u32,
    most: u32,
}

impl ZoneLimits {
    fn of(members: usize, zones: &Zones, partitions: u32, copies: usize) -> ZoneLimits {
        let spread = zones.members.len().min(copies);
        let least = if zones.members.len() <= copies { partitions } else { 0 };
        ZoneLimits {
            least,
            most: partitions * members.min(copies - spread + 1) as u32,
        }
    }
}

fn scaled(replicas: u32) -> u128 {
    u128::from(replicas) << FRACTION_BITS
}

/// Each member's share at a factor of replicas to capacity, at most all partitions.
fn shares<'a>(factor: u64, members: &'a [u16], capacities: &'a [u32], most: u32) -> impl Iterator<Item = u64> + 'a {
    let share = move |capacity: u32| (u128::from(factor) * u128::from(capacity)).min(scaled(most)) as u64;
    members.iter().map(move |&node| share(capacities[usize::from(node)]))
}

/// The largest factor whose shares sum to no more than `total`. Any capacity reaches its maximum at `most` a unit.
fn largest_factor(total: u32, most: u32, sum: impl Fn(u64) -> u128) -> u64 {
    let (mut low, mut high) = (0, scaled(most) as u64);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match sum(middle) <= scaled(total) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    low
}

/// Rounds shares to whole numbers that sum to `total`, none above its `most`.
fn apportion(total: u32, shares: &[u64], most: &[u32], held: &[u32]) -> Vec<u32> {
    let mut rounded: Vec<u32> = shares.iter().map(|share| (share >> FRACTION_BITS) as u32).collect();
    let remainder = |at: usize| shares[at] & ((1 << FRACTION_BITS) - 1);
    let mut first: Vec<usize> = (0..shares.len()).filter(|&at| rounded[at] < most[at]).collect();
    first.sort_by_key(|&at| {
        let keeps = remainder(at) > 0 && held[at] > rounded[at];
        (std::cmp::Reverse((keeps, remainder(at))), at)
    });
    let missing = total - rounded.iter().sum::<u32>();
    for at in first.into_iter().take(missing as usize) {
        rounded[at] += 1;
    }
    rounded
}
