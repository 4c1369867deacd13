//! Who connects to a proxy is told by the system's tables: it is the process that holds the socket.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use crate::cluster::Pids;

/// The table of this machine's TCP connections over IPv4.
const TABLE: &str = "/proc/net/tcp";

/// Why diallers cannot be told here.
pub(crate) fn check() -> Result<(), String> {
    fs::metadata(TABLE)
        .map(drop)
        .map_err(|error| format!("{TABLE}: {error}"))
}

/// The node whose process holds the connection from `local` to `remote`.
pub(crate) fn find(local: SocketAddr, remote: SocketAddr, pids: &Pids) -> Option<usize> {
    let table = fs::read_to_string(TABLE).ok()?;
    let socket = format!("socket:[{}]", inode(&table, local, remote)?);
    pids.iter().position(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", pid.load(Ordering::Relaxed))) else {
            return false;
        };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
    })
}

fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<&str> {
    let (local, remote) = (hexadecimal(local)?, hexadecimal(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let ours = columns.next()? == local && columns.next()? == remote;
        ours.then(|| columns.nth(6))?
    })
}

/// An address as the table has it.
fn hexadecimal(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(ip.octets()),
        address.port()
    ))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn the_process_that_holds_the_socket_is_the_dialler() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(there).expect("it listens");
        let here = stream.local_addr().expect("it is connected");
        let pids: Pids = Arc::new(vec![AtomicU32::new(0), AtomicU32::new(std::process::id())]);
        assert_eq!(find(here, there, &pids), Some(1));
        pids[1].store(0, Ordering::Relaxed);
        assert_eq!(find(here, there, &pids), None);
    }
}
