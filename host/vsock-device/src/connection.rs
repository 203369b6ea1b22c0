//! One connection: the client's stream on one side, packets on the other.
//!
//! ```text
//!  client ══ stream ══► Connection::transmit ══► packets ══► guest
//!         ◄═ outgoing ══ Connection::receive  ◄═ packets ◄══
//! ```
//!
//! Neither side can make the other's bytes pile up: the guest may send what
//! [`BUFFER`] still has room for, and is told when room was made; the client's
//! bytes stay in its socket until the guest has room.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::num::Wrapping;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{MsgFlags, send};

use crate::header::{Header, ends, op};

/// So much of what the guest sent is kept until the client takes it, in bytes.
pub(crate) const BUFFER: u32 = 256 << 10;
/// The guest is told that room was made as soon as it is so much, in bytes.
const WORTH_TELLING: u32 = BUFFER / 4;

/// What can happen at the client's stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The client has closed the stream, not only its sending half.
    pub(crate) gone: bool,
}

/// What the guest is to be told besides data.
#[derive(Debug, Default)]
struct Due {
    request: bool,
    credit: bool,
    reset: bool,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// The guest has accepted.
    established: bool,
    /// What the stream was last seen to be.
    is: Readiness,
    due: Due,

    /// Of the guest's, not yet taken by the client.
    outgoing: Vec<u8>,
    /// Bytes the client has taken, and what of that the guest knows.
    forwarded: Wrapping<u32>,
    announced: Wrapping<u32>,

    /// Bytes sent to the guest, and how many its buffer holds and has passed on.
    sent: Wrapping<u32>,
    peer_buffer: u32,
    peer_forwarded: Wrapping<u32>,

    /// The client's stream is at its end.
    client_ended: bool,
    /// What the guest was told that the client does no more (see [`ends`]).
    told: u32,
    /// What the guest does no more.
    guest_ended: u32,
    /// The client has been told that nothing more comes.
    is_shut: bool,
}

