//! Networks of the user's: who is in them, who finds whom, and who does not.

pub(super) mod ipv6;
pub(super) mod joining;
pub(super) mod names;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, Container, Output, World};
use serde_json::{Value, json};

use super::networks::{address, web};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            networks_are_apart,
            an_internal_network_has_no_way_out,
            networks_are_described,
            what_makes_no_sense_of_networks_is_refused,
            a_network_in_use_stays,
        ],
        NativeAlone: [
            a_cleaning_leaves_nothing,
        ],
    }
}

/// A network, which is removed when the value is dropped.
pub(crate) struct Network<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Network<'a> {
    pub(crate) fn new(world: &'a World, options: &[&str]) -> Result<Self> {
        // Networks have names as containers do, so one of those is free.
        let network = Self {
            name: world.container().name().replace('-', "_"),
            world,
        };
        let create = world.isolazi(["network", "create"]).args(options);
        create.args([&network.name]).output()?.success()?;
        Ok(network)
    }

    pub(crate) fn inspect(&self) -> Result<Value> {
        let output = self.world.isolazi(["network", "inspect", &self.name]);
        let mut described = output.output()?.success()?.json()?;
        Ok(described[0].take())
    }

    pub(crate) fn connect(&self, options: &[&str], container: &Container<'_>) -> Result<Output> {
        let connect = self.world.isolazi(["network", "connect"]).args(options);
        connect.args([&self.name, container.name()]).output()
    }

    pub(crate) fn disconnect(&self, container: &Container<'_>) -> Result<Output> {
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
pub(crate) fn idle<'a>(network: &Network<'a>, options: &[&str]) -> Result<Container<'a>> {
    let all = [&["--network", network.name.as_str()], options].concat();
    network.world.start(&all, &["sleep", "1000"])
}

/// The addresses that a container finds for a name.
pub(crate) fn look_up(container: &Container<'_>, name: &str) -> Result<Vec<String>> {
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
pub(crate) fn fetch(container: &Container<'_>, host: &str) -> Result<Output> {
    let url = format!("http://{host}/");
    let get = ["timeout", "5", "wget", "-q", "-O", "-", &url];
    container.exec(&[], &get).output()
}

/// The container's address in a network, as `inspect` tells it.
pub(crate) fn address_in(container: &Container<'_>, network: &Network<'_>) -> Result<String> {
    let described = container.inspect()?;
    let endpoint = &described["NetworkSettings"]["Networks"][&network.name];
    let address = endpoint["IPAddress"].as_str();
    Ok(address.context("not in the network")?.to_owned())
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
