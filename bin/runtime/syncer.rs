//! Nothing is reported durable before a sync that began after it was asked for, and all that waits shares one sync.
//!
//! The disk's thread is the only one beside the runtime's. While it syncs, what comes meanwhile gathers for the next sync, so group
//! commit arises by itself; and it wakes the runtime once a sync, not once a write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use annulus_storage::engine::Syncer;
use tokio::sync::mpsc;

/// What the thread says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// All batches up to this one survive power loss.
    Synced(u64),
    /// The disk failed; there are no more reports.
    Failed(String),
}

/// Counters of the thread.
#[derive(Debug, Default)]
pub(crate) struct SyncCounters {
    /// Syncs that succeeded.
    pub(crate) syncs: AtomicU64,
    /// Batches that they made durable.
    pub(crate) batches: AtomicU64,
    /// Time spent in them, in microseconds.
    pub(crate) micros: AtomicU64,
}

#[derive(Debug, Default)]
struct Wanted {
    batch: Option<u64>,
    stop: bool,
}

#[derive(Debug, Default)]
struct Desk {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // Nothing is done under the lock that could leave it half done.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle on the disk's thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SyncThread {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl SyncThread {
    /// Starts the thread over an engine's syncer. Its channel closes when it ends, also by a panic.
    pub(crate) fn start(
        syncer: Box<dyn Syncer>,
        counters: Arc<SyncCounters>,
    ) -> std::io::Result<(SyncThread, mpsc::UnboundedReceiver<Report>)> {
        // At most one report is on its way: the next sync is asked for after it.
        let (reports, receiver) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk::default());
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("annulus-sync".to_owned())
            .spawn(move || work(&theirs, syncer, &counters, &reports))?;
        Ok((
            SyncThread {
                desk,
                thread: Some(thread),
            },
            receiver,
        ))
    }

    /// Asks for everything up to `batch` to be made durable.
    pub(crate) fn request(&self, batch: u64) {
        let mut wanted = self.desk.lock();
        let asleep = wanted.batch.is_none();
        wanted.batch = wanted.batch.max(Some(batch));
        drop(wanted);
        if asleep {
            self.desk.changed.notify_one();
        }
    }
}

impl Drop for SyncThread {
    /// What was requested is still synced: the thread ends after it.
    fn drop(&mut self) {
        self.desk.lock().stop = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was logged by the hook, and closed the channel.
            let _ = thread.join();
        }
    }
}

fn work(desk: &Desk, mut syncer: Box<dyn Syncer>, counters: &SyncCounters, reports: &mpsc::UnboundedSender<Report>) {
    let mut last = 0;
    while let Some(batch) = next(desk) {
        let begun = Instant::now();
        if let Err(error) = syncer.sync() {
            let _ = reports.send(Report::Failed(error.to_string()));
            return;
        }
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters
            .batches
            .fetch_add(batch.saturating_sub(last), Ordering::Relaxed);
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.micros.fetch_add(micros, Ordering::Relaxed);
        last = batch;
        // Nobody listens any more when the node is being closed: what was asked for is synced all the same.
        let _ = reports.send(Report::Synced(batch));
    }
}

/// The newest batch that is asked for; none when the thread is to end.
fn next(desk: &Desk) -> Option<u64> {
    let mut wanted = desk.lock();
    loop {
        if let Some(batch) = wanted.batch.take() {
            return Some(batch);
        }
        if wanted.stop {
            return None;
        }
        wanted = desk.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use annulus_storage::engine::EngineError;
    use std::sync::mpsc as plain;

    /// Says when a sync begins, and ends it when told how.
    struct Scripted {
        began: plain::Sender<()>,
        end: plain::Receiver<Result<(), EngineError>>,
    }

    impl Syncer for Scripted {
        fn sync(&mut self) -> Result<(), EngineError> {
            self.began.send(()).unwrap();
            self.end.recv().unwrap()
        }
    }

    struct Bench {
        thread: SyncThread,
        reports: mpsc::UnboundedReceiver<Report>,
        began: plain::Receiver<()>,
        end: plain::Sender<Result<(), EngineError>>,
        counters: Arc<SyncCounters>,
    }

    fn bench() -> Bench {
        let (began_sender, began) = plain::channel();
        let (end, end_receiver) = plain::channel();
        let counters = Arc::new(SyncCounters::default());
        let syncer = Box::new(Scripted {
            began: began_sender,
            end: end_receiver,
        });
        let (thread, reports) = SyncThread::start(syncer, Arc::clone(&counters)).unwrap();
        Bench {
            thread,
            reports,
            began,
            end,
            counters,
        }
    }

    #[test]
    fn what_is_requested_during_a_sync_waits_for_the_next_and_shares_it() {
        let mut bench = bench();
        bench.thread.request(1);
        bench.began.recv().unwrap();
        bench.thread.request(2);
        bench.thread.request(3);
        assert!(bench.reports.try_recv().is_err(), "nothing is durable yet");
        bench.end.send(Ok(())).unwrap();
        assert_eq!(bench.reports.blocking_recv(), Some(Report::Synced(1)));
        bench.began.recv().unwrap();
        assert!(
            bench.reports.try_recv().is_err(),
            "the first sync does not cover the later batches"
        );
        bench.end.send(Ok(())).unwrap();
        assert_eq!(bench.reports.blocking_recv(), Some(Report::Synced(3)));
        assert_eq!(bench.counters.syncs.load(Ordering::Relaxed), 2);
        assert_eq!(bench.counters.batches.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_failed_sync_acknowledges_nothing_and_is_the_last() {
        let mut bench = bench();
        bench.thread.request(7);
        bench.began.recv().unwrap();
        bench
            .end
            .send(Err(EngineError::Failed {
                detail: "EIO".to_owned(),
            }))
            .unwrap();
        assert!(matches!(bench.reports.blocking_recv(), Some(Report::Failed(reason)) if reason.contains("EIO")));
        bench.thread.request(8);
        assert_eq!(bench.reports.blocking_recv(), None);
    }

    #[test]
    fn what_was_requested_before_the_end_is_synced() {
        let Bench {
            thread,
            mut reports,
            began,
            end,
            counters: _,
        } = bench();
        thread.request(1);
        began.recv().unwrap();
        thread.request(2);
        end.send(Ok(())).unwrap();
        end.send(Ok(())).unwrap();
        drop(thread);
        assert_eq!(reports.try_recv(), Ok(Report::Synced(1)));
        assert_eq!(reports.try_recv(), Ok(Report::Synced(2)));
        assert!(reports.try_recv().is_err());
    }
}
