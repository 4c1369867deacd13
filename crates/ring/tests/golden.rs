//! The same input gives the same table, today and in every later version: `UPDATE_GOLDEN=1` writes the files anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write;
use std::path::Path;

use annulus_ring::{Ring, movement, plan};
use common::*;

fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        text,
        "{name} has changed: nodes of two versions would disagree"
    );
}

/// One line a partition: its owners, then its fallbacks.
fn table(ring: &Ring) -> String {
    let mut text = format!(
        "epoch {}, {} partitions, N = {}\n",
        ring.epoch(),
        ring.partitions().count(),
        ring.replicas()
    );
    for member in ring.members() {
        let load = ring.load(member.id());
        writeln!(
            text,
            "{} in {} with {}: {load}",
            member.name,
            member.zone,
            member.capacity.as_f64()
        )
        .unwrap();
    }
    for index in 0..ring.partitions().count() {
        let list = ring.preference_list(annulus_ring::PartitionId {
            n: ring.replicas(),
            index,
        });
        let names = |nodes: &[_]| {
            nodes
                .iter()
                .map(|&node| ring.member(node).unwrap().name.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        writeln!(text, "{index:>4}: {} | {}", names(list.owners), names(list.fallbacks)).unwrap();
    }
    text
}

#[test]
fn a_small_ring_and_the_next_are_planned_as_ever() {
    let mut members = vec![
        member("n1", "a", 1.0),
        member("n2", "a", 1.0),
        member("n3", "b", 2.0),
        member("n4", "c", 1.0),
    ];
    let first = plan(None, members.clone(), partitions(16), 3).unwrap();
    members.push(member("n5", "b", 1.5));
    let second = plan(Some(&first), members, partitions(16), 3).unwrap();
    let text = format!(
        "{}\n{} replicas move\n\n{}",
        table(&first),
        movement(&first, &second),
        table(&second)
    );
    assert_golden("small.txt", &text);
}

#[test]
fn large_rings_are_planned_as_ever() {
    let mut text = String::new();
    for (count, zones, partition_count) in [(3, 1, 1024), (200, 1, 1024), (50, 3, 1024), (1000, 7, 65536)] {
        let ring = plan(None, members(count, zones), partitions(partition_count), 3).unwrap();
        let next = plan(Some(&ring), members(count + 1, zones), partitions(partition_count), 3).unwrap();
        writeln!(
            text,
            "{count} nodes in {zones} zones, {partition_count} partitions: {:016x}, one more: {:016x}",
            ring.fingerprint(),
            next.fingerprint(),
        )
        .unwrap();
    }
    assert_golden("large.txt", &text);
}
