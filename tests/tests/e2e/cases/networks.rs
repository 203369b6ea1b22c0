//! What a container is connected to.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same, tool};
use isolazi_tests::network::{Outside, ip};
use isolazi_tests::{Case, Container, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_container_has_an_address_and_a_way_out,
            containers_reach_each_other,
            names_in_etc_hosts,
            the_host_is_reached_by_name,
            without_a_network_there_is_loopback,
            a_network_can_be_shared,
            an_address_can_be_chosen,
            an_address_is_kept_over_restarts,
            what_makes_no_sense_of_a_network_is_refused,
            nobody_takes_anothers_address,
        ],
        NativeOnly: [
            the_machines_own_network_can_be_used,
        ],
        VmAlone: [
            names_are_resolved_as_the_host_does,
        ],
        NativeAlone: [
            // An emulated processor takes too long for so many containers.
            addresses_run_out_and_come_back,
            what_is_lost_is_made_again,
            a_firewall_in_the_way_is_told_of,
            the_world_outside_is_reached_from_the_machines_address,
        ],
    }
}

/// What `inspect` says of its address.
pub(super) fn address(container: &Container<'_>) -> Result<Ipv4Addr> {
    let described = container.inspect()?;
    let address = described["NetworkSettings"]["IPAddress"].as_str();
    let address = address.context("no address")?;
    address
        .parse()
        .with_context(|| format!("{address:?} is no address"))
}

/// A container that serves its name by HTTP.
pub(super) fn web<'a>(world: &'a World, options: &[&str]) -> Result<Container<'a>> {
    let script = "mkdir /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www";
    let container = world.start(options, &["sh", "-c", script])?;
    let get = ["wget", "-q", "-O", "-", "http://127.0.0.1/"];
    eventually(world.patience(20), "the server answers", || {
        Ok(container
            .exec(&[], &get)
            .output()?
            .is_success()
            .then_some(()))
    })?;
    Ok(container)
}

fn a_container_has_an_address_and_a_way_out(world: &World) -> Result<()> {
    let container = world.start(&["--cap-add", "NET_RAW"], &["sleep", "1000"])?;
    let own = address(&container)?;
    let script = "ip -o addr show eth0; ip route; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6";
    let seen = container.exec(&[], &["sh", "-c", script]).output()?;
    let seen = seen.success()?.stdout_text();
    ensure!(seen.contains(&format!("inet {own}/24 ")), "{seen}");
    ensure!(seen.contains("default via 172.20.0.1 dev eth0"), "{seen}");
    ensure!(seen.trim_end().ends_with('1'), "IPv6 is on: {seen}");
    let described = container.inspect()?;
    let settings = &described["NetworkSettings"];
    same("gateway", &settings["Gateway"], &json!("172.20.0.1"))?;
    same("prefix", &settings["IPPrefixLen"], &json!(24))?;
    let endpoint = &settings["Networks"]["bridge"];
    same("endpoint", &endpoint["IPAddress"], &json!(own.to_string()))?;
    let mode = &described["HostConfig"]["NetworkMode"];
    same("mode", mode, &json!("bridge"))?;
    container
        .exec(&[], &["ping", "-c", "1", "-W", "5", "172.20.0.1"])
        .output()?
        .success()?;
    Ok(())
}

fn containers_reach_each_other(world: &World) -> Result<()> {
    let server = web(world, &[])?;
    let url = format!("http://{}/", address(&server)?);
    let got = world.run(["wget", "-q", "-O", "-", &url]).output()?;
    let name = server.inspect()?["Config"]["Hostname"].clone();
    let name = name.as_str().context("no host name")?;
    got.success()?.stdout_is(&format!("{name}\n"))?;
    Ok(())
}

fn names_in_etc_hosts(world: &World) -> Result<()> {
    let options = [
        "--hostname",
        "web",
        "--add-host",
        "db:192.0.2.7",
        "--add-host",
        "up:host-gateway",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let own = address(&container)?.to_string();
    let hosts = container.exec(&[], &["cat", "/etc/hosts"]).output()?;
    let hosts = hosts.success()?.stdout_text();
    let host = if world.is_vm() {
        "10.0.2.2"
    } else {
        "172.20.0.1"
    };
    for (address, name) in [
        (own.as_str(), "web"),
        ("192.0.2.7", "db"),
        (host, "up"),
        (host, "host.isolazi.internal"),
        (host, "host.docker.internal"),
    ] {
        let is_line = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some(address) && words.any(|word| word == name)
        };
        ensure!(hosts.lines().any(is_line), "no {address} {name} in {hosts}");
    }
    Ok(())
}

