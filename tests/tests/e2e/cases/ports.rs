//! Published ports.

use std::io::{Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::network::Outside;
use isolazi_tests::{Case, Container, World, host};
use serde_json::json;

use super::networks::address;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_port_is_reached_through_the_host,
            datagrams_are_published_too,
            a_free_port_is_chosen_and_shown,
            a_port_on_one_address_is_on_that_one_only,
            a_taken_port_is_refused_before_anything_starts,
            a_port_is_free_when_its_container_ends,
            a_port_comes_back_with_its_container,
            other_containers_reach_it_through_the_host,
            all_exposed_ports_can_be_published,
            much_goes_through_a_port_in_both_directions,
            ports_that_make_no_sense_are_refused,
        ],
        NativeAlone: [
            clients_outside_keep_their_address,
            a_port_is_not_left_behind_by_a_shim_that_is_killed,
        ],
        VmAlone: [
            ports_outlive_a_supervisor_and_an_agent,
        ],
    }
}

/// What waits for an answer gives up after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Another address of each machine's own.
pub(super) const OTHER_LOCALHOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A container with the echo server on port 7 of both protocols.
pub(super) struct Echo<'a> {
    pub(super) container: Container<'a>,
}

impl<'a> Echo<'a> {
    pub(super) fn start(world: &'a World, options: &[&str]) -> Result<Self> {
        let container = world.start(options, &["echo-server"])?;
        container.wait_log("ready")?;
        Ok(Self { container })
    }

    /// The port of the host's that `port` names for a port of the container's.
    pub(super) fn port(&self, world: &World, target: &str) -> Result<u16> {
        let output = world
            .isolazi(["port", self.container.name(), target])
            .output()?;
        let shown = output.success()?.stdout_text();
        let first = shown.lines().next().context("no port is shown")?;
        let address: SocketAddr = first.parse().with_context(|| first.to_owned())?;
        Ok(address.port())
    }
}

/// Says `words` and reads everything that is answered.
fn talk(to: SocketAddr, words: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(words)?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    Ok(heard)
}

/// Whether the whole answer comes: an address, the words, and the end after ours.
pub(super) fn answers(to: SocketAddr, words: &str) -> Result<()> {
    let heard = talk(to, words.as_bytes()).with_context(|| to.to_string())?;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    let (from, rest) = heard.split_once('\n').unwrap_or((&heard, ""));
    ensure!(from.parse::<IpAddr>().is_ok(), "{to} says {heard:?}");
    same("answer", &rest, &format!("{words}end\n").as_str())
}

pub(super) fn ask(to: SocketAddr, words: &[u8]) -> Result<Vec<u8>> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(words)?;
    let mut buffer = vec![0; 65_535];
    let length = socket
        .recv(&mut buffer)
        .with_context(|| format!("no answer of {to}"))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// The addresses by which this machine reaches itself.
pub(super) fn own_addresses(port: u16) -> [SocketAddr; 2] {
    [
        (Ipv4Addr::LOCALHOST, port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
    ]
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
        .local_addr()?
        .port())
}

fn a_port_is_reached_through_the_host(world: &World) -> Result<()> {
    let port = free_port()?;
    let echo = Echo::start(world, &["-p", &format!("{port}:7")])?;
    for to in own_addresses(port) {
        answers(to, "hello")?;
    }
    let shown = world.isolazi(["port", echo.container.name()]).output()?;
    shown
        .success()?
        .stdout_is(&format!("7/tcp -> 0.0.0.0:{port}\n7/tcp -> [::]:{port}\n"))?;
    let listed = world.isolazi(["ps", "--format", "{{.Names}} {{.Ports}}"]);
    let listed = listed.output()?.success()?.stdout_text();
    let line = format!(
        "{} 0.0.0.0:{port}->7/tcp, [::]:{port}->7/tcp",
        echo.container.name()
    );
    ensure!(listed.lines().any(|it| it == line), "{listed}");
    let described = echo.container.inspect()?;
    let first = &described["NetworkSettings"]["Ports"]["7/tcp"][0];
    same(
        "port",
        first,
        &json!({"HostIp": "0.0.0.0", "HostPort": port.to_string()}),
    )?;
    let wanted = &described["HostConfig"]["PortBindings"]["7/tcp"][0]["HostPort"];
    same("binding", wanted, &json!(port.to_string()))?;
    let other = world
        .isolazi(["port", echo.container.name(), "8"])
        .output()?;
    other.fails_with(1, "port 8/tcp of container")?;
    Ok(())
}

