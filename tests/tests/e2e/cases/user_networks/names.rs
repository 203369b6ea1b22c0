//! Who finds whom by name.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, World};

use super::super::networks::web;
use super::{Network, address_in, fetch, idle, look_up};

pub(crate) fn all() -> Vec<Case> {
    super::super::cases! {
        Both: [
            containers_find_each_other_by_name,
            names_follow_containers,
            a_name_server_leaves_its_port_to_the_container,
        ],
        NativeAlone: [
            other_names_are_the_hosts_business,
        ],
        VmAlone: [
            names_of_a_machine_are_the_hosts_business,
        ],
    }
}

fn containers_find_each_other_by_name(world: &World) -> Result<()> {
    let network = Network::new(world, &[])?;
    let on = [
        "--network",
        network.name.as_str(),
        "--network-alias",
        "www",
        "--dns-search",
        "example.org",
    ];
    let server = web(world, &on)?;
    let client = idle(&network, &["--network-alias", "www"])?;
    let server_address = address_in(&server, &network)?;
    let client_address = address_in(&client, &network)?;
    let id = server.inspect()?["Id"]
        .as_str()
        .context("no id")?
        .to_owned();
    let with_network = format!("{}.{}", server.name(), network.name);
    let upper = server.name().to_uppercase();
    for name in [server.name(), &id[..12], &with_network, &upper] {
        same(
            name,
            &look_up(&client, name)?,
            &vec![server_address.clone()],
        )?;
    }
    let mut both = vec![server_address.clone(), client_address];
    both.sort();
    same("alias", &look_up(&client, "www")?, &both)?;
    // Who shares its network finds the same ones.
    let shared = format!("container:{}", client.name());
    let sharing = world.start(&["--network", &shared], &["sleep", "1000"])?;
    same(
        "shared",
        &look_up(&sharing, server.name())?,
        &vec![server_address.clone()],
    )?;
    let get = fetch(&client, server.name())?.success()?;
    get.stdout_is(&format!("{}\n", &id[..12]))?;
    // The other way round.
    let by_address = client.exec(&[], &["nslookup", &server_address]).output()?;
    by_address.success()?.stdout_has(&with_network)?;
    let resolv = server.exec(&[], &["cat", "/etc/resolv.conf"]).output()?;
    let resolv = resolv.success()?.stdout_text();
    ensure!(resolv.starts_with("nameserver 127.0.0.11\n"), "{resolv}");
    ensure!(resolv.contains("search example.org"), "{resolv}");
    // By TCP: the length, a header, one question: A, IN.
    let mut query = b"\0\0\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\0\0\x01\0\x01".to_vec();
    query[1] = query.len() as u8 - 2;
    let query: String = query.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!("printf '{query}' | nc -w 3 127.0.0.11 53 | hexdump -v -e '1/1 \"%02x\"'");
    let answer = client
        .exec(&[], &["sh", "-c", &script])
        .output()?
        .success()?;
    let octets = server_address.parse::<Ipv4Addr>()?.octets();
    let wanted: String = octets.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(answer.stdout_text().contains(&wanted), "{answer:?}");
    Ok(())
}

fn names_follow_containers(world: &World) -> Result<()> {
    let network = Network::new(world, &[])?;
    let other = Network::new(world, &[])?;
    let client = idle(&network, &[])?;
    let server = idle(&network, &[])?;
    let stranger = idle(&other, &[])?;
    let default = world.start(&[], &["sleep", "1000"])?;
    let found = || look_up(&client, server.name());
    let before = address_in(&server, &network)?;
    same("found", &found()?, &vec![before.clone()])?;
    for (who, whom) in [
        (&stranger, &server),
        (&client, &stranger),
        (&client, &default),
    ] {
        let found = look_up(who, whom.name())?;
        ensure!(found.is_empty(), "{} knows {}", who.name(), whom.name());
    }
    // A shim that is killed takes its container's name along.
    let rename = format!("{}_renamed", server.name());
    world
        .isolazi(["rename", server.name(), &rename])
        .output()?
        .success()?;
    same(
        "renamed",
        &look_up(&client, &rename)?,
        &vec![before.clone()],
    )?;
    ensure!(found()?.is_empty(), "the old name is still found");
    world
        .isolazi(["rename", &rename, server.name()])
        .output()?
        .success()?;
    let stop = || world.isolazi(["stop", "-t", "0", server.name()]).output();
    stop()?.success()?;
    ensure!(found()?.is_empty(), "one that does not run is found");
    world
        .isolazi(["start", server.name()])
        .output()?
        .success()?;
    same("address", &address_in(&server, &network)?, &before)?;
    same("found again", &found()?, &vec![before])?;
    stop()?.success()?;
    Ok(())
}

