//! When each request is due, and when there are no more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// The pacemaker looks at the clock this often at most: finer than the runtime's timer (1 ms), and far below what is
/// measured in an open loop.
const RESOLUTION: Duration = Duration::from_micros(200);

pub(super) enum Plan {
    /// The next request is due when its client is free.
    Closed {
        requests: u64,
        given: AtomicU64,
        end: Option<Instant>,
        stopped: AtomicBool,
    },
    /// Request i is due at `started + i / rate`.
    Open {
        requests: u64,
        given: AtomicU64,
        started: Instant,
        rate: f64,
        due: Arc<Semaphore>,
    },
}

impl Plan {
    pub(super) fn closed(requests: u64, length: Option<Duration>) -> Self {
        let end = length.map(|length| Instant::now() + length);
        Self::Closed {
            requests,
            given: AtomicU64::new(0),
            end,
            stopped: AtomicBool::new(false),
        }
    }

    /// Starts the pacemaker, a thread of its own: the runtime's timer is too coarse for it.
    pub(super) fn open(rate: f64, requests: u64, clients: u32) -> Self {
        let (started, due) = (Instant::now(), Arc::new(Semaphore::new(0)));
        let permits = Arc::clone(&due);
        thread::spawn(move || pace(started, rate, requests, clients, &permits));
        Self::Open {
            requests,
            given: AtomicU64::new(0),
            started,
            rate,
            due,
        }
    }

    /// When the next request is due: now or earlier. `None` when there are no more.
    pub(super) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed {
                requests,
                given,
                end,
                stopped,
            } => {
                let now = Instant::now();
                let over = stopped.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end);
                (!over && given.fetch_add(1, Ordering::Relaxed) < *requests).then_some(now)
            }
            Self::Open {
                requests,
                given,
                started,
                rate,
                due,
            } => {
                due.acquire().await.ok()?.forget();
                let index = given.fetch_add(1, Ordering::Relaxed);
                (index < *requests).then(|| *started + Duration::from_secs_f64(index as f64 / rate))
            }
        }
    }

    pub(super) fn stop(&self) {
        match self {
            Self::Closed { stopped, .. } => stopped.store(true, Ordering::Relaxed),
            Self::Open { due, .. } => due.close(),
        }
    }
}

fn pace(started: Instant, rate: f64, requests: u64, clients: u32, permits: &Semaphore) {
    let mut given = 0;
    while given < requests && !permits.is_closed() {
        // Request i is due at i/rate, so floor(t·rate) + 1 are due at t.
        let due = ((started.elapsed().as_secs_f64() * rate) as u64 + 1).min(requests);
        permits.add_permits((due - given) as usize);
        given = due;
        let next = Duration::from_secs_f64(given as f64 / rate).saturating_sub(started.elapsed());
        thread::sleep(next.max(RESOLUTION));
    }
    // One more for every client, by which it learns that there are no more.
    permits.add_permits(clients as usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_plan_gives_as_many_requests_as_it_was_asked_for() {
        let plan = Plan::closed(3, None);
        let mut given = 0;
        while plan.next().await.is_some() {
            given += 1;
        }
        assert_eq!(given, 3);
    }

    #[tokio::test]
    async fn an_open_plan_tells_when_each_request_was_due_however_late_it_is_taken() {
        let plan = Plan::open(100_000.0, 50, 1);
        let mut due = Vec::new();
        while let Some(instant) = plan.next().await {
            assert!(instant <= Instant::now());
            due.push(instant);
        }
        assert_eq!(due.len(), 50);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_micros(9)));
    }

    #[tokio::test]
    async fn a_plan_that_is_stopped_gives_no_more() {
        let (closed, open) = (Plan::closed(u64::MAX, None), Plan::open(1.0, u64::MAX, 1));
        for plan in [closed, open] {
            assert!(plan.next().await.is_some());
            plan.stop();
            assert!(plan.next().await.is_none());
        }
    }
}