fn datagrams_are_published_too(world: &World) -> Result<()> {
    let echo = Echo::start(world, &["-p", "7/udp"])?;
    let port = echo.port(world, "7/udp")?;
    for to in own_addresses(port) {
        for words in [&b"hello"[..], &[b'x'; 1400], b""] {
            let heard = ask(to, words)?;
            let line = heard
                .iter()
                .position(|&byte| byte == b'\n')
                .context("no line")?;
            same("answer", &&heard[line + 1..], &words)?;
        }
    }
    // Whichever address is asked, it is the one that answers.
    if !world.is_vm() {
        ask((OTHER_LOCALHOST, port).into(), b"hello")?;
    }
    // Two at once are told apart.
    let to = own_addresses(port)[0];
    let sockets = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let sockets: Vec<UdpSocket> = sockets.into_iter().collect::<Result<_, _>>()?;
    for (number, socket) in sockets.iter().enumerate() {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(&[number as u8], to)?;
    }
    for (number, socket) in sockets.iter().enumerate() {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer)?;
        same("peer", &from, &to)?;
        same("answer", &buffer[length - 1], &(number as u8))?;
    }
    Ok(())
}

fn a_free_port_is_chosen_and_shown(world: &World) -> Result<()> {
    let echo = Echo::start(world, &["-p", "7", "-p", "127.0.0.1::7"])?;
    let shown = world
        .isolazi(["port", echo.container.name(), "7"])
        .output()?;
    let shown = shown.success()?.stdout_text();
    let places: Vec<SocketAddr> = shown
        .lines()
        .map(|line| line.parse().with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    same("places", &places.len(), &3)?;
    for place in places {
        let to = match place.ip() {
            IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, place.port()).into(),
            IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, place.port()).into(),
        };
        answers(to, "chosen")?;
    }
    Ok(())
}

fn a_port_on_one_address_is_on_that_one_only(world: &World) -> Result<()> {
    let port = free_port()?;
    let _echo = Echo::start(world, &["-p", &format!("127.0.0.1:{port}:7")])?;
    let [four, six] = own_addresses(port);
    answers(four, "here")?;
    ensure!(
        TcpStream::connect_timeout(&six, PATIENCE).is_err(),
        "{six} answers"
    );
    let elsewhere = world
        .run_with(&["-p", "192.0.2.1:8080:7"], ["true"])
        .output()?;
    elsewhere.fails_with(125, "has no such address")?;
    Ok(())
}

fn a_taken_port_is_refused_before_anything_starts(world: &World) -> Result<()> {
    let holder = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = holder.local_addr()?.port();
    let publish = format!("{port}:7");
    let container = world.container();
    let options = ["--name", container.name(), "-p", "7/udp", "-p", &publish];
    let refused = world
        .run_with(&options, ["sh", "-c", "echo started"])
        .output()?;
    let refused = refused.fails_with(125, &format!("port {port}/tcp is already in use"))?;
    ensure!(refused.stdout.is_empty(), "it had started");
    ensure!(!container.is_listed()?, "it is listed");
    drop(holder);
    let _echo = Echo::start(world, &["-p", &publish])?;
    answers(own_addresses(port)[0], "now")?;
    // Nor can two containers have it.
    let second = world.run_with(&["-p", &publish], ["true"]).output()?;
    second.fails_with(125, "is already in use")?;
    Ok(())
}

fn a_port_is_free_when_its_container_ends(world: &World) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:7");
    for _ in 0..3 {
        let echo = Echo::start(world, &["-p", &publish])?;
        answers(own_addresses(port)[0], "again")?;
        let stop = world.isolazi(["stop", "-t", "0", echo.container.name()]);
        stop.output()?.success()?;
    }
    eventually(PATIENCE, "the port is free", || {
        Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            .ok()
            .map(drop))
    })
}

fn a_port_comes_back_with_its_container(world: &World) -> Result<()> {
    let port = free_port()?;
    let echo = Echo::start(world, &["-p", &format!("{port}:7")])?;
    let name = echo.container.name();
    let to = own_addresses(port)[0];
    answers(to, "first")?;
    world
        .isolazi(["restart", "-t", "0", name])
        .output()?
        .success()?;
    eventually(PATIENCE, "it answers after a restart", || {
        Ok(answers(to, "second").ok())
    })?;
    world
        .isolazi(["stop", "-t", "0", name])
        .output()?
        .success()?;
    world.isolazi(["start", name]).output()?.success()?;
    eventually(PATIENCE, "it answers after a start", || {
        Ok(answers(to, "third").ok())
    })
}

