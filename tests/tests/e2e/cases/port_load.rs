//! Published ports when there is much to do, and when peers vanish.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, World};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ports::{Echo, PATIENCE, answers, own_addresses};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            many_connections_at_once,
            a_flood_of_datagrams_drowns_nobody,
            peers_that_vanish_are_let_go,
        ],
        NativeOnly: [
            a_thousand_connections_at_once,
            connections_wait_where_descriptors_are_short,
        ],
        VmAlone: [
            a_thousand_connections_at_once,
        ],
    }
}

fn many_connections_at_once(world: &World) -> Result<()> {
    let count = if world.is_vm() { 50 } else { 300 };
    let echo = Echo::start(world, &["-p", "7"])?;
    let to = own_addresses(echo.port(world, "7")?)[0];
    let mut streams = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("connection {number}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{number}").as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        streams.push(stream);
    }
    for (number, mut stream) in streams.into_iter().enumerate() {
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        ensure!(
            heard.ends_with(&format!("\n{number}end\n")),
            "{number}: {heard:?}"
        );
    }
    Ok(())
}

/// Has a command start with a limit of descriptors, as a shell would.
const LIMITED: &str = "ulimit $0; exec \"$@\"";

/// More than the 1024 descriptors would serve that a process has as a rule. The
/// container's processes have just those.
fn a_thousand_connections_at_once(world: &World) -> Result<()> {
    const COUNT: u64 = 1000;
    // Who relays for a machine is as limited as who starts it.
    if world.is_vm() {
        world
            .isolazi(["vm", "stop"])
            .timeout(world.patience(60))
            .output()?;
    }
    let container = world.container();
    let image = world.busybox();
    world
        .isolazi(["run", "-d", "--name", container.name(), "-p", "7"])
        .args([image.as_str(), "echo-server"])
        .through("sh", &["-c", LIMITED, "-Sn 1024"])
        .timeout(world.patience(60))
        .output()?
        .success()?;
    container.wait_log("ready")?;
    let echo = Echo { container };
    let limit = echo
        .container
        .exec(&[], &["sh", "-c", "ulimit -Sn; grep files /proc/1/limits"]);
    let limit = limit.output()?.success()?.stdout_text();
    let soft: Vec<&str> = limit.split_whitespace().collect();
    same("limits", &(soft[0], soft[4]), &("1024", "1024"))?;
    let to = own_addresses(echo.port(world, "7")?)[0];
    need_descriptors(COUNT + 256)?;
    let start = Instant::now();
    let mut streams: Vec<_> = (0..COUNT)
        .map(|number| say(to, number))
        .collect::<Result<_>>()?;
    for (number, stream) in streams.iter_mut().enumerate() {
        stream
            .hears(&format!("{number}\n"))
            .with_context(|| format!("connection {number}"))?;
    }
    eprintln!("{COUNT} connections took {:.1?}", start.elapsed());
    // All of them are still there.
    streams.into_iter().try_for_each(Talk::ends)
}

fn connections_wait_where_descriptors_are_short(world: &World) -> Result<()> {
    let container = world.container();
    let image = world.busybox();
    world
        .isolazi(["run", "-d", "--name", container.name(), "-p", "7"])
        .args([image.as_str(), "echo-server"])
        .through("sh", &["-c", LIMITED, "-n 128"])
        .output()?
        .success()?;
    container.wait_log("ready")?;
    let echo = Echo { container };
    let to = own_addresses(echo.port(world, "7")?)[0];
    let mut first: Vec<_> = (0..20)
        .map(|number| say(to, number))
        .collect::<Result<_>>()?;
    for (number, stream) in first.iter_mut().enumerate() {
        stream.hears(&format!("{number}\n"))?;
    }
    let mut more: Vec<_> = (0..200)
        .map(|number| say(to, number))
        .collect::<Result<_>>()?;
    // The shim still has descriptors for others.
    let exec = echo.container.exec(&[], &["echo", "hi"]);
    exec.output()?.success()?.stdout_is("hi\n")?;
    first.into_iter().try_for_each(Talk::ends)?;
    for (number, mut stream) in more.drain(..).enumerate() {
        stream
            .hears(&format!("{number}\n"))
            .with_context(|| format!("connection {number}"))?;
        stream.ends()?;
    }
    Ok(())
}

