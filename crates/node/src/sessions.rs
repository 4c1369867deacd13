//! Sessions are opened and sealed where their client is; whoever coordinates sees what the session has seen in one partition.
//!
//! By each answer a session gains what the answer's context covers, which is closed: where it has a write it has what that write
//! replaced. So an owner that covers a session has not only the writes that it has seen, but holds nothing that they replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_causality::{CausalContext, Instant, Object, TokenError};
use annulus_coordinator::{Answer, Failure, KeyRequest, Reply, Seen, Session};
use annulus_ring::PartitionId;
use annulus_storage::Engine;

use crate::io::{ClientId, Effect};
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::Requester;

/// The first pause before everybody is asked again: longer than a write takes to all owners where all is well.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Pauses double, up to this: a replica that is back is noticed soon enough.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// So long before its deadline, or an eighth of its time, a read says that the session is ahead: the node that passed it on can
/// still tell its client, instead of a deadline that passed.
const TIME_TO_SAY_SO: Duration = Duration::from_millis(100);

/// The sessions of requests under way, and the partitions that these are about; each goes with its reply.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<ClientId, (Session, PartitionId)>);

/// Time for replicas to catch up, before they are asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    until: Instant,
    length: Duration,
    gives_up: Instant,
}

impl Pause {
    pub(crate) fn first(now: Instant, deadline: Instant) -> Pause {
        let left = deadline.saturating_duration_since(now);
        Pause {
            until: now + FIRST_PAUSE,
            length: FIRST_PAUSE,
            gives_up: now + (left - TIME_TO_SAY_SO.min(left / 8)),
        }
    }

    /// When there is something to do.
    pub(crate) fn wake(&self) -> Instant {
        self.until.min(self.gives_up)
    }

    /// Whether nobody is asked any more.
    pub(crate) fn gives_up(&self, now: Instant) -> bool {
        self.gives_up <= now
    }

    /// Where it is over, the next one begins.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.until <= now;
        if is_over {
            self.length = (2 * self.length).min(LONGEST_PAUSE);
            self.until = now + self.length;
        }
        is_over
    }
}

impl<E: Engine> Node<E> {
    /// A request in a session, which goes on from here like any other.
    pub(crate) fn start_in_session(
        &mut self,
        now: Now,
        id: ClientId,
        (token, mut request): (Option<String>, KeyRequest),
        out: &mut Vec<Effect>,
    ) {
        match self.open_session(token.as_deref(), &request) {
            Ok((session, partition)) => {
                request.seen = Some(Seen {
                    n: partition.n,
                    dots: session.seen(partition),
                });
                self.sessions.0.insert(id, (session, partition));
                self.start_key(now, Requester::Client(id), request, out);
            }
            Err(failure) => self.reply(now, Requester::Client(id), Err(failure), out),
        }
    }

    fn open_session(&self, token: Option<&str>, request: &KeyRequest) -> Result<(Session, PartitionId), Failure> {
        let n = self.bucket_config(&request.bucket).n;
        let partition = self.address(&request.bucket, &request.key, n)?.partition;
        let session = match token {
            None => Session::default(),
            Some(token) => Session::open(&self.cluster()?.key, token).map_err(|error| invalid(&error))?,
        };
        Ok((session, partition))
    }

    /// The reply with the session's new token, where the request was in a session and succeeded.
    pub(crate) fn in_session(&mut self, id: ClientId, reply: Reply) -> Reply {
        let Some((mut session, partition)) = self.sessions.0.remove(&id) else {
            return reply;
        };
        let mut answer = reply?;
        let seen = match &mut answer {
            Answer::Found(found) => found.seen.take(),
            Answer::Written(written) => written.seen.take(),
            _ => None,
        };
        let Some(cluster) = &self.cluster else {
            return Ok(answer);
        };
        session.add(partition, &seen.unwrap_or_default());
        let (token, left_out) = session.seal(&cluster.key);
        self.counters.session_partitions_dropped += left_out as u64;
        Ok(Answer::InSession {
            token,
            answer: Box::new(answer),
        })
    }
}

fn invalid(error: &TokenError) -> Failure {
    let detail = match error {
        TokenError::Forged => "the token is no session of this cluster, or was altered".to_owned(),
        TokenError::Malformed | TokenError::TooLong => error.to_string(),
    };
    Failure::InvalidSession { detail }
}

/// What a write without a context replaces: what its coordinator knows, and what its session has seen, so that a client's own
/// earlier value does not stay beside its next one where the coordinator has not got it yet.
pub(crate) fn known_and_seen(known: Object, context: Option<&CausalContext>, seen: Option<CausalContext>) -> Object {
    match (context, seen) {
        (None, Some(seen)) => known.join(Object::new(Vec::new(), seen)),
        _ => known,
    }
}
