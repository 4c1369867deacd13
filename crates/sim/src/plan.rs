//! A seed draws the cluster, the workload and the faults, so that every seed is another configuration (swarm testing).
//!
//! Groce et al., "Swarm Testing" (ISSTA 2012): leaving features out at random finds more than having all of them always.
//! A plan is data: shrinking takes calls, faults and nodes out of it, and what is left can be kept as a file.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use serde::{Deserialize, Serialize};

use crate::faults::{self, Bursts, Weakens};
use crate::queue::{MICROSECOND, MILLISECOND, Nanos, SECOND};
use crate::workloads::{self, Style};

/// Everything that a run follows from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// 3 to 9.
    pub nodes: usize,
    /// Zones they are spread over.
    pub zones: usize,
    /// Of the ring.
    pub partitions: u32,
    /// The replication factor.
    pub replicas: u8,
    /// The bound of requests in progress a node.
    pub max_tasks: usize,
    /// The bound of hints for one owner, in bytes.
    pub hint_bytes: u64,
    /// How the network is.
    pub(crate) network: Network,
    /// How long a sync takes, least and most.
    pub(crate) sync: (Nanos, Nanos),
    /// How fast each node's clock runs.
    pub(crate) drift_ppm: Vec<i64>,
    /// How clients mix levels.
    pub(crate) style: Style,
    /// How long faults and calls go on.
    pub(crate) length: Nanos,
    /// What clients do, by time.
    pub(crate) calls: Vec<PlannedCall>,
    /// What goes wrong.
    pub(crate) faults: Vec<PlannedFault>,
    /// In the liveness phase this node stays down or cut off for ever.
    pub(crate) lost_node: Option<LostNode>,
}

/// How a network is at its best.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    /// How long a message takes, least and most.
    pub(crate) delay: (Nanos, Nanos),
    /// Of a million messages, so many are lost.
    pub(crate) lost_per_million: u32,
    /// Of a million, so many arrive twice.
    pub(crate) twice_per_million: u32,
}

/// A request of a client.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedCall {
    pub(crate) at: Nanos,
    pub(crate) client: u32,
    /// Which of [`workloads::ALL`].
    #[serde(with = "by_name::workload")]
    pub(crate) workload: usize,
    /// What is drawn for it.
    pub(crate) dice: u64,
}

/// A fault.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedFault {
    pub(crate) at: Nanos,
    pub(crate) lasts: Nanos,
    /// Which of [`faults::ALL`].
    #[serde(with = "by_name::fault")]
    pub(crate) fault: usize,
    pub(crate) dice: u64,
}

/// A fault that never heals.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum LostNode {
    Down(usize),
    CutOff(usize),
}

/// What a plan may draw from.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// These faults, by name, all of them and no others, though they be drawn on demand only; where it is empty, some of all that hold
    /// every promise.
    pub faults: Vec<String>,
    /// These workloads, by name, all of them and no others; some of all where it is empty.
    pub workloads: Vec<String>,
    /// So many nodes; a drawn number where it is nothing.
    pub nodes: Option<usize>,
    /// So many nodes, requests a simulated second and simulated seconds, and no faults: for measuring.
    pub measure: Option<(usize, u32, u32)>,
}