fn the_host_is_reached_by_name(world: &World) -> Result<()> {
    // The registry of the tests: any server on this host would do.
    let registry = world.shared().registry.clone();
    let port = registry.rsplit(':').next().context("no port")?;
    let url = format!("http://host.isolazi.internal:{port}/v2/");
    let got = world.run(["wget", "-q", "-O", "-", &url]).output()?;
    match world.is_vm() {
        // Containers in a machine are this user's programs, as far as the host goes.
        true => drop(got.success()?.stdout_is("{}")?),
        // Natively what listens on the loopback only is nobody else's business.
        false => {
            let said = String::from_utf8_lossy(&got.stderr);
            ensure!(said.contains("refused"), "{said}");
        }
    };
    Ok(())
}

fn without_a_network_there_is_loopback(world: &World) -> Result<()> {
    let script = "ls /sys/class/net; ip -o addr show lo; ip route";
    let output = world.run_with(&["--network", "none"], ["sh", "-c", script]);
    let seen = output.output()?.success()?.stdout_text();
    let (first, rest) = seen.split_once('\n').unwrap_or_default();
    same("links", &first, &"lo")?;
    ensure!(rest.contains("inet 127.0.0.1/8"), "{rest}");
    ensure!(!rest.contains("via"), "a way out: {rest}");
    Ok(())
}

fn a_network_can_be_shared(world: &World) -> Result<()> {
    let server = web(world, &[])?;
    let shared = format!("container:{}", server.name());
    let url = "http://127.0.0.1/";
    let get = world.run_with(&["--network", &shared], ["wget", "-q", "-O", "-", url]);
    get.output()?.success()?;
    let client = world.start(&["--network", &shared], &["sleep", "1000"])?;
    let own = address(&server)?.to_string();
    let seen = client
        .exec(&[], &["ip", "-o", "addr"])
        .output()?
        .success()?;
    ensure!(seen.stdout_text().contains(&own), "another network");
    let mode = client.inspect()?["HostConfig"]["NetworkMode"].clone();
    let id = server.inspect()?["Id"].clone();
    let id = id.as_str().context("no id")?;
    same("mode", &mode, &json!(format!("container:{id}")))?;
    // What has ended has no network to share.
    let stop = |name: &str| world.isolazi(["stop", "-t", "0", name]).output();
    stop(client.name())?.success()?;
    stop(server.name())?.success()?;
    let start = world.isolazi(["start", client.name()]).output()?;
    start.fails_with(1, "it does not run; start it first")?;
    Ok(())
}

fn an_address_can_be_chosen(world: &World) -> Result<()> {
    let free = world.start(&[], &["sleep", "1000"])?;
    let taken = address(&free)?.to_string();
    let mac = "02:11:22:33:44:55";
    let options = [
        "--cap-add=NET_RAW",
        "--ip=172.20.0.200",
        "--mac-address",
        mac,
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    same(
        "address",
        &address(&container)?.to_string(),
        &"172.20.0.200".to_owned(),
    )?;
    let card = container.exec(&[], &["cat", "/sys/class/net/eth0/address"]);
    card.output()?.success()?.stdout_is(&format!("{mac}\n"))?;
    // It works, so that the filter knows it.
    let ping = container.exec(&[], &["ping", "-c", "1", "-W", "5", "172.20.0.1"]);
    ping.output()?.success()?;
    let again = world.run_with(&["--ip", &taken], ["true"]).output()?;
    again.fails_with(125, "belongs to another container")?;
    Ok(())
}

fn an_address_is_kept_over_restarts(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let before = address(&container)?;
    let restart = world.isolazi(["restart", "-t", "0", container.name()]);
    restart.output()?.success()?;
    same("address", &address(&container)?, &before)?;
    let stop = world.isolazi(["stop", "-t", "0", container.name()]);
    stop.output()?.success()?;
    let described = container.inspect()?;
    let settings = &described["NetworkSettings"]["IPAddress"];
    same("address of what does not run", settings, &json!(""))
}

fn what_makes_no_sense_of_a_network_is_refused(world: &World) -> Result<()> {
    for (options, text) in [
        (
            &["--network", "elsewhere"][..],
            "no such network: elsewhere",
        ),
        (&["--network", "none", "-p", "80"], "cannot have ports"),
        (
            &["--network", "host", "--ip", "172.20.0.9"],
            "cannot stand beside --network host",
        ),
        (&["--network", "container:nobody"], "nobody"),
        (&["--ip", "172.21.0.9"], "no address for a container"),
        (&["--ip", "172.20.0.1"], "no address for a container"),
        (&["--ip", "172.20.0.255"], "no address for a container"),
        (&["--ip", "x"], "not an IPv4 address"),
        (
            &["--mac-address", "01:00:00:00:00:01"],
            "not an Ethernet address",
        ),
    ] {
        let container = world.container();
        let named = [&["--name", container.name()], options].concat();
        let output = world.run_with(&named, ["true"]).output()?;
        output.fails_with(125, text)?;
        ensure!(!container.is_listed()?, "{options:?} left a container");
    }
    Ok(())
}

/// Answers every question about a name with 192.0.2.53, until asked for `end.example`
/// (RFC 1035, section 4).
fn resolve_everything(socket: &UdpSocket) -> std::io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let question = &buffer[..length];
        if question.windows(4).any(|it| it == b"\x03end") {
            return Ok(());
        }
        // The name ends with an empty label; type and class come after it.
        let name = question[12..].iter().position(|&byte| byte == 0);
        let end = 12 + name.unwrap_or_default() + 5;
        let is_address = question[end - 3] == 1;
        let mut answer = question[..end].to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..12].copy_from_slice(&[0, u8::from(is_address), 0, 0, 0, 0]);
        if is_address {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
        }
        socket.send_to(&answer, from)?;
    }
}

