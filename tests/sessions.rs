//! In a session one replica is enough to read what another has just written, through whichever nodes.

use crate::support::{Cluster, Response};

/// Rounds of a write and reads of it.
const ROUNDS: usize = 300;

/// Numbers that look random and are the same in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit) as usize
    }
}

/// One client with its session.
struct Client<'a> {
    cluster: &'a Cluster,
    session: String,
}

impl Client<'_> {
    fn ask(&mut self, node: usize, method: &str, path: &str, body: &[u8]) -> Response {
        let headers = [("annulus-session", self.session.as_str())];
        let response = self.cluster.request(node, method, path, &headers, body);
        self.session = response
            .header("annulus-session")
            .unwrap_or_else(|| panic!("{method} {path}: {}", response.text()))
            .to_owned();
        response
    }
}

fn client(cluster: &Cluster) -> Client<'_> {
    Client {
        cluster,
        session: "new".to_owned(),
    }
}

#[test]
fn what_a_session_wrote_to_one_replica_it_reads_from_any_one() {
    let cluster = Cluster::start(3);
    let mut numbers = Numbers(0x5eed);
    let mut client = client(&cluster);
    for round in 0..ROUNDS {
        let (writer, key) = (numbers.below(3), numbers.below(5));
        let value = format!("{round}");
        let path = format!("/v1/kv/b/{key}");
        let put = client.ask(
            writer,
            "PUT",
            &format!("{path}?w=1&durability=memory"),
            value.as_bytes(),
        );
        assert_eq!(put.status, 204, "{}", put.text());
        for _ in 0..2 {
            let got = client.ask(numbers.below(3), "GET", &format!("{path}?r=1"), b"");
            assert_eq!((got.status, got.text()), (200, value.clone()), "round {round}");
        }
        if numbers.below(4) == 0 {
            client.ask(
                numbers.below(3),
                "DELETE",
                &format!("{path}?w=1&durability=memory"),
                b"",
            );
            let gone = client.ask(numbers.below(3), "GET", &format!("{path}?r=1"), b"");
            assert_eq!(gone.status, 404, "round {round}: {}", gone.text());
        }
    }
    assert!(
        client.session.len() < 2048,
        "five partitions make a short token: {}",
        client.session.len()
    );
}

#[test]
fn a_session_sees_of_others_nothing_older_than_it_has_seen() {
    let cluster = Cluster::start(3);
    let mut numbers = Numbers(0xfeed);
    let mut client = client(&cluster);
    let mut last = 0;
    for round in 1..=ROUNDS {
        let put = cluster.put(
            numbers.below(3),
            "/v1/kv/b/k?w=1&durability=memory",
            round.to_string().as_bytes(),
        );
        assert_eq!(put.status, 204, "{}", put.text());
        let got = client.ask(numbers.below(3), "GET", "/v1/kv/b/k?r=1", b"");
        if got.status == 200 {
            let seen: usize = got.text().parse().unwrap();
            assert!(seen >= last, "{seen} after {last}");
            last = seen;
        } else {
            assert_eq!((got.status, last), (404, 0), "{}", got.text());
        }
    }
}

#[test]
fn a_session_that_is_none_of_this_cluster_is_refused() {
    let (cluster, other) = (Cluster::start(1), Cluster::start(1));
    let session = |cluster: &Cluster| {
        let mut client = client(cluster);
        let put = client.ask(0, "PUT", "/v1/kv/b/mine", b"v");
        (client.session, put.token())
    };
    let ((mine, context), (foreign, _)) = (session(&cluster), session(&other));
    let mut forged = mine.clone();
    forged.replace_range(10..11, if &mine[10..11] == "A" { "B" } else { "A" });
    for token in [
        foreign.as_str(),
        forged.as_str(),
        context.as_str(),
        "",
        "no session at all",
        "NEW",
        &"A".repeat(20_000),
        &mine[..mine.len() - 1],
    ] {
        for method in ["PUT", "GET", "DELETE"] {
            let headers = [("annulus-session", token)];
            let refused = cluster.request(0, method, "/v1/kv/b/k", &headers, b"v");
            let shown = token.chars().take(40).collect::<String>();
            assert_eq!(refused.status, 400, "{method} {shown:?}: {}", refused.text());
            assert!(refused.text().contains("urn:annulus:problem:invalid-session"));
        }
    }
    assert_eq!(cluster.get(0, "/v1/kv/b/k").status, 404, "nothing was written");
    let as_context = cluster.request(0, "PUT", "/v1/kv/b/mine", &[("annulus-context", &mine)], b"v");
    assert_eq!(as_context.status, 400, "a session is no context");
}
