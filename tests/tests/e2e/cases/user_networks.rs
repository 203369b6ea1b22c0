//! Networks of the user's: who is in them, who finds whom, and who does not.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, Container, Output, World};
use serde_json::{Value, json};

use super::networks::{address, web};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            containers_find_each_other_by_name,
            names_follow_containers,
            a_name_server_leaves_its_port_to_the_container,
            networks_are_apart,
            an_internal_network_has_no_way_out,
            a_container_joins_and_leaves_networks,
            a_stopped_container_joins_and_leaves_networks,
            networks_are_described,
            ports_follow_the_networks,
            what_makes_no_sense_of_networks_is_refused,
            a_network_in_use_stays,
            a_network_can_have_ipv6,
            nobody_takes_anothers_ipv6_address,
            users_of_their_own_join_networks,
        ],
        NativeAlone: [
            a_cleaning_leaves_nothing,
            other_names_are_the_hosts_business,
        ],
        VmAlone: [
            names_of_a_machine_are_the_hosts_business,
        ],
    }
}

/// A network, which is removed when the value is dropped.
struct Network<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Network<'a> {
    fn new(world: &'a World, options: &[&str]) -> Result<Self> {
        // Networks have names as containers do, so one of those is free.
        let network = Self {
            name: world.container().name().replace('-', "_"),
            world,
        };
        let create = world.isolazi(["network", "create"]).args(options);
        create.args([&network.name]).output()?.success()?;
        Ok(network)
    }

    fn inspect(&self) -> Result<Value> {
        let output = self.world.isolazi(["network", "inspect", &self.name]);
        let mut described = output.output()?.success()?.json()?;
        Ok(described[0].take())
    }

    fn connect(&self, options: &[&str], container: &Container<'_>) -> Result<Output> {
        let connect = self.world.isolazi(["network", "connect"]).args(options);
        connect.args([&self.name, container.name()]).output()
    }

    fn disconnect(&self, container: &Container<'_>) -> Result<Output> {
        let disconnect = ["network", "disconnect", &self.name, container.name()];
        self.world.isolazi(disconnect).output()
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        drop(
            self.world
                .isolazi(["network", "rm", "-f", &self.name])
                .output(),
        );
    }
}

/// One that does nothing, in a network.
fn idle<'a>(network: &Network<'a>, options: &[&str]) -> Result<Container<'a>> {
    let all = [&["--network", network.name.as_str()], options].concat();
    network.world.start(&all, &["sleep", "1000"])
}

/// The addresses that a container finds for a name.
fn look_up(container: &Container<'_>, name: &str) -> Result<Vec<String>> {
    let output = container.exec(&[], &["nslookup", name]).output()?;
    let said = output.stdout_text();
    let answers = said.split_once("\n\n").map(|(_, answers)| answers);
    let lines = answers.unwrap_or_default().lines();
    let addresses = lines.filter_map(|line| line.strip_prefix("Address: "));
    let mut addresses: Vec<String> = addresses.map(str::to_owned).collect();
    addresses.sort();
    Ok(addresses)
}

/// What a container gets from the web server of another.
fn fetch(container: &Container<'_>, host: &str) -> Result<Output> {
    let url = format!("http://{host}/");
    let get = ["timeout", "5", "wget", "-q", "-O", "-", &url];
    container.exec(&[], &get).output()
}

