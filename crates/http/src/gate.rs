//! Work in progress is bounded at the door: what would exceed a bound is refused before anything is done for it.

use std::{cell::Cell, rc::Rc};

use crate::limits::Limits;

/// Counts requests and the bytes of their bodies.
#[derive(Debug)]
pub(crate) struct Gate {
    max_requests: usize,
    max_bytes: usize,
    requests: Cell<usize>,
    bytes: Cell<usize>,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Rc<Self> {
        Rc::new(Self {
            max_requests: limits.max_inflight_requests,
            max_bytes: limits.max_inflight_bytes,
            requests: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// Lets a request in until the guard goes; `None` where there are too many.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<Entered> {
        if self.requests.get() >= self.max_requests {
            return None;
        }
        self.requests.set(self.requests.get() + 1);
        Some(Entered(Rc::clone(self)))
    }

    /// Reserves room for a body until the guard goes; `None` where there is not so much.
    pub(crate) fn hold(self: &Rc<Self>, bytes: usize) -> Option<Held> {
        let mut held = Held {
            gate: Rc::clone(self),
            bytes: 0,
        };
        held.grow(bytes).then_some(held)
    }

    /// Requests in progress.
    pub(crate) fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Bytes of bodies in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Entered(Rc<Gate>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}

/// Room for a body.
#[derive(Debug)]
pub(crate) struct Held {
    gate: Rc<Gate>,
    bytes: usize,
}

impl Held {
    /// Whether there was room for so many bytes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let total = self.gate.bytes.get().saturating_add(bytes);
        if total > self.gate.max_bytes {
            return false;
        }
        self.gate.bytes.set(total);
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.bytes.set(self.gate.bytes.get() - self.bytes);
    }
}
