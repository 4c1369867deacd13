//! `annulus bench`: in the closed loop each client sends its next request when the last is answered; in the open loop
//! requests are due at a rate, and a latency counts from when its request was due, so that no stall is hidden.

mod keys;
mod load;
mod plan;
mod tally;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use annulus_client::{Client, Put};
use indicatif::ProgressBar;
use rand::{SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use self::{
    keys::{Distribution, Keys},
    load::Load,
    plan::Plan,
    tally::{Summary, Tally},
};
use super::{
    each::each,
    failure::Failure,
    output,
    target::{AllOptions, Target},
};

/// Put load on a cluster and measure latencies
///
/// Without --rate the loop is closed: each of --clients sends its next request when the last is answered. With --rate
/// it is open: requests are due at that rate, whatever the answers do; --clients bounds how many are under way, and
/// latencies count from when a request was due.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// The bucket to work in
    #[arg(long, default_value = "bench")]
    bucket: String,
    /// Requests under way at a time, each on a connection of its own
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Different keys
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Bytes a value
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    value_size: usize,
    /// Per cent of PUTs and of GETs
    #[arg(long, default_value = "50/50", value_name = "PUT/GET", value_parser = mix)]
    mix: u8,
    /// How often each key is asked for
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// The exponent of the zipf distribution; YCSB uses 0.99
    #[arg(long, default_value_t = 0.99, value_name = "S")]
    skew: f64,
    /// Requests a second: the open loop
    #[arg(long, value_name = "PER-SECOND")]
    rate: Option<f64>,
    /// How long [default: 10, unless --ops is given]
    #[arg(long, value_name = "N", conflicts_with = "ops")]
    seconds: Option<f64>,
    /// How many requests
    #[arg(long, value_name = "N")]
    ops: Option<u64>,
    /// Do not write every key once before measuring; GETs of missing keys then count as misses
    #[arg(long)]
    no_load: bool,
    /// Try failed requests again, as an application would, instead of counting them
    #[arg(long)]
    retry: bool,
    /// Same seed, same requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    options: AllOptions,
    #[command(flatten)]
    target: Target,
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let skewed = self.distribution == Distribution::Zipf;
        if skewed && !(self.skew > 0.0 && self.skew.is_finite()) {
            return Err(Failure::Usage(format!("--skew {}: a number above 0", self.skew)));
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e6)) {
            return Err(Failure::Usage("--rate: above 0, at most 1000000".to_owned()));
        }
        let seconds = self.seconds.unwrap_or(10.0);
        if !(seconds > 0.0 && seconds <= 1e6) {
            return Err(Failure::Usage("--seconds: above 0, at most 1000000".to_owned()));
        }
        let load = Arc::new(Load {
            client: self.measured_client()?,
            bucket: self.bucket.clone(),
            options: self.options.options(),
            keys: Keys::new(self.distribution, self.keys, self.skew),
            puts: self.mix,
            values: load::Values::new(self.value_size, self.seed),
        });
        if !self.no_load && self.mix < 100 {
            self.write_every_key(&load).await?;
        }
        let length = Duration::from_secs_f64(seconds);
        let plan = Arc::new(match (self.rate, self.ops) {
            (None, Some(ops)) => Plan::closed(ops, None),
            (None, None) => Plan::closed(u64::MAX, Some(length)),
            (Some(rate), Some(ops)) => Plan::open(rate, ops, self.clients),
            (Some(rate), None) => Plan::open(rate, (rate * seconds).ceil() as u64, self.clients),
        });
        let started = Instant::now();
        let tally = self.measure(load, plan).await?;
        let summary = Summary::new(&tally, started.elapsed(), self.clients, self.rate);
        if self.target.json {
            output::json(&summary)?
        } else {
            summary.print()?
        }
        if tally.failures() == 0 {
            Ok(())
        } else {
            Err(Failure::Reported)
        }
    }

    fn measured_client(&self) -> Result<Client, Failure> {
        let builder = Client::builder();
        let builder = if self.retry { builder } else { builder.attempts(1) };
        Ok(self.target.client_with(builder)?)
    }

    async fn write_every_key(&self, load: &Arc<Load>) -> Result<(), Failure> {
        let client = self.target.client_with(Client::builder())?;
        let bar = ProgressBar::new(self.keys).with_message("writing every key once");
        let (mut failed, mut random) = (None, StdRng::seed_from_u64(self.seed));
        let work = |index| {
            let (client, load, value) = (client.clone(), Arc::clone(load), load.values.next(&mut random));
            async move {
                client
                    .put(&load.bucket, keys::name(index), Put::new(value), &load.options)
                    .await
            }
        };
        let done = |result: Result<_, _>| {
            bar.inc(1);
            failed = failed.take().or(result.err());
        };
        super::until_interrupted(each(0..self.keys, self.clients as usize, work, done)).await?;
        bar.finish_and_clear();
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn measure(&self, load: Arc<Load>, plan: Arc<Plan>) -> Result<Tally, Failure> {
        let counter = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..u64::from(self.clients) {
            let random = StdRng::seed_from_u64(self.seed ^ (worker + 1).rotate_left(32));
            workers.spawn(load::work(
                Arc::clone(&load),
                Arc::clone(&plan),
                Arc::clone(&counter),
                random,
            ));
        }
        let progress = tokio::spawn(show_progress(counter));
        let mut tally = Tally::new();
        loop {
            tokio::select! {
                done = workers.join_next() => match done {
                    Some(Ok(part)) => tally.add(&part),
                    Some(Err(error)) => return Err(Failure::new(format!("a client of the bench failed: {error}"))),
                    None => break,
                },
                // What was measured so far is still worth its report.
                _ = tokio::signal::ctrl_c() => plan.stop(),
            }
        }
        progress.abort();
        Ok(tally)
    }
}

async fn show_progress(counter: Arc<AtomicU64>) {
    let bar = ProgressBar::new_spinner();
    let started = Instant::now();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = counter.load(Ordering::Relaxed);
        bar.set_message(format!(
            "{} s, {} done, {}/s",
            started.elapsed().as_secs(),
            now,
            now - before
        ));
        bar.tick();
        before = now;
    }
}

fn mix(text: &str) -> Result<u8, String> {
    let parse = |(puts, gets): (&str, &str)| Some((puts.parse::<u8>().ok()?, gets.parse::<u8>().ok()?));
    match text.split_once('/').and_then(parse) {
        Some((puts, gets)) if u16::from(puts) + u16::from(gets) == 100 => Ok(puts),
        _ => Err("two numbers that make 100, such as 10/90".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn a_mix_makes_a_hundred() {
        assert_eq!(mix("10/90"), Ok(10));
        assert_eq!(mix("100/0"), Ok(100));
        for bad in ["50", "60/50", "a/b", "-1/101", "300/-200"] {
            assert!(mix(bad).is_err(), "{bad}");
        }
    }
}
