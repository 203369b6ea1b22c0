//! The device as the hypervisor sees it: two queues of packets in the guest's
//! memory (VIRTIO 1.2, section 5.10), served over vhost-user.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc::Sender;

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VringEpollHandler, VringRwLock, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use crate::Failure;
use crate::header::{HEADER_LEN, Header};
use crate::muxer::{MAX_PAYLOAD, Muxer};

/// Queues by their numbers (VIRTIO 1.2, section 5.10.2). QEMU keeps the third,
/// for events, to itself, but counts it.
const RX: usize = 0;
const TX: usize = 1;
const QUEUES: usize = 3;
const QUEUE_SIZE: usize = 1024;
/// The event of the clients' sockets; those up to [`QUEUES`] are taken.
const CLIENTS: u16 = QUEUES as u16 + 1;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// See the module's description.
pub(crate) struct Device {
    cid: u32,
    muxer: Muxer,
    memory: Option<Memory>,
    /// A packet's payload on its way.
    payload: Vec<u8>,
    /// Hears what ends the device.
    ended: Sender<Result<(), Failure>>,
}

impl Device {
    pub(crate) fn new(cid: u32, muxer: Muxer, ended: Sender<Result<(), Failure>>) -> Self {
        Self {
            cid,
            muxer,
            memory: None,
            payload: vec![0; MAX_PAYLOAD],
            ended,
        }
    }

    /// Has the clients' sockets watched, too.
    pub(crate) fn watch_clients<T>(&self, events: &VringEpollHandler<T>) -> io::Result<()>
    where
        T: vhost_user_backend::VhostUserBackend,
    {
        let descriptor = self.muxer.events().0.as_raw_fd();
        events.register_listener(descriptor, EventSet::IN, u64::from(CLIENTS))
    }

    /// Does all there is to do; cheap where there is nothing.
    fn serve(&mut self, event: u16, vrings: &[VringRwLock]) -> io::Result<()> {
        if event == CLIENTS {
            self.muxer.attend()?;
        }
        let Some(memory) = self.memory.clone() else {
            // The guest's driver comes later.
            return Ok(());
        };
        self.take_packets(&memory, &vrings[TX])?;
        self.give_packets(&memory, &vrings[RX])
    }

    /// Takes all that the guest has sent.
    fn take_packets(&mut self, memory: &Memory, vring: &VringRwLock) -> io::Result<()> {
        if !vring.get_ref().get_queue().ready() {
            return Ok(());
        }
        loop {
            vring.disable_notification().map_err(broken)?;
            while self.take_packet(memory, vring)? {}
            // What came meanwhile was not announced.
            if !vring.enable_notification().map_err(broken)? {
                break;
            }
        }
        notify(vring)
    }

    fn take_packet(&mut self, memory: &Memory, vring: &VringRwLock) -> io::Result<bool> {
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        let Some(chain) = queue.iter(memory.memory()).map_err(broken)?.next() else {
            return Ok(false);
        };
        let (head, memory) = (chain.head_index(), memory.memory());
        let mut reader = chain.reader(&*memory).map_err(broken)?;
        let mut header = [0; HEADER_LEN];
        // A packet that is not whole is no packet; the next may be.
        if reader.read_exact(&mut header).is_ok() {
            let header = Header::from_bytes(&header);
            if let Some(payload) = self.payload.get_mut(..header.len as usize)
                && reader.read_exact(payload).is_ok()
            {
                self.muxer.receive(&header, payload);
            }
        }
        queue.add_used(&*memory, head, 0).map_err(broken)?;
        Ok(true)
    }

    /// Gives the guest all that it has room for.
    fn give_packets(&mut self, memory: &Memory, vring: &VringRwLock) -> io::Result<()> {
        if !self.muxer.has_output() || !vring.get_ref().get_queue().ready() {
            return Ok(());
        }
        loop {
            vring.disable_notification().map_err(broken)?;
            while self.muxer.has_output() && self.give_packet(memory, vring)? {}
            // Where there is more to give, room that the guest makes is announced.
            if !self.muxer.has_output() || !vring.enable_notification().map_err(broken)? {
                break;
            }
        }
        notify(vring)
    }

