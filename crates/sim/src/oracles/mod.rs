//! Each promise has its oracle: some watch every message and every step, some look at what is left when all is quiet.

pub(crate) mod bounds;
pub(crate) mod clocks;
pub(crate) mod dots;
pub(crate) mod durable;
pub(crate) mod epochs;
pub(crate) mod expired;
pub(crate) mod hints;
pub(crate) mod owners;
pub(crate) mod typed;

use annulus_node::{Settings, Usage};
use annulus_protocol::Message;
use annulus_ring::Partitions;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// What was seen.
    pub detail: String,
}

/// What is watched while a world runs.
pub(crate) struct Watch {
    pub(crate) violations: Vec<Violation>,
    pub(crate) durable: durable::Durable,
    dots: dots::Dots,
    epochs: epochs::Epochs,
    steps: u64,
}

/// The bounds are looked at once in so many steps.
const STEPS_A_LOOK: u64 = 32;

impl Watch {
    pub(crate) fn new(partitions: Partitions) -> Watch {
        Watch {
            violations: Vec::new(),
            durable: durable::Durable::default(),
            dots: dots::Dots::new(partitions),
            epochs: epochs::Epochs::default(),
            steps: 0,
        }
    }

    pub(crate) fn message(&mut self, message: &Message) {
        let seen = match message {
            Message::Write { delta, .. } | Message::Hint { delta, .. } => {
                self.dots.delta(delta).map_err(|detail| ("one dot, one write", detail))
            }
            Message::Ring(bytes) => self
                .epochs
                .ring(bytes)
                .map_err(|detail| ("one epoch, one ring", detail)),
            _ => Ok(()),
        };
        if let Err((promise, detail)) = seen {
            self.violations.push(Violation { promise, detail });
        }
    }

    pub(crate) fn usage(&mut self, usage: impl FnOnce() -> Usage, settings: &Settings) -> Result<(), String> {
        self.steps += 1;
        match self.steps.is_multiple_of(STEPS_A_LOOK) {
            true => bounds::check(&usage(), settings),
            false => Ok(()),
        }
    }
}