impl Connection {
    /// For a client that has just connected: the guest is to be asked.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            established: false,
            is: Readiness::default(),
            due: Due {
                request: true,
                ..Due::default()
            },
            outgoing: Vec::new(),
            forwarded: Wrapping(0),
            announced: Wrapping(0),
            sent: Wrapping(0),
            peer_buffer: 0,
            peer_forwarded: Wrapping(0),
            client_ended: false,
            told: 0,
            guest_ended: 0,
            is_shut: false,
        }
    }

    /// Something happened at the client's stream.
    pub(crate) fn stir(&mut self, readiness: Readiness) {
        self.is.readable |= readiness.readable;
        self.is.gone |= readiness.gone;
        if readiness.writable {
            self.is.writable = true;
            self.flush();
        }
    }

    /// Takes a packet of the guest's.
    pub(crate) fn receive(&mut self, header: &Header, payload: &[u8]) {
        self.peer_buffer = header.buf_alloc;
        self.peer_forwarded = Wrapping(header.fwd_cnt);
        match header.op {
            op::RESPONSE => self.established = true,
            op::RW => self.accept(payload),
            op::CREDIT_REQUEST => self.due.credit = true,
            op::SHUTDOWN => {
                self.guest_ended |= header.flags & ends::BOTH;
                if self.guest_ended & ends::RECEIVE != 0 {
                    // The client's writes fail from now on.
                    let _ = self.stream.shutdown(Shutdown::Read);
                    self.client_ended = true;
                }
                self.settle();
            }
            op::CREDIT_UPDATE => {}
            // A second request, or what no version knows.
            _ => self.due.reset = true,
        }
    }

    /// The next packet for the guest, its payload at the start of `room`.
    /// `None` where there is nothing to say now.
    pub(crate) fn transmit(&mut self, room: &mut [u8]) -> Option<Header> {
        let (op, flags, len) = self.next(room)?;
        self.announced = self.forwarded;
        self.due.credit = false;
        self.sent += Wrapping(len);
        Some(Header {
            op,
            flags,
            len,
            buf_alloc: BUFFER,
            fwd_cnt: self.forwarded.0,
            ..Header::default()
        })
    }

    fn next(&mut self, room: &mut [u8]) -> Option<(u16, u32, u32)> {
        if self.due.reset {
            return Some((op::RST, 0, 0));
        }
        if std::mem::take(&mut self.due.request) {
            return Some((op::REQUEST, 0, 0));
        }
        if !self.established {
            return None;
        }
        if let Some(len @ 1..) = self.read(room) {
            return Some((op::RW, 0, len));
        }
        let ended = self.ended();
        if ended & !self.told != 0 {
            self.told = ended;
            return Some((op::SHUTDOWN, ended, 0));
        }
        self.due.credit.then_some((op::CREDIT_UPDATE, 0, 0))
    }

    /// Reads what the guest has room for; notes the stream's end.
    fn read(&mut self, room: &mut [u8]) -> Option<u32> {
        let in_flight = (self.sent - self.peer_forwarded).0;
        let credit = self.peer_buffer.saturating_sub(in_flight) as usize;
        let most = room.len().min(credit);
        if most == 0 || self.client_ended || !self.is.readable {
            return None;
        }
        loop {
            match self.stream.read(&mut room[..most]) {
                Ok(count) => {
                    self.client_ended = count == 0;
                    return u32::try_from(count).ok();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is.readable = false;
                    self.client_ended = error.kind() != ErrorKind::WouldBlock;
                    return None;
                }
            }
        }
    }

    /// What the client does no more (see [`ends`]).
    fn ended(&self) -> u32 {
        match (self.client_ended, self.is.gone) {
            (true, true) => ends::BOTH,
            (true, false) => ends::SEND,
            (false, _) => 0,
        }
    }

    /// Passes data of the guest's on, or keeps it until the client takes it.
    fn accept(&mut self, payload: &[u8]) {
        if !self.established || self.outgoing.len() + payload.len() > BUFFER as usize {
            // Sent without having been asked to, or without credit.
            self.due.reset = true;
            return;
        }
        let written = match self.outgoing.is_empty() {
            true => self.write(payload),
            false => 0,
        };
        self.outgoing.extend_from_slice(&payload[written..]);
        self.settle();
    }

    /// Writes what was kept.
    fn flush(&mut self) {
        if !self.outgoing.is_empty() {
            let kept = std::mem::take(&mut self.outgoing);
            let written = self.write(&kept);
            self.outgoing = kept;
            self.outgoing.drain(..written);
        }
        self.settle();
    }

    /// Writes as much as the client takes; tells how much that was.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() && !self.due.reset {
            let rest = &bytes[written..];
            // Not `write`: a client that has gone must not raise SIGPIPE.
            match send(self.stream.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => written += count,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    self.is.writable = false;
                    break;
                }
                // Nobody is there to take it.
                Err(_) => self.due.reset = true,
            }
        }
        self.forwarded += Wrapping(written as u32);
        self.due.credit |= (self.forwarded - self.announced).0 >= WORTH_TELLING;
        written
    }

    /// Draws the consequences once the client has everything the guest sent.
    fn settle(&mut self) {
        if !self.outgoing.is_empty() {
            return;
        }
        match self.guest_ended {
            ends::BOTH => self.due.reset = true,
            // Once, as it is an event of the stream's each time, and an event ends here.
            ends::SEND if !self.is_shut => {
                self.is_shut = true;
                // Fails only for a client that has gone, which is seen elsewhere.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const GUEST_BUFFER: u32 = 64 << 10;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Connection::new(ours), theirs)
    }

    fn established() -> (Connection, UnixStream) {
        let (mut connection, client) = pair();
        assert_eq!(said(&mut connection), Some((op::REQUEST, 0, vec![])));
        connection.receive(&packet(op::RESPONSE, 0), &[]);
        (connection, client)
    }

    fn packet(op: u16, flags: u32) -> Header {
        Header {
            op,
            flags,
            buf_alloc: GUEST_BUFFER,
            ..Header::default()
        }
    }

    fn said(connection: &mut Connection) -> Option<(u16, u32, Vec<u8>)> {
        let mut room = vec![0; 64 << 10];
        let header = connection.transmit(&mut room)?;
        room.truncate(header.len as usize);
        Some((header.op, header.flags, room))
    }

    fn readable() -> Readiness {
        Readiness {
            readable: true,
            ..Readiness::default()
        }
    }

    fn gone() -> Readiness {
        Readiness {
            gone: true,
            ..readable()
        }
    }

    #[test]
    fn an_end_is_passed_on_once() {
        use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
        let (mut connection, client) = established();
        let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        let edges = EpollFlags::EPOLLET | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        epoll
            .add(&connection.stream, EpollEvent::new(edges, 0))
            .unwrap();
        connection.receive(&packet(op::SHUTDOWN, ends::SEND), &[]);
        let mut events = [EpollEvent::empty()];
        let mut count = 0;
        while epoll.wait(&mut events, EpollTimeout::ZERO).unwrap() == 1 && count < 10 {
            connection.stir(Readiness {
                writable: true,
                ..Readiness::default()
            });
            count += 1;
        }
        assert!(count < 10, "every look at it is an event");
        drop(client);
    }

    #[test]
    fn a_client_that_left_before_the_guest_answered_is_told_of() {
        let (mut connection, client) = pair();
        drop(client);
        connection.stir(gone());
        assert_eq!(said(&mut connection), Some((op::REQUEST, 0, vec![])));
        assert_eq!(said(&mut connection), None, "not before the answer");
        connection.receive(&packet(op::RESPONSE, 0), &[]);
        assert_eq!(
            said(&mut connection),
            Some((op::SHUTDOWN, ends::BOTH, vec![]))
        );
        connection.receive(&packet(op::RW, 0), b"is anybody there?");
        assert_eq!(said(&mut connection), Some((op::RST, 0, vec![])));
    }

    #[test]
    fn what_a_client_wrote_before_it_left_arrives() {
        let (mut connection, mut client) = established();
        client.write_all(b"farewell").unwrap();
        drop(client);
        connection.stir(gone());
        assert_eq!(
            said(&mut connection),
            Some((op::RW, 0, b"farewell".to_vec()))
        );
        assert_eq!(
            said(&mut connection),
            Some((op::SHUTDOWN, ends::BOTH, vec![]))
        );
        connection.receive(&packet(op::SHUTDOWN, ends::BOTH), &[]);
        assert_eq!(said(&mut connection), Some((op::RST, 0, vec![])));
    }

    #[test]
    fn each_direction_ends_by_itself() {
        let (mut connection, mut client) = established();
        client.shutdown(Shutdown::Write).unwrap();
        connection.stir(readable());
        assert_eq!(
            said(&mut connection),
            Some((op::SHUTDOWN, ends::SEND, vec![]))
        );
        assert_eq!(said(&mut connection), None, "it is said once");
        connection.receive(&packet(op::RW, 0), b"an answer");
        connection.receive(&packet(op::SHUTDOWN, ends::SEND), &[]);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "an answer");
    }

    #[test]
    fn a_client_sends_no_more_than_the_guest_has_room_for() {
        let (mut connection, mut client) = established();
        client.write_all(&vec![7; 100 << 10]).unwrap();
        connection.stir(readable());
        let (_, _, first) = said(&mut connection).unwrap();
        assert_eq!(first.len(), GUEST_BUFFER as usize);
        assert_eq!(said(&mut connection), None);
        let mut update = packet(op::CREDIT_UPDATE, 0);
        update.fwd_cnt = 1000;
        connection.receive(&update, &[]);
        let (_, _, second) = said(&mut connection).unwrap();
        assert_eq!(second.len(), 1000);
    }

    #[test]
    fn the_guest_hears_when_the_client_has_taken_its_bytes() {
        let (mut connection, mut client) = established();
        let chunk = vec![1; 64 << 10];
        for _ in 0..BUFFER / (64 << 10) {
            connection.receive(&packet(op::RW, 0), &chunk);
        }
        let mut taken = vec![0; BUFFER as usize];
        let mut reader = client.try_clone().unwrap();
        let client_reads = std::thread::spawn(move || reader.read_exact(&mut taken));
        while !connection.outgoing.is_empty() {
            connection.stir(Readiness {
                writable: true,
                ..Readiness::default()
            });
        }
        client_reads.join().unwrap().unwrap();
        let mut room = [0; 8];
        let update = connection.transmit(&mut room).unwrap();
        assert_eq!((update.op, update.fwd_cnt), (op::CREDIT_UPDATE, BUFFER));
        assert!(connection.transmit(&mut room).is_none());
        client.write_all(b"x").unwrap();
    }

    #[test]
    fn a_guest_that_sends_beyond_its_credit_is_cut_off() {
        let (mut connection, _client) = established();
        let chunk = vec![1; 64 << 10];
        // What the socket itself holds comes on top.
        for _ in 0..100 {
            connection.receive(&packet(op::RW, 0), &chunk);
        }
        assert!(connection.outgoing.len() <= BUFFER as usize);
        assert_eq!(said(&mut connection), Some((op::RST, 0, vec![])));
    }

    #[test]
    fn words_out_of_turn_end_the_connection() {
        for op in [0, op::REQUEST, 9, u16::MAX] {
            let (mut connection, _client) = established();
            connection.receive(&packet(op, u32::MAX), &[]);
            assert_eq!(said(&mut connection), Some((op::RST, 0, vec![])));
        }
        let (mut unanswered, _client) = pair();
        unanswered.receive(&packet(op::RW, 0), b"early");
        assert_eq!(said(&mut unanswered), Some((op::RST, 0, vec![])));
    }
}
