//! What is mounted or wired is so in namespaces of this command's own: nobody else sees it, and nothing of it is left when
//! the processes in them have ended, however they end.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set where this process already is in namespaces of its own.
const INSIDE: &str = "ANNULUS_FAULTS_INSIDE";

/// The command that runs what follows it in a mount namespace of its own, and a network namespace where `network` says so, or why
/// there is none. Root has the right to; others have it inside of a user namespace, where the system allows one.
pub(crate) fn enter(network: bool) -> Result<Vec<&'static str>, String> {
    let ways: [&[&str]; 2] = [
        &["unshare", "--mount"],
        &["unshare", "--user", "--map-root-user", "--mount"],
    ];
    for way in ways {
        let mut way = way.to_vec();
        if network {
            way.push("--net");
        }
        let probe = Command::new(way[0])
            .args(&way[1..])
            .args(["mount", "-t", "tmpfs", "-o", "size=64k", "annulus-faults", "/mnt"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if probe.is_ok_and(|status| status.success()) {
            return Ok(way);
        }
    }
    Err("neither root nor a user namespace may have namespaces of its own".to_owned())
}

/// Becomes the same command in namespaces of its own, unless it is there already; says why it cannot be.
pub(crate) fn become_inside(network: bool) -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let way = enter(network)?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let error = Command::new(way[0])
        .args(&way[1..])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("{}: {error}", way[0]))
}
