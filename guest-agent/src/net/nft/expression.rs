//! What rules are made of: the expressions of nf_tables, as far as they are used
//! here, and how they go into a message.
//!
//! A rule loads what it knows of a packet into registers of four bytes, sixteen of
//! them, and compares them, looks them up, or acts on them.

use netlink_bindings::nftables::{
    CmpOps, CtKeys, FibFlags, MetaKeys, PayloadBase, PushExprListAttrs, Registers, VerdictCode,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};

/// `NFT_FIB_RESULT_ADDRTYPE` of linux/netfilter/nf_tables.h; the crate counts from 0.
const FIB_ADDRESS_TYPE: u32 = 3;
/// `NFT_META_IIFNAME` and its like fill so many bytes (IFNAMSIZ).
pub(super) const NAME_BYTES: usize = 16;

/// A register: the n-th of those of four bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register(pub(super) u32);

impl Register {
    fn number(self) -> u32 {
        Registers::Reg3200 as u32 + self.0
    }
}

/// One step of a rule. A comparison that fails, or a lookup that finds nothing,
/// ends the rule.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    /// Loads what the kernel knows beside the packet's bytes.
    Meta(MetaKeys, Register),
    /// Loads some of the packet's bytes: of which header, from where, how many.
    Payload(PayloadBase, u32, u32, Register),
    /// Loads what is known of the packet's connection.
    Connection(CtKeys, Register),
    /// Loads what kind of address the packet goes to.
    DestinationKind(Register),
    /// Keeps these bits only.
    Mask(Register, Vec<u8>),
    /// Goes on where the register equals the bytes; fewer than it has are a prefix.
    Is(Register, Vec<u8>),
    /// Goes on where it does not.
    IsNot(Register, Vec<u8>),
    /// Goes on where the set has what is in registers from this one on.
    In(&'static str, Register),
    /// Goes on where it has not.
    NotIn(&'static str, Register),
    /// Goes on where the map has it, with what it maps to from the second one on.
    Map(&'static str, Register, Register),
    /// Sends the connection to an address and a port instead.
    DestinationNat(Register, Register),
    /// Has the connection come from the machine's own address.
    Masquerade,
    /// Ends the chain.
    Accept,
    /// Ends the packet.
    Drop,
}

/// Adds `expression` to a rule.
pub(super) fn push<P: Pusher>(
    list: PushExprListAttrs<P>,
    expression: &Expression,
) -> PushExprListAttrs<P> {
    use Expression as E;
    let elem = list.nested_elem();
    match expression {
        E::Meta(key, to) => elem
            .nested_data_meta()
            .push_key(*key as u32)
            .push_dreg(to.number())
            .end_nested()
            .end_nested(),
        E::Payload(base, offset, length, to) => elem
            .nested_data_payload()
            .push_dreg(to.number())
            .push_base(*base as u32)
            .push_offset(*offset)
            .push_len(*length)
            .end_nested()
            .end_nested(),
        E::Connection(key, to) => elem
            .nested_data_ct()
            .push_key(*key as u32)
            .push_dreg(to.number())
            .end_nested()
            .end_nested(),
        E::DestinationKind(to) => elem
            .nested_data_fib()
            .push_dreg(to.number())
            .push_result(FIB_ADDRESS_TYPE)
            .push_flags(FibFlags::Daddr as u32)
            .end_nested()
            .end_nested(),
        E::Mask(register, mask) => elem
            .nested_data_bitwise()
            .push_sreg(register.number())
            .push_dreg(register.number())
            .push_len(mask.len() as u32)
            .nested_mask()
            .push_value(mask)
            .end_nested()
            .nested_xor()
            .push_value(&vec![0; mask.len()])
            .end_nested()
            .end_nested()
            .end_nested(),
        E::Is(register, bytes) => compare(elem, *register, CmpOps::Eq, bytes),
        E::IsNot(register, bytes) => compare(elem, *register, CmpOps::Neq, bytes),
        E::In(set, key) => look_up(elem, set, *key, 0, None),
        E::NotIn(set, key) => {
            const INVERT: u32 = netlink_bindings::nftables::LookupFlags::Invert as u32;
            look_up(elem, set, *key, INVERT, None)
        }
        E::Map(map, key, to) => look_up(elem, map, *key, 0, Some(*to)),
        E::DestinationNat(address, port) => elem
            .nested_data_nat()
            .push_type(DESTINATION)
            .push_family(nix::libc::NFPROTO_IPV4 as u32)
            .push_reg_addr_min(address.number())
            .push_reg_proto_min(port.number())
            .end_nested()
            .end_nested(),
        E::Masquerade => elem.push_name(c"masq").end_nested(),
        E::Accept => verdict(elem, VerdictCode::Accept),
        E::Drop => verdict(elem, VerdictCode::Drop),
    }
}

/// `NFT_NAT_DNAT`.
const DESTINATION: u32 = 1;

type Element<P> = netlink_bindings::nftables::PushExprAttrs<PushExprListAttrs<P>>;

fn compare<P: Pusher>(
    elem: Element<P>,
    register: Register,
    how: CmpOps,
    bytes: &[u8],
) -> PushExprListAttrs<P> {
    elem.nested_data_cmp()
        .push_sreg(register.number())
        .push_op(how as u32)
        .nested_data()
        .push_value(bytes)
        .end_nested()
        .end_nested()
        .end_nested()
}

/// Written out, as the crate (0.3.5) has other numbers for these attributes than the
/// kernel (`enum nft_lookup_attributes` of linux/netfilter/nf_tables.h).
fn look_up<P: Pusher>(
    elem: Element<P>,
    set: &str,
    key: Register,
    flags: u32,
    to: Option<Register>,
) -> PushExprListAttrs<P> {
    const DATA: u16 = 2;
    const SET: u16 = 1;
    const SOURCE: u16 = 2;
    const TO: u16 = 3;
    const FLAGS: u16 = 5;
    let mut elem = elem.push_name(c"lookup");
    let message = elem.as_vec_mut();
    let start = push_nested_header(message, DATA);
    push_header(message, SET, set.len() as u16 + 1);
    message.extend(set.bytes().chain([0]));
    let mut number = |kind: u16, value: u32| {
        push_header(message, kind, size_of::<u32>() as u16);
        message.extend(value.to_be_bytes());
    };
    number(SOURCE, key.number());
    if let Some(to) = to {
        number(TO, to.number());
    }
    if flags != 0 {
        number(FLAGS, flags);
    }
    finalize_nested_header(message, start);
    elem.end_nested()
}

fn verdict<P: Pusher>(elem: Element<P>, code: VerdictCode) -> PushExprListAttrs<P> {
    elem.nested_data_immediate()
        .push_dreg(Registers::RegVerdict as u32)
        .nested_data()
        .nested_verdict()
        .push_code(code as u32)
        .end_nested()
        .end_nested()
        .end_nested()
        .end_nested()
}
