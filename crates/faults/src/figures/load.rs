//! Keys are written, many at a time; and a foreground whose requests are due at a rate, whatever the answers do.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::{Duration, Instant};

use annulus_client::{Answer, Client, Operation, Options, Put};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::BUCKET;
use crate::modes::client;
use crate::trouble::Trouble;
use crate::workload::join_all;

/// Operations in a batch, and batches under way at each node.
const BATCH: u64 = 250;
const CONNECTIONS: usize = 8;
/// Requests of the foreground under way: far more than there are, unless something stalls.
const FOREGROUND: usize = 128;

/// Writes keys of this name through all of these nodes, with values of so many bytes.
pub(super) async fn write(urls: &[String], name: &str, keys: Range<u64>, bytes: usize) -> Result<(), Trouble> {
    let operation = |number: u64| {
        let mut value = vec![0; bytes];
        rand::fill(&mut value[..]);
        Operation::Put {
            bucket: BUCKET.to_owned(),
            key: key(name, number).into_bytes(),
            value: value.into(),
            content_type: None,
            context: None,
        }
    };
    batches(urls, keys, operation).await
}

/// Deletes them.
pub(super) async fn delete(urls: &[String], name: &str, keys: Range<u64>) -> Result<(), Trouble> {
    let operation = |number: u64| Operation::Delete {
        bucket: BUCKET.to_owned(),
        key: key(name, number).into_bytes(),
        context: None,
    };
    batches(urls, keys, operation).await
}

/// The names are of one length, so that the bytes of any are those of all.
pub(super) fn key(name: &str, number: u64) -> String {
    format!("{name}/{number:010}")
}

async fn batches(urls: &[String], keys: Range<u64>, operation: impl Fn(u64) -> Operation) -> Result<(), Trouble> {
    let (next, failed) = (Cell::new(keys.start), RefCell::new(None));
    let connections = urls.iter().cycle().take(CONNECTIONS * urls.len());
    let clients = connections.map(client).collect::<Result<Vec<_>, _>>()?;
    let writer = async |client: &Client| {
        while next.get() < keys.end && failed.borrow().is_none() {
            let first = next.replace((next.get() + BATCH).min(keys.end));
            let batch: Vec<Operation> = (first..next.get()).map(&operation).collect();
            if let Err(why) = send(client, batch).await {
                failed.replace(Some(why));
            }
        }
    };
    join_all(clients.iter().map(writer).collect()).await;
    failed.into_inner().map_or(Ok(()), |why| Err(Trouble::NotReady(why)))
}

/// Until all of it is done: what an overloaded node has refused is sent again.
async fn send(client: &Client, mut batch: Vec<Operation>) -> Result<(), String> {
    let mut why = String::new();
    for _ in 0..100 {
        let answers = match client.batch(&batch, &Options::default()).await {
            Ok(answers) => answers,
            Err(error) => {
                why = error.to_string();
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let left = batch
            .into_iter()
            .zip(answers)
            .filter_map(|(operation, answer)| match answer {
                Answer::Failed(problem) => {
                    why = problem.to_string();
                    Some(operation)
                }
                _ => None,
            });
        batch = left.collect();
        if batch.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("{} writes are refused again and again: {why}", batch.len()))
}

/// What requests took that were due at a rate, counted from when they were due.
pub(super) struct Foreground {
    latencies: RefCell<Histogram<u64>>,
    failed: Cell<u64>,
    started: Instant,
    next: Cell<u64>,
    pause: Duration,
    stopped: Cell<bool>,
}

impl Foreground {
    pub(super) fn new(rate: u32) -> Foreground {
        Foreground {
            latencies: RefCell::new(
                Histogram::new(3).expect("three significant digits are within the bounds of a histogram"),
            ),
            failed: Cell::new(0),
            started: Instant::now(),
            next: Cell::new(0),
            pause: Duration::from_secs(1) / rate,
            stopped: Cell::new(false),
        }
    }

    /// Half PUTs, half GETs of the keys `0..keys`, through all of these nodes, until it is stopped.
    pub(super) async fn run(&self, urls: &[String], name: &str, keys: u64, bytes: usize) -> Result<(), Trouble> {
        let clients = urls.iter().cycle().take(FOREGROUND).map(client);
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        let worker = async |client: &Client| {
            while !self.stopped.get() {
                let number = self.next.replace(self.next.get() + 1);
                let due = self.started + self.pause * u32::try_from(number).unwrap_or(u32::MAX);
                tokio::time::sleep_until(due.into()).await;
                let key = key(name, rand::random_range(0..keys));
                let options = Options::default();
                let is_done = match number % 2 {
                    0 => {
                        let mut value = vec![0; bytes];
                        rand::fill(&mut value[..]);
                        client
                            .put(BUCKET, key, Put::new(Bytes::from(value)), &options)
                            .await
                            .is_ok()
                    }
                    _ => client.get(BUCKET, key, &options).await.is_ok(),
                };
                self.failed.set(self.failed.get() + u64::from(!is_done));
                let took = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                // It grows by itself, so that every latency fits.
                let _ = self.latencies.borrow_mut().record(took);
            }
        };
        join_all(clients.iter().map(worker).collect()).await;
        Ok(())
    }

    /// No request is begun any more.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    /// In milliseconds, the median and the 99th of a hundred; and how many requests there were, and how many of them failed.
    pub(super) fn summary(&self) -> (f64, f64, u64, u64) {
        let latencies = self.latencies.borrow();
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        (at(0.5), at(0.99), latencies.len(), self.failed.get())
    }
}
