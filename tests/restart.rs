//! A process may end at any point and in any way: what it acknowledged is there when it is back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Cluster, Connection};

#[test]
fn a_clean_stop_keeps_everything_and_says_zero() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.put(0, "/v1/kv/b/k", b"v").status, 204);
    cluster.signal(0, "TERM");
    assert_eq!(cluster.await_exit(0), Some(0), "{}", cluster.log(0));
    cluster.restart(0);
    assert_eq!(cluster.get(0, "/v1/kv/b/k").body, b"v");
}

#[test]
fn all_nodes_killed_at_once_lose_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::start(3);
    for key in 0..100 {
        assert_eq!(
            cluster
                .put(key % 3, &format!("/v1/kv/b/{key}"), format!("{key}").as_bytes())
                .status,
            204
        );
    }
    (0..3).for_each(|node| cluster.kill(node));
    (0..3).for_each(|node| cluster.launch(node));
    (0..3).for_each(|node| cluster.await_ready(node));
    for key in 0..100 {
        let read = cluster.get((key + 1) % 3, &format!("/v1/kv/b/{key}"));
        assert_eq!((read.status, read.text()), (200, key.to_string()));
    }
}

/// `ANNULUS_KILLS=1000` makes a soak of it.
fn kills() -> usize {
    std::env::var("ANNULUS_KILLS").map_or(6, |kills| kills.parse().expect("ANNULUS_KILLS is a number"))
}

/// Writers number the values of keys of their own; the last acknowledged number of each key, or a later one, must be there.
#[test]
fn no_acknowledged_write_is_lost_when_nodes_are_killed_under_load() {
    let mut cluster = Cluster::start(3);
    let addresses: Vec<String> = (0..3).map(|node| cluster.http(node).to_owned()).collect();
    let acknowledged: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (addresses, acknowledged, stop) = (addresses.clone(), acknowledged.clone(), stop.clone());
            std::thread::spawn(move || write_until(writer, &addresses, &acknowledged, &stop))
        })
        .collect();
    for round in 0..kills() {
        let victim = (round * 7 + round / 3) % 3;
        let before = acknowledged.lock().unwrap().values().sum::<u64>();
        crate::support::eventually("progress of the writers", || {
            acknowledged.lock().unwrap().values().sum::<u64>() > before + 40
        });
        cluster.kill(victim);
        cluster.restart(victim);
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() > 10);
    for (key, number) in acknowledged.iter() {
        let read = cluster.get(0, &format!("/v1/kv/b/{key}?r=2"));
        assert!(
            matches!(read.status, 200 | 300),
            "{key}: {} {}",
            read.status,
            read.text()
        );
        assert!(
            numbers(&read).iter().any(|found| found >= number),
            "{key}: {number} was acknowledged: {}",
            read.text()
        );
    }
}

fn numbers(read: &crate::support::Response) -> Vec<u64> {
    use base64::Engine;
    if read.status == 200 {
        return vec![read.text().parse().unwrap()];
    }
    let siblings = read.json()["siblings"].as_array().unwrap().clone();
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    siblings
        .iter()
        .map(|sibling| {
            String::from_utf8(decode(sibling["value"].as_str().unwrap()))
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}

fn write_until(writer: usize, addresses: &[String], acknowledged: &Mutex<BTreeMap<String, u64>>, stop: &AtomicBool) {
    let mut node = writer % addresses.len();
    let mut connection = None;
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{writer}-{}", number % 8);
        let request = |connection: &mut Connection| {
            connection.request("PUT", &format!("/v1/kv/b/{key}"), &[], number.to_string().as_bytes())
        };
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(&addresses[node]),
        };
        let result = open.and_then(|mut open| request(&mut open).map(|response| (open, response)));
        match result {
            Ok((open, response)) => {
                connection = Some(open);
                if response.status == 204 {
                    acknowledged.lock().unwrap().insert(key, number);
                }
            }
            Err(_) => node = (node + 1) % addresses.len(),
        }
    }
}