fn names_are_resolved_as_the_host_does(world: &World) -> Result<()> {
    let resolver = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 9), 53))?;
    let resolving = std::thread::spawn(move || resolve_everything(&resolver));
    let folder = world.temp()?;
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "search example.org\nnameserver 127.0.0.9\n")?;
    // A machine whose host has another resolver than this one.
    let other = world.fresh(folder.path());
    let bind = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        file.display()
    );
    let script = "cat /etc/resolv.conf; nslookup db.example";
    let run = other.run(["sh", "-c", script]).timeout(world.patience(60));
    let ran = run
        .through("unshare", &["--mount", "sh", "-c", &bind])
        .output()?;
    let stopped = other
        .isolazi(["vm", "stop"])
        .timeout(world.patience(60))
        .output()?;
    stopped.success()?;
    let end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    end.send_to(
        b"\0\0\0\0\0\0\0\0\0\0\0\0\x03end\0\0\x01\0\x01",
        "127.0.0.9:53",
    )?;
    resolving
        .join()
        .map_err(|_| anyhow::anyhow!("the resolver panicked"))??;
    let said = ran.success()?.stdout_text();
    ensure!(said.contains("search example.org"), "{said}");
    ensure!(
        !said.contains("127.0.0.9"),
        "a resolver that it cannot reach: {said}"
    );
    ensure!(said.contains("192.0.2.53"), "{said}");
    Ok(())
}

fn nobody_takes_anothers_address(world: &World) -> Result<()> {
    let victim = web(world, &[])?;
    let victim_address = address(&victim)?;
    // What it takes to try.
    let options = ["--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"];
    let attacker = world.start(&options, &["sleep", "1000"])?;
    let own = address(&attacker)?;
    let ping = "ping -c 1 -W 2 172.20.0.1 >/dev/null";
    let sh = |script: &str| attacker.exec(&[], &["sh", "-c", script]).output();
    sh(ping)?.success()?;
    for (address, why) in [
        (victim_address.to_string(), "another container's address"),
        ("172.20.0.1".to_owned(), "the gateway's address"),
        ("172.20.0.254".to_owned(), "an address that nobody has"),
    ] {
        // Nobody may come to believe that the address is here, and nothing that comes
        // from it goes anywhere.
        let script = format!(
            "ip addr flush dev eth0; ip addr add {address}/24 dev eth0; \
             arping -c 2 -w 3 -U -I eth0 {address} >/dev/null; \
             ! ping -c 1 -W 2 172.20.0.{} >/dev/null",
            if address == "172.20.0.1" {
                victim_address.octets()[3]
            } else {
                1
            }
        );
        let tried = sh(&script)?;
        ensure!(tried.is_success(), "{why} was taken");
        let url = format!("http://{victim_address}/");
        let got = world
            .run(["timeout", "5", "wget", "-q", "-O", "-", &url])
            .output()?;
        got.success()
            .with_context(|| format!("{why} was announced"))?;
    }
    let repair = format!(
        "ip addr flush dev eth0; ip addr add {own}/24 dev eth0; \
         ip link set eth0 address 02:11:22:33:44:66; ! {ping}"
    );
    ensure!(sh(&repair)?.is_success(), "another station was let in");
    Ok(())
}

