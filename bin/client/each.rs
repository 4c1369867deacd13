//! Many jobs, a bounded number of them at a time, each result handed over as it comes.

use tokio::task::JoinSet;

use super::failure::Failure;

pub(crate) async fn each<Job, Done: Send + 'static, Work>(
    jobs: impl IntoIterator<Item = Job>,
    at_a_time: usize,
    mut work: impl FnMut(Job) -> Work,
    mut done: impl FnMut(Done),
) -> Result<(), Failure>
where
    Work: Future<Output = Done> + Send + 'static,
{
    let mut running = JoinSet::new();
    for job in jobs {
        while running.len() >= at_a_time.max(1) {
            take(&mut running, &mut done).await?;
        }
        running.spawn(work(job));
    }
    while !running.is_empty() {
        take(&mut running, &mut done).await?;
    }
    Ok(())
}

async fn take<Done: 'static>(running: &mut JoinSet<Done>, done: &mut impl FnMut(Done)) -> Result<(), Failure> {
    match running.join_next().await {
        Some(Ok(result)) => done(result),
        Some(Err(error)) => return Err(Failure::new(format!("a task failed: {error}"))),
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::each;

    #[tokio::test]
    async fn all_jobs_are_done_and_never_more_at_a_time_than_allowed() {
        let running = Arc::new(AtomicUsize::new(0));
        let work = |job: usize| {
            let running = Arc::clone(&running);
            async move {
                assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                job
            }
        };
        let mut results = Vec::new();
        assert!(each(0..10, 3, work, |result| results.push(result)).await.is_ok());
        results.sort_unstable();
        assert_eq!(results, (0..10).collect::<Vec<_>>());
    }
}