/// A connection to an echo server.
struct Talk(BufReader<TcpStream>);

/// Says a number.
fn say(to: SocketAddr, number: u64) -> Result<Talk> {
    let connected = TcpStream::connect_timeout(&to, PATIENCE);
    let mut stream = connected.with_context(|| format!("connection {number}"))?;
    stream.set_read_timeout(Some(4 * PATIENCE))?;
    stream.write_all(format!("{number}\n").as_bytes())?;
    Ok(Talk(BufReader::new(stream)))
}

impl Talk {
    /// Whether the server says these words, after where they come from.
    fn hears(&mut self, words: &str) -> Result<()> {
        let mut heard = String::new();
        self.0.read_line(&mut heard)?;
        heard.clear();
        self.0.read_line(&mut heard)?;
        same("answer", &heard.as_str(), &words)
    }

    /// Whether the server says the last word after ours.
    fn ends(mut self) -> Result<()> {
        self.0.get_ref().shutdown(Shutdown::Write)?;
        let mut heard = String::new();
        self.0.read_to_string(&mut heard)?;
        same("last word", &heard.as_str(), &"end\n")
    }
}

/// Lets this process have so many.
fn need_descriptors(count: u64) -> Result<()> {
    let has = getrlimit(Resource::Nofile);
    if has.current.is_none_or(|it| it >= count) {
        return Ok(());
    }
    let current = Some(has.maximum.unwrap_or(count).max(count));
    setrlimit(Resource::Nofile, Rlimit { current, ..has })
        .context("too few descriptors are allowed")
}

fn a_flood_of_datagrams_drowns_nobody(world: &World) -> Result<()> {
    // More peers than are remembered, each of which says several things.
    const PEERS: usize = 1500;
    let echo = Echo::start(world, &["-p", "127.0.0.1::7/udp"])?;
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, echo.port(world, "7/udp")?).into();
    for number in 0..PEERS {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        for _ in 0..10 {
            // What there is no room for is lost, as everywhere.
            let _ = socket.send_to(format!("{number}").as_bytes(), to);
        }
    }
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    peer.set_read_timeout(Some(Duration::from_secs(1)))?;
    eventually(world.patience(20), "a peer is answered", || {
        peer.send_to(b"still there?", to)?;
        let mut answer = [0; 64];
        let Ok(length) = peer.recv(&mut answer) else {
            return Ok(None);
        };
        Ok(answer[..length].ends_with(b"still there?").then_some(()))
    })?;
    let exec = echo.container.exec(&[], &["echo", "hi"]);
    exec.output()?.success()?.stdout_is("hi\n")?;
    Ok(())
}

fn peers_that_vanish_are_let_go(world: &World) -> Result<()> {
    let echo = Echo::start(world, &["-p", "7"])?;
    let to = own_addresses(echo.port(world, "7")?)[0];
    // Half of them break off, the others leave without a word.
    for number in 0..40 {
        let mut talk = say(to, number)?;
        talk.hears(&format!("{number}\n"))?;
        if number % 2 == 0 {
            rustix::net::sockopt::set_socket_linger(talk.0.get_ref(), Some(Duration::ZERO))?;
        }
    }
    answers(to, "who is left?")?;
    let connections = "grep -c ' 01 ' /proc/net/tcp /proc/net/tcp6 | cut -d: -f2";
    eventually(world.patience(20), "all are let go", || {
        let seen = echo
            .container
            .exec(&[], &["sh", "-c", connections])
            .output()?;
        let lines = seen.stdout_text();
        Ok(lines.lines().all(|count| count == "0").then_some(()))
    })?;
    // The other way round: the container goes, and whoever is there is hung up on.
    let mut last = say(to, 1)?;
    last.hears("1\n")?;
    world
        .isolazi(["rm", "-f", echo.container.name()])
        .output()?
        .success()?;
    last.0.get_ref().set_read_timeout(Some(PATIENCE))?;
    let mut rest = Vec::new();
    match last.0.read_to_end(&mut rest) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("nobody hung up"),
    }
}
