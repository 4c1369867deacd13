//! A network namespace a node, joined by a bridge, inside of a namespace of our own: all of it ends with the processes.
//!
//! A cut drops packets where they arrive, without a word, acknowledgements among them: connections die of it as they do in
//! a network, after time limits of the transport. It is a routing rule: unlike filters, kernels seldom lack these.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use crate::cluster::{Ports, name};
use crate::trouble::Trouble;

/// This command's own end of the bridge.
const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
/// Nobody else is in a node's namespace: the ports may be any.
const PEER_PORT: u16 = 7100;
const HTTP_PORT: u16 = 8100;

/// The namespaces of so many nodes.
#[derive(Clone, Copy)]
pub(crate) struct Namespaces {
    nodes: usize,
}

impl Namespaces {
    /// Makes them.
    pub(crate) fn make(nodes: usize) -> Result<Namespaces, Trouble> {
        // Names of namespaces are kept there; ours are nobody else's business.
        command("mount", &["-t", "tmpfs", "annulus-faults", "/run"])?;
        ip("link set lo up")?;
        ip("link add bridge type bridge")?;
        ip(&format!("address add {OURS}/24 dev bridge"))?;
        ip("link set bridge up")?;
        for node in 0..nodes {
            let (name, address) = (name(node), address(node));
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
            ip(&format!("link set {name} master bridge up"))?;
            ip(&format!("-n {name} address add {address}/24 dev eth0"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            ip(&format!("-n {name} link set lo up"))?;
            // Rules that cut have to come before the one that finds the node's own addresses.
            ip(&format!("-n {name} rule add pref 100 lookup local"))?;
            ip(&format!("-n {name} rule del pref 0"))?;
        }
        Ok(Namespaces { nodes })
    }

    /// Where the nodes listen.
    pub(crate) fn ports(self) -> Ports {
        let at = |port| (0..self.nodes).map(move |node| SocketAddr::from((address(node), port)));
        Ports {
            peer: at(PEER_PORT).collect(),
            http: at(HTTP_PORT).collect(),
        }
    }

    /// Drops, or no longer drops, what one node sends to another.
    pub(crate) fn set_cut(self, from: usize, to: usize, cut: bool) -> Result<(), Trouble> {
        let verb = if cut { "add" } else { "del" };
        ip(&format!(
            "-n {} rule {verb} pref 10 from {} blackhole",
            name(to),
            address(from)
        ))
    }
}

/// The start of a command line that runs the rest in a node's namespace, as the same process.
pub(crate) fn inside(node: usize) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net=/run/netns/{}", name(node))]
}

/// Why it cannot be had here.
pub(crate) fn check() -> Result<(), String> {
    crate::space::enter(true)?;
    for program in ["ip", "nsenter"] {
        let found = Command::new(program).arg("-V").output();
        found.map_err(|error| format!("{program}: {error}"))?;
    }
    Ok(())
}

fn address(node: usize) -> Ipv4Addr {
    let last = u8::try_from(node + 1).expect("there are 25 nodes at most: arguments are checked");
    Ipv4Addr::new(10, 77, 0, last)
}

fn ip(arguments: &str) -> Result<(), Trouble> {
    command("ip", &arguments.split(' ').collect::<Vec<_>>())
}

fn command(program: &str, arguments: &[&str]) -> Result<(), Trouble> {
    let told = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| Trouble::Command(format!("{}: {error}", told())))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Trouble::Command(format!(
            "{}: {}",
            told(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}
