//! Power loss, on every engine with files: what was acknowledged is there whole, and of the rest a prefix, after any number of crashes.
//!
//! A process that writes batches is killed at some moment, also while it recovers (`harness.rs`, `writer.rs`). A shim has recorded
//! what it did to its files (`../shim/forget.c`, `journal.rs`); what it had not synced is kept, lost or torn as a seed says
//! (`disk.rs`, `content.rs`), and it is started again on what is left.
//!
//! The crash suite has found: a data directory whose name was not durable, an engine half made that kept a node from starting, and
//! engines whose name nobody made durable once the process that gave it was killed. `ANNULUS_CRASHES=1000` asks for so many crashes of each engine, `ANNULUS_CRASH_SEED=7` for other ones. The moment of a kill is
//! not in the seed, so a failure comes again soon rather than at once.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used)]

mod content;
mod disk;
mod harness;
mod journal;
mod rules;
mod writer;

use annulus_storage::engine::fjall::FjallEngine;
use annulus_storage::engine::sled::SledEngine;

use harness::Suite;
use writer::{Conduct, run};

const CRASHES: u64 = 20;

/// A planted bug must be found within so many crashes.
const CRASHES_TO_FIND_A_BUG: u64 = 200;

const FJALL: Suite = Suite {
    writer: "fjall_process",
    conduct: Conduct::Honest,
    disk_lies: false,
    changes_to_begin: 600,
};

const SLED: Suite = Suite {
    writer: "sled_process",
    changes_to_begin: 120,
    ..FJALL
};

#[test]
fn fjall_process() {
    run::<FjallEngine>();
}

#[test]
fn sled_process() {
    run::<SledEngine>();
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn stands(suite: Suite) {
    let crashes = setting("ANNULUS_CRASHES", CRASHES);
    let tally = suite.crash(setting("ANNULUS_CRASH_SEED", 1), crashes);
    println!(
        "{}: {:?}",
        suite.writer,
        tally.unwrap_or_else(|wrong| panic!("{wrong}"))
    );
}

fn begins(suite: Suite) {
    let crashes = setting("ANNULUS_CRASHES", CRASHES);
    let began = suite.crash_at_first(setting("ANNULUS_CRASH_SEED", 1), crashes);
    began.unwrap_or_else(|wrong| panic!("{wrong}"));
}

fn is_caught(suite: Suite) -> String {
    suite.crash(1, CRASHES_TO_FIND_A_BUG).unwrap_err()
}

#[test]
fn what_fjall_acknowledged_survives_power_loss() {
    stands(FJALL);
}

#[test]
fn what_sled_acknowledged_survives_power_loss() {
    stands(SLED);
}

#[test]
fn fjall_may_be_killed_while_it_is_made() {
    begins(FJALL);
}

#[test]
fn sled_may_be_killed_while_it_is_made() {
    begins(SLED);
}

#[test]
fn who_acknowledges_before_syncing_is_caught() {
    for suite in [FJALL, SLED] {
        let conduct = Conduct::AcknowledgesBeforeSyncing;
        let wrong = is_caught(Suite { conduct, ..suite });
        assert!(wrong.contains("was promised"), "{wrong}");
    }
}

#[test]
fn who_writes_a_batch_by_halves_is_caught() {
    for suite in [FJALL, SLED] {
        let conduct = Conduct::WritesByHalves;
        let wrong = is_caught(Suite { conduct, ..suite });
        assert!(wrong.contains("panicked at"), "{wrong}");
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    for suite in [FJALL, SLED] {
        let disk_lies = true;
        is_caught(Suite { disk_lies, ..suite });
    }
}