fn other_containers_reach_it_through_the_host(world: &World) -> Result<()> {
    let port = free_port()?;
    let echo = Echo::start(world, &["-p", &format!("{port}:7")])?;
    let script = format!("echo hello | nc -w 10 172.20.0.1 {port}");
    let client = world.sh(&script).output()?.success()?;
    ensure!(
        client.stdout_text().contains("hello"),
        "no answer for others"
    );
    // Even for itself.
    let own = echo.container.exec(&[], &["sh", "-c", &script]);
    let own = own.output()?.success()?.stdout_text();
    ensure!(own.contains("hello"), "no answer for itself");
    Ok(())
}

fn all_exposed_ports_can_be_published(world: &World) -> Result<()> {
    let options = ["-P", "--expose", "7", "--expose", "7/udp"];
    let echo = Echo::start(world, &options)?;
    answers(own_addresses(echo.port(world, "7")?)[0], "tcp")?;
    ask(own_addresses(echo.port(world, "7/udp")?)[0], b"udp")?;
    Ok(())
}

fn much_goes_through_a_port_in_both_directions(world: &World) -> Result<()> {
    let size: usize = if world.is_vm() { 4 << 20 } else { 64 << 20 };
    let echo = Echo::start(world, &["-p", "7"])?;
    let to = own_addresses(echo.port(world, "7")?)[0];
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut speaker = stream.try_clone()?;
    let words: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
    let sent = words.clone();
    let speaking = std::thread::spawn(move || -> std::io::Result<()> {
        speaker.write_all(&sent)?;
        speaker.shutdown(Shutdown::Write)
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    speaking
        .join()
        .map_err(|_| anyhow::anyhow!("the speaker panicked"))??;
    let line = heard
        .iter()
        .position(|&byte| byte == b'\n')
        .context("no line")?;
    let rest = heard[line + 1..].strip_suffix(b"end\n").context("no end")?;
    ensure!(
        rest == words,
        "{} bytes came back of {size}, or others",
        rest.len()
    );
    Ok(())
}

fn ports_that_make_no_sense_are_refused(world: &World) -> Result<()> {
    for bad in [
        "0",
        "65536",
        "x:80",
        "80:x",
        "80/sctp",
        "8000-8001:80",
        "localhost:1:2",
    ] {
        let output = world.run_with(&["-p", bad], ["true"]).output()?;
        output.fails_with(125, &format!("'{bad}' is not a port to publish"))?;
    }
    Ok(())
}

fn clients_outside_keep_their_address(world: &World) -> Result<()> {
    let outside = Outside::new()?;
    let port = free_port()?;
    let at_one = format!("{}:{}:7", outside.near(), free_port()?);
    let echo = Echo::start(world, &["-p", &format!("{port}:7"), "-p", &at_one])?;
    let second: u16 = at_one.split(':').nth(1).context("no port")?.parse()?;
    for port in [port, second] {
        let near = outside.near();
        let said = outside.run(&format!("echo hi | busybox nc -w 10 {near} {port}"));
        let said = said.output()?.success()?.stdout_text();
        same(
            "address",
            &said.lines().next(),
            &Some(outside.far().to_string().as_str()),
        )?;
        // The machine's own address leads there, too.
        answers((near, port).into(), "near")?;
    }
    ensure!(address(&echo.container)?.is_private());
    Ok(())
}

fn a_port_is_not_left_behind_by_a_shim_that_is_killed(world: &World) -> Result<()> {
    let outside = Outside::new()?;
    let port = free_port()?;
    let publish = format!("{port}:7");
    let first = Echo::start(world, &["-p", &publish])?;
    let to = (outside.near(), port).into();
    answers(to, "first")?;
    let pid = first.container.inspect()?["State"]["Pid"]
        .as_i64()
        .context("no process")?;
    let shim = host::parent(pid)?;
    rustix::process::kill_process(shim, rustix::process::Signal::KILL)?;
    first.container.wait_status("exited")?;
    let second = Echo::start(world, &["-p", &publish])?;
    answers(to, "second")?;
    drop((first, second));
    Ok(())
}

fn ports_outlive_a_supervisor_and_an_agent(world: &World) -> Result<()> {
    let port = free_port()?;
    let _echo = Echo::start(world, &["-p", &format!("{port}:7")])?;
    let to = own_addresses(port)[0];
    answers(to, "before")?;
    let restart = world.isolazi(["vm", "restart", "--agent"]);
    restart.timeout(world.patience(60)).output()?.success()?;
    eventually(world.patience(20), "it answers with another agent", || {
        Ok(answers(to, "after").ok())
    })
}
