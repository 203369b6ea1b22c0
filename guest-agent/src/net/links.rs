//! Links, addresses and routes: rtnetlink(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use futures_util::TryStreamExt;
use isolazi_protocol::MacAddress;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use tokio::task::JoinHandle;

use super::namespace::NetNamespace;

/// A conversation with the kernel about the links of one network namespace.
#[derive(Debug)]
pub(crate) struct Links {
    handle: Handle,
    conversation: JoinHandle<()>,
}

/// A link that was found.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) is_up: bool,
    pub(crate) is_bridge: bool,
}

impl Links {
    /// Those of the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self {
            handle,
            conversation: tokio::spawn(connection),
        })
    }

    /// Those of `namespace`.
    pub(super) fn within(namespace: &NetNamespace) -> io::Result<Self> {
        namespace.within(Self::open)?
    }

    /// The link of this name, if there is one.
    pub(crate) async fn find(&self, name: &str) -> io::Result<Option<Link>> {
        let mut found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match found.try_next().await.map_err(to_io) {
            Ok(link) => Ok(link.map(|link| Link {
                index: link.header.index,
                is_up: link.header.flags.contains(LinkFlags::Up),
                is_bridge: is_bridge(&link),
            })),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a bridge, which is down.
    ///
    /// # Errors
    /// `AlreadyExists` where there is any link of that name.
    pub(super) async fn add_bridge(&self, name: &str, mac: MacAddress) -> io::Result<()> {
        let bridge = LinkBridge::new(name)
            // A bridge without an address of its own takes that of some port, and
            // another one when the port goes.
            .address(mac.0.to_vec())
            .mcast_snooping(false);
        self.add(bridge.build()).await
    }

    /// Makes a cable: `name` here, up and in the bridge, and the other end in a
    /// namespace.
    ///
    /// # Errors
    /// `AlreadyExists` where there is any link of that name here.
    pub(super) async fn add_cable(
        &self,
        name: &str,
        bridge: u32,
        inside: &CableEnd<'_>,
    ) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(inside.interface.to_owned()),
            LinkAttribute::Address(inside.mac.0.to_vec()),
            LinkAttribute::NetNsFd(inside.namespace.as_fd().as_raw_fd()),
        ];
        let cable = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.to_owned())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(bridge)
            .up();
        self.add(cable.build()).await
    }

    /// Puts a link into a bridge.
    pub(super) async fn plug_in(&self, link: u32, bridge: u32) -> io::Result<()> {
        let change = LinkUnspec::new_with_index(link).controller(bridge).up();
        self.change(change.build()).await
    }

    /// Lets what comes from a bridge's port go back there: what a container sends to
    /// its own published port, where the kernel redirects on bridges (br_netfilter).
    pub(super) async fn reflect(&self, link: u32) -> io::Result<()> {
        let change = LinkBridgePort::new(link).hairpin(true);
        let request = self.handle.link().set_port(change.build());
        request.execute().await.map_err(to_io)
    }

    pub(crate) async fn bring_up(&self, link: u32) -> io::Result<()> {
        let change = LinkUnspec::new_with_index(link).up();
        self.change(change.build()).await
    }

    pub(super) async fn remove(&self, link: u32) -> io::Result<()> {
        self.handle.link().del(link).execute().await.map_err(to_io)
    }

    /// Gives a link an address. That it has it already is fine.
    pub(crate) async fn add_address(
        &self,
        link: u32,
        address: impl Into<IpAddr>,
        prefix: u8,
    ) -> io::Result<()> {
        let address = address.into();
        let mut request = self.handle.address().add(link, address, prefix);
        if address.is_ipv6() {
            // Nobody else has it, so there is no need to ask around first (RFC 4862, 5.4).
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match request.execute().await.map_err(to_io) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// Sends what is for elsewhere to `gateway`. That there is such a route is fine.
    pub(crate) async fn add_default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway);
        self.add_route(route.build()).await
    }

    /// The same by IPv6.
    pub(super) async fn add_default_ipv6_route(&self, gateway: Ipv6Addr) -> io::Result<()> {
        let route = RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway);
        self.add_route(route.build()).await
    }

    async fn add_route(&self, route: RouteMessage) -> io::Result<()> {
        match self
            .handle
            .route()
            .add(route)
            .execute()
            .await
            .map_err(to_io)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    async fn add(&self, link: LinkMessage) -> io::Result<()> {
        let request = self.handle.link().add(link);
        request.execute().await.map_err(to_io)
    }

    async fn change(&self, link: LinkMessage) -> io::Result<()> {
        let request = self.handle.link().set(link);
        request.execute().await.map_err(to_io)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.conversation.abort();
    }
}

/// A container's end of a cable.
pub(super) struct CableEnd<'a> {
    pub(super) namespace: &'a NetNamespace,
    pub(super) interface: &'a str,
    pub(super) mac: MacAddress,
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos
            .iter()
            .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge))),
        _ => false,
    })
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
