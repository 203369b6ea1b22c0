//! The header of every packet between a guest's vsock driver and the device.

/// Bytes of a header in memory.
pub(crate) const HEADER_LEN: usize = 44;
/// The host's address (VMADDR_CID_HOST, vsock(7)).
pub(crate) const HOST_CID: u64 = 2;
/// The only kind of socket offered (VIRTIO_VSOCK_TYPE_STREAM).
pub(crate) const STREAM: u16 = 1;

/// What a packet is for (VIRTIO 1.2, section 5.10.6).
pub(crate) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    pub(crate) const RST: u16 = 3;
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const RW: u16 = 5;
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// What a SHUTDOWN ends, as flags (VIRTIO 1.2, section 5.10.6.6).
pub(crate) mod ends {
    /// The sender will receive nothing more.
    pub(crate) const RECEIVE: u32 = 1;
    /// The sender will send nothing more.
    pub(crate) const SEND: u32 = 2;
    pub(crate) const BOTH: u32 = RECEIVE | SEND;
}

/// `struct virtio_vsock_hdr` (VIRTIO 1.2, section 5.10.6), in its order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) src_cid: u64,
    pub(crate) dst_cid: u64,
    pub(crate) src_port: u32,
    pub(crate) dst_port: u32,
    /// Bytes of payload.
    pub(crate) len: u32,
    pub(crate) socket_type: u16,
    pub(crate) op: u16,
    pub(crate) flags: u32,
    /// Size of the sender's receive buffer, in bytes.
    pub(crate) buf_alloc: u32,
    /// Bytes that have left that buffer since the beginning, modulo 2³².
    pub(crate) fwd_cnt: u32,
}

impl Header {
    /// The header as it stands in memory, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.socket_type.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let mut rest = &mut bytes[..];
        for field in fields {
            let (place, after) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        }
        bytes
    }

    /// The header that stands in memory as `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut rest = &bytes[..];
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            socket_type: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }
}

/// The next field; the fields of a header fill its bytes exactly.
fn take<const WIDTH: usize>(rest: &mut &[u8]) -> [u8; WIDTH] {
    let mut field = [0; WIDTH];
    let (head, tail) = rest.split_at(WIDTH);
    field.copy_from_slice(head);
    *rest = tail;
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_has_them() {
        let header = Header {
            src_cid: 0x0102,
            dst_cid: 3,
            src_port: 4,
            dst_port: 5,
            len: 6,
            socket_type: STREAM,
            op: op::RW,
            flags: 7,
            buf_alloc: 0x0001_0000,
            fwd_cnt: 9,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..3], [2, 1, 0]);
        assert_eq!(bytes[24], 6, "len");
        assert_eq!(bytes[28..32], [1, 0, 5, 0], "type and op");
        assert_eq!(bytes[36..40], [0, 0, 1, 0], "buf_alloc");
        assert_eq!(bytes[40], 9, "fwd_cnt");
        assert_eq!(Header::from_bytes(&bytes), header);
    }
}
