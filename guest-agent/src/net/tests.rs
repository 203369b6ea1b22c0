//! Networks for real, in network namespaces of the tests' own.

use std::net::Ipv4Addr;

use nix::sched::{CloneFlags, unshare};

use super::links::{LOOPBACK, Links};
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
            Links::open().unwrap().bring_up(LOOPBACK).await.unwrap();
            test().await
        })
    };
    Some(std::thread::scope(|scope| scope.spawn(run).join().unwrap()))
}

fn station(address: Ipv4Addr, link: &str) -> Station<'_> {
    Station {
        link,
        mac: subnet::mac_of(address),
        address,
        ports: &[],
    }
}

#[test]
fn rules_are_made_again_and_again() {
    on_a_machine(async || {
        let network = Network::default_bridge();
        let address = Ipv4Addr::new(172, 20, 0, 2);
        let link = subnet::link_of(address);
        for _ in 0..3 {
            nft::admit(&network, station(address, &link)).unwrap();
        }
        nft::dismiss(station(address, &link)).unwrap();
        nft::dismiss(station(address, &link)).unwrap();
    });
}
