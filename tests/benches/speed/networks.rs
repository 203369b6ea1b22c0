//! Networks: what one adds to a start, and how fast bytes get into a container.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::command::eventually;
use isolazi_tests::fixture::{self, static_true};
use isolazi_tests::surroundings::native_lacks;
use isolazi_tests::{Mode, World};

use crate::Bench;
use crate::measure::{Pairs, time};
use crate::podman::Podman;
use crate::start::pulled;
use crate::table::Row;

const PAIRS: usize = 20;
/// Containers on one bridge.
const MANY: usize = 100;
/// Sent to an echo, and back.
const BYTES: usize = 512 << 20;
const PIECE: usize = 128 << 10;
/// Connections that are made for one measurement.
const CONNECTIONS: u32 = 20;
/// After a connection, until both ends have forgotten it.
const BREATH: Duration = Duration::from_millis(50);
/// The port of the echo in containers and guests.
pub(crate) const ECHO: u16 = 7;

/// A start on the bridge, beside podman's, and beside one without a network.
pub(crate) fn starts(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    let folder = bench.folder.path().join("bridge");
    fs::create_dir_all(&folder)?;
    let program = static_true(&folder)?;
    let world = bench.world(Mode::Native, "bridge/native")?;
    let image = pulled(&world, &program, "true")?;
    let podman = Podman::new(folder.join("podman"))?;
    let theirs = podman.import(&program, "true")?;
    let run = |options: &[&str]| {
        let run = world.isolazi(["run", "--rm"]).args(options);
        time(&mut run.args([image.as_str(), "/true"]).into_command())
    };
    let beside_podman = Pairs::measure(
        PAIRS,
        || run(&[]),
        || time(&mut podman.command(&["run", "--rm", &theirs, "/true"])),
    )?;
    let beside_none = Pairs::measure(PAIRS, || run(&[]), || run(&["--network", "none"]))?;
    let added = beside_none.ours() - beside_none.theirs();
    Ok(vec![
        Row::of_pairs(
            "run --rm on the bridge",
            "podman run --rm",
            &beside_podman,
            1.0 / 6.0,
        ),
        Row::of_time("what the bridge adds to a run", added, 15),
        many(&world, &folder)?,
    ])
}

/// The hundredth container on a bridge, beside the first.
fn many(world: &World, folder: &Path) -> Result<Row> {
    let image = pulled(world, &fixture::small_init(folder)?, "init")?;
    let mut pairs = Pairs::default();
    for round in 0..5 {
        let mut times = Vec::new();
        for number in 0..MANY {
            let name = format!("many-{round}-{number}");
            let run = ["run", "-d", "--name", &name, &image, "/init"];
            times.push(time(&mut world.isolazi(run).into_command())?);
        }
        let names = (0..MANY).map(|number| format!("many-{round}-{number}"));
        let rm = world.isolazi(["rm", "-f"]).args(names);
        rm.timeout(Duration::from_secs(120)).output()?.success()?;
        pairs.add(times[MANY - 1], times[0]);
    }
    let what = "the 100th container on a bridge";
    Ok(Row::of_pairs(what, "the first", &pairs, 1.2))
}

/// Bytes through a published port, beside the container's own address.
pub(crate) fn ports(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    let world = bench.world(Mode::Native, "ports")?;
    let image = echo(&world)?;
    let run = [
        "run", "-d", "--name", "echo", "-p", "7000:7", &image, "/echo",
    ];
    world.isolazi(run).output()?.success()?;
    let described = world.isolazi(["inspect", "echo"]).output()?.success()?;
    let address = described.json()?[0]["NetworkSettings"]["IPAddress"].clone();
    let address: Ipv4Addr = address.as_str().context("no address")?.parse()?;
    let published = at(Ipv4Addr::new(172, 20, 0, 1), 7000);
    let direct = at(address, ECHO);
    wait_for(direct)?;
    let pairs = Pairs::measure(
        PAIRS,
        || exchange(published, BYTES),
        || exchange(direct, BYTES),
    )?;
    world.isolazi(["rm", "-f", "echo"]).output()?.success()?;
    Ok(vec![Row::of_pairs(
        "512 MiB there and back, published port",
        "the container's address",
        &pairs,
        1.1,
    )])
}

/// An image with an echo on port 7.
pub(crate) fn echo(world: &World) -> Result<String> {
    let folder = world.temp()?;
    pulled(world, &fixture::echo(folder.path())?, "echo")
}

pub(crate) fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

pub(crate) fn wait_for(address: SocketAddr) -> Result<()> {
    eventually(Duration::from_secs(60), "the echo answers", || {
        Ok(connect_once(address).ok())
    })
}

/// Until the echo has said its first line.
fn connect_once(address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "the echo hung up");
    Ok(())
}

pub(crate) fn connect(address: SocketAddr) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..CONNECTIONS {
        connect_once(address)?;
    }
    Ok(started.elapsed())
}

/// How long the first lines of as many connections take, each made when nothing is left to
/// do for the one before.
pub(crate) fn first_lines(address: SocketAddr) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for _ in 0..CONNECTIONS {
        std::thread::sleep(BREATH);
        let started = Instant::now();
        connect_once(address)?;
        total += started.elapsed();
    }
    Ok(total)
}

/// Sends bytes and takes them back, both at once.
pub(crate) fn exchange(address: SocketAddr, bytes: usize) -> Result<Duration> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    let mut sending = stream.try_clone()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let piece = vec![7; PIECE];
        for _ in 0..bytes / PIECE {
            sending.write_all(&piece)?;
        }
        sending.shutdown(std::net::Shutdown::Write)
    });
    let mut buffer = vec![0; PIECE];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => received += length,
        }
    }
    let sent = sender.join();
    sent.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(received > bytes, "{received} of {bytes} bytes came back");
    Ok(started.elapsed())
}