impl Plan {
    /// As [`Plan::write`] wrote it.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(text: &str) -> Result<Plan, String> {
        let plan: Plan = serde_json::from_str(text).map_err(|error| format!("this is no plan: {error}"))?;
        let is_sound = (2..=9).contains(&plan.nodes)
            && (1..=plan.nodes).contains(&plan.zones)
            && (1..=plan.nodes).contains(&usize::from(plan.replicas))
            && plan.partitions.is_power_of_two();
        match is_sound {
            true => Ok(plan),
            false => Err("nodes, zones, replicas and partitions do not go together".to_owned()),
        }
    }

    /// The plan as text, for a file.
    pub fn write(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan is numbers and names") + "\n"
    }

    /// The plan of a seed.
    pub fn draw(seed: u64, scope: &Scope) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed);
        let drawn = *[3, 3, 4, 5, 5, 5, 6, 7, 8, 9].choose(&mut rng).unwrap_or(&5);
        let nodes = scope.measure.map(|(nodes, ..)| nodes).or(scope.nodes).unwrap_or(drawn);
        let slow = *[1, 1, 1, 5, 30].choose(&mut rng).unwrap_or(&1);
        let least = rng.random_range(20..500) * MICROSECOND;
        let network = Network {
            delay: (least, least + rng.random_range(0..2000) * MICROSECOND * slow),
            lost_per_million: *[0, 0, 0, 100, 2000, 20_000].choose(&mut rng).unwrap_or(&0),
            twice_per_million: *[0, 0, 0, 0, 2000].choose(&mut rng).unwrap_or(&0),
        };
        let slow_disk = *[1, 1, 1, 20, 100].choose(&mut rng).unwrap_or(&1);
        let sync_least = rng.random_range(50..2000) * MICROSECOND * slow_disk;
        let sync = (sync_least, sync_least + rng.random_range(0..4) * MILLISECOND * slow);
        let drifts = rng.random_bool(0.3);
        let drift_ppm = (0..nodes)
            .map(|_| if drifts { rng.random_range(-300..300) } else { 0 })
            .collect();
        let mut plan = Plan {
            seed,
            nodes,
            zones: rng.random_range(1..=nodes.min(3)),
            partitions: 1 << rng.random_range(3..8),
            replicas: (*[3, 3, 3, 3, 2, 4, 5].choose(&mut rng).unwrap_or(&3)).min(nodes as u8),
            max_tasks: *[20_000, 20_000, 20_000, 64, 8].choose(&mut rng).unwrap_or(&20_000),
            hint_bytes: *[256 << 20, 256 << 20, 64 << 10, 300, 300]
                .choose(&mut rng)
                .unwrap_or(&(256 << 20)),
            network,
            sync,
            drift_ppm,
            style: match rng.random_range(0..10) {
                0..4 => Style::WriteOneReadAll,
                4 => Style::WriteAllReadOne,
                _ => Style::Mixed,
            },
            length: rng.random_range(10..60) * SECOND,
            calls: Vec::new(),
            faults: Vec::new(),
            lost_node: None,
        };
        if rng.random_bool(0.5) {
            let node = rng.random_range(0..nodes);
            plan.lost_node = Some(if rng.random_bool(0.5) {
                LostNode::Down(node)
            } else {
                LostNode::CutOff(node)
            });
        }
        let mut rate = rng.random_range(5..80);
        if let Some((_, requests, seconds)) = scope.measure {
            rate = requests;
            plan.measured(seconds);
        }
        plan.draw_calls(&mut rng, scope, rate);
        if scope.measure.is_none() {
            plan.draw_faults(&mut rng, scope);
        }
        plan
    }

    /// A cluster as most are, for figures that compare.
    fn measured(&mut self, seconds: u32) {
        self.zones = 1;
        self.partitions = 64;
        self.replicas = 3;
        self.max_tasks = 20_000;
        self.hint_bytes = 256 << 20;
        self.network.delay = (100 * MICROSECOND, 500 * MICROSECOND);
        self.network.lost_per_million = 0;
        self.network.twice_per_million = 0;
        self.sync = (200 * MICROSECOND, MILLISECOND);
        self.length = Nanos::from(seconds) * SECOND;
        self.lost_node = None;
    }

    fn draw_calls(&mut self, rng: &mut StdRng, scope: &Scope, per_second: u32) {
        let mut mix: Vec<usize> = (0..workloads::ALL.len())
            .filter(|&workload| scope.allows_workload(workloads::ALL[workload].name()))
            .filter(|_| !scope.workloads.is_empty() || rng.random_bool(0.35))
            .collect();
        if mix.is_empty() || scope.measure.is_some() {
            mix = vec![workloads::plain(scope)];
        }
        let clients = rng.random_range(1..10);
        let pause = SECOND / Nanos::from(per_second.max(1));
        let mut at = 0;
        while at < self.length {
            self.calls.push(PlannedCall {
                at,
                client: rng.random_range(0..clients),
                workload: *mix.choose(rng).unwrap_or(&0),
                dice: rng.random(),
            });
            at += rng.random_range(0..=2 * pause);
        }
    }

    fn draw_faults(&mut self, rng: &mut StdRng, scope: &Scope) {
        // Now and then only what spares processes, where no restart mends anything; or only what does not.
        let drawn = *[None, None, Some(true), Some(false)].choose(rng).unwrap_or(&None);
        let only = drawn.filter(|_| scope.faults.is_empty());
        let allowed: Vec<usize> = (0..faults::ALL.len())
            .filter(|&fault| scope.allows_fault(fault))
            .filter(|&fault| only.is_none_or(|spares| faults::ALL[fault].spares_processes() == spares))
            .collect();
        if only == Some(true) {
            self.hint_bytes = 256 << 20;
            self.max_tasks = 20_000;
        }
        let mut kinds: Vec<usize> = allowed
            .iter()
            .copied()
            .filter(|_| !scope.faults.is_empty() || rng.random_bool(0.3))
            .collect();
        if kinds.is_empty() {
            kinds.extend(allowed.choose(rng));
        }
        let pause = SECOND / 10 * rng.random_range(5..60);
        let longest = SECOND / 10 * rng.random_range(1..100);
        kinds.retain(|&fault| {
            let is_throughout = faults::ALL[fault].bursts() == Bursts::Throughout;
            if is_throughout {
                self.draw_burst(rng, 0, longest, fault);
            }
            !is_throughout
        });
        let mut disks_lost = 0;
        let mut at = rng.random_range(0..pause);
        while at < self.length && !kinds.is_empty() {
            let fault = *kinds.choose(rng).unwrap_or(&0);
            let weakens = faults::ALL[fault].weakens();
            let loses = matches!(weakens, Weakens::OneRecord | Weakens::OneDisk);
            disks_lost += u32::from(loses);
            // A second lost disk before the first is refilled may take the last copy.
            if !loses || disks_lost == 1 {
                self.draw_burst(rng, at, longest, fault);
            }
            at += rng.random_range(0..=2 * pause);
        }
    }

    /// A fault, or several of its kind.
    fn draw_burst(&mut self, rng: &mut StdRng, at: Nanos, longest: Nanos, fault: usize) {
        let (times, step) = match faults::ALL[fault].bursts() {
            Bursts::Never | Bursts::Throughout => (1, 0),
            Bursts::InARow => (rng.random_range(1..30), SECOND / 10),
            Bursts::EndTogether => (rng.random_range(1..4), longest / 4),
        };
        for time in 0..times {
            let lasts = match faults::ALL[fault].bursts() {
                Bursts::EndTogether => longest - time * step,
                Bursts::Throughout => self.length + 2 * longest,
                _ => {
                    let least = faults::ALL[fault].least();
                    rng.random_range(least..=longest.max(2 * least))
                }
            };
            self.faults.push(PlannedFault {
                at: at + time * step,
                lasts,
                fault,
                dice: rng.random(),
            });
        }
    }

    /// The most that a planned fault weakens.
    pub(crate) fn weakens(&self) -> Weakens {
        let weakens = self.faults.iter().map(|fault| faults::ALL[fault.fault].weakens());
        weakens.max().unwrap_or(Weakens::Nothing)
    }

    /// What it plans, in lines for people.
    pub fn describe(&self) -> Vec<String> {
        let micros = |(least, most): (Nanos, Nanos)| format!("{}-{} µs", least / MICROSECOND, most / MICROSECOND);
        let mut lines = vec![
            format!(
                "seed {}: {} nodes in {} zones, {} partitions, n={}; at most {} requests a node and {} bytes of hints an owner",
                self.seed, self.nodes, self.zones, self.partitions, self.replicas, self.max_tasks, self.hint_bytes,
            ),
            format!(
                "messages take {}; of a million {} are lost and {} come twice; syncs take {}; clocks drift by {:?} millionths",
                micros(self.network.delay),
                self.network.lost_per_million,
                self.network.twice_per_million,
                micros(self.sync),
                self.drift_ppm,
            ),
            format!(
                "{} calls in {} s, levels {:?}; for good at the end: {:?}",
                self.calls.len(),
                self.length / SECOND,
                self.style,
                self.lost_node,
            ),
        ];
        for fault in &self.faults {
            let seconds = |nanos: Nanos| nanos as f64 / SECOND as f64;
            lines.push(format!(
                "fault at {:.3} s for {:.3} s: {} (dice {})",
                seconds(fault.at),
                seconds(fault.lasts),
                faults::ALL[fault.fault].name(),
                fault.dice
            ));
        }
        lines
    }
}

