//! Nodes reach each other through a proxy in this process, which knows of every byte whose it is, and can keep it.
//!
//! Each node advertises the proxy's address for it instead of its own. A path is a directed pair of nodes: what one sends to
//! the other, over whichever connection. A cut path holds what is sent, as a network does that will deliver it late;
//! connections that died meanwhile are a reset when the cut is healed. Acknowledgements of the transport are not cut: a node
//! whose words do not get through hears so from the silence of the others only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::cluster::Pids;
use crate::dialler;
use crate::network::{self, Path, Paths};

/// Bytes that are taken up at once: what is torn and delayed as one.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that a slow path holds before its sender has to wait.
const CHUNKS_HELD: usize = 64;
/// What a lost packet costs: the least that Linux waits before it sends again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// The handle of the nemesis; it may be used from any thread.
#[derive(Clone)]
pub(crate) struct Proxy {
    paths: Arc<watch::Sender<Paths>>,
}

impl Proxy {
    /// So many nodes, all paths open.
    pub(crate) fn new(nodes: usize) -> Proxy {
        Proxy {
            paths: Arc::new(watch::Sender::new(network::open(nodes))),
        }
    }

    /// Changes paths.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Paths)) {
        self.paths.send_modify(change);
    }

    /// Serves the address of node `to` for as long as it is polled: what connects is led to `target`.
    pub(crate) async fn serve(&self, to: usize, target: SocketAddr, listener: TcpListener, pids: Pids) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            // A dialler that is no node, or has gone already, has nothing to say.
            if let Some(from) = dialler_of(&stream, &pids) {
                let paths = self.paths.subscribe();
                tokio::spawn(async move {
                    let ended = carry(stream, target, from, to, paths).await;
                    drop(ended);
                });
            }
        }
    }
}

fn dialler_of(stream: &TcpStream, pids: &Pids) -> Option<usize> {
    dialler::find(stream.peer_addr().ok()?, stream.local_addr().ok()?, pids)
}