/// The container's address in a network, as `inspect` tells it.
fn address_in(container: &Container<'_>, network: &Network<'_>) -> Result<String> {
    let described = container.inspect()?;
    let endpoint = &described["NetworkSettings"]["Networks"][&network.name];
    let address = endpoint["IPAddress"].as_str();
    Ok(address.context("not in the network")?.to_owned())
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

fn networks_are_apart(world: &World) -> Result<()> {
    let (front, back) = (Network::new(world, &[])?, Network::new(world, &[])?);
    let server = web(world, &["--network", &front.name])?;
    let server_address = address_in(&server, &front)?;
    let neighbour = idle(&front, &[])?;
    fetch(&neighbour, &server_address)?.success()?;
    let default = world.start(&[], &["sleep", "1000"])?;
    for outsider in [&idle(&back, &[])?, &default] {
        let got = fetch(outsider, &server_address)?;
        ensure!(!got.is_success(), "{} reached it", outsider.name());
    }
    // And none of them reaches the default network.
    let open = web(world, &[])?;
    let got = fetch(&neighbour, &address(&open)?.to_string())?;
    ensure!(!got.is_success(), "the default network was reached");
    Ok(())
}

fn an_internal_network_has_no_way_out(world: &World) -> Result<()> {
    let network = Network::new(world, &["--internal"])?;
    let server = web(world, &["--network", &network.name])?;
    let client = idle(&network, &[])?;
    fetch(&client, server.name())?.success()?;
    let route = client.exec(&[], &["ip", "route"]).output()?.success()?;
    route.stdout_lacks("default")?;
    // Not even for those who make themselves a route.
    let gateway = network.inspect()?["IPAM"]["Config"][0]["Gateway"].clone();
    let gateway = gateway.as_str().context("no gateway")?.to_owned();
    let open = web(world, &[])?;
    let script = format!(
        "ip route add default via {gateway} && timeout 5 wget -q -O - http://{}/",
        address(&open)?
    );
    let daring = idle(&network, &["--cap-add", "NET_ADMIN"])?;
    let tried = daring.exec(&[], &["sh", "-c", &script]).output()?;
    ensure!(!tried.is_success(), "it got out: {tried:?}");
    let published = world.run_with(&["--network", &network.name, "-p", "80"], ["true"]);
    published.output()?.fails_with(125, "is internal")?;
    // With a second network there is a way.
    let both = ["--network", network.name.as_str(), "--network", "bridge"];
    let route = world.run_with(&both, ["ip", "route"]).output()?.success()?;
    route.stdout_has("default via 172.20.0.1 dev eth1")?;
    Ok(())
}

fn a_container_joins_and_leaves_networks(world: &World) -> Result<()> {
    let (front, back) = (Network::new(world, &[])?, Network::new(world, &[])?);
    let server = web(world, &["--network", &back.name])?;
    let client = idle(&front, &[])?;
    ensure!(
        look_up(&client, server.name())?.is_empty(),
        "found too early"
    );
    back.connect(&["--alias", "me"], &client)?.success()?;
    fetch(&client, server.name())?.success()?;
    same(
        "alias",
        &look_up(&server, "me")?,
        &vec![address_in(&client, &back)?],
    )?;
    back.connect(&[], &client)?.fails_with(1, "is in network")?;
    let seen = client
        .exec(&[], &["ip", "-o", "addr", "show", "eth1"])
        .output()?;
    seen.success()?.stdout_has(&address_in(&client, &back)?)?;
    let hosts = client
        .exec(&[], &["cat", "/etc/hosts"])
        .output()?
        .success()?;
    hosts.stdout_has(&address_in(&client, &back)?)?;
    // It stays so over a restart.
    world
        .isolazi(["restart", "-t", "0", client.name()])
        .output()?
        .success()?;
    fetch(&client, server.name())?.success()?;
    // The way out moves along.
    front.disconnect(&client)?.success()?;
    let route = client.exec(&[], &["ip", "route"]).output()?.success()?;
    route.stdout_has("default via")?.stdout_has("dev eth1")?;
    back.disconnect(&client)?.success()?;
    let links = client.exec(&[], &["ls", "/sys/class/net"]).output()?;
    links.success()?.stdout_is("lo\n")?;
    back.disconnect(&client)?
        .fails_with(1, "is not in network")?;
    front.connect(&[], &client)?.success()?;
    client
        .exec(&[], &["ip", "link", "show", "eth0"])
        .output()?
        .success()?;
    Ok(())
}

fn a_stopped_container_joins_and_leaves_networks(world: &World) -> Result<()> {
    let (front, back) = (Network::new(world, &[])?, Network::new(world, &[])?);
    let container = world.container();
    let create = [
        "create",
        "--network",
        &front.name,
        "--name",
        container.name(),
    ];
    let create = world.isolazi(create).args([&world.busybox()]);
    create.args(["sleep", "1000"]).output()?.success()?;
    back.connect(&[], &container)?.success()?;
    front.disconnect(&container)?.success()?;
    world
        .isolazi(["start", container.name()])
        .output()?
        .success()?;
    let described = container.inspect()?;
    let networks = described["NetworkSettings"]["Networks"].as_object();
    let networks: Vec<_> = networks.context("no networks")?.keys().cloned().collect();
    same("networks", &networks, &vec![back.name.clone()])?;
    // Of a network that is gone nothing can be had.
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    world
        .isolazi(["network", "rm", &back.name])
        .output()?
        .success()?;
    let start = world.isolazi(["start", container.name()]).output()?;
    start.fails_with(1, "is gone")?;
    back.disconnect(&container)?.success()?;
    front.connect(&[], &container)?.success()?;
    world
        .isolazi(["start", container.name()])
        .output()?
        .success()?;
    Ok(())
}

fn networks_are_described(world: &World) -> Result<()> {
    let options = [
        "--label",
        "a=b",
        "--subnet",
        "10.77.7.0/24",
        "--gateway",
        "10.77.7.9",
    ];
    let network = Network::new(world, &options)?;
    let container = idle(&network, &["--network-alias", "x1", "--ip", "10.77.7.77"])?;
    let described = network.inspect()?;
    for (path, value) in [
        ("/Name", json!(network.name)),
        ("/Driver", json!("bridge")),
        ("/Internal", json!(false)),
        ("/EnableIPv6", json!(false)),
        ("/Labels/a", json!("b")),
        ("/IPAM/Config/0/Subnet", json!("10.77.7.0/24")),
        ("/IPAM/Config/0/Gateway", json!("10.77.7.9")),
    ] {
        same(path, &described.pointer(path), &Some(&value))?;
    }
    let id = container.inspect()?["Id"]
        .as_str()
        .context("no id")?
        .to_owned();
    let member = &described["Containers"][&id];
    same("member", &member["Name"], &json!(container.name()))?;
    same("address", &member["IPv4Address"], &json!("10.77.7.77/24"))?;
    let own = container.inspect()?;
    same(
        "mode",
        &own["HostConfig"]["NetworkMode"],
        &json!(network.name),
    )?;
    let endpoint = &own["NetworkSettings"]["Networks"][&network.name];
    same("aliases", &endpoint["Aliases"], &json!(["x1"]))?;
    same("gateway", &endpoint["Gateway"], &json!("10.77.7.9"))?;
    let names = [container.name(), &id[..12], "x1"];
    same("names", &endpoint["DNSNames"], &json!(names))?;
    let ls = |options: &[&str]| world.isolazi(["network", "ls"]).args(options).output();
    let listed = ls(&[])?.success()?;
    let listed = listed.stdout_has(&network.name)?.stdout_has("NETWORK ID")?;
    listed.stdout_has("host")?.stdout_has("null")?;
    let by_label = ls(&["--filter", "label=a=b", "--format", "{{.Name}} {{.Driver}}"])?;
    by_label
        .success()?
        .stdout_has(&format!("{} bridge\n", network.name))?;
    ls(&["--filter", "type=builtin"])?
        .success()?
        .stdout_lacks(&network.name)?;
    let id = described["Id"].as_str().context("no id")?;
    let by_id = world.isolazi(["network", "inspect", "-f", "{{.Name}}", &id[..12]]);
    by_id
        .output()?
        .success()?
        .stdout_is(&format!("{}\n", network.name))?;
    let ps = [
        "ps",
        "--filter",
        &format!("network={}", network.name),
        "--format",
        "{{.Networks}}",
    ];
    world
        .isolazi(ps)
        .output()?
        .success()?
        .stdout_is(&format!("{}\n", network.name))?;
    let events = world.isolazi(["events", "--since", "1h", "--until", "0s"]);
    let events = events.args(["--filter", &format!("network={}", network.name)]);
    events.output()?.success()?.stdout_has("network create")?;
    Ok(())
}

fn ports_follow_the_networks(world: &World) -> Result<()> {
    let (front, back) = (
        Network::new(world, &[])?,
        Network::new(world, &["--internal"])?,
    );
    let options = [
        "--network",
        &front.name,
        "--network",
        &back.name,
        "-p",
        "127.0.0.1::80",
    ];
    let server = web(world, &options)?;
    let port = world
        .isolazi(["port", server.name(), "80"])
        .output()?
        .success()?;
    let url = format!("http://{}/", port.stdout_text().trim());
    let get = || isolazi_tests::command::tool("busybox", ["wget", "-q", "-O", "-", &url]);
    let before = get()?;
    let other = Network::new(world, &[])?;
    other.connect(&[], &server)?.success()?;
    front.disconnect(&server)?.success()?;
    same("from another network", &get()?, &before)?;
    other.disconnect(&server)?.success()?;
    ensure!(get().is_err(), "reached through an internal network");
    front.connect(&[], &server)?.success()?;
    same("back again", &get()?, &before)
}

fn what_makes_no_sense_of_networks_is_refused(world: &World) -> Result<()> {
    let network = Network::new(world, &["--subnet", "10.78.0.0/24"])?;
    let create = |args: &[&str]| world.isolazi(["network", "create"]).args(args).output();
    for (args, text) in [
        (&[network.name.as_str()][..], "exists already"),
        (&["bridge"], "is always there"),
        (&["none"], "is always there"),
        (&["a/b"], "is not a network name"),
        (
            &["--subnet", "10.78.0.128/25", "xx"],
            "overlaps with network",
        ),
        (
            &["--subnet", "172.20.0.0/16", "xx"],
            "overlaps with network bridge",
        ),
        (&["--subnet", "10.79.0.1/24", "xx"], "behind the prefix"),
        (&["--subnet", "10.79.0.0/31", "xx"], "from 8 to 30"),
        (&["--subnet", "127.1.0.0/24", "xx"], "for something else"),
        (
            &["--subnet", "10.79.0.0/24", "--gateway", "10.80.0.1", "xx"],
            "cannot be the gateway",
        ),
        (&["--ipv6", "--subnet", "fd00::/112", "xx"], "from 16 to 96"),
        (
            &["--subnet", "10.79.0.0/24", "--subnet", "10.80.0.0/24", "xx"],
            "one too many",
        ),
    ] {
        create(args)?
            .fails_with(1, text)
            .with_context(|| format!("{args:?}"))?;
    }
    for args in [&["--subnet", "x", "xx"][..], &["-d", "overlay", "xx"], &[]] {
        create(args)?.code(2).with_context(|| format!("{args:?}"))?;
    }
    let run = |options: &[&str]| {
        let container = world.container();
        let named = [&["--name", container.name()], options].concat();
        world.run_with(&named, ["true"]).output()
    };
    for (options, text) in [
        (&["--network", "nowhere"][..], "no such network: nowhere"),
        (
            &["--network", &network.name, "--ip", "10.77.0.1"],
            "no address for a container",
        ),
        (&["--network-alias", "x"], "has no names"),
        (
            &["--network", &network.name, "--network-alias", "a b"],
            "is no name",
        ),
        (
            &["--network", &network.name, "--network", &network.name],
            "named twice",
        ),
        (
            &["--network", &network.name, "--network", "host"],
            "is not a network to join",
        ),
    ] {
        run(options)?
            .fails_with(125, text)
            .with_context(|| format!("{options:?}"))?;
    }
    let alone = world.start(&["--network", "none"], &["sleep", "1000"])?;
    network
        .connect(&[], &alone)?
        .fails_with(1, "beside which there is no other")?;
    let verbs = [
        ["connect", "nowhere"],
        ["connect", "host"],
        ["disconnect", "nowhere"],
    ];
    for [verb, name] in verbs {
        let output = world
            .isolazi(["network", verb, name, alone.name()])
            .output()?;
        ensure!(output.exit_code() == Some(1), "{verb} {name}");
        output.has_one_complaint()?;
    }
    for verb in ["rm", "inspect"] {
        let output = world.isolazi(["network", verb, "nowhere"]).output()?;
        output.fails_with(1, "no such network: nowhere")?;
    }
    world
        .isolazi(["network", "rm", "-f", "nowhere"])
        .output()?
        .success()?;
    world
        .isolazi(["network", "rm", "bridge"])
        .output()?
        .fails_with(1, "is always there")?;
    Ok(())
}

fn a_network_in_use_stays(world: &World) -> Result<()> {
    let network = Network::new(world, &[])?;
    let container = idle(&network, &[])?;
    let rm = || world.isolazi(["network", "rm", &network.name]).output();
    rm()?.fails_with(1, &format!("is in use by container {}", container.name()))?;
    world
        .isolazi(["rm", "-f", container.name()])
        .output()?
        .success()?;
    rm()?.success()?;
    let run = world.run_with(&["--network", &network.name], ["true"]);
    run.output()?.fails_with(125, "no such network")?;
    Ok(())
}

fn a_network_can_have_ipv6(world: &World) -> Result<()> {
    let network = Network::new(world, &["--ipv6"])?;
    let server = world.start(
        &["--network", &network.name],
        &[
            "sh",
            "-c",
            "mkdir /www; echo six >/www/index.html; exec httpd -f -p [::]:80 -h /www",
        ],
    )?;
    let client = idle(&network, &[])?;
    let described = server.inspect()?;
    let endpoint = &described["NetworkSettings"]["Networks"][&network.name];
    let six = endpoint["GlobalIPv6Address"]
        .as_str()
        .context("no IPv6 address")?;
    ensure!(six.starts_with("fd"), "{six} is not local");
    let found = look_up(&client, server.name())?;
    ensure!(
        found.iter().any(|it| it == six),
        "{six} is not among {found:?}"
    );
    eventually(world.patience(10), "the server answers by IPv6", || {
        let got = fetch(&client, &format!("[{six}]"))?;
        Ok((got.is_success() && got.stdout_text() == "six\n").then_some(()))
    })?;
    let gateway = endpoint["IPv6Gateway"].as_str().context("no gateway")?;
    ensure!(gateway.starts_with("fd"), "{gateway}");
    // Networks are apart by IPv6, too.
    let other = Network::new(world, &["--subnet", "fd00:7:7::/64"])?;
    let stranger = idle(&other, &[])?;
    let got = fetch(&stranger, &format!("[{six}]"))?;
    ensure!(!got.is_success(), "reached from another network");
    let own = stranger
        .exec(&[], &["ip", "-o", "-6", "addr", "show", "eth0"])
        .output()?;
    own.success()?.stdout_has("inet6 fd00:7:7::")?;
    Ok(())
}

fn nobody_takes_anothers_ipv6_address(world: &World) -> Result<()> {
    let network = Network::new(world, &["--ipv6"])?;
    let script = "mkdir /www; echo six >/www/index.html; exec httpd -f -p [::]:80 -h /www";
    let victim = world.start(&["--network", &network.name], &["sh", "-c", script])?;
    let client = idle(&network, &[])?;
    let attacker = idle(
        &network,
        &["--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"],
    )?;
    let described = victim.inspect()?;
    let endpoint = &described["NetworkSettings"]["Networks"][&network.name];
    let six = endpoint["GlobalIPv6Address"]
        .as_str()
        .context("no IPv6 address")?;
    // After two seconds it takes the address for its own, as nobody has told it better.
    let take = format!("ip -6 addr add {six}/64 dev eth0; sleep 2; ip -6 addr show dev eth0");
    attacker
        .exec(&[], &["sh", "-c", &take])
        .output()?
        .success()?
        .stdout_has(six)?;
    for _ in 0..3 {
        let flush = "ip -6 neigh flush dev eth0";
        client.exec(&[], &["sh", "-c", flush]).output()?;
        eventually(world.patience(10), "the owner answers", || {
            let got = fetch(&client, &format!("[{six}]"))?;
            Ok((got.is_success() && got.stdout_text() == "six\n").then_some(()))
        })?;
    }
    // What it sends from there goes nowhere.
    let client_six =
        client.inspect()?["NetworkSettings"]["Networks"][&network.name]["GlobalIPv6Address"]
            .clone();
    let client_six = client_six.as_str().context("no IPv6 address")?;
    let ping = |from: &str| {
        let ping = ["ping", "-6", "-c", "1", "-W", "2", "-I", from, client_six];
        attacker.exec(&[], &ping).output()
    };
    ensure!(!ping(six)?.is_success(), "another's address was used");
    let own =
        attacker.inspect()?["NetworkSettings"]["Networks"][&network.name]["GlobalIPv6Address"]
            .clone();
    ping(own.as_str().context("no IPv6 address")?)?.success()?;
    Ok(())
}

fn users_of_their_own_join_networks(world: &World) -> Result<()> {
    let network = Network::new(world, &[])?;
    let server = web(world, &["--network", &network.name, "--userns", "auto"])?;
    let client = idle(&network, &["--userns", "auto"])?;
    fetch(&client, server.name())?.success()?;
    let other = Network::new(world, &[])?;
    other.connect(&[], &client)?.success()?;
    client
        .exec(&[], &["ip", "link", "show", "eth1"])
        .output()?
        .success()?;
    Ok(())
}

fn a_cleaning_leaves_nothing(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    let links = || -> Result<Vec<String>> {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let names = table.lines().filter_map(|line| line.split_once(':'));
        let names = names.map(|(name, _)| name.trim().to_owned());
        Ok(names
            .filter(|name| name.starts_with("iz") || name == "isolazi0")
            .collect())
    };
    let rules = || isolazi_tests::command::tool("nft", ["list", "ruleset"]);
    let used = Network::new(&own, &[])?;
    let unused = Network::new(&own, &["--ipv6"])?;
    own.run_with(&["--network", &unused.name], ["true"])
        .output()?
        .success()?;
    own.run(["true"]).output()?.success()?;
    let container = idle(&used, &[])?;
    ensure!(links()?.len() >= 4, "{:?}", links()?);
    let prune = || own.isolazi(["network", "prune", "-f"]).output();
    let first = prune()?.success()?.stdout_has(&unused.name)?;
    first.stdout_lacks(&used.name)?;
    fetch(&container, "127.0.0.1").map(drop)?;
    // One that does not run keeps its network, but nothing on the machine.
    own.isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    prune()?.success()?.stdout_is("")?;
    same("links", &links()?, &Vec::new())?;
    ensure!(!rules()?.contains("isolazi"), "{}", rules()?);
    own.isolazi(["start", container.name()])
        .output()?
        .success()?;
    own.isolazi(["rm", "-f", container.name()])
        .output()?
        .success()?;
    prune()?.success()?.stdout_has(&used.name)?;
    same("links", &links()?, &Vec::new())
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
