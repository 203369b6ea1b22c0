//! Networks of the tests' own: the machine's interfaces and firewall are nobody's
//! to change.
//!
//! ```text
//!  Outside ═══ uplink ─┤ the tests' network ├─ isolazi0 ═══ containers
//!  203.0.113.2  203.0.113.1
//! ```

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

use crate::command::Invocation;

/// Addresses for documentation (RFC 5737), which nobody has.
const NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Gives the calling thread, and all that it starts, a network of its own with
/// nothing but loopback. Without root it stays in the machine's, where then nothing
/// can be changed either.
pub fn leave_the_machines() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    ip(&["link", "set", "lo", "up"])
}

/// Another machine, connected to that of the tests. There is one at a time.
#[derive(Debug)]
pub struct Outside {
    /// Holds its network namespace.
    holder: Child,
}

impl Outside {
    /// Connects one.
    pub fn new() -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start unshare")?;
        let outside = Self { holder };
        let pid = outside.holder.id().to_string();
        crate::command::eventually(
            std::time::Duration::from_secs(10),
            "the other network",
            || {
                let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net"))?;
                Ok((theirs != std::fs::read_link("/proc/self/ns/net")?).then_some(()))
            },
        )?;
        let cable = [
            "link", "add", "uplink", "type", "veth", "peer", "name", "far",
        ];
        ip(&[&cable[..], &["netns", &pid]].concat())?;
        ip(&["addr", "add", &format!("{NEAR}/24"), "dev", "uplink"])?;
        ip(&["link", "set", "uplink", "up"])?;
        for command in [
            format!("ip addr add {FAR}/24 dev far"),
            "ip link set far up".to_owned(),
            "ip link set lo up".to_owned(),
        ] {
            outside.run(&command).output()?.success()?;
        }
        Ok(outside)
    }

    /// The address of the tests' machine, as seen from there.
    pub fn near(&self) -> Ipv4Addr {
        NEAR
    }

    /// Its own address.
    pub fn far(&self) -> Ipv4Addr {
        FAR
    }

    /// Runs a shell command there.
    pub fn run(&self, command: &str) -> Invocation {
        let target = self.holder.id().to_string();
        let patience = std::time::Duration::from_secs(60);
        Invocation::new("nsenter", patience)
            .args(["--net", "--target", &target, "sh", "-c", command])
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = ip(&["link", "del", "uplink"]);
    }
}

/// ip(8), as the tests' machine is set up by hand like any other.
pub fn ip(arguments: &[&str]) -> Result<()> {
    let done = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip; install iproute2")?;
    let error = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "ip {}: {error}", arguments.join(" "));
    Ok(())
}
