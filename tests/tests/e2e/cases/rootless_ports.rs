//! Published ports of an ordinary user's containers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::network::Outside;
use isolazi_tests::ordinary::{Ordinary, USER};
use isolazi_tests::{Case, World, host};
use rustix::process::{Pid, Signal, kill_process};

use super::ports::{OTHER_LOCALHOST, PATIENCE, answers, ask, free_port, own_addresses};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        NativeOnly: [
            ports_of_an_ordinary_user_are_reached,
            rootless_ports_come_back_with_their_container,
            rootless_ports_that_cannot_be_had_are_refused,
            rootless_ports_are_free_when_their_container_ends,
            a_killed_broker_is_replaced,
            containers_with_own_ids_publish_ports,
        ],
        NativeAlone: [
            rootless_ports_are_reached_from_outside,
        ],
    }
}

/// Starts the echo server, as a container of this name.
fn echo(user: &Ordinary, world: &World, name: &str, options: &[&str]) -> Result<()> {
    let image = world.busybox();
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(options);
    args.extend([image.as_str(), "echo-server"]);
    user.isolazi(&args).output()?.success()?;
    is_ready(user, name)
}

fn is_ready(user: &Ordinary, name: &str) -> Result<()> {
    eventually(PATIENCE, "it is ready", || {
        let said = user.isolazi(&["logs", name]).output()?.stdout_text();
        Ok(said.contains("ready").then_some(()))
    })
}

fn remove(user: &Ordinary, name: &str) -> Result<()> {
    let removed = user.isolazi(&["rm", "-f", name]).output()?;
    removed.success().map(drop)
}

