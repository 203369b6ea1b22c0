//! All connections: which of them have something for the guest, and which of
//! them a packet of the guest's is for.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::net::UnixListener;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::{Connection, Readiness};
use crate::header::{HOST_CID, Header, STREAM, op};

/// Largest payload of a packet, in bytes; Linux sends no larger ones
/// (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE).
pub(crate) const MAX_PAYLOAD: usize = 64 << 10;
/// The event of the socket at which clients connect; connections' are their ports.
const LISTENER: u64 = u64::MAX;
/// Ports below are for privileged programs, by convention (vsock(7)).
const FIRST_PORT: u32 = 1024;
/// So many packets for connections that are not there await their refusals.
const MOST_REFUSALS: usize = 1024;

/// The guest's end of every connection.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    /// The guest's address.
    pub cid: u32,
    /// Where its program listens.
    pub port: u32,
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    /// It may have something to say, and has its place among the ready ones.
    in_line: bool,
}

/// See the module's description.
pub(crate) struct Muxer {
    destination: Destination,
    listener: UnixListener,
    epoll: Epoll,
    /// By the host's port.
    connections: HashMap<u32, Slot>,
    /// Ports of those in line, the next one first.
    ready: VecDeque<u32>,
    refusals: VecDeque<Header>,
    next_port: u32,
    /// Clients are let in; not while descriptors have run out.
    accepting: bool,
}

impl Muxer {
    /// Serves those who connect to `listener`.
    pub(crate) fn new(listener: UnixListener, destination: Destination) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            destination,
            listener,
            epoll,
            connections: HashMap::new(),
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
            next_port: FIRST_PORT,
            accepting: true,
        })
    }

    /// Readable whenever [`Muxer::attend`] has something to do.
    pub(crate) fn events(&self) -> &Epoll {
        &self.epoll
    }

    /// Takes note of all that has happened at the clients' sockets.
    pub(crate) fn attend(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in &events[..count] {
                match u32::try_from(event.data()) {
                    Ok(port) => self.stir(port, event.events()),
                    Err(_) => self.let_in()?,
                }
            }
            if count < events.len() {
                return Ok(());
            }
        }
    }

    /// Takes a packet of the guest's.
    pub(crate) fn receive(&mut self, header: &Header, payload: &[u8]) {
        let theirs = header.src_cid == u64::from(self.destination.cid)
            && header.src_port == self.destination.port;
        let to_us = header.dst_cid == HOST_CID && header.socket_type == STREAM;
        let port = header.dst_port;
        match self.connections.get_mut(&port) {
            Some(_) if theirs && to_us && header.op == op::RST => self.forget(port),
            Some(slot) if theirs && to_us => {
                slot.connection.receive(header, payload);
                slot.get_in_line(port, &mut self.ready);
            }
            // Nobody in the guest connects to the host.
            _ if header.op != op::RST && self.refusals.len() < MOST_REFUSALS => {
                self.refusals.push_back(refusal(header));
            }
            _ => {}
        }
    }

    /// Whether [`Muxer::transmit`] may have a packet.
    pub(crate) fn has_output(&self) -> bool {
        !self.ready.is_empty() || !self.refusals.is_empty()
    }

    /// The next packet for the guest, its payload at the start of `room`.
    pub(crate) fn transmit(&mut self, room: &mut [u8]) -> Option<Header> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(refusal);
        }
        while let Some(port) = self.ready.pop_front() {
            let Some(slot) = self.connections.get_mut(&port) else {
                continue;
            };
            slot.in_line = false;
            let Some(header) = slot.connection.transmit(room) else {
                continue;
            };
            match header.op {
                op::RST => self.forget(port),
                // Behind the others.
                _ => slot.get_in_line(port, &mut self.ready),
            }
            return Some(Header {
                src_cid: HOST_CID,
                src_port: port,
                dst_cid: u64::from(self.destination.cid),
                dst_port: self.destination.port,
                socket_type: STREAM,
                ..header
            });
        }
        None
    }

    fn stir(&mut self, port: u32, events: EpollFlags) {
        // It may have been forgotten since the event was read.
        let Some(slot) = self.connections.get_mut(&port) else {
            return;
        };
        let gone = events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        slot.connection.stir(Readiness {
            readable: gone || events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP),
            writable: gone || events.contains(EpollFlags::EPOLLOUT),
            gone,
        });
        slot.get_in_line(port, &mut self.ready);
    }

    /// Lets everybody in who waits.
    fn let_in(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // Descriptors or memory have run out; they wait until some are free.
                Err(_) => return self.accept_from_now(false),
            };
            stream.set_nonblocking(true)?;
            let port = self.free_port();
            let edges = EpollFlags::EPOLLET
                | EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP;
            self.epoll
                .add(&stream, EpollEvent::new(edges, u64::from(port)))?;
            let mut slot = Slot {
                connection: Connection::new(stream),
                in_line: false,
            };
            slot.get_in_line(port, &mut self.ready);
            self.connections.insert(port, slot);
        }
    }

    fn accept_from_now(&mut self, accepting: bool) -> io::Result<()> {
        if accepting != self.accepting {
            let events = match accepting {
                true => EpollFlags::EPOLLIN,
                false => EpollFlags::empty(),
            };
            self.epoll
                .modify(&self.listener, &mut EpollEvent::new(events, LISTENER))?;
            self.accepting = accepting;
        }
        Ok(())
    }

    fn free_port(&mut self) -> u32 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.connections.contains_key(&port) {
                return port;
            }
        }
    }

    /// Closes the client's stream.
    fn forget(&mut self, port: u32) {
        self.connections.remove(&port);
        // What cannot be let in now can be at the next one's end.
        let _ = self.accept_from_now(true);
    }
}

