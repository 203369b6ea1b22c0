//! Networks with IPv6.

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::eventually;
use isolazi_tests::{Case, World};

use super::{Network, fetch, idle, look_up};

pub(crate) fn all() -> Vec<Case> {
    super::super::cases! {
        Both: [
            a_network_can_have_ipv6,
            nobody_takes_anothers_ipv6_address,
        ],
    }
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
