//! Random histories: clients write, list and guard their writes while nodes crash, pause and lose messages, and disks and links are
//! slow. Whatever was said to have written nothing never shows; strict reads see what strict writes acknowledged; afterwards no
//! acknowledged write is missing, nothing that was replaced is back, and all owners agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_coordinator::{
    Answer, Condition, Failure, Found, Level, Mode, NewValue, Operation, Options, Outcome, Reply,
};
use annulus_ring::NodeId;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::world::{Weather, World, id, on_key};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// What a client knows of the writes it made to one key.
#[derive(Default)]
struct Key {
    /// Every value written, acknowledged or not.
    written: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    /// Values that some write may have replaced: its writer had read them, or wrote without a token.
    replaced: BTreeSet<String>,
    /// Until when writes that replace what their coordinator knows then may begin: they may replace what is written meanwhile.
    open: Vec<(u64, Duration)>,
    /// Values that strict writes wrote, acknowledged.
    strict: BTreeSet<String>,
    /// Values of writes that were said to have written nothing.
    never: BTreeSet<String>,
    /// Values that an acknowledged write has surely replaced.
    gone: BTreeSet<String>,
    token: Option<Token>,
}

/// The token of a read.
#[derive(Clone)]
struct Token {
    text: String,
    etag: u128,
    /// What it surely covers: what the read returned.
    shown: BTreeSet<String>,
    /// What it may cover.
    covers: BTreeSet<String>,
}

/// A write on its way.
struct Pending {
    client: u64,
    key: &'static str,
    /// Empty for a delete.
    value: String,
    is_strict: bool,
    replaces: BTreeSet<String>,
}