impl Scope {
    fn allows_fault(&self, fault: usize) -> bool {
        let fault = faults::ALL[fault];
        match self.faults.is_empty() {
            true => fault.weakens() != Weakens::Everything,
            false => self.faults.iter().any(|name| name == fault.name()),
        }
    }

    pub(crate) fn allows_workload(&self, workload: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|name| name == workload)
    }

    /// # Errors
    /// Which name is none of a fault or a workload.
    pub fn check(&self) -> Result<(), String> {
        for name in &self.faults {
            if !faults::ALL.iter().any(|fault| fault.name() == name) {
                let known: Vec<&str> = faults::ALL.iter().map(|fault| fault.name()).collect();
                return Err(format!("there is no fault `{name}`; there are {}", known.join(", ")));
            }
        }
        for name in &self.workloads {
            if !workloads::ALL.iter().any(|workload| workload.name() == name) {
                let known: Vec<&str> = workloads::ALL.iter().map(|workload| workload.name()).collect();
                return Err(format!("there is no workload `{name}`; there are {}", known.join(", ")));
            }
        }
        Ok(())
    }
}

/// Faults and workloads go into files by their names: their places change.
mod by_name {
    macro_rules! by_name {
        ($what:ident, $all:path) => {
            pub(in super::super) mod $what {
                use serde::de::Error as _;
                use serde::{Deserialize as _, Deserializer, Serializer};

                pub(in super::super::super) fn serialize<S: Serializer>(
                    place: &usize,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str($all[*place].name())
                }

                pub(in super::super::super) fn deserialize<'de, D: Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<usize, D::Error> {
                    let name = String::deserialize(deserializer)?;
                    let place = $all.iter().position(|known| known.name() == name);
                    place.ok_or_else(|| D::Error::custom(format!("there is no {} `{name}`", stringify!($what))))
                }
            }
        };
    }
    by_name!(fault, crate::faults::ALL);
    by_name!(workload, crate::workloads::ALL);
}
