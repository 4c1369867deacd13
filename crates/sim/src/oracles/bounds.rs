//! Work in progress is bounded: requests, hints, what is staged.

use annulus_node::{Settings, Usage};

/// One request of a peer may take a little more than is left, and what is staged is committed only then.
const MAX_STAGED_BYTES: usize = 16 << 20;
/// Bookkeeping that goes on after the reply, in multiples of the requests that may wait for one.
const BOOKKEEPING: usize = 5;
/// Beside its payload a hint counts what it costs in memory: the last one may reach beyond the bound by itself.
const LAST_HINT_BYTES: u64 = 2 << 20;

/// # Errors
/// Which bound is passed.
pub(crate) fn check(usage: &Usage, settings: &Settings) -> Result<(), String> {
    // A forward that is coordinated here is two tasks.
    let limit = settings.max_tasks * 2;
    if usage.waited_for > limit {
        return Err(format!("{} requests wait, {limit} are allowed", usage.waited_for));
    }
    if usage.requests > BOOKKEEPING * limit {
        return Err(format!(
            "{} requests in progress, with their bookkeeping",
            usage.requests
        ));
    }
    if usage.staged_bytes > MAX_STAGED_BYTES {
        return Err(format!("{} bytes are staged", usage.staged_bytes));
    }
    let hints = settings.hint_bytes_per_peer + LAST_HINT_BYTES;
    if usage.largest_hint_bytes > hints {
        return Err(format!(
            "{} bytes of hints for one owner, {hints} are allowed",
            usage.largest_hint_bytes
        ));
    }
    Ok(())
}
