//! A run forms a cluster, lets clients and faults at it, heals it, and asks every oracle.

use std::collections::BTreeMap;
use std::num::NonZeroI64;

use annulus_causality::{Change, ConflictPolicy, Element};
use annulus_checker::{Action, Conflicts, Final, History, Operation, Outcome, Promises, Record};
use annulus_coordinator::{Answer, Failure, KeyRequest, Level, Operation as Asked, Options, Reply, Request};
use annulus_ring::{Address, Bucket, Key, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clients::{Clients, read_value};
use crate::faults::{self, Dice, Weakens};
use crate::oracles::{Violation, clocks, expired, owners, typed};
use crate::plan::{LostNode, Plan};
use crate::queue::{MICROSECOND, MILLISECOND, Nanos, SECOND};
use crate::trace::Trace;
use crate::workloads::{self, Ask, Call, Manner, Seen, With};
use crate::world::{Counts, Outside, World};

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Promises that were broken, in the order in which it was noticed.
    pub violations: Vec<Violation>,
    /// Equal where all that happened was.
    pub hash: u64,
    /// What happened, in lines for people, where it was asked for.
    pub lines: Vec<String>,
    /// Simulated time, in nanoseconds.
    pub nanos: Nanos,
    /// Requests of clients.
    pub operations: u64,
    /// Of them, those that succeeded.
    pub succeeded: u64,
    /// From the end of the faults until no hint was left and all owners held the same, in nanoseconds.
    pub converged_in: Nanos,
    /// What the world counted.
    pub counts: Counts,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

/// A cluster that is not formed or ready after so long is stuck.
const FORMS_WITHIN: Nanos = 120 * SECOND;
/// After the last fault, each of these comes to be within this: hints are delivered, nothing is in doubt, owners agree.
const CONVERGES_WITHIN: Nanos = 180 * SECOND;
/// After a node was lost for good, the others know it within this.
const NOTICES_WITHIN: Nanos = 30 * SECOND;
/// Requests made at the end, by the run itself, are this client's.
const HARNESS: u32 = 99;
/// What it adds to a counter.
const ONE: NonZeroI64 = NonZeroI64::new(1).expect("one is not zero");
/// Their numbers begin here.
const HARNESS_NUMBERS: u64 = 1 << 40;

/// See the module.
pub(crate) struct Run<'a> {
    plan: &'a Plan,
    world: World,
    clients: Clients,
    report: Report,
    finals: Vec<Final>,
    /// What each owner of a counter or set shows in the end.
    typed_finals: Vec<((&'static str, String), Option<String>)>,
    asked: u64,
    /// A call of the history that is waited for.
    awaited: Option<u64>,
    replies: BTreeMap<u64, Option<Reply>>,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, readable: Readable) -> Report {
    let trace = match readable {
        Readable::Yes => Trace::readable(),
        Readable::No => Trace::silent(),
    };
    let mut run = Run {
        plan,
        world: World::new(plan, trace),
        clients: Clients::default(),
        report: Report::default(),
        finals: Vec::new(),
        typed_finals: Vec::new(),
        asked: HARNESS_NUMBERS,
        awaited: None,
        replies: BTreeMap::new(),
    };
    if let Err(violation) = run.all() {
        run.world.watch.violations.push(violation);
    }
    run.end()
}

/// Whether lines are kept for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// They are.
    Yes,
    /// Only the hash is.
    No,
}

type Stage = Result<(), Violation>;

impl Run<'_> {
    fn all(&mut self) -> Stage {
        self.form()?;
        self.declare()?;
        self.work();
        self.world.heal();
        self.read_at_once();
        self.all_answer()?;
        self.stay_alive()?;
        self.converge()?;
        self.read_finals()?;
        self.check_history();
        Ok(())
    }

    fn end(mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        report.violations = std::mem::take(&mut self.world.watch.violations);
        report.nanos = self.world.now;
        report.counts = self.world.counts;
        for fault in &self.plan.faults {
            *report.faults.entry(faults::ALL[fault.fault].name()).or_default() += 1;
        }
        report.hash = self.world.trace.hash();
        report.lines = self.world.trace.into_lines();
        report
    }

    // Stages.

    fn form(&mut self) -> Stage {
        self.wait_until(FORMS_WITHIN, "the cluster forms", |run| {
            (0..run.world.count()).all(|node| matches!(run.ask(node, Request::Ready), Some(Ok(_))))
        })
    }

    fn declare(&mut self) -> Stage {
        for workload in workloads::ALL {
            let Some(spec) = workload.bucket() else { continue };
            let bucket = Bucket::parse(workload.name()).expect("a workload's name is a bucket's");
            let request = Request::DeclareBucket(bucket, spec);
            self.wait_until(FORMS_WITHIN, "a bucket is declared", |run| {
                matches!(run.ask(0, request.clone()), Some(Ok(_)))
            })?;
        }
        self.advance(2 * SECOND);
        Ok(())
    }

    /// Clients and faults.
    fn work(&mut self) {
        let begin = self.world.now;
        for (index, call) in self.plan.calls.iter().enumerate() {
            self.world.tell(begin + call.at, Outside::Call(index));
        }
        let mut end = begin + self.plan.length;
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.world.tell(begin + fault.at, Outside::Begin(index));
            self.world.tell(begin + fault.at + fault.lasts, Outside::End(index));
            end = end.max(begin + fault.at + fault.lasts);
        }
        self.world.begin_weather();
        self.advance(end + MILLISECOND - self.world.now);
    }

    /// Before hints have come, owners differ most: all of them are read. Half of the keys are left, as a read mends what it finds.
    fn read_at_once(&mut self) {
        self.advance(700 * MILLISECOND);
        let keys: Vec<_> = self.clients.keys.iter().step_by(2).cloned().collect();
        for (bucket, key) in keys {
            for node in 0..self.world.count() {
                let call = get_from(&key, Level::All);
                self.send(bucket, HARNESS, node, (call, Manner::Plain));
            }
        }
    }

    /// Whoever asked has been answered by the time its deadline has passed.
    fn all_answer(&mut self) -> Stage {
        self.advance(15 * SECOND);
        let stuck = self
            .world
            .unanswered()
            .iter()
            .find(|(client, _)| *client < HARNESS_NUMBERS);
        if let Some((client, node)) = stuck {
            return Err(Violation {
                promise: "every request ends",
                detail: format!("request {client} to n{} was never answered", node + 1),
            });
        }
        Ok(())
    }

    /// A minority is lost for good: everything must still succeed.
    fn stay_alive(&mut self) -> Stage {
        let Some(lost) = self.plan.lost_node else {
            return self.everything_succeeds(None);
        };
        let (LostNode::Down(lost_node) | LostNode::CutOff(lost_node)) = lost;
        let lost_node = lost_node % self.world.count();
        if !self.leaves_majorities(lost_node) {
            return self.everything_succeeds(None);
        }
        let others: Vec<usize> = (0..self.world.count()).filter(|&node| node != lost_node).collect();
        match lost {
            LostNode::Down(_) => faults::put_down(&mut self.world, lost_node, crate::world::Death::Killed),
            LostNode::CutOff(_) => {
                faults::cut(&mut self.world, faults::between(&[lost_node], &others));
            }
        }
        self.advance(NOTICES_WITHIN);
        let result = self.everything_succeeds(Some(lost_node));
        match lost {
            LostNode::Down(_) => faults::put_up(&mut self.world, lost_node),
            LostNode::CutOff(_) => {
                faults::mend(&mut self.world, faults::between(&[lost_node], &others));
            }
        }
        result
    }

    /// Each key has a majority of its owners without this node.
    fn leaves_majorities(&mut self, lost: usize) -> bool {
        let id = self.world.processes[lost].id;
        self.owned_keys().iter().all(|(_, owners)| {
            let left = owners.iter().filter(|&&owner| owner != id).count();
            left > owners.len() / 2
        })
    }

    fn everything_succeeds(&mut self, without: Option<usize>) -> Stage {
        let keys: Vec<_> = self.clients.keys.iter().take(4).cloned().collect();
        for (bucket, key) in keys {
            for node in (0..self.world.count()).filter(|&node| Some(node) != without) {
                for ask in [plain_write(bucket), Ask::Get] {
                    let call = Call {
                        key: key.clone(),
                        ask,
                        options: Options::default(),
                    };
                    self.must_succeed(bucket, node, call)?;
                }
            }
        }
        Ok(())
    }

    fn must_succeed(&mut self, bucket: &'static str, node: usize, call: Call) -> Stage {
        let shown = format!("{bucket}/{} at n{}", call.key, node + 1);
        let reply = self.call(bucket, HARNESS, node, call);
        match reply {
            Some(Ok(_)) => Ok(()),
            // Siblings that nobody merged are a client's to merge.
            Some(Err(Failure::TooManySiblings { .. })) => Ok(()),
            other => Err(Violation {
                promise: "progress",
                detail: format!("a majority is alive, and {shown} fails: {other:?}"),
            }),
        }
    }

    /// No hint is left, nothing is in doubt, what has expired is gone, and all owners of a key hold the same: all of it by itself, without
    /// a read.
    fn converge(&mut self) -> Stage {
        let begin = self.world.now;
        self.wait_until(CONVERGES_WITHIN, "all nodes are connected", |run| {
            run.world.is_connected()
        })?;
        let hints = self.wait_until(CONVERGES_WITHIN, "hints are delivered", |run| {
            run.advance(SECOND);
            run.world.all_hold(|usage| usage.hints == 0)
        });
        hints.map_err(|violation| {
            let left = |node: usize| format!("; n{}: {}", node + 1, owners::hints(&self.world, node));
            let left: String = (0..self.world.count()).map(left).collect();
            Violation {
                detail: violation.detail + &left,
                ..violation
            }
        })?;
        self.wait_until(CONVERGES_WITHIN, "what is in doubt is refilled", |run| {
            run.world.all_hold(|usage| usage.partitions_in_doubt == 0)
        })?;
        let owned = self.owned_keys();
        self.comes_to_hold("expired versions go", |world| expired::check(world, &owned))?;
        self.comes_to_hold("owners agree", |world| owners::compare(world, &owned))?;
        self.report.converged_in = self.world.now - begin;
        self.comes_to_hold("clocks stay small", clocks::check)
    }

    /// A promise about what is stored, which holds soon after the last fault; where it does not, that says what was seen last.
    fn comes_to_hold(&mut self, promise: &'static str, check: impl Fn(&World) -> Result<(), String>) -> Stage {
        let mut seen = Ok(());
        let holds = self.wait_until(CONVERGES_WITHIN, promise, |run| {
            seen = check(&run.world);
            seen.is_ok()
        });
        holds.map_err(|_| Violation {
            promise,
            detail: seen.err().unwrap_or_default(),
        })
    }

    /// What each owner answers by itself.
    fn read_finals(&mut self) -> Stage {
        let keys: Vec<_> = self.clients.keys.iter().cloned().collect();
        let owned = self.owned_keys();
        for ((bucket, key), (_, owners)) in keys.iter().zip(&owned) {
            for owner in owners {
                let Some(node) = self.world.index(*owner) else { continue };
                let request = get_alone(bucket, key);
                let reply = self.ask(node, request);
                if let (Some(_), Some(Ok(Answer::Found(found)))) = (typed::policy(bucket), &reply) {
                    self.typed_finals
                        .push(((*bucket, key.clone()), typed::shown(found).unwrap_or_else(unknown)));
                    continue;
                }
                match reply {
                    Some(Ok(Answer::Found(found))) => self.finals.push(Final {
                        key: format!("{bucket}/{key}"),
                        node: format!("n{}", node + 1),
                        at_us: self.world.now / MICROSECOND,
                        values: found
                            .versions
                            .iter()
                            .map(|version| read_value(&version.value))
                            .collect(),
                    }),
                    other => {
                        return Err(Violation {
                            promise: "progress",
                            detail: format!("all is healed, and n{} cannot read {bucket}/{key}: {other:?}", node + 1),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn check_history(&mut self) {
        let weakens = self.plan.weakens();
        let mut history = History::default();
        for workload in workloads::ALL {
            if let Some(spec) = workload.bucket() {
                let conflicts = match spec.conflicts.unwrap_or_default() {
                    ConflictPolicy::LastWriteWins => Conflicts::Lww,
                    _ => Conflicts::Siblings,
                };
                history.push(Record::Bucket(annulus_checker::Bucket {
                    name: workload.name().to_owned(),
                    conflicts,
                    ttl_ms: spec.ttl.map(|ttl| ttl.as_millis() as u64),
                }));
            }
        }
        self.clients.give_up(self.world.now);
        history.operations = std::mem::take(&mut self.clients.operations);
        self.report.count_operations(&history.operations);
        history.finals = std::mem::take(&mut self.finals);
        if weakens != Weakens::Nothing {
            history.operations.iter_mut().for_each(forget_single_copies);
        }
        self.check_typed(weakens);
        for violation in annulus_checker::check_with(&history, &self.promises()) {
            let detail = format!("{}: {}", violation.key, violation.detail);
            self.world.violated(violation.promise.name(), detail);
        }
    }

    fn check_typed(&mut self, weakens: Weakens) {
        let (operations, succeeded) = self.clients.typed.counts();
        self.report.operations += operations;
        self.report.succeeded += succeeded;
        let given = typed::Given {
            least_copies: if weakens == Weakens::Nothing { 1 } else { 2 },
            quorums_see: weakens == Weakens::Nothing,
        };
        if weakens == Weakens::Everything {
            return;
        }
        for (promise, detail) in self.clients.typed.check(&self.typed_finals, given) {
            self.world.violated(promise, detail);
        }
    }

    /// What holds for the faults of this run.
    fn promises(&self) -> Promises {
        let promises = Promises::all();
        let jumps = |name| {
            self.plan
                .faults
                .iter()
                .any(|fault| faults::ALL[fault.fault].name() == name)
        };
        match (jumps("clock-years"), jumps("clock-jump")) {
            (true, _) => promises.with_skew_us(u64::MAX),
            (_, true) => promises.with_skew_us(60_000_000),
            _ => promises,
        }
    }

    // What the run itself does.

    /// Lets time pass, clients call and faults begin and end.
    fn advance(&mut self, by: Nanos) {
        let end = self.world.now + by;
        self.world.tell(end, Outside::Wake);
        loop {
            let outside = self.world.step();
            self.collect();
            match outside {
                Some(Outside::Call(index)) => self.on_call(index),
                Some(Outside::Begin(index)) => self.on_fault(index, Edge::Begins),
                Some(Outside::End(index)) => self.on_fault(index, Edge::Ends),
                Some(Outside::Wake) if self.world.now >= end => return,
                Some(Outside::Wake) | None => {}
            }
        }
    }

    fn on_call(&mut self, index: usize) {
        let planned = self.plan.calls[index];
        let mut rng = StdRng::seed_from_u64(planned.dice);
        let workload = workloads::ALL[planned.workload];
        let node = rng.random_range(0..self.world.count());
        let seen = Seen {
            client: planned.client,
            sights: &self.clients.sights,
            bucket: workload.name(),
            style: self.plan.style,
        };
        for call in workload.calls(&mut rng, &seen) {
            self.send(workload.name(), planned.client, node, (call, workload.manner()));
        }
    }

    fn send(&mut self, bucket: &'static str, client: u32, node: usize, call: (Call, Manner)) -> u64 {
        let (number, request) = self.clients.begin(bucket, client, node, self.world.now, call);
        if !self.world.ask(number, node, request) {
            self.clients.forget(number);
        }
        number
    }

    fn on_fault(&mut self, index: usize, edge: Edge) {
        let planned = self.plan.faults[index];
        let fault = faults::ALL[planned.fault];
        let now = self.world.now;
        self.world.trace.note(now, || format!("{} {edge:?}", fault.name()));
        let dice = Dice::of(planned.dice);
        match edge {
            Edge::Begins => fault.begin(&mut self.world, dice),
            Edge::Ends => fault.end(&mut self.world, dice),
        }
    }

    /// Takes the answers that came.
    fn collect(&mut self) {
        for answered in std::mem::take(&mut self.world.answers) {
            if answered.client >= HARNESS_NUMBERS {
                self.replies.insert(answered.client, answered.reply);
                continue;
            }
            if let Err(detail) = self.clients.end(answered.client, answered.at, answered.reply.as_ref()) {
                self.world.violated("answers", detail);
            }
            if self.awaited == Some(answered.client) {
                self.replies.insert(answered.client, answered.reply);
            }
        }
    }

    /// A call that is waited for, and belongs to the history.
    fn call(&mut self, bucket: &'static str, client: u32, node: usize, call: Call) -> Option<Reply> {
        let number = self.send(bucket, client, node, (call, Manner::Plain));
        self.awaited = Some(number);
        self.wait_for(number)
    }

    /// A request that is waited for, and no part of the history.
    fn ask(&mut self, node: usize, request: Request) -> Option<Reply> {
        self.asked += 1;
        match self.world.ask(self.asked, node, request) {
            true => self.wait_for(self.asked),
            false => None,
        }
    }

    fn wait_for(&mut self, number: u64) -> Option<Reply> {
        let until = self.world.now + 20 * SECOND;
        self.collect();
        while self.world.now < until {
            if let Some(reply) = self.replies.remove(&number) {
                return reply;
            }
            self.advance(MILLISECOND);
        }
        None
    }

    fn wait_until(&mut self, within: Nanos, what: &'static str, mut done: impl FnMut(&mut Self) -> bool) -> Stage {
        let end = self.world.now + within;
        while !done(self) {
            if self.world.now > end {
                return Err(Violation {
                    promise: "progress",
                    detail: format!("{what}: not within {} s", within / SECOND),
                });
            }
            self.advance(100 * MILLISECOND);
        }
        Ok(())
    }

    /// The keys of the run with their owners, the coordinator first.
    fn owned_keys(&mut self) -> Vec<(Address, Vec<NodeId>)> {
        let keys: Vec<_> = self.clients.keys.iter().cloned().collect();
        let mut owned = Vec::new();
        for (bucket, key) in keys {
            let bucket = Bucket::parse(bucket).expect("a workload's name is a bucket's");
            let key = Key::parse(key.into_bytes()).expect("a workload's key is short");
            let located = (0..self.world.count()).find_map(|node| {
                match self.ask(node, Request::Locate(bucket.clone(), key.clone())) {
                    Some(Ok(Answer::Located(located))) => Some(located),
                    _ => None,
                }
            });
            let names = located.map(|located| located.owners).unwrap_or_default();
            let owners: Vec<NodeId> = names.iter().filter_map(|name| self.world.named(name)).collect();
            let n = owners.len() as u8;
            owned.push((Address::new(bucket, key, n, self.world.partitions()), owners));
        }
        owned
    }
}

#[derive(Clone, Copy, Debug)]
enum Edge {
    Begins,
    Ends,
}

impl Report {
    fn count_operations(&mut self, operations: &[Operation]) {
        let succeeded =
            |operation: &&Operation| matches!(operation.outcome, Outcome::Read { .. } | Outcome::Written { .. });
        self.operations = operations.len() as u64;
        self.succeeded = operations.iter().filter(succeeded).count() as u64;
    }
}

/// Where a disk was lost, what one owner alone had acknowledged may be gone, or be known to nobody until a hint of it is delivered.
fn forget_single_copies(operation: &mut Operation) {
    let owners = match operation.outcome {
        Outcome::Written {
            answered, fallbacks, ..
        } => answered - fallbacks,
        _ => 0,
    };
    let single = matches!(operation.outcome, Outcome::Written { .. }) && owners <= 1;
    if let (true, Action::Put { durable, .. } | Action::Delete { durable, .. }) = (single, &mut operation.action) {
        *durable = false;
    }
}

/// By then all nodes know all declarations: this is no document of a counter or a set.
fn unknown() -> Option<String> {
    Some(String::new())
}

/// A write that every key of the bucket takes.
fn plain_write(bucket: &str) -> Ask {
    let change = match typed::policy(bucket) {
        None => {
            return Ask::Put {
                bytes: 0,
                with: With::Nothing,
            };
        }
        Some(ConflictPolicy::Counter) => Change::Increment(ONE),
        Some(_) => Change::Add(Element::parse("0".into()).expect("one digit is an element")),
    };
    Ask::Change { change, token: None }
}

/// A GET of so many owners, as part of the history.
fn get_from(key: &str, level: Level) -> Call {
    Call {
        key: key.to_owned(),
        ask: Ask::Get,
        options: Options {
            r: Some(level),
            ..Options::default()
        },
    }
}

fn get_alone(bucket: &str, key: &str) -> Request {
    Request::Key(KeyRequest {
        bucket: Bucket::parse(bucket).expect("a workload's name is a bucket's"),
        key: Key::parse(key.to_owned().into_bytes()).expect("a workload's key is short"),
        operation: Asked::Get,
        options: Options {
            r: Some(Level::One),
            ..Options::default()
        },
        seen: None,
    })
}