fn a_name_server_leaves_its_port_to_the_container(world: &World) -> Result<()> {
    let network = Network::new(world, &[])?;
    let other = idle(&network, &[])?;
    let script = "mkdir /www; exec httpd -f -p 53 -h /www";
    let options = ["--network", network.name.as_str()];
    let own = world.start(&options, &["sh", "-c", script])?;
    let found = look_up(&own, other.name())?;
    same("found", &found, &vec![address_in(&other, &network)?])?;
    let said = fetch(&other, &format!("{}:53", own.name()))?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("404"), "{said}");
    Ok(())
}

/// A resolver that knows `db.example`, and a text that is too long for UDP.
struct Resolver(Child);

impl Resolver {
    fn start() -> Result<Self> {
        let child = Command::new("dnsmasq")
            .args([
                "--no-daemon",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
            ])
            .args([
                "--bind-interfaces",
                "--listen-address=127.0.0.9",
                "--user=root",
            ])
            .args(["--address=/db.example/192.0.2.53", "--pid-file="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child
            .map(Self)
            .context("cannot run dnsmasq; install dnsmasq-base")
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks names up in a world whose host asks the resolver at 127.0.0.9, with and
/// without one there.
fn ask_the_hosts_resolver(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.9\n")?;
    let other = world.fresh(folder.path());
    let bind = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        file.display()
    );
    let as_the_host = |invocation: isolazi_tests::Invocation| {
        let invocation = invocation.timeout(world.patience(60));
        invocation
            .through("unshare", &["--mount", "sh", "-c", &bind])
            .output()
    };
    let create = ["network", "create", "front"];
    as_the_host(other.isolazi(create))?.success()?;
    let container = other.container();
    let run = [
        "run",
        "-d",
        "--network",
        "front",
        "--name",
        container.name(),
    ];
    let run = other
        .isolazi(run)
        .args([&other.busybox()])
        .args(["sleep", "1000"]);
    as_the_host(run)?.success()?;
    let resolver = Resolver::start()?;
    let found = eventually(world.patience(10), "the resolver is asked", || {
        let found = look_up(&container, "db.example")?;
        Ok((!found.is_empty()).then_some(found))
    })?;
    same("found", &found, &vec!["192.0.2.53".to_owned()])?;
    same(
        "own name",
        &look_up(&container, container.name())?.len(),
        &1,
    )?;
    drop(resolver);
    // Without a resolver the answer is that there is none, before anybody gives up.
    let asked = Instant::now();
    let output = container.exec(&[], &["nslookup", "db.example"]).output()?;
    ensure!(!output.is_success(), "{output:?}");
    ensure!(asked.elapsed() < world.patience(30), "nobody answered");
    same(
        "own name",
        &look_up(&container, container.name())?.len(),
        &1,
    )?;
    let _resolver = Resolver::start()?;
    eventually(
        Duration::from_secs(10),
        "the resolver is asked again",
        || {
            let found = look_up(&container, "db.example")?;
            Ok((!found.is_empty()).then_some(()))
        },
    )?;
    drop(container);
    if world.is_vm() {
        let stop = other.isolazi(["vm", "stop"]).timeout(world.patience(60));
        stop.output()?.success()?;
    }
    Ok(())
}

fn other_names_are_the_hosts_business(world: &World) -> Result<()> {
    ask_the_hosts_resolver(world)
}

fn names_of_a_machine_are_the_hosts_business(world: &World) -> Result<()> {
    ask_the_hosts_resolver(world)
}
