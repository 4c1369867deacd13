//! Each client's request is numbered, handed to the node, and answered once: by the node, or by why there is none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use annulus_coordinator::{Failure, Outcome, Reply, Request};
use annulus_node::{ClientId, Input};
use tokio::sync::oneshot;

use super::inbox::Inbox;
use crate::telemetry::Gauges;

/// Who waits for an answer of the node.
#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Reply>,
    writes: bool,
}

/// The clients of one node, as the HTTP side sees it; it outlives the node when the disk fails.
#[derive(Debug)]
pub(crate) struct Clients {
    inbox: RefCell<Result<Rc<Inbox>, String>>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    next: Cell<u64>,
}

impl Clients {
    /// Nobody is served yet.
    pub(crate) fn new(reason: &str) -> Clients {
        Clients {
            inbox: RefCell::new(Err(reason.to_owned())),
            waiting: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// From now on requests go there.
    pub(crate) fn attach(&self, inbox: Rc<Inbox>) {
        *self.inbox.borrow_mut() = Ok(inbox);
    }

    /// From now on requests are refused for this reason; those under way end, a write with an unknown outcome.
    pub(crate) fn detach(&self, reason: &str) {
        *self.inbox.borrow_mut() = Err(reason.to_owned());
        for (_, Waiting { answer, writes }) in self.waiting.borrow_mut().drain() {
            let failure = match writes {
                true => Failure::TimedOut {
                    required: 1,
                    answered: 0,
                    outcome: Outcome::Unknown,
                },
                false => Failure::NotReady {
                    reason: reason.to_owned(),
                },
            };
            // It may have gone away.
            let _ = answer.send(Err(failure));
        }
    }

    /// Hands the node's answer to whoever waits for it, and still does.
    pub(crate) fn answer(&self, ClientId(id): ClientId, reply: Reply) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
            let _ = waiting.answer.send(reply);
        }
    }

    fn ask(&self, request: Request) -> Result<oneshot::Receiver<Reply>, Failure> {
        let inbox = self.inbox.borrow();
        let inbox = inbox
            .as_ref()
            .map_err(|reason| Failure::NotReady { reason: reason.clone() })?;
        let id = self.next.get();
        self.next.set(id + 1);
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().insert(
            id,
            Waiting {
                answer,
                writes: writes(&request),
            },
        );
        inbox.push(Input::Client {
            id: ClientId(id),
            request,
        });
        Ok(answered)
    }
}

fn writes(request: &Request) -> bool {
    match request {
        Request::Key(request) => request.operation.writes(),
        Request::DeclareBucket(..) | Request::DropBucket(_) => true,
        _ => false,
    }
}

/// What the HTTP side talks to.
#[derive(Debug)]
pub(crate) struct Service {
    /// The requests under way.
    pub(crate) clients: Rc<Clients>,
    /// What `/metrics` shows.
    pub(crate) gauges: Rc<Gauges>,
}

impl annulus_http::Service for Service {
    fn call(&self, request: Request) -> impl Future<Output = Reply> + 'static {
        let asked = self.clients.ask(request);
        async move {
            let gone = |_| {
                Err(Failure::NotReady {
                    reason: "the node is being closed".to_owned(),
                })
            };
            asked?.await.unwrap_or_else(gone)
        }
    }

    fn metrics(&self) -> String {
        self.gauges.render()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use annulus_coordinator::{Answer, KeyRequest, Operation, Options};
    use annulus_ring::{Bucket, Key};

    fn write() -> Request {
        Request::Key(KeyRequest {
            bucket: Bucket::parse("b").unwrap(),
            key: Key::parse("k").unwrap(),
            operation: Operation::Write {
                value: None,
                token: None,
                condition: None,
            },
            options: Options::default(),
        })
    }

    #[test]
    fn a_request_is_answered_once_and_a_late_answer_is_nobodys() {
        let clients = Clients::new("opening");
        assert!(matches!(clients.ask(Request::Ready), Err(Failure::NotReady { reason }) if reason == "opening"));
        let inbox = Rc::new(Inbox::default());
        clients.attach(Rc::clone(&inbox));
        let mut first = clients.ask(Request::Ready).unwrap();
        let mut second = clients.ask(Request::Ready).unwrap();
        let mut inputs = Vec::new();
        inbox.take(&mut inputs);
        let [Input::Client { id: first_id, .. }, Input::Client { id: second_id, .. }] = &inputs[..] else {
            panic!("two requests")
        };
        clients.answer(*second_id, Ok(Answer::Ready));
        assert_eq!(second.try_recv(), Ok(Ok(Answer::Ready)));
        assert!(first.try_recv().is_err());
        clients.answer(*first_id, Ok(Answer::Ready));
        clients.answer(*first_id, Ok(Answer::Dropped));
        assert_eq!(first.try_recv(), Ok(Ok(Answer::Ready)));
    }

    #[test]
    fn when_the_node_goes_a_write_under_way_is_unknown_and_a_read_is_not_answered() {
        let clients = Clients::new("opening");
        clients.attach(Rc::default());
        let mut written = clients.ask(write()).unwrap();
        let mut read = clients.ask(Request::Ready).unwrap();
        clients.detach("the disk failed");
        assert!(matches!(
            written.try_recv(),
            Ok(Err(Failure::TimedOut {
                outcome: Outcome::Unknown,
                ..
            }))
        ));
        assert!(matches!(read.try_recv(), Ok(Err(Failure::NotReady { reason })) if reason == "the disk failed"));
        assert!(matches!(clients.ask(write()), Err(Failure::NotReady { .. })));
    }
}
