//! Random histories: clients write while nodes crash, pause and lose messages; afterwards no acknowledged write is missing,
//! nothing that was replaced is back, and all owners agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_coordinator::{Answer, Level, Operation, Options};
use annulus_ring::NodeId;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::world::{World, id, on_key, put};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// What a client knows of the writes it made to one key.
#[derive(Default)]
struct Key {
    /// Every value written, acknowledged or not.
    written: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    /// Values that some write may have replaced: its writer had read them, or wrote without a token.
    replaced: BTreeSet<String>,
    deleted: bool,
    /// The last token with the values it covers.
    token: Option<(String, BTreeSet<String>)>,
}

struct Run {
    world: World,
    rng: StdRng,
    nodes: Vec<NodeId>,
    down: BTreeSet<NodeId>,
    keys: BTreeMap<&'static str, Key>,
    pending: Vec<(u64, &'static str, String)>,
    count: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(3..=6);
        let nodes = (1..=count).map(|number| id(&format!("n{number}"))).collect();
        let keys = KEYS.iter().map(|&key| (key, Key::default())).collect();
        Run {
            world: World::formed(count),
            rng,
            nodes,
            down: BTreeSet::new(),
            keys,
            pending: Vec::new(),
            count: 0,
        }
    }

    fn live(&mut self) -> NodeId {
        let live: Vec<NodeId> = self
            .nodes
            .iter()
            .copied()
            .filter(|node| !self.down.contains(node))
            .collect();
        *live.choose(&mut self.rng).unwrap()
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..45 => self.write(),
            45..70 => self.read(),
            70..76 => self.fault(),
            76..84 => self.repair_fault(),
            _ => {
                let millis = self.rng.random_range(1..400);
                self.world.advance(Duration::from_millis(millis));
            }
        }
        self.collect();
    }

    fn write(&mut self) {
        let key = *KEYS.choose(&mut self.rng).unwrap();
        let node = self.live();
        self.count += 1;
        let value = format!("{key}{}", self.count);
        let state = self.keys.get_mut(key).unwrap();
        let with_token = self.rng.random_bool(0.6);
        let token = state.token.clone().filter(|_| with_token);
        match &token {
            Some((_, covers)) => state.replaced.extend(covers.iter().cloned()),
            None => state.replaced.extend(state.written.iter().cloned()),
        }
        let options = Options {
            timeout: Some(Duration::from_secs(2)),
            ..Options::default()
        };
        if self.rng.random_bool(0.15) {
            state.deleted = true;
            let operation = Operation::Write {
                value: None,
                token: token.map(|(token, _)| token),
                condition: None,
            };
            let client = self.world.send(node, on_key("b", key, operation, options));
            return self.pending.push((client, key, String::new()));
        }
        state.written.insert(value.clone());
        let token = token.map(|(token, _)| token);
        let client = self.world.send(node, put("b", key, &value, token.as_deref(), options));
        self.pending.push((client, key, value));
    }

    fn read(&mut self) {
        let key = *KEYS.choose(&mut self.rng).unwrap();
        let node = self.live();
        let Ok(found) = self.world.get(node, key, Options::default()) else {
            return;
        };
        let values: BTreeSet<String> = found
            .versions
            .iter()
            .map(|version| String::from_utf8(version.value.to_vec()).unwrap())
            .collect();
        let state = self.keys.get_mut(key).unwrap();
        assert!(
            values.is_subset(&state.written),
            "a value that nobody wrote: {values:?}"
        );
        // A read covers what it returned, and what that had replaced: anything written before it may be among that.
        state.token = Some((found.token, state.written.clone()));
    }

    fn collect(&mut self) {
        let world = &mut self.world;
        let keys = &mut self.keys;
        self.pending.retain(|(client, key, value)| match world.reply(*client) {
            None => true,
            Some(reply) => {
                if matches!(reply, Ok(Answer::Written(_))) && !value.is_empty() {
                    keys.get_mut(key).unwrap().acknowledged.insert(value.clone());
                }
                false
            }
        });
    }

    fn fault(&mut self) {
        let node = self.live();
        match self.rng.random_range(0..4) {
            0 | 1 if self.down.len() + 1 < self.nodes.len().div_ceil(2) => {
                // The clients of a node that dies get no reply.
                self.down.insert(node);
                self.world.kill(node);
            }
            2 => {
                let other = self.live();
                if node != other {
                    self.world.cut(node, other);
                }
            }
            _ => {
                self.world.pause(node);
                let millis = self.rng.random_range(10..4000);
                self.world.advance(Duration::from_millis(millis));
                self.world.resume(node);
            }
        }
    }

    fn repair_fault(&mut self) {
        if let Some(node) = self.down.pop_first() {
            self.world.start(node);
        }
        if self.rng.random_bool(0.5) {
            self.world.heal();
        }
    }

    fn check(mut self, seed: u64) {
        self.world.heal();
        while let Some(node) = self.down.pop_first() {
            self.world.start(node);
        }
        self.world.advance(Duration::from_secs(20));
        self.collect();
        for key in KEYS {
            // Read repair is this version's only catch-up for what no hint covers.
            let all = Options {
                r: Some(Level::All),
                ..Options::default()
            };
            let (owners, _) = self.world.preference(key);
            self.world
                .get(owners[0], key, all)
                .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
            self.world.advance(Duration::from_millis(100));
            let mut seen = BTreeSet::new();
            for owner in owners {
                let found = self
                    .world
                    .get(
                        owner,
                        key,
                        Options {
                            r: Some(Level::One),
                            ..Options::default()
                        },
                    )
                    .unwrap();
                let values: BTreeSet<String> = found
                    .versions
                    .iter()
                    .map(|version| String::from_utf8(version.value.to_vec()).unwrap())
                    .collect();
                seen.insert(values);
            }
            assert_eq!(
                seen.len(),
                1,
                "seed {seed}: owners of {key} differ: {seen:?} {:#?}",
                self.world.log
            );
            let live = seen.pop_first().unwrap();
            let state = &self.keys[key];
            for value in &state.acknowledged {
                let gone = !live.contains(value) && !state.replaced.contains(value);
                assert!(!gone, "seed {seed}: acknowledged {value} is lost; live: {live:?}");
            }
        }
    }
}

/// `ANNULUS_SEEDS=FIRST..END` runs other seeds, or more of them.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("ANNULUS_SEEDS").unwrap_or_else(|_| "0..100".into());
    let (first, end) = text.split_once("..").expect("ANNULUS_SEEDS is FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn random_histories_lose_no_acknowledged_write() {
    for seed in seeds() {
        let mut run = Run::new(seed);
        for _ in 0..150 {
            run.step();
        }
        run.check(seed);
    }
}
