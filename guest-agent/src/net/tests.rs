//! Networks for real, in network namespaces of the tests' own.

use std::net::Ipv4Addr;

use isolazi_protocol::Endpoint;
use nix::sched::{CloneFlags, unshare};

use super::nft::{self, Station};
use super::*;

/// Runs `test` on a thread in a new network namespace with a loopback interface,
/// which is a machine of its own as far as networks go. Needs root.
fn on_a_machine<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> Option<T> {
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
        address,
        prefix: network.subnet.prefix(),
        gateway: network.gateway,
        mac: subnet::mac_of(address),
    }
}

#[test]
fn rules_are_made_again_and_again() {
    on_a_machine(async || {
        let network = Network::default_bridge();
        let endpoint = endpoint(&network, Ipv4Addr::new(172, 20, 0, 2));
        let station = Station::new(&endpoint, &[]);
        for _ in 0..3 {
            nft::admit(&network, &station).unwrap();
        }
        nft::dismiss(&station).unwrap();
        nft::dismiss(&station).unwrap();
    });
}