    fn give_packet(&mut self, memory: &Memory, vring: &VringRwLock) -> io::Result<bool> {
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        let Some(chain) = queue.iter(memory.memory()).map_err(broken)?.next() else {
            return Ok(false);
        };
        let (head, memory) = (chain.head_index(), memory.memory());
        let mut writer = chain.writer(&*memory).map_err(broken)?;
        let room = writer.available_bytes().checked_sub(HEADER_LEN);
        let room = room.ok_or_else(|| io::Error::other("a buffer of the guest's is too small"))?;
        let Some(header) = self
            .muxer
            .transmit(&mut self.payload[..room.min(MAX_PAYLOAD)])
        else {
            // For the next one.
            queue.go_to_previous_position();
            return Ok(false);
        };
        writer.write_all(&header.to_bytes())?;
        writer.write_all(&self.payload[..header.len as usize])?;
        let used = HEADER_LEN as u32 + header.len;
        queue.add_used(&*memory, head, used).map_err(broken)?;
        Ok(true)
    }
}

/// Tells the guest of what was used, where it wants to know.
fn notify(vring: &VringRwLock) -> io::Result<()> {
    match vring.needs_notification().map_err(broken)? {
        true => vring.signal_used_queue(),
        false => Ok(()),
    }
}

/// The guest's driver has left a queue in a state that no driver may.
fn broken(error: virtio_queue::Error) -> io::Error {
    io::Error::other(error)
}

