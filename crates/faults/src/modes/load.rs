//! What a PUT takes where nothing fails: each connection sends the next one when the last is answered.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{BUCKET, Mode, client, value};
use crate::arguments::Modes;
use crate::trouble::Trouble;
use crate::workload::join_all;

/// Of the acknowledged PUTs.
pub(crate) struct Load {
    /// In microseconds, the median.
    pub(crate) p50_us: u64,
    /// In microseconds, the 99th of a hundred.
    pub(crate) p99_us: u64,
    /// Of all connections together, a second.
    pub(crate) per_second: f64,
}

/// Writes through all nodes.
///
/// # Errors
/// Where a PUT fails: nothing is wrong with the nodes, so none should.
pub(crate) async fn measure(arguments: &Modes, mode: &Mode, urls: &[String]) -> Result<Load, Trouble> {
    let latencies = Histogram::<u64>::new(3).expect("three significant digits are within the bounds of a histogram");
    let (latencies, failed) = (RefCell::new(latencies), RefCell::new(None));
    let start = Instant::now();
    let end = start + Duration::from_secs(arguments.seconds.into());
    let mut connections = Vec::new();
    for connection in 0..arguments.connections {
        let node = client(&urls[connection % urls.len()])?;
        let (latencies, failed) = (&latencies, &failed);
        connections.push(async move {
            let options = mode.options();
            for number in 0_u64.. {
                let key = format!("load-{connection}-{number}");
                let (value, sent) = (value(&key), Instant::now());
                if sent >= end {
                    return;
                }
                if let Err(error) = node.put(BUCKET, &key, value, &options).await {
                    failed.replace(Some(error.to_string()));
                    return;
                }
                let took = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                // It grows by itself, so that every latency fits.
                let _ = latencies.borrow_mut().record(took);
            }
        });
    }
    join_all(connections).await;
    if let Some(why) = failed.take() {
        return Err(Trouble::NotReady(format!(
            "a PUT failed, and nothing was killed: {why}"
        )));
    }
    let latencies = latencies.into_inner();
    Ok(Load {
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        per_second: latencies.len() as f64 / start.elapsed().as_secs_f64(),
    })
}
