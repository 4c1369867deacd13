//! Links and acceptors over real sockets of this machine, with a node that only knows who it is.

#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use annulus_membership::{ClusterId, Hello, HelloError, MemberRecord};
use annulus_node::Input;
use annulus_protocol::{Handshake, MAX_FRAME_BYTES, Message, Opening, PROTOCOL_MAX, PROTOCOL_MIN, append_frame};
use annulus_ring::{Capacity, Member, NodeId, NodeName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::acceptor::Acceptor;
use super::{Inbox, Links, NodeView};

struct Fake {
    name: NodeName,
    cluster: ClusterId,
}

impl NodeView for Fake {
    fn hello(&self, _: Option<NodeId>) -> Hello {
        let member = Member {
            name: self.name.clone(),
            region: "r".to_owned(),
            zone: "z".to_owned(),
            capacity: Capacity::default(),
        };
        let (http, peer, version) = ("h:1".to_owned(), "p:1".to_owned(), "0".to_owned());
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            cluster: Some(self.cluster),
            record: MemberRecord {
                member,
                http,
                peer,
                version,
                incarnation: 1,
            },
            seen: None,
            witnessed: None,
            clock: annulus_causality::Instant::ZERO,
        }
    }

    fn check(&self, hello: &Hello) -> Result<(), HelloError> {
        let (name, theirs) = (hello.record.member.name.clone(), hello.cluster.unwrap());
        if name == self.name {
            return Err(HelloError::Myself);
        }
        let address = hello.record.peer.clone();
        let ours = self.cluster;
        if theirs == ours {
            Ok(())
        } else {
            Err(HelloError::OtherCluster {
                name,
                address,
                theirs,
                ours,
            })
        }
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

/// A node of one name, with its links and its peer port.
struct Peer {
    node: Rc<Fake>,
    inbox: Rc<Inbox>,
    links: Rc<Links>,
    port: u16,
    _acceptor: Rc<Acceptor>,
}

impl Peer {
    async fn start(name: &str, cluster: u8) -> Peer {
        let node = Rc::new(Fake {
            name: NodeName::parse(name).unwrap(),
            cluster: ClusterId([cluster; 16]),
        });
        let inbox = Rc::new(Inbox::default());
        let links = Links::new(Rc::clone(&inbox), node.clone());
        // Every address of the loopback interface leads here.
        let listener = Rc::new(TcpListener::bind("0.0.0.0:0").await.unwrap());
        let port = listener.local_addr().unwrap().port();
        let _acceptor = Acceptor::start(listener, Rc::clone(&inbox), Rc::clone(&links), node.clone());
        Peer {
            node,
            inbox,
            links,
            port,
            _acceptor,
        }
    }

    fn id(&self) -> NodeId {
        NodeId::of(&self.node.name)
    }

    /// What arrives, until `enough` says so of all of it.
    async fn arrives(&self, enough: impl Fn(&[Input]) -> bool) -> Vec<Input> {
        let mut inputs = Vec::new();
        while !enough(&inputs) {
            self.inbox.arrived().await;
            self.inbox.take(&mut inputs);
        }
        inputs
    }

    /// Opens a connection to this one in the name of `who`.
    async fn opened_by(&self, who: &Fake) -> (TcpStream, Opening) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut out = Vec::new();
        Opening::Hello(who.hello(None)).append(&mut out).unwrap();
        socket.write_all(&out).await.unwrap();
        let mut handshake = Handshake::new();
        loop {
            if let Some(opening) = handshake.opening().unwrap() {
                return (socket, opening);
            }
            assert_ne!(socket.read_buf(handshake.space()).await.unwrap(), 0, "it answers");
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn messages(inputs: &[Input]) -> usize {
    inputs
        .iter()
        .filter(|input| matches!(input, Input::Message { .. }))
        .count()
}

fn ups(inputs: &[Input]) -> usize {
    inputs
        .iter()
        .filter(|input| matches!(input, Input::LinkUp { .. }))
        .count()
}

fn accepted(inputs: &[Input]) -> usize {
    inputs
        .iter()
        .filter(|input| matches!(input, Input::Accepted { .. }))
        .count()
}

/// The other side has closed, in order or not.
async fn is_closed(socket: &mut TcpStream) -> bool {
    matches!(socket.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

async fn send(socket: &mut TcpStream, message: &Message) {
    let mut out = Vec::new();
    append_frame(&mut out, |payload| message.encode(payload)).unwrap();
    socket.write_all(&out).await.unwrap();
}

#[test]
fn two_addresses_of_one_peer_make_one_link_and_its_messages_arrive_in_order() {
    run(async {
        let (a, b) = (Peer::start("a", 1).await, Peer::start("b", 1).await);
        a.links.connect(format!("127.0.0.1:{}", b.port));
        a.links.connect(format!("127.0.0.2:{}", b.port));
        assert_eq!(ups(&a.arrives(|inputs| ups(inputs) == 1).await), 1);
        let sent: Vec<_> = (0..1000).map(|sequence| Message::HintTaken { sequence }).collect();
        sent.iter().for_each(|message| a.links.send(b.id(), message));
        let both = b
            .arrives(|inputs| messages(inputs) == sent.len() && accepted(inputs) == 2)
            .await;
        let received = both.into_iter().filter_map(|input| match input {
            Input::Message { from, message } if from == a.id() => Some(message),
            _ => None,
        });
        assert!(received.eq(sent));
        assert_eq!(
            (a.links.figures().0, a.inbox.len()),
            (1, 0),
            "the second address changed nothing"
        );
    });
}

#[test]
fn an_address_of_its_own_is_dropped_and_a_peer_that_closes_is_noticed() {
    run(async {
        let (a, b) = (Peer::start("a", 1).await, Peer::start("b", 1).await);
        a.links.connect(format!("127.0.0.1:{}", a.port));
        a.links.connect(format!("127.0.0.1:{}", b.port));
        let up = a.arrives(|inputs| ups(inputs) == 1).await;
        assert!(
            matches!(&up[..], [Input::LinkUp { hello }] if hello.record.id() == b.id()),
            "{up:?}"
        );
        b._acceptor.close().await;
        let down = a.arrives(|inputs| !inputs.is_empty()).await;
        assert!(
            matches!(&down[..], [Input::LinkDown { peer }] if *peer == b.id()),
            "{down:?}"
        );
        a.links.close().await;
        assert_eq!(
            Rc::strong_count(&a.links),
            2,
            "no dialler is left: the test's and the acceptor's"
        );
    });
}

#[test]
fn a_node_of_another_cluster_is_told_why_it_is_refused() {
    run(async {
        let a = Peer::start("a", 1).await;
        let stranger = Fake {
            name: NodeName::parse("x").unwrap(),
            cluster: ClusterId([2; 16]),
        };
        let (mut socket, opening) = a.opened_by(&stranger).await;
        assert!(matches!(opening, Opening::Refused(refused) if refused.reason().contains("they do not mix")));
        assert!(is_closed(&mut socket).await);
        assert_eq!(a.inbox.len(), 0, "the node never heard of it");
    });
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    run(async {
        let (a, b) = (Peer::start("a", 1).await, Peer::start("b", 1).await);
        let (mut good, _) = a.opened_by(&b.node).await;
        let mut stranger = TcpStream::connect(("127.0.0.1", a.port)).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(is_closed(&mut stranger).await);
        let other = Fake {
            name: NodeName::parse("c").unwrap(),
            cluster: ClusterId([1; 16]),
        };
        for garbage in [
            &(MAX_FRAME_BYTES + 1).to_le_bytes()[..],
            &[0; 8],
            &[1, 0, 0, 0, 9, 9, 9, 9, 9],
        ] {
            let (mut bad, _) = a.opened_by(&other).await;
            bad.write_all(garbage).await.unwrap();
            bad.write_all(&[0; 8]).await.unwrap();
            assert!(is_closed(&mut bad).await, "{garbage:?}");
        }
        send(&mut good, &Message::HintTaken { sequence: 1 }).await;
        assert_eq!(messages(&a.arrives(|inputs| messages(inputs) > 0).await), 1);
    });
}

#[test]
fn a_peer_that_speaks_again_ends_its_older_connection() {
    run(async {
        let (a, b) = (Peer::start("a", 1).await, Peer::start("b", 1).await);
        let (mut older, _) = a.opened_by(&b.node).await;
        send(&mut older, &Message::HintTaken { sequence: 1 }).await;
        a.arrives(|inputs| messages(inputs) == 1).await;
        let (mut newer, _) = a.opened_by(&b.node).await;
        send(&mut newer, &Message::HintTaken { sequence: 2 }).await;
        assert!(is_closed(&mut older).await);
        send(&mut newer, &Message::HintTaken { sequence: 3 }).await;
        assert_eq!(messages(&a.arrives(|inputs| messages(inputs) == 2).await), 2);
    });
}
