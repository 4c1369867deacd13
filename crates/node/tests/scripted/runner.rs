//! What the commands of a script do. `README.md` beside the scripts lists them.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_causality::{Change, ConflictPolicy, Element};
use annulus_coordinator::{
    Answer, BucketSpec, Condition, KeyRequest, ListRequest, NewValue, Operation, Options, Request,
};
use annulus_node::Settings;
use annulus_protocol::{Known, Message, WireKey};
use annulus_ring::{Address, Bucket, Key, NodeId, NodeName, Partitions};
use annulus_storage::Engine;
use annulus_storage::engine::Space;

use crate::command::{self, Words};
use crate::render;
use crate::world::World;

/// Longer than this no cluster takes to form.
const FORMING: Duration = Duration::from_secs(10);

const COMMANDS: &str = "founders cluster start kill wipe pause resume cut heal drop deliver sync settle advance put get delete list \
                        declare undeclare bucket place show hints records members ready verbose closing quiet";

/// What an answer said that later requests can use.
struct Kept {
    token: String,
    etag: Option<u128>,
    session: Option<String>,
}

/// A story under way.
#[derive(Default)]
pub(crate) struct Runner {
    world: World,
    kept: BTreeMap<String, Kept>,
    /// Under which names the answers to these clients are to be kept.
    keep: BTreeMap<u64, String>,
}

impl Runner {
    /// Does what one line says, and returns what it showed.
    pub(crate) fn run(&mut self, line: &str) -> Result<Vec<String>, String> {
        let mut words = Words::parse(line)?;
        let verb = words.next("a command")?;
        self.dispatch(&verb, &mut words)?;
        words.finish()?;
        self.keep_answers();
        Ok(self.world.take_lines())
    }

    fn dispatch(&mut self, verb: &str, words: &mut Words) -> Result<(), String> {
        match verb {
            "founders" => self.founders(words),
            "cluster" => self.cluster(words),
            "start" => self.each_node(words, World::start),
            "kill" => self.each_node(words, World::kill),
            "wipe" => self.each_node(words, World::wipe),
            "pause" => self.each_node(words, |world, node| world.pause(node, true)),
            "resume" => self.each_node(words, |world, node| world.pause(node, false)),
            "behind" => {
                let node = self.node(words)?;
                let by = command::duration(&words.next("how far")?)?;
                self.world.set_behind(node, by);
                Ok(())
            }
            "sync" => self.each_node(words, World::sync),
            "cut" => self.cut(words),
            "heal" => {
                self.world.heal();
                Ok(())
            }
            "drop" => {
                let pair = self.pair(&words.next("A->B")?)?;
                let kind = words.rest().into_iter().next();
                self.world.lose_next(pair, kind)
            }
            "deliver" => self.deliver(words),
            "settle" => {
                self.world.settle();
                Ok(())
            }
            "advance" => {
                let by = command::duration(&words.next("a time")?)?;
                self.world.advance(by);
                Ok(())
            }
            "put" | "get" | "delete" | "increment" | "add" | "remove" => self.key_request(verb, words),
            "list" => self.list(words),
            "declare" => self.declare(words),
            "undeclare" => {
                let (node, bucket) = (self.node(words)?, self.bucket(words)?);
                self.ask(words, node, Request::DropBucket(bucket))
            }
            "bucket" => {
                let (node, bucket) = (self.node(words)?, self.bucket(words)?);
                self.look(node, Request::GetBucket(bucket))
            }
            "ready" => {
                let node = self.node(words)?;
                self.look(node, Request::Ready)
            }
            "members" => self.members(words),
            "place" => self.place(words),
            "show" => self.show(words),
            "hints" => self.hints(words),
            "records" => self.records(words),
            "closing" => {
                self.world.closing = true;
                Ok(())
            }
            "verbose" | "quiet" => {
                self.world.verbose = verb == "verbose";
                Ok(())
            }
            other => Err(format!("there is no command {other:?}; there are: {COMMANDS}")),
        }
    }

