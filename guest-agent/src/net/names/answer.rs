//! Queries and answers as messages (RFC 1035).

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::{Carrier, LONGEST_QUERY};

/// Seconds for which an answer may be kept: containers come and go.
const TTL: u32 = 5;

/// A query that can be answered.
#[derive(Debug)]
pub(super) struct Question {
    message: Message,
    query: Query,
}

/// What is known of the thing that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Where it is; those of the family that was asked for count.
    Addresses(Vec<IpAddr>),
    /// What it is called.
    Name(String),
}

/// Reads a query. Where it is none that could be passed on, the error is what to answer.
pub(super) fn read(bytes: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let Ok(message) = Message::from_vec(bytes) else {
        let id = bytes.first_chunk().copied().map(u16::from_be_bytes);
        let refusal = id.map(|id| Message::error_msg(id, OpCode::Query, ResponseCode::FormErr));
        return Err(refusal.and_then(|it| it.to_vec().ok()));
    };
    if message.metadata.message_type != MessageType::Query {
        return Err(None);
    }
    let refuse = |code| Err(reply(&message, code).to_vec().ok());
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    match &message.queries[..] {
        [query] => Ok(Question {
            query: query.clone(),
            message,
        }),
        _ => refuse(ResponseCode::FormErr),
    }
}

fn reply(to: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(to.metadata.id, to.metadata.op_code);
    message.metadata = Metadata::response_from_request(&to.metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(to.queries.iter().cloned());
    if to.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST_QUERY as u16);
        message.set_edns(edns);
    }
    message
}

impl Question {
    /// The name that is asked about, in lower case and without a dot at its end; `None`
    /// where it is not asked about on the Internet, as it were.
    pub(super) fn name(&self) -> Option<String> {
        let is_internet = self.query.query_class() == DNSClass::IN;
        let name = self.query.name().to_lowercase().to_ascii();
        is_internet.then(|| name.trim_end_matches('.').to_owned())
    }

    /// The address whose name is asked for, if that is the question.
    pub(super) fn address(&self) -> Option<IpAddr> {
        if self.query.query_type() != RecordType::PTR {
            return None;
        }
        let range = self.query.name().parse_arpa_name().ok()?;
        let is_whole = range.prefix_len() == range.max_prefix_len();
        is_whole.then(|| range.addr())
    }

    /// The answer that says what was found. What there is nothing of is said, too.
    pub(super) fn answer(&self, found: &Found, carrier: Carrier) -> Option<Vec<u8>> {
        let mut message = reply(&self.message, ResponseCode::NoError);
        let kind = self.query.query_type();
        message.add_answers(self.records(found).filter(|record| {
            let is_asked_for = record.record_type() == kind;
            is_asked_for || kind == RecordType::ANY
        }));
        let bytes = message.to_vec().ok()?;
        let most = usize::from(self.message.max_payload());
        match carrier {
            Carrier::Udp if bytes.len() > most => message.truncate().to_vec().ok(),
            _ => Some(bytes),
        }
    }

    fn records(&self, found: &Found) -> impl Iterator<Item = Record> {
        let data: Vec<RData> = match found {
            Found::Addresses(addresses) => addresses.iter().copied().map(address).collect(),
            Found::Name(name) => Name::from_ascii(format!("{name}."))
                .map(|name| RData::PTR(PTR(name)))
                .into_iter()
                .collect(),
        };
        let name = self.query.name().clone();
        data.into_iter()
            .map(move |data| Record::from_rdata(name.clone(), TTL, data))
    }

    /// The answer that there is no such name.
    pub(super) fn unknown(&self) -> Option<Vec<u8>> {
        reply(&self.message, ResponseCode::NXDomain).to_vec().ok()
    }

    /// The answer that none could be had.
    pub(super) fn failed(&self) -> Option<Vec<u8>> {
        reply(&self.message, ResponseCode::ServFail).to_vec().ok()
    }
}

fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn answered(question: &Question, found: &Found, carrier: Carrier) -> Message {
        Message::from_vec(&question.answer(found, carrier).unwrap()).unwrap()
    }

    #[test]
    fn addresses_of_the_family_that_was_asked_for_are_told() {
        let found = Found::Addresses(vec![
            Ipv4Addr::new(192, 0, 2, 1).into(),
            "2001:db8::1".parse().unwrap(),
        ]);
        for (kind, count) in [
            (RecordType::A, 1),
            (RecordType::AAAA, 1),
            (RecordType::ANY, 2),
            (RecordType::MX, 0),
        ] {
            let question = read(&query("Web.", kind)).unwrap();
            assert_eq!(question.name().unwrap(), "web");
            let answer = answered(&question, &found, Carrier::Udp);
            assert_eq!(answer.metadata.id, 7);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert_eq!(answer.answers.len(), count, "{kind}");
        }
    }

    #[test]
    fn what_does_not_fit_is_truncated_by_udp_only() {
        let addresses = (0..200).map(|n| Ipv4Addr::new(192, 0, 2, n).into());
        let found = Found::Addresses(addresses.collect());
        let question = read(&query("web.", RecordType::A)).unwrap();
        let short = answered(&question, &found, Carrier::Udp);
        assert!(short.metadata.truncation && short.answers.is_empty());
        assert_eq!(answered(&question, &found, Carrier::Tcp).answers.len(), 200);
    }

    #[test]
    fn an_address_can_be_asked_about() {
        let question = read(&query("2.0.21.172.in-addr.arpa.", RecordType::PTR)).unwrap();
        assert_eq!(
            question.address(),
            Some(Ipv4Addr::new(172, 21, 0, 2).into())
        );
        let answer = answered(
            &question,
            &Found::Name("web.front".to_owned()),
            Carrier::Udp,
        );
        assert!(
            matches!(&answer.answers[0].data, RData::PTR(name) if name.0.to_ascii() == "web.front.")
        );
        for other in ["21.172.in-addr.arpa.", "web."] {
            let question = read(&query(other, RecordType::PTR)).unwrap();
            assert_eq!(question.address(), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused_or_ignored() {
        assert_eq!(read(&[]).unwrap_err(), None);
        let answer = query("web.", RecordType::A);
        let mut response = answer.clone();
        response[2] |= 0x80;
        assert_eq!(read(&response).unwrap_err(), None, "an answer");
        let refused = |bytes: &[u8]| {
            let refusal = read(bytes).unwrap_err().unwrap();
            Message::from_vec(&refusal).unwrap().metadata.response_code
        };
        assert_eq!(refused(&answer[..14]), ResponseCode::FormErr);
        let mut status = answer;
        status[2] |= 2 << 3;
        assert_eq!(refused(&status), ResponseCode::NotImp);
    }
}
