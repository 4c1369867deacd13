//! What a connection is doing and since when, in ticks of the sweep: noting it costs a store, no clock and no timer.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
    time::Duration,
};

use crate::{
    limits::{Limits, MIN_BODY_RATE},
    request_head::RecentBytes,
};

/// How long what a client still sends is thrown away after its response.
const LONGEST_LINGER: Duration = Duration::from_secs(5);

/// How the sweep counts: the time between two of its rounds, and the limits in that unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) tick: Duration,
    request: u32,
    idle: u32,
    linger: u32,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        let shortest = limits.request_timeout.min(limits.idle_timeout);
        let tick = (shortest / 20).clamp(Duration::from_millis(5), Duration::from_secs(1));
        // One more than the quotient: a phase that began just before a tick is not cut short by it.
        let ticks = |limit: Duration| limit.as_nanos().div_ceil(tick.as_nanos()).min(1 << 30) as u32 + 1;
        Self {
            tick,
            request: ticks(limits.request_timeout),
            idle: ticks(limits.idle_timeout),
            linger: ticks(limits.request_timeout.min(LONGEST_LINGER)),
        }
    }
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No byte of a request has come.
    Idle,
    /// A request's head is coming.
    Head,
    /// A request's body is coming, and is needed whole.
    Body,
    /// More of a body is awaited that is worked on as it comes.
    Stream,
    /// The node works on the request.
    Working,
    /// The response is on its way out.
    Answering,
    /// The response is out, and what the client still sends is thrown away, so that it is not reset before it reads.
    Lingering,
}

/// Why the sweep closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// It had no request for `idle_timeout`.
    Idle,
    /// Its request stopped half-way.
    Request,
    /// Its client did not read the response.
    Response,
}

/// One connection's state, shared by its I/O, its requests and the sweep.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Rc<Cell<u32>>,
    phase: Cell<Phase>,
    since: Cell<u32>,
    last_read: Cell<u32>,
    phase_bytes: Cell<u64>,
    blocked_since: Cell<Option<u32>>,
    read_ahead: Cell<bool>,
    cut_short: Cell<bool>,
    abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// What was read last, for [`crate::request_head`].
    pub(crate) recent: RefCell<RecentBytes>,
}

impl Activity {
    pub(crate) fn new(clock: Rc<Cell<u32>>) -> Self {
        let now = clock.get();
        Self {
            clock,
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            last_read: Cell::new(now),
            phase_bytes: Cell::new(0),
            blocked_since: Cell::new(None),
            read_ahead: Cell::new(false),
            cut_short: Cell::new(false),
            abandoned: Cell::new(false),
            waker: RefCell::new(None),
            recent: RefCell::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.get());
        self.last_read.set(self.clock.get());
        self.phase_bytes.set(0);
    }

    /// A whole head was read, and its request begins.
    pub(crate) fn begin_request(&self) {
        self.read_ahead.set(false);
        self.recent.borrow_mut().mark_parsed();
        self.enter(Phase::Working);
    }

    pub(crate) fn note_read(&self, bytes: &[u8]) {
        let phase = self.phase.get();
        match phase {
            Phase::Body | Phase::Stream | Phase::Lingering => self.recent.borrow_mut().push_body(bytes),
            _ => self.recent.borrow_mut().push(bytes),
        }
        match phase {
            Phase::Idle => self.enter(Phase::Head),
            Phase::Working | Phase::Answering => self.read_ahead.set(true),
            _ => {}
        }
        self.last_read.set(self.clock.get());
        self.phase_bytes.set(self.phase_bytes.get() + bytes.len() as u64);
    }

    pub(crate) fn note_write_blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(self.clock.get()));
        }
    }

    pub(crate) fn note_write(&self) {
        self.blocked_since.set(None);
    }

    /// All that hyper had to write is written.
    pub(crate) fn note_flushed(&self) {
        if self.phase.get() == Phase::Answering {
            self.recent.borrow_mut().mark_parsed();
            self.enter(if self.read_ahead.get() {
                Phase::Head
            } else {
                Phase::Idle
            });
        }
    }

    /// The request's body will not be read to its end: the connection must close after the response.
    pub(crate) fn cut_short(&self) {
        self.cut_short.set(true);
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.get()
    }

    /// Whether the sweep has given the connection up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.set(true);
        self.wake();
    }

    pub(crate) fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whether a limit has passed, and which.
    pub(crate) fn overdue(&self, pace: Pace) -> Option<Overdue> {
        let now = self.clock.get();
        let longer_than = |since: u32, limit: u32| now.wrapping_sub(since) > limit;
        if self
            .blocked_since
            .get()
            .is_some_and(|since| longer_than(since, pace.request))
        {
            return Some(Overdue::Response);
        }
        let (late, overdue) = match self.phase.get() {
            Phase::Idle => (longer_than(self.since.get(), pace.idle), Overdue::Idle),
            // From the first byte on, so that a byte now and then does not keep it open.
            Phase::Head => (longer_than(self.since.get(), pace.request), Overdue::Request),
            Phase::Lingering => (longer_than(self.since.get(), pace.linger), Overdue::Request),
            Phase::Stream => (longer_than(self.last_read.get(), pace.request), Overdue::Request),
            Phase::Body => {
                let stopped = longer_than(self.last_read.get(), pace.request);
                (
                    stopped || longer_than(self.since.get(), self.body_ticks(pace)),
                    Overdue::Request,
                )
            }
            Phase::Working | Phase::Answering => (false, Overdue::Response),
        };
        late.then_some(overdue)
    }

    /// How long a body may take of which so much has come.
    fn body_ticks(&self, pace: Pace) -> u32 {
        let seconds = self.phase_bytes.get() / MIN_BODY_RATE;
        let ticks = u128::from(seconds) * 1_000_000_000 / pace.tick.as_nanos();
        pace.request.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Gives back what an idle connection does not need.
    pub(crate) fn slim(&self) {
        if self.phase.get() == Phase::Idle {
            self.recent.borrow_mut().forget();
        }
    }
}
