//! Among thousands of files each has its time to be tried again, until one has used it up in vain: then the cluster is
//! gone rather than unwell, and the others get a moment each, until something works again.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use annulus_client::{Client, Error, Options, Page};

use super::failure::Failure;

/// What a file gets once another has waited in vain.
const MOMENT: Duration = Duration::from_secs(1);

pub(crate) struct Patience {
    deadline: Duration,
    spent: AtomicBool,
}

impl Patience {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            spent: AtomicBool::new(false),
        }
    }

    /// Until when a file that is begun now may be tried again.
    pub(crate) fn end(&self) -> Instant {
        let spent = self.spent.load(Ordering::Relaxed);
        Instant::now()
            + if spent {
                self.deadline.min(MOMENT)
            } else {
                self.deadline
            }
    }

    /// To be told of every answer, and of every failure that is final.
    pub(crate) fn learn<T>(&self, result: &Result<T, Error>) {
        let refused = |error: &Error| error.status().is_some_and(|status| status < 500 && status != 429);
        let answered = result.as_ref().map_or_else(refused, |_| true);
        self.spent.store(!answered, Ordering::Relaxed);
    }
}

/// These options, up to this instant.
pub(crate) fn until(end: Instant, options: &Options) -> Options {
    Options {
        deadline: Some(end.saturating_duration_since(Instant::now())),
        ..options.clone()
    }
}

/// Fails at once where nobody answers, or the bucket's name is wrong, instead of file by file. That the bucket cannot
/// be listed just now is no such failure: its keys may be read and written all the same.
pub(crate) async fn check(client: &Client, bucket: &str) -> Result<(), Failure> {
    let first = Page {
        limit: Some(1),
        ..Page::default()
    };
    match client.list(bucket, &first).await {
        Err(error) if error.status().is_none_or(|status| status < 500 && status != 429) => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_spent_by_a_vain_wait_and_comes_back_with_an_answer() {
        let patience = Patience::new(Duration::from_secs(60));
        let left = |patience: &Patience| patience.end() - Instant::now();
        assert!(left(&patience) > MOMENT);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let nobody = Client::builder()
            .attempts(1)
            .build(["127.0.0.1:1"])
            .expect("a valid URL");
        let vain = runtime.block_on(nobody.head("b", "k", &Options::default()));
        patience.learn(&vain);
        assert!(left(&patience) <= MOMENT);
        patience.learn(&Ok(()));
        assert!(left(&patience) > MOMENT);
    }
}
