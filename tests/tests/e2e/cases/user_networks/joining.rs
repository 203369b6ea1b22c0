//! Networks that come and go.

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, World};

use super::super::networks::web;
use super::{Network, address_in, fetch, idle, look_up};

pub(crate) fn all() -> Vec<Case> {
    super::super::cases! {
        Both: [
            a_container_joins_and_leaves_networks,
            a_stopped_container_joins_and_leaves_networks,
            ports_follow_the_networks,
            users_of_their_own_join_networks,
        ],
        VmAlone: [
            an_agent_may_end_while_containers_join,
        ],
    }
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

fn an_agent_may_end_while_containers_join(world: &World) -> Result<()> {
    let network = Network::new(world, &[])?;
    let containers: Vec<_> = (0..6).map(|_| world.container()).collect();
    let mut starting = Vec::new();
    for container in &containers {
        let run = [
            "run",
            "-d",
            "--network",
            &network.name,
            "--name",
            container.name(),
        ];
        let run = world
            .isolazi(run)
            .args([&world.busybox()])
            .args(["sleep", "1000"]);
        starting.push(run.spawn()?);
    }
    let restart = world.isolazi(["vm", "restart", "--agent"]);
    restart.timeout(world.patience(60)).output()?.success()?;
    for run in starting {
        // Those that the agent was busy with fail, the others run.
        run.wait()?;
    }
    // Whatever became of them: what runs is found, and everything can be taken away.
    let client = idle(&network, &[])?;
    for container in &containers {
        let described = container.inspect();
        let runs = described.is_ok_and(|it| it["State"]["Status"] == "running");
        let found = look_up(&client, container.name())?;
        same(container.name(), &!found.is_empty(), &runs)?;
        if runs {
            same("address", &found[0], &address_in(container, &network)?)?;
        }
        world.isolazi(["rm", "-f", container.name()]).output()?;
    }
    drop(client);
    eventually(world.patience(20), "the network is nobody's", || {
        let rm = world.isolazi(["network", "rm", &network.name]).output()?;
        Ok(rm.is_success().then_some(()))
    })
}
