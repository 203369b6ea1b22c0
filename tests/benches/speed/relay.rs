//! Connections to containers of a machine, by way of the host: beside QEMU's own
//! forwarding and slirp4netns's to a guest of the same kernel and devices.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use isolazi_image_builder::cpio::Archive;
use isolazi_tests::command::{eventually, tool};
use isolazi_tests::fixture::{self, find};
use isolazi_tests::surroundings::vm_lacks;
use isolazi_tests::{Mode, World};

use crate::Bench;
use crate::guest::{Ended, Guest, Network};
use crate::measure::Pairs;
use crate::networks::{ECHO, at, connect, echo, exchange, first_lines, free_port, wait_for};
use crate::table::Row;

/// Sent to an echo, and back.
const BYTES: usize = 16 << 20;
/// The guest's address, as the machine's.
const GUEST: &str = "10.0.2.15";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = vm_lacks() {
        bail!("{reason}");
    }
    let world = bench.world(Mode::Vm, "relay")?;
    let image = echo(&world)?;
    let run = [
        "run",
        "-d",
        "--name",
        "echo",
        "-p",
        "127.0.0.1::7",
        &image,
        "/echo",
    ];
    let run = world.isolazi(run).timeout(Duration::from_secs(120));
    run.output()?.success()?;
    let port = world.isolazi(["port", "echo", "7"]).output()?.success()?;
    let ours: SocketAddr = port.stdout_text().trim().parse()?;
    wait_for(ours)?;
    let folder = bench.folder.path().join("relay/peer");
    let forwarded = at(Ipv4Addr::LOCALHOST, free_port()?);
    let by_qemu = Network::Forwarded(forwarded.port(), ECHO);
    let running = guest(&world, &folder, by_qemu)?.boot("ready")?;
    wait_for(forwarded)?;
    let bytes = Pairs::measure(6, || exchange(ours, BYTES), || exchange(forwarded, BYTES))?;
    let connections = Pairs::measure(10, || connect(ours), || connect(forwarded))?;
    let lines = Pairs::measure(10, || first_lines(ours), || first_lines(forwarded))?;
    drop(running);
    let slirp = Slirp::start(&folder)?;
    let behind_slirp = Network::Tap(slirp.namespace());
    let running = guest(&world, &folder, behind_slirp)?.boot("ready")?;
    wait_for(slirp.address)?;
    let beside_slirp = Pairs::measure(
        6,
        || exchange(ours, BYTES),
        || exchange(slirp.address, BYTES),
    )?;
    drop(running);
    world.isolazi(["vm", "stop"]).output()?.success()?;
    let what = "16 MiB there and back, relayed";
    Ok(vec![
        Row::of_pairs(what, "QEMU's hostfwd", &bytes, 1.0),
        Row::of_pairs(what, "slirp4netns's hostfwd", &beside_slirp, 1.0),
        Row::of_pairs(
            "20 first lines, each by itself, relayed",
            "QEMU's hostfwd",
            &lines,
            1.2,
        ),
        Row::of_pairs(
            "20 connections in a row, relayed",
            "QEMU's hostfwd",
            &connections,
            1.2,
        ),
    ])
}

/// A guest that is nothing but an echo.
fn guest(world: &World, folder: &Path, network: Network) -> Result<Guest> {
    fs::create_dir_all(folder)?;
    let busybox = find("busybox").context("busybox is not installed")?;
    let init = format!(
        "#!/busybox sh\n\
         /busybox ip addr add {GUEST}/24 dev eth0\n\
         /busybox ip link set eth0 up\n\
         exec /echo\n"
    );
    let mut root = Archive::default();
    root.file("init", 0o755, init.as_bytes())?;
    root.file("busybox", 0o755, &fs::read(busybox)?)?;
    root.file("echo", 0o755, &fs::read(fixture::echo(folder)?)?)?;
    Guest::new(world, folder, root, network)
}

/// Links a guest's cable to slirp4netns's, which is not there yet.
const BRIDGE: &str = "ip link add br0 type bridge && ip link set br0 up && \
    ip tuntap add tap1 mode tap && ip link set tap1 master br0 up && \
    echo made && exec sleep 3600";

/// A network namespace with a bridge that slirp4netns connects to the host, and forwards
/// a port to.
struct Slirp {
    address: SocketAddr,
    _program: Ended,
    inside: Ended,
}

impl Slirp {
    fn start(folder: &Path) -> Result<Self> {
        let mut inside = Command::new("unshare");
        inside
            .args(["--net", "sh", "-c", BRIDGE])
            .stdout(Stdio::piped());
        let mut inside = Ended(inside.spawn().context("cannot run unshare")?);
        let mut line = String::new();
        let said = inside.0.stdout.take().context("no output")?;
        BufReader::new(said).read_line(&mut line)?;
        if line.trim() != "made" {
            bail!("no bridge can be made");
        }
        let namespace = inside.0.id().to_string();
        let socket = folder.join("slirp.sock");
        let mut program = Command::new("slirp4netns");
        program
            .arg("--api-socket")
            .arg(&socket)
            .args([&namespace, "tap0"]);
        let program = program.stdout(Stdio::null()).stderr(Stdio::null());
        let program = Ended(program.spawn().context("cannot run slirp4netns")?);
        let address = at(Ipv4Addr::LOCALHOST, free_port()?);
        let request = format!(
            r#"{{"execute":"add_hostfwd","arguments":{{"proto":"tcp","host_addr":"127.0.0.1","host_port":{},"guest_addr":"{GUEST}","guest_port":{ECHO}}}}}"#,
            address.port()
        );
        eventually(Duration::from_secs(10), "slirp4netns forwards", || {
            let Ok(mut api) = std::os::unix::net::UnixStream::connect(&socket) else {
                return Ok(None);
            };
            api.write_all(request.as_bytes())?;
            api.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            api.read_to_string(&mut answer)?;
            Ok(answer.contains("return").then_some(()))
        })?;
        let words = "-n ip link set tap0 master br0 up".split(' ');
        tool("nsenter", ["-t", &namespace].into_iter().chain(words))?;
        Ok(Self {
            address,
            _program: program,
            inside,
        })
    }

    /// A process in it.
    fn namespace(&self) -> u32 {
        self.inside.0.id()
    }
}