fn the_machines_own_network_can_be_used(world: &World) -> Result<()> {
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let output = world.run_with(&["--network", "host"], ["readlink", "/proc/self/ns/net"]);
    let output = output.output()?.success()?;
    output.stdout_is(&format!("{}\n", own.display()))?;
    Ok(())
}

fn addresses_run_out_and_come_back(world: &World) -> Result<()> {
    let mut all = Vec::new();
    let refused = loop {
        let container = world.container();
        let run = world.isolazi(["run", "-d", "--name", container.name()]);
        let run = run.args([&world.busybox()]).args(["sleep", "1000"]);
        let output = run.output()?;
        if !output.is_success() {
            break output;
        }
        all.push(container);
        ensure!(all.len() <= 253, "more containers than addresses");
    };
    refused.fails_with(125, "no address is free in network bridge")?;
    same("containers", &all.len(), &253)?;
    drop(all.pop());
    eventually(Duration::from_secs(10), "an address comes back", || {
        Ok(world.run(["true"]).output()?.is_success().then_some(()))
    })
}

fn what_is_lost_is_made_again(world: &World) -> Result<()> {
    let running = web(world, &[])?;
    let url = format!("http://{}/", address(&running)?);
    let get = || {
        world
            .run(["timeout", "5", "wget", "-q", "-O", "-", &url])
            .output()
    };
    get()?.success()?;
    ip(&["link", "del", "isolazi0"])?;
    get()?.success().context("without its bridge")?;
    ip(&["link", "set", "isolazi0", "down"])?;
    get()?.success().context("with its bridge down")?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
    get()?.success()?;
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?;
    same("forwarding", &forward, &"1\n".to_owned())
}

/// A table of the tests' own, which drops what is forwarded.
struct Firewall;

impl Firewall {
    fn new() -> Result<Self> {
        let chain = "add table ip others; add chain ip others FORWARD \
                     { type filter hook forward priority 0; policy drop; }";
        tool("nft", [chain])?;
        Ok(Self)
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        drop(tool("nft", ["delete table ip others"]));
    }
}

fn a_firewall_in_the_way_is_told_of(world: &World) -> Result<()> {
    let outside = Outside::new()?;
    world.run(["true"]).output()?.success()?.stderr_is("")?;
    let _firewall = Firewall::new()?;
    let ping = ["ping", "-c", "1", "-W", "2", &outside.far().to_string()];
    let try_it = || world.run_with(&["--cap-add", "NET_RAW"], ping).output();
    let said = try_it()?
        .code(1)?
        .stderr_has("chain FORWARD of table ip others")?;
    world
        .run_with(&["--network", "none"], ["true"])
        .output()?
        .success()?
        .stderr_is("")?;
    // What it says is what helps.
    let said = said.stderr_text();
    let advice = said.split("through: ").nth(1).context("no advice")?;
    for command in advice.trim().split("; ") {
        let rule = command.strip_prefix("nft ").context("no rule")?;
        tool("nft", [rule])?;
    }
    try_it()?.success()?.stderr_is("")?;
    Ok(())
}

fn the_world_outside_is_reached_from_the_machines_address(world: &World) -> Result<()> {
    let outside = Outside::new()?;
    let server =
        outside.run("mkdir -p /tmp/none; exec busybox httpd -f -vv -p 8080 -h /tmp/none 2>&1");
    let mut server = server.spawn()?;
    let url = format!("http://{}:8080/", outside.far());
    let said = eventually(world.patience(10), "the server answers", || {
        let got = world.run(["wget", "-q", "-O", "-", &url]).output()?;
        // There is no page, but there is a server.
        let said = String::from_utf8_lossy(&got.stderr).into_owned();
        Ok(said.contains("404").then_some(said))
    })?;
    ensure!(said.contains("404"), "{said}");
    // It saw the machine, and never a container.
    server.wait_for(&format!("{}", outside.near()))?;
    // Nobody outside gets at what is not published, though the way is known.
    let victim = web(world, &[])?;
    let route = format!("ip route add 172.20.0.0/24 via {}", outside.near());
    outside.run(&route).output()?.success()?;
    let get = format!("busybox wget -q -T 3 -O - http://{}/", address(&victim)?);
    let got = outside.run(&get).output()?;
    ensure!(!got.is_success(), "an unpublished port was reached");
    Ok(())
}
