//! A change to the rules, which the kernel makes as a whole or not at all.

use std::io;

use netlink_bindings::nftables::{Chained, IterableSetelemAttrs, Nfgenmsg, Request};
use netlink_socket2::NetlinkSocket;

use super::expression::{Expression, push};
use super::ruleset::{Chain, Family, MARK, Set};

/// The one table of ours in each family.
pub(super) const TABLE: &std::ffi::CStr = c"isolazi";
/// `NFNL_SUBSYS_NFTABLES`, which the bounds of a batch name (nfnetlink.h).
const SUBSYSTEM: u16 = 10;

const INTERVAL_END: u32 = netlink_bindings::nftables::SetElemFlags::IntervalEnd as u32;

/// A member of a set, with what a map maps it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) key: Vec<u8>,
    pub(super) data: Option<Vec<u8>>,
}

/// A range of members: from `first` to right before `beyond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: Member,
    pub(super) beyond: Vec<u8>,
}

/// What is to be changed, in order.
#[derive(Debug)]
pub(super) struct Batch(Chained<'static>);

impl Batch {
    pub(super) fn new() -> Self {
        // Any number to start with would do: a socket sends one batch only.
        let mut chained = Chained::new(1);
        chained.request().op_batch_begin_do(&bounds());
        Self(chained)
    }

    /// Makes the table, unless it is there.
    pub(super) fn table(&mut self, family: Family) {
        let request = self.0.request().set_create();
        request
            .op_newtable_do(&header(family as u8))
            .encode()
            .push_name(TABLE);
    }

    /// Makes a set or map, unless it is there.
    pub(super) fn set(&mut self, family: Family, set: &Set, id: u32) {
        let request = self.0.request().set_create();
        let mut request = request.op_newset_do(&header(family as u8));
        let mut encoder = request
            .encode()
            .push_table(TABLE)
            .push_name_bytes(set.name.as_bytes())
            .push_id(id)
            .push_flags(set.flags())
            .push_key_type(set.key_type)
            .push_key_len(set.key_length);
        if let Some((kind, length)) = set.data {
            encoder = encoder.push_data_type(kind).push_data_len(length);
        }
        drop(encoder);
    }

    /// Makes a chain, unless it is there, with these rules and no others.
    pub(super) fn chain(&mut self, family: Family, chain: &Chain) {
        let request = self.0.request().set_create();
        request
            .op_newchain_do(&header(family as u8))
            .encode()
            .push_table(TABLE)
            .push_name_bytes(chain.name.as_bytes())
            .nested_hook()
            .push_num(chain.hook)
            .push_priority(chain.priority)
            .end_nested()
            .push_type_bytes(chain.kind.as_bytes());
        self.0
            .request()
            .op_delrule_do(&header(family as u8))
            .encode()
            .push_table(TABLE)
            .push_chain_bytes(chain.name.as_bytes());
        for rule in &chain.rules {
            self.rule(family, chain.name, rule);
        }
    }

    fn rule(&mut self, family: Family, chain: &str, rule: &[Expression]) {
        let request = self.0.request().set_create().set_append();
        let mut request = request.op_newrule_do(&header(family as u8));
        let encoder = request
            .encode()
            .push_table(TABLE)
            .push_chain_bytes(chain.as_bytes());
        let encoder = encoder.push_userdata(&comment());
        let list = encoder.nested_expressions();
        drop(rule.iter().fold(list, push));
    }

    /// Removes the table, which is there.
    pub(super) fn remove_table(&mut self, family: Family) {
        let mut request = self.0.request().op_deltable_do(&header(family as u8));
        request.encode().push_name(TABLE);
    }

    /// Adds members to a set. A member that it has already, with the same data, is fine.
    pub(super) fn add(&mut self, family: Family, set: &str, members: &[Member]) {
        if !members.is_empty() {
            let request = self.0.request().set_create();
            let mut request = request.op_newsetelem_do(&header(family as u8));
            push_members(request.encode(), set, members);
        }
    }

    /// Adds a range to a set.
    pub(super) fn add_range(&mut self, family: Family, set: &str, range: &Range) {
        self.add(family, set, std::slice::from_ref(&range.first));
        let request = self.0.request().set_create();
        let mut request = request.op_newsetelem_do(&header(family as u8));
        push_end(request.encode(), set, range);
    }

    /// Takes a range out of a set, which has it.
    pub(super) fn remove_range(&mut self, family: Family, set: &str, range: &Range) {
        self.remove(family, set, std::slice::from_ref(&range.first));
        let mut request = self.0.request().op_delsetelem_do(&header(family as u8));
        push_end(request.encode(), set, range);
    }

    /// Takes members out of a set, which has them all.
    pub(super) fn remove(&mut self, family: Family, set: &str, members: &[Member]) {
        if !members.is_empty() {
            let mut request = self.0.request().op_delsetelem_do(&header(family as u8));
            push_members(request.encode(), set, members);
        }
    }

    /// Has the kernel make the change.
    pub(super) fn commit(mut self) -> io::Result<()> {
        self.0.request().op_batch_end_do(&bounds());
        let mut socket = NetlinkSocket::new();
        let batch = self.0.finalize();
        let mut replies = socket.request_chained(&batch)?;
        replies.recv_all().map_err(Into::into)
    }
}

fn push_end(
    encoder: netlink_bindings::nftables::PushSetelemListAttrs<&mut Vec<u8>>,
    set: &str,
    range: &Range,
) {
    let encoder = encoder.push_table(TABLE).push_set_bytes(set.as_bytes());
    let list = encoder.nested_elements();
    let end = list.nested_elem().nested_key().push_value(&range.beyond);
    drop(end.end_nested().push_flags(&INTERVAL_END.to_be_bytes()));
}

fn push_members(
    encoder: netlink_bindings::nftables::PushSetelemListAttrs<&mut Vec<u8>>,
    set: &str,
    members: &[Member],
) {
    let encoder = encoder.push_table(TABLE).push_set_bytes(set.as_bytes());
    let list = encoder.nested_elements();
    drop(members.iter().fold(list, |list, member| {
        let element = list
            .nested_elem()
            .nested_key()
            .push_value(&member.key)
            .end_nested();
        let element = match &member.data {
            Some(data) => element.nested_data().push_value(data).end_nested(),
            None => element,
        };
        element.end_nested()
    }));
}

/// What every rule bears, for programs that list them, too (`NFTNL_UDATA_RULE_COMMENT`
/// of libnftnl: kind, length, text that ends with a zero).
fn comment() -> Vec<u8> {
    const COMMENT: u8 = 0;
    let text = MARK.as_bytes();
    [&[COMMENT, text.len() as u8 + 1][..], text, &[0]].concat()
}

/// How many rules of this program's are in a family's table, and how many others.
pub(super) fn count_rules(family: Family) -> io::Result<(usize, usize)> {
    let mut request = Request::new().op_getrule_dump(&header(family as u8));
    request.encode().push_table(TABLE);
    let mut socket = NetlinkSocket::new();
    let mut replies = socket.request(&request)?;
    let (comment, mut ours, mut others) = (comment(), 0, 0);
    while let Some(reply) = replies.recv() {
        match reply.map_err(io::Error::from) {
            Ok((_, rule)) if rule.get_userdata().is_ok_and(|it| it == comment) => ours += 1,
            Ok(_) => others += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok((ours, others))
}

/// The members of a set; none where the set is not there.
pub(super) fn members(family: Family, set: &str) -> io::Result<Vec<Member>> {
    let mut request = Request::new().op_getsetelem_dump(&header(family as u8));
    let encoder = request.encode().push_table(TABLE);
    drop(encoder.push_set_bytes(set.as_bytes()));
    let mut socket = NetlinkSocket::new();
    let mut replies = socket.request(&request)?;
    let mut members = Vec::new();
    while let Some(reply) = replies.recv() {
        let list = match reply.map_err(io::Error::from) {
            Ok((_, list)) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let Ok(elements) = list.get_elements() else {
            continue;
        };
        members.extend(elements.get_elem().filter_map(|element| member(&element)));
    }
    Ok(members)
}

fn member(element: &IterableSetelemAttrs<'_>) -> Option<Member> {
    let key = element.get_key().ok()?.get_value().ok()?.to_vec();
    let data = element
        .get_data()
        .ok()
        .and_then(|data| data.get_value().ok());
    let data = data.map(<[u8]>::to_vec);
    Some(Member { key, data })
}

pub(super) fn header(family: u8) -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.nfgen_family = family;
    header
}

fn bounds() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header._res_id_be = SUBSYSTEM.to_be();
    header
}
