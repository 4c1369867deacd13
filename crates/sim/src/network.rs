//! Links come up by a handshake, carry messages in order and late, and break: what the world does with what a node sends.

use annulus_node::Input;
use annulus_protocol::Message;
use rand::RngExt;

use crate::link::{self, Link};
use crate::oracles::hints;
use crate::queue::MILLISECOND;
use crate::world::{Event, World};

impl World {
    /// Every node sends to every other.
    pub(crate) fn is_connected(&self) -> bool {
        let count = self.count();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| from != to)
            .all(|(from, to)| self.link(from, to).is_up)
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.processes.len() + to]
    }

    pub(crate) fn link_mut(&mut self, from: usize, to: usize) -> &mut Link {
        let count = self.processes.len();
        &mut self.links[from * count + to]
    }

    /// The connection is reset: of what is under way, what comes first may have arrived already.
    pub(crate) fn break_link(&mut self, from: usize, to: usize) {
        let now = self.now;
        let reach = now + self.rng.random_range(0..=self.network.delay.1);
        let arrived = self.rng.random_bool(0.5);
        let link = self.link_mut(from, to);
        link.held.clear();
        if !link.is_up {
            return;
        }
        link.is_up = false;
        link.generation = link.generation.wrapping_add(1);
        link.buffered_until = if arrived { reach } else { 0 };
        self.trace
            .note(now, || format!("the link from n{} to n{} breaks", from + 1, to + 1));
        // After what is being done now: a node is not told in the middle of a step.
        let life = self.processes[from].life;
        self.queue.push(now, Event::LinkDown { from, life, to });
        if self.link(from, to).is_wanted {
            self.try_connect(from, to);
        }
    }

    /// What was held back goes on its way.
    pub(crate) fn release(&mut self, from: usize, to: usize) {
        let link = self.link_mut(from, to);
        if link.clogged == 0 {
            for message in std::mem::take(&mut link.held) {
                self.dispatch(from, to, Box::new(message));
            }
        }
    }

    pub(crate) fn try_connect(&mut self, from: usize, to: usize) {
        let most = (50 * MILLISECOND) << self.link(from, to).failures.min(5);
        let pause = self.rng.random_range(0..most);
        let now = self.now;
        let link = self.link_mut(from, to);
        if !link.is_trying {
            link.is_trying = true;
            self.queue.push(now + pause, Event::Connect { from, to });
        }
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        let link = self.link_mut(from, to);
        link.is_trying = false;
        if link.is_up || !link.is_wanted {
            return;
        }
        if link.blocked > 0 || !self.processes[to].is_running() || !self.shake_hands(from, to) {
            self.link_mut(from, to).failures += 1;
            self.try_connect(from, to);
        }
    }

    fn shake_hands(&mut self, from: usize, to: usize) -> bool {
        let hello = |node: usize, peer: usize| {
            let process = &self.processes[node];
            let to = Some(self.processes[peer].id);
            process
                .node
                .as_ref()
                .map(|state| state.hello(process.now(self.now), to))
        };
        let (Some(said), Some(heard)) = (hello(from, to), hello(to, from)) else {
            return false;
        };
        let takes = |node: usize, hello| {
            let process = &self.processes[node];
            process
                .node
                .as_ref()
                .is_some_and(|state| state.check_hello(hello).is_ok())
        };
        if !takes(to, &said) || !takes(from, &heard) {
            return false;
        }
        let now = self.now;
        self.trace
            .note(now, || format!("the link from n{} to n{} is up", from + 1, to + 1));
        let link = self.link_mut(from, to);
        link.is_up = true;
        link.failures = 0;
        link.generation = link.generation.wrapping_add(1);
        link.last_due = now;
        self.input(to, Input::Accepted { hello: said });
        self.input(from, Input::LinkUp { hello: heard });
        true
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        self.counts.messages += 1;
        self.watch.message(&message);
        if let Some(state) = &self.processes[from].node
            && let Err(detail) = hints::sent(&message, || state.usage())
        {
            self.violated("hints are kept", format!("n{}: {detail}", from + 1));
        }
        let disk = &self.processes[from].disk;
        if let Err(detail) = self.watch.durable.sent((from, to), &message, disk, self.partitions) {
            self.violated("durable before said", format!("n{}: {detail}", from + 1));
        }
        let loss = self.network.lost_per_million;
        let is_lost = !self.is_calm && loss > 0 && self.rng.random_ratio(loss, 1_000_000);
        let link = self.link_mut(from, to);
        if !link.is_up || is_lost || link.withholds(&message) {
            return;
        }
        if link.loses == Some(message.kind()) {
            link.loses = None;
            return;
        }
        if std::mem::take(&mut link.corrupts) {
            let dice = self.rng.random();
            if let Err(detail) = link::read_damaged(&message, dice) {
                self.violated("intact", detail);
            }
            // The receiver closes the connection.
            self.break_link(from, to);
            return;
        }
        if link.clogged > 0 {
            link.held.push(message);
            return;
        }
        if self.counts.messages.is_multiple_of(1024)
            && let Err(detail) = link::check_codec(&message)
        {
            self.violated("intact", detail);
        }
        self.dispatch(from, to, Box::new(message));
    }

    fn dispatch(&mut self, from: usize, to: usize, message: Box<Message>) {
        let delay = self.rng.random_range(self.network.delay.0..=self.network.delay.1);
        let twice = self.network.twice_per_million;
        let is_twice = match self.link(from, to).doubled {
            0 => !self.is_calm && twice > 0 && self.rng.random_ratio(twice, 1_000_000),
            _ => self.rng.random_bool(0.5),
        };
        let now = self.now;
        let link = self.link_mut(from, to);
        let due = (now + delay + link.extra_delay).max(link.last_due);
        link.last_due = due;
        let generation = link.generation;
        let again = is_twice.then(|| message.clone());
        for message in again.into_iter().chain([message]) {
            self.queue.push(
                due,
                Event::Message {
                    from,
                    to,
                    generation,
                    message,
                },
            );
        }
    }
}
