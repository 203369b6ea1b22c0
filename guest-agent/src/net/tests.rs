//! Networks for real, in network namespaces of the tests' own.

use std::net::Ipv4Addr;

use isolazi_protocol::{Endpoint, Ipv6Endpoint};
use nix::sched::{CloneFlags, unshare};

use super::nft::{self, Station};
use super::*;

/// Runs `test` on a thread in a new network namespace with a loopback interface,
/// which is a machine of its own as far as networks go. Needs root.
pub(super) fn on_a_machine<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: networks need root");
        return None;
    }
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            crate::sys::loopback::bring_up().unwrap();
            test().await
        })
    };
    Some(std::thread::scope(|scope| scope.spawn(run).join().unwrap()))
}

fn endpoint(network: &Network, address: Ipv4Addr) -> Endpoint {
    Endpoint {
        network: network.name.clone(),
        interface: "eth0".to_owned(),
        address,
        prefix: network.subnet.prefix_len(),
        gateway: network.gateway,
        internal: network.internal,
        mac: naming::mac_of(address),
        aliases: Vec::new(),
        ipv6: network.ipv6.map(|range| Ipv6Endpoint {
            address: naming::ipv6_of(range, address),
            prefix: range.prefix_len(),
            gateway: naming::ipv6_of(range, network.gateway),
        }),
    }
}

fn dual() -> Network {
    Network {
        ipv6: Some("fd00:1:2::/64".parse().unwrap()),
        internal: true,
        ..Network::default_bridge()
    }
}

#[test]
fn rules_are_made_again_and_again() {
    for network in [Network::default_bridge(), dual()] {
        on_a_machine(async || {
            let endpoint = endpoint(&network, Ipv4Addr::new(172, 20, 0, 2));
            let station = Station::new(&endpoint, &[]);
            for _ in 0..3 {
                nft::admit(&[(&network, station.clone())]).unwrap();
            }
            nft::dismiss(&station).unwrap();
            nft::dismiss(&station).unwrap();
            nft::forget(&network).unwrap();
            nft::forget(&network).unwrap();
            nft::remove_all().unwrap();
            nft::remove_all().unwrap();
        });
    }
}

#[test]
fn names_are_asked_for_at_a_port_of_their_own() {
    on_a_machine(async || {
        let namespace = NetNamespace::create().unwrap();
        names::Sockets::open(&namespace).unwrap();
        // A restarted container has the same namespace, a later network another server.
        names::Sockets::open(&namespace).unwrap();
    });
}