impl Slot {
    fn get_in_line(&mut self, port: u32, ready: &mut VecDeque<u32>) {
        if !std::mem::replace(&mut self.in_line, true) {
            ready.push_back(port);
        }
    }
}

/// The answer to a packet for a connection that is not there.
fn refusal(header: &Header) -> Header {
    Header {
        src_cid: header.dst_cid,
        src_port: header.dst_port,
        dst_cid: header.src_cid,
        dst_port: header.src_port,
        socket_type: header.socket_type,
        op: op::RST,
        ..Header::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;
    use crate::header::ends;

    const DESTINATION: Destination = Destination { cid: 3, port: 1024 };

    /// A muxer and a guest that does as Linux's driver does, as far as needed.
    struct Rig {
        muxer: Muxer,
        folder: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clients = UnixListener::bind(folder.path().join("s")).unwrap();
            let muxer = Muxer::new(clients, DESTINATION).unwrap();
            Self { muxer, folder }
        }

        fn client(&self) -> UnixStream {
            UnixStream::connect(self.folder.path().join("s")).unwrap()
        }

        fn say(&mut self, port: u32, op: u16, flags: u32, payload: &[u8]) {
            let header = Header {
                src_cid: 3,
                dst_cid: HOST_CID,
                src_port: 1024,
                dst_port: port,
                len: payload.len() as u32,
                socket_type: STREAM,
                op,
                flags,
                buf_alloc: 1 << 20,
                fwd_cnt: 0,
            };
            self.muxer.receive(&header, payload);
        }

        /// All that the guest is told now.
        fn told(&mut self) -> Vec<(Header, Vec<u8>)> {
            self.muxer.attend().unwrap();
            let mut told = Vec::new();
            let mut room = vec![0; MAX_PAYLOAD];
            while let Some(header) = self.muxer.transmit(&mut room) {
                told.push((header, room[..header.len as usize].to_vec()));
            }
            told
        }

        fn told_ops(&mut self) -> Vec<u16> {
            self.told().iter().map(|(header, _)| header.op).collect()
        }

        /// A client whose connection stands, and its port.
        fn connected(&mut self) -> (UnixStream, u32) {
            let client = self.client();
            let told = self.told();
            let (request, _) = told.last().unwrap();
            assert_eq!(request.op, op::REQUEST);
            let port = request.src_port;
            self.say(port, op::RESPONSE, 0, &[]);
            (client, port)
        }
    }

    #[test]
    fn connections_are_told_apart() {
        let mut rig = Rig::new();
        let (mut first, one) = rig.connected();
        let (mut second, two) = rig.connected();
        assert_ne!(one, two);
        second.write_all(b"from two").unwrap();
        let told = rig.told();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0.src_port, two);
        assert_eq!(told[0].1, b"from two");
        rig.say(one, op::RW, 0, b"to one");
        let mut answer = [0; 6];
        first.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"to one");
    }

    #[test]
    fn clients_that_leave_at_once_harm_nobody() {
        let mut rig = Rig::new();
        for _ in 0..100 {
            drop(rig.client());
        }
        let ports: Vec<u32> = rig.told().iter().map(|(head, _)| head.src_port).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            rig.say(port, op::RESPONSE, 0, &[]);
            assert_eq!(rig.told_ops(), [op::SHUTDOWN]);
            rig.say(port, op::SHUTDOWN, ends::BOTH, &[]);
            assert_eq!(rig.told_ops(), [op::RST]);
        }
        assert!(rig.muxer.connections.is_empty());
        let (mut client, port) = rig.connected();
        rig.say(port, op::RW, 0, b"still here");
        let mut answer = [0; 10];
        client.read_exact(&mut answer).unwrap();
    }

    #[test]
    fn a_guest_that_does_not_listen_closes_the_clients_stream() {
        let mut rig = Rig::new();
        let mut client = rig.client();
        let port = rig.told()[0].0.src_port;
        rig.say(port, op::RST, 0, &[]);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert!(rig.muxer.connections.is_empty());
    }

    #[test]
    fn connections_of_the_guests_own_are_refused() {
        let mut rig = Rig::new();
        rig.say(99, op::REQUEST, 0, &[]);
        let told = rig.told();
        assert_eq!(told[0].0.op, op::RST);
        assert_eq!(told[0].0.dst_port, 1024);
        rig.say(99, op::RST, 0, &[]);
        assert!(rig.told().is_empty(), "a refusal is not refused");
        for _ in 0..2 * MOST_REFUSALS {
            rig.say(99, op::RW, 0, b"x");
        }
        assert_eq!(rig.told().len(), MOST_REFUSALS);
    }

    #[test]
    fn nobody_starves() {
        let mut rig = Rig::new();
        let (mut first, one) = rig.connected();
        let (mut second, two) = rig.connected();
        first.write_all(&[1; 100]).unwrap();
        second.write_all(&[2; 100]).unwrap();
        rig.muxer.attend().unwrap();
        let mut room = [0; 10];
        let turns: HashSet<u32> = (0..4)
            .filter_map(|_| rig.muxer.transmit(&mut room))
            .map(|header| header.src_port)
            .collect();
        assert_eq!(turns, HashSet::from([one, two]));
    }

    proptest! {
        /// Whatever a guest sends: nothing panics, and nothing piles up.
        #[test]
        fn a_hostile_guest_achieves_nothing(
            packets in proptest::collection::vec(
                (0u32..4, 0u16..9, any::<u32>(), any::<u32>(), any::<u32>(), 0usize..MAX_PAYLOAD),
                0..60,
            )
        ) {
            let mut rig = Rig::new();
            let _clients = [rig.client(), rig.client()];
            rig.told();
            for (port, op, flags, buf_alloc, fwd_cnt, len) in packets {
                let header = Header {
                    src_cid: 3,
                    dst_cid: HOST_CID,
                    src_port: 1024,
                    dst_port: FIRST_PORT + port,
                    len: len as u32,
                    socket_type: STREAM,
                    op,
                    flags,
                    buf_alloc,
                    fwd_cnt,
                };
                rig.muxer.receive(&header, &vec![0; len]);
                prop_assert!(rig.muxer.ready.len() <= 2);
            }
            rig.told();
            prop_assert!(rig.muxer.connections.len() <= 2);
        }
    }
}