    /// Nodes that are there and not started.
    fn founders(&mut self, words: &mut Words) -> Result<(), String> {
        let count = words.number("the number of nodes")?;
        let partitions = words.parsed("partitions", command::number)?.unwrap_or(64);
        let partitions = Partitions::new(partitions).map_err(|error| error.to_string())?;
        let (replicas, timeout) = (
            words.parsed("replicas", command::number)?,
            words.parsed("timeout", command::duration)?,
        );
        let join: Vec<String> = (1..=count).map(|number| format!("n{number}:7")).collect();
        for number in 1..=count {
            let name = NodeName::parse(&format!("n{number}")).map_err(|error| error.to_string())?;
            let mut settings = Settings::new(name, format!("n{number}:8"), format!("n{number}:7"));
            settings.join = join.clone();
            settings.bootstrap_expect = Some(count);
            settings.partitions = partitions;
            settings.replicas = replicas.unwrap_or(settings.replicas);
            settings.timeout = timeout.unwrap_or(settings.timeout);
            self.world.add(settings);
        }
        Ok(())
    }

    /// Founders that have formed a cluster, of which nothing is shown.
    fn cluster(&mut self, words: &mut Words) -> Result<(), String> {
        self.founders(words)?;
        let nodes = self.all_nodes();
        for &node in &nodes {
            self.world.start(node)?;
        }
        self.world.advance(FORMING);
        self.world.take_lines();
        for &node in &nodes {
            self.world
                .look(node, Request::Ready)
                .map_err(|failure| failure.to_string())?;
        }
        let names = self.world.names.nodes().join(" ");
        self.world.say(format!("{names} have formed a cluster"));
        Ok(())
    }

    fn all_nodes(&self) -> Vec<NodeId> {
        let names = self.world.names.nodes();
        names
            .iter()
            .filter_map(|name| self.world.names.find(name).ok())
            .collect()
    }

    fn node(&self, words: &mut Words) -> Result<NodeId, String> {
        self.world.names.find(&words.next("a node")?)
    }

    fn each_node(
        &mut self,
        words: &mut Words,
        mut act: impl FnMut(&mut World, NodeId) -> Result<(), String>,
    ) -> Result<(), String> {
        let first = words.next("a node")?;
        for name in std::iter::once(first).chain(words.rest()) {
            let node = self.world.names.find(&name)?;
            act(&mut self.world, node)?;
        }
        Ok(())
    }

    /// `n1->n2`.
    fn pair(&self, text: &str) -> Result<(NodeId, NodeId), String> {
        let (from, to) = text
            .split_once("->")
            .ok_or_else(|| format!("{text:?} is no link: n1->n2 is"))?;
        Ok((self.world.names.find(from)?, self.world.names.find(to)?))
    }

    fn cut(&mut self, words: &mut Words) -> Result<(), String> {
        let first = words.next("a link or a node")?;
        if first.contains("->") {
            let pair = self.pair(&first)?;
            self.world.cut(pair);
            return Ok(());
        }
        let node = self.world.names.find(&first)?;
        for other in words.rest() {
            let other = self.world.names.find(&other)?;
            self.world.cut((node, other));
            self.world.cut((other, node));
        }
        Ok(())
    }

    fn deliver(&mut self, words: &mut Words) -> Result<(), String> {
        let (mut link, mut count) = (None, 1);
        for word in words.rest() {
            match word.contains("->") {
                true => link = Some(self.pair(&word)?),
                false => count = command::number(&word)?,
            }
        }
        (0..count).try_for_each(|_| self.world.deliver(link))
    }

    fn bucket(&self, words: &mut Words) -> Result<Bucket, String> {
        Bucket::parse(&words.next("a bucket")?).map_err(|error| error.to_string())
    }