/// Carries one connection to its end.
async fn carry(
    mut dialler: TcpStream,
    target: SocketAddr,
    from: usize,
    to: usize,
    mut paths: watch::Receiver<Paths>,
) -> io::Result<()> {
    // A connection opens only where both ways are open.
    let open = |paths: &Paths| !paths[from][to].cut && !paths[to][from].cut;
    paths.wait_for(open).await.map_err(io::Error::other)?;
    let resets = |paths: &Paths| paths[from][to].resets + paths[to][from].resets;
    let before = resets(&paths.borrow());
    let mut server = match TcpStream::connect(target).await {
        Ok(server) => server,
        Err(error) => {
            dialler.set_zero_linger()?;
            return Err(error);
        }
    };
    dialler.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (there, back) = (paths.clone(), paths.clone());
    let ended = {
        let (dialler_reads, dialler_writes) = dialler.split();
        let (server_reads, server_writes) = server.split();
        tokio::select! {
            ended = async { tokio::try_join!(
                pump(dialler_reads, server_writes, (from, to), there),
                pump(server_reads, dialler_writes, (to, from), back),
            ) } => ended.map(drop),
            _ = paths.wait_for(|paths| resets(paths) != before) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if ended.is_err() {
        dialler.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    ended
}

/// Carries bytes one way, in order, as the path is; its end is passed on.
async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    (from, to): (usize, usize),
    mut paths: watch::Receiver<Paths>,
) -> io::Result<()> {
    let (held, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_HELD);
    let now = paths.clone();
    let read = async move {
        let mut latest = Instant::now();
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = reader.read(&mut chunk).await?;
            if length == 0 {
                return io::Result::Ok(());
            }
            chunk.truncate(length);
            let path = now.borrow()[from][to];
            latest = latest.max(Instant::now() + delay(&path));
            // Whoever would carry it on has failed, and says so itself.
            if held.send((latest, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((at, mut chunk)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            let path = *paths
                .wait_for(|paths| !paths[from][to].cut)
                .await
                .map_err(io::Error::other)?
                .get(from)
                .and_then(|row| row.get(to))
                .ok_or(io::ErrorKind::NotFound)?;
            if happens(path.garbles_per_mille) {
                garble(&mut chunk);
            }
            if happens(path.tears_per_mille) {
                writer.write_all(&chunk[..chunk.len() / 2]).await?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            writer.write_all(&chunk).await?;
        }
        writer.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

fn delay(path: &Path) -> Duration {
    if path.delay.is_zero() && path.stalls_per_mille == 0 {
        return Duration::ZERO;
    }
    let stall = if happens(path.stalls_per_mille) {
        RETRANSMISSION
    } else {
        Duration::ZERO
    };
    path.delay.mul_f64(rand::rng().random_range(0.5..=1.0)) + stall
}

fn happens(per_mille: u32) -> bool {
    per_mille > 0 && rand::rng().random_range(0..1000) < per_mille
}

/// Changes a byte, or loses it.
fn garble(chunk: &mut Vec<u8>) {
    let mut rng = rand::rng();
    let place = rng.random_range(0..chunk.len());
    if rng.random_bool(0.5) {
        chunk[place] ^= 1 << rng.random_range(0..8);
    } else {
        chunk.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// This process is both nodes' dialler: node 0 dials node 1.
    struct Pair {
        proxy: Proxy,
        dialled: TcpStream,
        accepted: TcpStream,
    }

    async fn pair() -> Pair {
        let handle = Proxy::new(2);
        let target = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (to, at) = (target.local_addr().expect("bound"), proxy.local_addr().expect("bound"));
        let pids: Pids = Arc::new(vec![AtomicU32::new(std::process::id()), AtomicU32::new(0)]);
        let serving = handle.clone();
        tokio::spawn(async move { serving.serve(1, to, proxy, pids).await });
        let dialled = TcpStream::connect(at).await.expect("the proxy listens");
        let (accepted, _) = target.accept().await.expect("the proxy connects");
        Pair {
            proxy: handle,
            dialled,
            accepted,
        }
    }

    async fn gets(stream: &mut TcpStream, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).await.expect("the connection is up");
        assert_eq!(bytes, expected);
    }

    /// Whether bytes wait to be read, once whoever could bring them had every chance to.
    async fn is_silent(stream: &TcpStream) -> bool {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let mut byte = [0];
        stream
            .try_read(&mut byte)
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_so_does_the_end() {
        let mut pair = pair().await;
        pair.dialled.write_all(b"there").await.expect("it is up");
        gets(&mut pair.accepted, b"there").await;
        pair.accepted.write_all(b"back").await.expect("it is up");
        gets(&mut pair.dialled, b"back").await;
        drop(pair.accepted);
        assert_eq!(pair.dialled.read(&mut [0]).await.expect("it ends"), 0);
    }

    #[tokio::test]
    async fn a_cut_holds_one_way_only_and_what_it_held_arrives_when_it_is_healed() {
        let mut pair = pair().await;
        pair.proxy.change(|paths| paths[0][1].cut = true);
        pair.dialled.write_all(b"held").await.expect("the proxy takes it");
        pair.accepted.write_all(b"back").await.expect("it is up");
        gets(&mut pair.dialled, b"back").await;
        assert!(is_silent(&pair.accepted).await);
        pair.proxy.change(|paths| paths[0][1].cut = false);
        gets(&mut pair.accepted, b"held").await;
    }

    #[tokio::test]
    async fn a_reset_ends_the_connection_with_what_a_cut_had_held() {
        let mut pair = pair().await;
        pair.proxy.change(|paths| paths[0][1].cut = true);
        pair.dialled.write_all(b"lost").await.expect("the proxy takes it");
        assert!(is_silent(&pair.accepted).await);
        pair.proxy.change(|paths| paths[0][1].resets += 1);
        let ended = pair.accepted.read(&mut [0]).await;
        assert!(ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn a_torn_chunk_arrives_by_half_at_most() {
        let mut pair = pair().await;
        pair.proxy.change(|paths| paths[0][1].tears_per_mille = 1000);
        pair.dialled.write_all(&[7; 100]).await.expect("the proxy takes it");
        let mut bytes = Vec::new();
        let ended = pair.accepted.read_to_end(&mut bytes).await;
        assert!(ended.is_err() && bytes.len() <= 50, "{} bytes", bytes.len());
    }

    #[tokio::test]
    async fn a_garbled_chunk_differs_in_one_byte() {
        for _ in 0..20 {
            let before: Vec<u8> = (0..50).collect();
            let mut after = before.clone();
            garble(&mut after);
            let differing = before.iter().zip(&after).filter(|(one, other)| one != other).count();
            assert!(after.len() == 49 || (after.len() == 50 && differing == 1));
        }
    }

    #[test]
    fn a_delay_is_at_least_its_half() {
        let path = Path {
            delay: Duration::from_secs(2),
            ..Path::default()
        };
        for _ in 0..100 {
            assert!((1.0..=2.0).contains(&delay(&path).as_secs_f64()));
        }
        assert!(delay(&Path::default()).is_zero());
    }
}