struct Run {
    world: World,
    rng: StdRng,
    nodes: Vec<NodeId>,
    down: BTreeSet<NodeId>,
    keys: BTreeMap<&'static str, Key>,
    pending: Vec<Pending>,
    count: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(3..=6);
        let nodes = (1..=count).map(|number| id(&format!("n{number}"))).collect();
        let keys = KEYS.iter().map(|&key| (key, Key::default())).collect();
        let mut world = World::formed(count);
        world.weather = rng.random_bool(0.75).then(|| Weather::new(seed));
        Run {
            world,
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
            45..66 => self.read(),
            66..70 => self.list(),
            70..76 => self.fault(),
            76..84 => self.repair_fault(),
            _ => {
                let millis = self.rng.random_range(1..400);
                self.world.advance(Duration::from_millis(millis));
            }
        }
        self.collect();
    }

    fn options(&mut self) -> Options {
        Options {
            timeout: Some(Duration::from_millis(self.rng.random_range(500..3000))),
            mode: self.rng.random_bool(0.3).then_some(Mode::Strict),
            w: *[None, None, Some(Level::One), Some(Level::All)]
                .choose(&mut self.rng)
                .unwrap(),
            ..Options::default()
        }
    }

    fn write(&mut self) {
        let key = *KEYS.choose(&mut self.rng).unwrap();
        let node = self.live();
        let options = self.options();
        self.count += 1;
        let is_delete = self.rng.random_bool(0.15);
        let value = if is_delete {
            String::new()
        } else {
            format!("{key}{}", self.count)
        };
        let state = self.keys.get_mut(key).unwrap();
        let token = state.token.clone().filter(|_| self.rng.random_bool(0.6));
        let condition = match (self.rng.random_range(0..10), &token) {
            (0, _) => Some(Condition::Absent),
            (1, Some(token)) => Some(Condition::Match(vec![token.etag])),
            _ => None,
        };
        match &token {
            // A guarded write carries the context of what its guard saw.
            Some(token) if condition.is_none() => state.replaced.extend(token.covers.iter().cloned()),
            _ => state.replaced.extend(state.written.iter().cloned()),
        }
        let now = self.world.now();
        state.open.retain(|&(_, until)| until >= now);
        if !state.open.is_empty() {
            state.replaced.insert(value.clone());
        }
        if !is_delete {
            state.written.insert(value.clone());
        }
        let is_guarded = condition.is_some();
        let operation = Operation::Write {
            value: (!is_delete).then(|| NewValue {
                value: value.as_bytes().to_vec().into(),
                content_type: None,
                meta: Vec::new(),
            }),
            token: token.as_ref().map(|token| token.text.clone()),
            condition,
        };
        let replaces_all = token.is_none() || is_guarded;
        let client = self.world.send(node, on_key("b", key, operation, options));
        if replaces_all {
            let until = now + options.timeout.unwrap_or_default();
            self.keys.get_mut(key).unwrap().open.push((client, until));
        }
        self.pending.push(Pending {
            client,
            key,
            value,
            is_strict: options.mode.is_some() && options.w != Some(Level::One),
            replaces: token.map(|token| token.shown).unwrap_or_default(),
        });
    }

    fn read(&mut self) {
        let key = *KEYS.choose(&mut self.rng).unwrap();
        let node = self.live();
        self.collect();
        let mut options = self.options();
        options.timeout = None;
        let expected: BTreeSet<String> = match options.mode {
            Some(_) => self.keys[key].strict.clone(),
            None => BTreeSet::new(),
        };
        let Ok(found) = self.world.get(node, key, options) else {
            return;
        };
        // Writes that were not answered when it began may have been replaced, or replace, until it ends.
        self.collect();
        let values = values(&found);
        let state = self.keys.get_mut(key).unwrap();
        assert!(
            values.is_subset(&state.written),
            "a value that nobody wrote: {values:?}"
        );
        let missed: Vec<_> = expected
            .iter()
            .filter(|&value| !values.contains(value) && !state.replaced.contains(value))
            .collect();
        assert!(
            missed.is_empty(),
            "a strict read of {key} missed {missed:?}: {values:?}"
        );
        let never: Vec<_> = values.intersection(&state.never).collect();
        assert!(never.is_empty(), "said to be never written: {never:?}");
        // A read covers what it returned, and what that had replaced: anything written before it may be among that.
        state.token = Some(Token {
            text: found.token,
            etag: found.etag,
            shown: values,
            covers: state.written.clone(),
        });
    }

    fn list(&mut self) {
        let node = self.live();
        let limit = self.rng.random_range(1..4);
        if let Ok(page) = self.world.list(node, "", limit) {
            assert!(page.keys.len() <= limit && page.keys.is_sorted(), "{page:?}");
        }
    }

    fn collect(&mut self) {
        let world = &mut self.world;
        let keys = &mut self.keys;
        self.pending.retain(|pending| match world.reply(pending.client) {
            None => true,
            Some(reply) => {
                let key = keys.get_mut(pending.key).unwrap();
                key.open.retain(|&(client, _)| client != pending.client);
                if let Ok(Answer::Written(_)) = reply {
                    key.gone.extend(pending.replaces.iter().cloned());
                }
                if pending.value.is_empty() {
                    return false;
                }
                if let Ok(Answer::Written(_)) = reply {
                    key.acknowledged.insert(pending.value.clone());
                    if pending.is_strict {
                        key.strict.insert(pending.value.clone());
                    }
                }
                if wrote_nothing(&reply) {
                    key.never.insert(pending.value.clone());
                }
                false
            }
        });
    }

    fn fault(&mut self) {
        let node = self.live();
        match self.rng.random_range(0..5) {
            4 => self.world.fail_disk(node),
            0 | 1 if self.down.len() + 1 < self.nodes.len().div_ceil(2) => {
                // The clients of a node that dies get no reply.
                self.down.insert(node);
                self.world.kill(node);
            }
            2 => {
                let other = self.live();
                match self.rng.random() {
                    _ if node == other => {}
                    true => self.world.cut(node, other),
                    false => self.world.cut_one_way(node, other),
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
        self.world.weather = None;
        self.nodes.iter().for_each(|&node| self.world.mend_disk(node));
        while let Some(node) = self.down.pop_first() {
            self.world.start(node);
        }
        self.world.advance(Duration::from_secs(30));
        self.collect();
        let mut holding = Vec::new();
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
                seen.insert(values(&found));
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
            let never: Vec<_> = live.intersection(&state.never).collect();
            assert!(never.is_empty(), "seed {seed}: said to be never written: {never:?}");
            let back: Vec<_> = live.iter().filter(|&value| state.gone.contains(value)).collect();
            assert!(back.is_empty(), "seed {seed}: replaced, and back: {back:?}");
            if !live.is_empty() {
                holding.push(key.to_owned());
            }
        }
        for node in self.nodes.clone() {
            assert_eq!(self.pages(node), holding, "seed {seed}: {node} lists other keys");
        }
    }

    fn pages(&mut self, node: NodeId) -> Vec<String> {
        let limit = self.rng.random_range(1..4);
        let (mut keys, mut start) = (Vec::new(), String::new());
        loop {
            let page = self.world.list(node, &start, limit).unwrap();
            keys.extend(
                page.keys
                    .iter()
                    .map(|key| String::from_utf8(key.as_bytes().to_vec()).unwrap()),
            );
            match page.next {
                Some(next) => start = String::from_utf8(next.to_vec()).unwrap(),
                None => return keys,
            }
        }
    }
}

fn values(found: &Found) -> BTreeSet<String> {
    let text = |version: &annulus_causality::Version| String::from_utf8(version.value.to_vec()).unwrap();
    found.versions.iter().map(text).collect()
}

/// The reply says that nothing was written, and never will be.
fn wrote_nothing(reply: &Reply) -> bool {
    match reply {
        Ok(_) => false,
        Err(Failure::QuorumUnreachable { outcome, .. } | Failure::TimedOut { outcome, .. }) => {
            *outcome == Outcome::None
        }
        Err(_) => true,
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