impl VhostUserBackendMut for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIG
    }

    /// The queues know by themselves.
    fn set_event_idx(&mut self, _enabled: bool) {}

    /// `struct virtio_vsock_config`: the guest's address (VIRTIO 1.2, section 5.10.4).
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = u64::from(self.cid).to_le_bytes();
        let (start, size) = (offset as usize, size as usize);
        let wanted = start
            .checked_add(size)
            .and_then(|end| config.get(start..end));
        wanted.map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        self.serve(event, vrings).map_err(|error| {
            let reported = io::Error::new(error.kind(), error.to_string());
            // Nobody listens once the device is being closed.
            let _ = self.ended.send(Err(Failure::Device(error)));
            reported
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc;

    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::header::{HOST_CID, STREAM, op};
    use crate::muxer::Destination;

    const RX_RING: u64 = 0x10_0000;
    const TX_RING: u64 = 0x20_0000;
    const BUFFERS: u64 = 0x30_0000;
    const SLOTS: u16 = 16;
    /// Descriptors of a chain, at the most.
    const CHAIN: u16 = 3;

    /// A device whose guest is this test.
    struct Rig {
        device: Device,
        memory: Memory,
        vrings: Vec<VringRwLock>,
        _folder: tempfile::TempDir,
        client: UnixStream,
        /// Where the next one lies.
        buffers: u64,
        /// Chains, by queue.
        offered: [u16; 2],
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let destination = Destination { cid: 3, port: 1024 };
            let clients = UnixListener::bind(&path).unwrap();
            let muxer = Muxer::new(clients, destination).unwrap();
            let ranges = [(GuestAddress(0), 8 << 20)];
            let memory = Memory::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
            let mut device = Device::new(3, muxer, mpsc::channel().0);
            device.update_memory(memory.clone()).unwrap();
            let vrings = [RX_RING, TX_RING].map(|start| vring(&memory, start));
            let client = UnixStream::connect(&path).unwrap();
            let patience = Some(std::time::Duration::from_secs(10));
            client.set_read_timeout(patience).unwrap();
            Self {
                device,
                vrings: vrings.to_vec(),
                memory,
                client,
                _folder: folder,
                buffers: BUFFERS,
                offered: [0; 2],
            }
        }

        /// Puts buffers of these lengths into a queue, as one chain; returns
        /// where they begin. They lie apart from each other.
        fn offer(&mut self, queue: usize, lengths: &[u32]) -> Vec<u64> {
            let memory = self.memory.memory();
            let (table, avail) = {
                let state = self.vrings[queue].get_ref();
                (
                    state.get_queue().desc_table(),
                    state.get_queue().avail_ring(),
                )
            };
            let first = self.offered[queue] * CHAIN;
            let write = if queue == RX { VRING_DESC_F_WRITE } else { 0 };
            let mut starts = Vec::new();
            for (index, length) in (1..).zip(lengths) {
                starts.push(self.buffers);
                let more = usize::from(index) < lengths.len();
                let flags = write | if more { VRING_DESC_F_NEXT } else { 0 };
                let next = first + index;
                let descriptor = Descriptor::new(self.buffers, *length, flags as u16, next);
                let place = table + u64::from(next - 1) * size_of::<Descriptor>() as u64;
                memory.write_obj(descriptor, GuestAddress(place)).unwrap();
                self.buffers += u64::from(*length) + 64;
            }
            let entry = avail + 4 + u64::from(self.offered[queue]) * 2;
            memory.write_obj(first, GuestAddress(entry)).unwrap();
            self.offered[queue] += 1;
            memory
                .write_obj(self.offered[queue], GuestAddress(avail + 2))
                .unwrap();
            starts
        }

        fn send(&mut self, lengths: &[u32], bytes: &[u8]) {
            let starts = self.offer(TX, lengths);
            let memory = self.memory.memory();
            let mut rest = bytes;
            for (start, length) in starts.iter().zip(lengths) {
                let (part, after) = rest.split_at(rest.len().min(*length as usize));
                memory.write_slice(part, GuestAddress(*start)).unwrap();
                rest = after;
            }
            self.device.serve(TX as u16, &self.vrings).unwrap();
        }

        /// The next packet, taken in buffers of these lengths.
        fn receive(&mut self, lengths: &[u32]) -> (Header, Vec<u8>) {
            let starts = self.offer(RX, lengths);
            self.device.serve(CLIENTS, &self.vrings).unwrap();
            let memory = self.memory.memory();
            let mut bytes = Vec::new();
            for (start, length) in starts.iter().zip(lengths) {
                let mut part = vec![0; *length as usize];
                memory.read_slice(&mut part, GuestAddress(*start)).unwrap();
                bytes.extend(part);
            }
            let header = Header::from_bytes(bytes[..HEADER_LEN].try_into().unwrap());
            let payload = bytes[HEADER_LEN..][..header.len as usize].to_vec();
            (header, payload)
        }
    }

    fn vring(memory: &Memory, start: u64) -> VringRwLock {
        let held = memory.memory();
        let ring = MockSplitQueue::create(&*held, GuestAddress(start), SLOTS);
        let vring = VringRwLock::new(memory.clone(), SLOTS).unwrap();
        vring.set_queue_size(SLOTS);
        let (table, avail, used) = (ring.desc_table_addr(), ring.avail_addr(), ring.used_addr());
        vring.set_queue_info(table.0, avail.0, used.0).unwrap();
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        vring
    }

    fn packet(to: &Header, op: u16, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            src_cid: to.dst_cid,
            src_port: to.dst_port,
            dst_cid: to.src_cid,
            dst_port: to.src_port,
            len: payload.len() as u32,
            socket_type: STREAM,
            op,
            buf_alloc: 64 << 10,
            ..Header::default()
        };
        [&header.to_bytes()[..], payload].concat()
    }

    #[test]
    fn packets_may_lie_scattered() {
        let mut rig = Rig::new();
        let (request, _) = rig.receive(&[20, 24]);
        assert_eq!((request.op, request.dst_cid), (op::REQUEST, 3));
        assert_eq!((request.src_cid, request.dst_port), (HOST_CID, 1024));
        rig.send(&[44], &packet(&request, op::RESPONSE, &[]));
        rig.send(&[10, 40, 100], &packet(&request, op::RW, &[5; 100]));
        let mut taken = [0; 100];
        rig.client.read_exact(&mut taken).unwrap();
        assert_eq!(taken, [5; 100]);
        rig.client.write_all(&[6; 100]).unwrap();
        let (data, payload) = rig.receive(&[44, 30, 30]);
        assert_eq!((data.op, payload.len()), (op::RW, 60));
        let (_, payload) = rig.receive(&[100]);
        assert_eq!(payload, [6; 40]);
    }

    #[test]
    fn what_is_no_packet_is_passed_over() {
        let mut rig = Rig::new();
        let (request, _) = rig.receive(&[44]);
        let mut liar = packet(&request, op::RW, &[]);
        liar[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        rig.send(&[44], &liar);
        rig.send(&[10], &[0; 10]);
        rig.send(&[44], &packet(&request, op::RESPONSE, &[]));
        rig.send(&[48], &packet(&request, op::RW, b"well"));
        let mut taken = [0; 4];
        rig.client.read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"well");
    }

    #[test]
    fn a_buffer_without_room_for_a_header_ends_the_device() {
        let mut rig = Rig::new();
        rig.offer(RX, &[HEADER_LEN as u32 - 1]);
        assert!(rig.device.serve(CLIENTS, &rig.vrings).is_err());
    }
}