    /// `bucket/key`.
    fn key(&self, words: &mut Words) -> Result<(Bucket, Key), String> {
        let text = words.next("bucket/key")?;
        let (bucket, key) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} is no key: bucket/key is"))?;
        let bucket = Bucket::parse(bucket).map_err(|error| error.to_string())?;
        let key = Key::parse(key.as_bytes().to_vec()).map_err(|error| error.to_string())?;
        Ok((bucket, key))
    }

    fn kept(&self, name: &str) -> Result<&Kept, String> {
        self.kept
            .get(name)
            .ok_or_else(|| format!("no answer was kept as {name}"))
    }

    fn ask(&mut self, words: &mut Words, node: NodeId, request: Request) -> Result<(), String> {
        self.world.must_run(node)?;
        let client = self.world.ask(node, request);
        self.keep.extend(words.keep.take().map(|name| (client, name)));
        Ok(())
    }

    /// An answer may come much later than its request.
    fn keep_answers(&mut self) {
        for (client, reply) in std::mem::take(&mut self.world.replies) {
            let (answer, session) = match reply {
                Ok(Answer::InSession { token, answer }) => (Ok(*answer), Some(token)),
                reply => (reply, None),
            };
            let kept = match answer {
                Ok(Answer::Found(found)) => Kept {
                    token: found.token,
                    etag: (!found.versions.is_empty()).then_some(found.etag),
                    session,
                },
                Ok(Answer::Written(written)) => Kept {
                    token: written.token,
                    etag: None,
                    session,
                },
                _ => continue,
            };
            if let Some(name) = self.keep.remove(&client) {
                self.kept.insert(name, kept);
            }
        }
    }

    fn look(&mut self, node: NodeId, request: Request) -> Result<(), String> {
        self.world.must_run(node)?;
        let reply = self.world.look(node, request);
        let shown = self.world.names.reply(&reply);
        self.world.say(shown);
        Ok(())
    }

    fn key_request(&mut self, verb: &str, words: &mut Words) -> Result<(), String> {
        let node = self.node(words)?;
        let (bucket, key) = self.key(words)?;
        let value = match verb {
            "put" => Some(words.text("the value")?),
            _ => None,
        };
        let operation = match verb {
            "get" => Operation::Get,
            "increment" | "add" | "remove" => {
                let what = words.text("the amount or the element")?;
                let element = || Element::parse(what.clone().into_bytes().into()).ok_or("an element is not empty");
                Operation::Change {
                    change: match verb {
                        "increment" => Change::Increment(command::number(&what)?),
                        "add" => Change::Add(element()?),
                        _ => Change::Remove(element()?),
                    },
                    token: words.parsed("token", |name| Ok(self.kept(name)?.token.clone()))?,
                }
            }
            _ => Operation::Write {
                value: value.map(|value| NewValue {
                    value: value.into_bytes().into(),
                    content_type: None,
                    meta: Vec::new(),
                }),
                token: words.parsed("token", |name| Ok(self.kept(name)?.token.clone()))?,
                condition: words.parsed("if", |condition| self.condition(condition))?,
            },
        };
        let options = words.consistency()?;
        let request = KeyRequest {
            bucket,
            key,
            operation,
            options,
            seen: None,
        };
        let session = words.parsed("session", |name| match name {
            "new" => Ok(None),
            name => Ok(self.kept(name)?.session.clone()),
        })?;
        let request = match session {
            None => Request::Key(request),
            Some(token) => Request::InSession { token, request },
        };
        self.ask(words, node, request)
    }

    fn condition(&self, text: &str) -> Result<Condition, String> {
        match text {
            "absent" => Ok(Condition::Absent),
            "exists" => Ok(Condition::Exists),
            name => {
                let etag = self.kept(name)?.etag;
                Ok(Condition::Match(vec![
                    etag.ok_or_else(|| format!("{name} is no value that was read"))?,
                ]))
            }
        }
    }

    fn list(&mut self, words: &mut Words) -> Result<(), String> {
        let (node, bucket) = (self.node(words)?, self.bucket(words)?);
        let request = ListRequest {
            bucket,
            prefix: words.option("prefix").unwrap_or_default().into(),
            start: words.option("start").unwrap_or_default().into(),
            limit: words.parsed("limit", command::number)?.unwrap_or(10),
            options: words.consistency()?,
        };
        self.ask(words, node, Request::List(request))
    }

    fn declare(&mut self, words: &mut Words) -> Result<(), String> {
        let (node, bucket) = (self.node(words)?, self.bucket(words)?);
        let Options {
            r, w, mode, durability, ..
        } = words.consistency()?;
        let spec = BucketSpec {
            n: words.parsed("n", command::number)?,
            r,
            w,
            mode,
            durability,
            conflicts: words.parsed("conflicts", |policy| match policy {
                "siblings" => Ok(ConflictPolicy::Siblings),
                "lww" => Ok(ConflictPolicy::LastWriteWins),
                "counter" => Ok(ConflictPolicy::Counter),
                "set" => Ok(ConflictPolicy::Set),
                other => Err(format!("{other:?} is none of siblings, lww, counter and set")),
            })?,
            ttl: words.parsed("ttl", command::duration)?,
            max_siblings: words.parsed("max_siblings", command::number)?,
        };
        self.ask(words, node, Request::DeclareBucket(bucket, spec))
    }

    /// How a node sees the others.
    fn members(&mut self, words: &mut Words) -> Result<(), String> {
        let node = self.node(words)?;
        self.world.must_run(node)?;
        match self.world.look(node, Request::Cluster) {
            Ok(Answer::Cluster(view)) => {
                for member in view.nodes {
                    self.world.say(format!("{} is {}", member.name, member.state));
                }
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Who owns a key, in order, and who comes after. Names after the key are the order that the story needs.
    fn place(&mut self, words: &mut Words) -> Result<(), String> {
        let (bucket, key) = self.key(words)?;
        let wanted = words.rest();
        let order = self.preference(&bucket, &key)?;
        let shown = render::key_name(&bucket, &key);
        if !order
            .0
            .iter()
            .chain(&order.1)
            .zip(&wanted)
            .all(|(node, wanted)| node == wanted)
        {
            let fitting = self.keys_at(&bucket, &wanted)?;
            return Err(format!(
                "{shown} lies at {}; a story with {} can use: {}",
                order.0.join(" "),
                wanted.join(" "),
                fitting.join(" ")
            ));
        }
        let fallbacks = match order.1.is_empty() {
            true => String::new(),
            false => format!("; fallbacks: {}", order.1.join(" ")),
        };
        self.world
            .say(format!("{shown} is owned by {}{fallbacks}", order.0.join(" ")));
        Ok(())
    }

    fn preference(&mut self, bucket: &Bucket, key: &Key) -> Result<(Vec<String>, Vec<String>), String> {
        let running = self.all_nodes().into_iter().find(|&node| self.world.is_running(node));
        let node = running.ok_or("no node runs")?;
        match self.world.look(node, Request::Locate(bucket.clone(), key.clone())) {
            Ok(Answer::Located(located)) => Ok((located.owners, located.fallbacks)),
            other => Err(format!("{other:?}")),
        }
    }

    /// Words that lie where a story needs its key.
    fn keys_at(&mut self, bucket: &Bucket, wanted: &[String]) -> Result<Vec<String>, String> {
        const WORDS: &str = "apple pear plum cherry fig grape lemon lime mango melon olive orange peach quince berry date kiwi \
                             papaya guava apricot banana cat dog horse cow goat sheep fox wolf bear lion tiger mouse owl crow \
                             swan duck goose hen carp trout salmon pike perch oak elm ash birch beech pine larch maple willow \
                             cedar rose tulip lily iris daisy poppy aster cart user page photo note song film book map chart";
        let mut fitting = Vec::new();
        for word in WORDS.split_whitespace() {
            let key = Key::parse(word.as_bytes().to_vec()).map_err(|error| error.to_string())?;
            let (owners, fallbacks) = self.preference(bucket, &key)?;
            if owners
                .iter()
                .chain(&fallbacks)
                .zip(wanted)
                .all(|(node, wanted)| node == wanted)
            {
                fitting.push(word.to_owned());
            }
        }
        Ok(fitting)
    }

    /// What an owner would say of a key: the node if it runs, else its disk.
    fn show(&mut self, words: &mut Words) -> Result<(), String> {
        let name = words.next("a node")?;
        let node = self.world.names.find(&name)?;
        let (bucket, key) = self.key(words)?;
        let n = self.replicas(&bucket)?;
        let shown = render::key_name(&bucket, &key);
        let object = match self.world.is_running(node) {
            false => {
                let address = Address::new(bucket, key, n, self.world.settings(node).partitions);
                self.world
                    .disk(node)
                    .1
                    .read(&address)
                    .map_err(|error| error.to_string())?
            }
            true => {
                let question = Message::Read {
                    request: 0,
                    deadline: annulus_causality::Instant::from_nanos(u64::MAX),
                    at: WireKey { n, bucket, key },
                    digest: None,
                    hints: false,
                };
                match self.world.probe(node, question) {
                    Some(Message::ReadDone {
                        result: Ok(Known::Object(object)),
                        ..
                    }) => object,
                    other => return Err(format!("{name} holds no replica of {shown}: {other:?}")),
                }
            }
        };
        let object = self.world.names.object(&object);
        self.world.say(format!("{name} has {shown} {object}"));
        Ok(())
    }

    fn replicas(&mut self, bucket: &Bucket) -> Result<u8, String> {
        let nodes = self.all_nodes();
        let first = *nodes.first().ok_or("there are no nodes")?;
        let running = nodes.into_iter().find(|&node| self.world.is_running(node));
        match running.map(|node| self.world.look(node, Request::GetBucket(bucket.clone()))) {
            Some(Ok(Answer::Bucket(_, config))) => Ok(config.n),
            _ => Ok(self.world.settings(first).replicas),
        }
    }

    /// The hints that a node keeps.
    fn hints(&mut self, words: &mut Words) -> Result<(), String> {
        let name = words.next("a node")?;
        let replica = self.world.disk(self.world.names.find(&name)?).1;
        let mut lines = Vec::new();
        for owner in replica.hint_summary().into_keys() {
            let of = self.world.names.node(owner);
            for hint in replica.hints(owner, 0, usize::MAX).map_err(|error| error.to_string())? {
                let object = self.world.names.object_bringing(&hint.object, &hint.dots);
                let key = render::key_name(&hint.address.bucket, &hint.address.key);
                lines.push(format!("{name} keeps for {of}: {key} {object}"));
            }
        }
        lines.sort();
        if lines.is_empty() {
            lines.push(format!("{name} keeps no hints"));
        }
        lines.into_iter().for_each(|line| self.world.say(line));
        Ok(())
    }

    /// How many records are on a node's disk.
    fn records(&mut self, words: &mut Words) -> Result<(), String> {
        let name = words.next("a node")?;
        let (engine, replica) = self.world.disk(self.world.names.find(&name)?);
        let count = |space| {
            let mut count = 0;
            let visited = engine.scan(space, &[], None, &mut |_, _| {
                count += 1;
                std::ops::ControlFlow::Continue(())
            });
            visited.map(|()| count).map_err(|error| error.to_string())
        };
        let (objects, keys, hints) = (count(Space::Object)?, count(Space::Index)?, count(Space::Hint)?);
        let log = replica.log_entries();
        let line = format!(
            "{name} has on its disk: objects {objects}, keys in the index {keys}, hints {hints}, entries in the log {log}"
        );
        self.world.say(line);
        Ok(())
    }
}