/// Where `isolazi port` says that it is to be reached.
fn places(user: &Ordinary, name: &str, target: &str) -> Result<Vec<SocketAddr>> {
    let shown = user.isolazi(&["port", name, target]).output()?;
    let shown = shown.success()?.stdout_text();
    let place = |line: &str| line.parse().with_context(|| line.to_owned());
    shown.lines().map(place).collect()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

fn kill(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("a process")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// The first process of a container.
fn first_process(user: &Ordinary, name: &str) -> Result<i32> {
    let shown = user.isolazi(&["inspect", "--format", "{{.State.Pid}}", name]);
    Ok(shown.output()?.success()?.stdout_text().trim().parse()?)
}

fn ports_of_an_ordinary_user_are_reached(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let port = free_port()?;
    let options = [
        "-p",
        &format!("{port}:7"),
        "-p",
        "127.0.0.1::7/udp",
        "-p",
        "7/udp",
        "-P",
        "--expose=9/tcp",
    ];
    echo(&user, world, "it", &options)?;
    for to in own_addresses(port) {
        answers(to, "hello")?;
    }
    let shown = places(&user, "it", "7/tcp")?;
    let everywhere = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    same(
        "places",
        &shown.iter().map(ToString::to_string).collect::<Vec<_>>(),
        &everywhere.to_vec(),
    )?;
    let chosen = places(&user, "it", "7/udp")?;
    same("places", &chosen.len(), &3)?;
    ensure!(
        chosen.iter().any(|it| it.ip() == Ipv4Addr::LOCALHOST),
        "{chosen:?}"
    );
    for place in chosen {
        if place.ip().is_unspecified() && place.is_ipv4() {
            ask((OTHER_LOCALHOST, place.port()).into(), b"words")?;
        }
        let [four, six] = own_addresses(place.port());
        let to = if place.is_ipv4() { four } else { six };
        ensure!(
            ask(to, b"words")?.ends_with(b"\nwords"),
            "{to} says something else"
        );
    }
    ensure!(places(&user, "it", "9")?[0].port() != 0);
    let listed = user.isolazi(&["ps", "--format", "{{.Ports}}"]).output()?;
    listed
        .success()?
        .stdout_has(&format!("0.0.0.0:{port}->7/tcp, [::]:{port}->7/tcp"))?;
    // The others reach it through what is the host to them.
    let script = format!("echo hello | nc -w 10 172.20.0.1 {port}");
    let other = user.run(world, &[], &script).output()?;
    other.success()?.stdout_has("hello")?;
    remove(&user, "it")?;
    ensure!(is_free(port), "port {port} is in use");
    Ok(())
}

fn rootless_ports_come_back_with_their_container(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let port = free_port()?;
    let to = own_addresses(port)[0];
    let back = |words: &str| eventually(PATIENCE, words, || Ok(answers(to, words).ok()));
    let published = format!("{port}:7");
    echo(&user, world, "it", &["-p", &published, "--restart=always"])?;
    answers(to, "first")?;
    kill(first_process(&user, "it")?)?;
    back("after its end")?;
    user.isolazi(&["restart", "-t", "0", "it"])
        .output()?
        .success()?;
    back("after a restart")?;
    user.isolazi(&["stop", "-t", "0", "it"])
        .output()?
        .success()?;
    ensure!(is_free(port), "port {port} is in use");
    user.isolazi(&["start", "it"]).output()?.success()?;
    back("after a start")?;
    remove(&user, "it")
}

fn rootless_ports_that_cannot_be_had_are_refused(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    user.run(world, &[], "true").output()?.success()?;
    let holder = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let taken = holder.local_addr()?.port();
    let free = free_port()?;
    for (publish, why) in [
        (
            format!("{taken}:7"),
            format!("port {taken}/tcp is already in use on this machine"),
        ),
        (
            "192.0.2.1:8080:7".to_owned(),
            "has no such address".to_owned(),
        ),
        (
            "80:7".to_owned(),
            "port 80/tcp is one that only root may publish; choose 1024 or above".to_owned(),
        ),
    ] {
        let options = ["-p", &format!("{free}:8"), "-p", &publish];
        let refused = user.run(world, &options, "echo started").output()?;
        let refused = refused.fails_with(125, &why)?.has_one_complaint()?;
        ensure!(refused.stdout.is_empty(), "it had started");
        ensure!(is_free(free), "port {free} is left behind by {publish}");
    }
    let listed = user.isolazi(&["ps", "-aq"]).output()?;
    listed.success()?.stdout_is("")?;
    // Nor can two containers have one.
    let options = ["-p", &format!("{free}:7")];
    echo(&user, world, "it", &options)?;
    let second = user.run(world, &options, "true").output()?;
    second
        .fails_with(125, "is already in use")?
        .has_one_complaint()?;
    remove(&user, "it")
}

fn rootless_ports_are_free_when_their_container_ends(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let port = free_port()?;
    let both = [format!("{port}:7"), format!("{port}:7/udp")];
    let options = ["-p", &both[0], "-p", &both[1]];
    let run = user.run(world, &options, "true");
    run.output()?.success()?;
    ensure!(is_free(port), "port {port} is in use");
    echo(&user, world, "first", &options)?;
    kill_process(host::parent(first_process(&user, "first")?)?, Signal::KILL)?;
    eventually(PATIENCE, "the port of a killed shim is free", || {
        Ok(is_free(port).then_some(()))
    })?;
    echo(&user, world, "second", &options)?;
    answers(own_addresses(port)[0], "second")?;
    remove(&user, "second")
}

fn a_killed_broker_is_replaced(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let [first, second] = [free_port()?, free_port()?];
    echo(&user, world, "first", &["-p", &format!("{first}:7")])?;
    same("brokers", &user.brokers()?, &1)?;
    let broker = user.keeper()?["broker"]["pid"].as_i64();
    let broker = i32::try_from(broker.context("the broker's pid")?)?;
    let status = fs::read_to_string(format!("/proc/{broker}/status"))?;
    for confined in ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        ensure!(status.contains(confined), "{status}");
    }
    kill(broker)?;
    // What it has handed over is the container's.
    answers(own_addresses(first)[0], "first")?;
    user.isolazi(&["restart", "-t", "0", "first"])
        .output()?
        .success()?;
    echo(&user, world, "second", &["-p", &format!("{second}:7")])?;
    for port in [first, second] {
        let again = || Ok(answers(own_addresses(port)[0], "again").ok());
        eventually(PATIENCE, "it answers", again)?;
    }
    same("brokers", &user.brokers()?, &1)?;
    remove(&user, "first")?;
    remove(&user, "second")?;
    eventually(Duration::from_secs(20), "it ends with the keeper", || {
        let left = user.keepers()? + user.brokers()?;
        Ok((left == 0).then_some(()))
    })
}

/// Those of a user namespace in the user's own have another network with each life.
fn containers_with_own_ids_publish_ports(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let port = free_port()?;
    let publish = [format!("{port}:7"), format!("{port}:7/udp")];
    let own = format!("0:{USER}:1");
    let ports = ["-p", &publish[0], "-p", &publish[1]];
    let options = [&ports[..], &["--uid-map", &own, "--restart=always"]].concat();
    echo(&user, world, "it", &options)?;
    let to = own_addresses(port)[0];
    answers(to, "first")?;
    // A peer of the port's does not keep it, either.
    ask(to, b"first")?;
    kill(first_process(&user, "it")?)?;
    eventually(PATIENCE, "it answers again", || {
        Ok(answers(to, "second").ok())
    })?;
    ask(to, b"second")?;
    remove(&user, "it")
}

fn rootless_ports_are_reached_from_outside(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let outside = Outside::new()?;
    let near = outside.near();
    let (port, at_one) = (free_port()?, free_port()?);
    let publish = [
        format!("{port}:7"),
        format!("{port}:7/udp"),
        format!("{near}:{at_one}:7"),
    ];
    let options: Vec<&str> = publish.iter().flat_map(|it| ["-p", it.as_str()]).collect();
    echo(&user, world, "it", &options)?;
    for port in [port, at_one] {
        let said = outside.run(&format!("echo hi | busybox nc -w 10 {near} {port}"));
        said.output()?.success()?.stdout_has("\nhi\nend\n")?;
    }
    ensure!(
        ask((near, port).into(), b"hi")?.ends_with(b"\nhi"),
        "another answer"
    );
    let elsewhere = own_addresses(at_one)[0];
    ensure!(
        TcpStream::connect(elsewhere).is_err(),
        "{elsewhere} answers"
    );
    remove(&user, "it")
}
