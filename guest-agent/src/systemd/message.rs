//! The few messages of D-Bus that are said to systemd (D-Bus specification, "Message
//! Protocol"), in little-endian byte order.

/// What a message may be long; those that are expected have some hundred bytes.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// The part of a header whose length is always the same.
pub(super) const FIXED_BYTES: usize = 16;

const LITTLE_ENDIAN: u8 = b'l';
const PROTOCOL: u8 = 1;

/// Codes of header fields ("Header Fields").
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    MethodCall = 1,
    MethodReturn = 2,
    Error = 3,
    Signal = 4,
}

/// A value and its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `u`
    Number(u32),
    /// `b`
    Switch(bool),
    /// `v`
    Variant(Box<Self>),
    /// `(…)`
    Struct(Vec<Self>),
    /// `a…`, with the signature of its elements.
    Array(&'static str, Vec<Self>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn signature(&self) -> String {
        match self {
            Self::Text(_) => "s".to_owned(),
            Self::Path(_) => "o".to_owned(),
            Self::Signature(_) => "g".to_owned(),
            Self::Number(_) => "u".to_owned(),
            Self::Switch(_) => "b".to_owned(),
            Self::Variant(_) => "v".to_owned(),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                format!("({fields})")
            }
            Self::Array(element, _) => format!("a{element}"),
        }
    }

    /// Bytes that it must begin at a multiple of.
    fn alignment(signature: &str) -> usize {
        match signature.as_bytes().first() {
            Some(b'g' | b'v') => 1,
            Some(b'(') => 8,
            _ => 4,
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        align(to, Self::alignment(&self.signature()));
        match self {
            Self::Text(text) | Self::Path(text) => {
                number(to, text.len());
                to.extend(text.as_bytes());
                to.push(0);
            }
            Self::Signature(text) => {
                // Ours have a few characters.
                to.push(text.len() as u8);
                to.extend(text.as_bytes());
                to.push(0);
            }
            Self::Number(value) => to.extend(value.to_le_bytes()),
            Self::Switch(value) => to.extend(u32::from(*value).to_le_bytes()),
            Self::Variant(value) => {
                Self::Signature(value.signature()).write(to);
                value.write(to);
            }
            Self::Struct(fields) => fields.iter().for_each(|field| field.write(to)),
            Self::Array(element, elements) => {
                let length_at = to.len();
                number(to, 0);
                align(to, Self::alignment(element));
                let begin = to.len();
                elements.iter().for_each(|element| element.write(to));
                // The padding before the first element does not count.
                let length = (to.len() - begin) as u32;
                to[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
        }
    }
}

fn align(to: &mut Vec<u8>, bytes: usize) {
    to.resize(to.len().next_multiple_of(bytes), 0);
}

/// Lengths are of what we write ourselves, and so small.
fn number(to: &mut Vec<u8>, value: usize) {
    to.extend((value as u32).to_le_bytes());
}

/// A method of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
}

/// A call, ready to be sent.
pub(super) fn call(method: Method, serial: u32, arguments: &[Value]) -> Vec<u8> {
    let mut fields = vec![
        field(PATH, Value::Path(method.path.to_owned())),
        field(INTERFACE, Value::text(method.interface)),
        field(MEMBER, Value::text(method.member)),
        field(DESTINATION, Value::text(method.destination)),
    ];
    if !arguments.is_empty() {
        let signature = arguments.iter().map(Value::signature).collect();
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    let mut body = Vec::new();
    arguments.iter().for_each(|it| it.write(&mut body));
    let mut message = vec![LITTLE_ENDIAN, Kind::MethodCall as u8, 0, PROTOCOL];
    number(&mut message, body.len());
    message.extend(serial.to_le_bytes());
    Fields(fields).write(&mut message);
    align(&mut message, 8);
    message.extend(body);
    message
}

/// An array of structures of a byte and a variant, which are the only bytes there are.
struct Fields(Vec<(u8, Value)>);

fn field(code: u8, value: Value) -> (u8, Value) {
    (code, Value::Variant(Box::new(value)))
}

impl Fields {
    fn write(self, to: &mut Vec<u8>) {
        let length_at = to.len();
        number(to, 0);
        align(to, 8);
        let begin = to.len();
        for (code, value) in self.0 {
            align(to, 8);
            to.push(code);
            value.write(to);
        }
        let length = (to.len() - begin) as u32;
        to[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// The length of the whole message whose fixed part this is; `None` where it is none,
/// or too long.
pub(super) fn length(fixed: &[u8; FIXED_BYTES]) -> Option<usize> {
    if fixed[0] != LITTLE_ENDIAN || fixed[3] != PROTOCOL {
        return None;
    }
    let body = word(fixed, 4)? as usize;
    let fields = word(fixed, 12)? as usize;
    let length = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    let length = length.checked_add(FIXED_BYTES)?;
    (length <= MOST_BYTES).then_some(length)
}

/// A message that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) kind: Kind,
    /// Serial of the call that it answers.
    pub(super) answers: Option<u32>,
    /// An error's name, and what it says.
    pub(super) error: Option<String>,
}

/// Reads a whole message, as far as it matters. `None` where it is none.
pub(super) fn parse(message: &[u8]) -> Option<Received> {
    let kind = match message.get(1)? {
        1 => Kind::MethodCall,
        2 => Kind::MethodReturn,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return None,
    };
    let end = FIXED_BYTES.checked_add(word(message, 12)? as usize)?;
    let (mut answers, mut error, mut says_text) = (None, None, false);
    let mut at = FIXED_BYTES;
    while at < end {
        at = at.next_multiple_of(8);
        let code = *message.get(at)?;
        let length = usize::from(*message.get(at + 1)?);
        let signature = message.get(at + 2..at + 2 + length)?;
        at += length + 3;
        match signature {
            b"u" => {
                at = at.next_multiple_of(4);
                let value = word(message, at)?;
                at += 4;
                if code == REPLY_SERIAL {
                    answers = Some(value);
                }
            }
            b"s" | b"o" => {
                let (value, next) = text(message, at)?;
                at = next;
                if code == ERROR_NAME {
                    error = Some(value);
                }
            }
            b"g" => {
                let length = usize::from(*message.get(at)?);
                says_text = code == SIGNATURE && message.get(at + 1) == Some(&b's');
                at += length + 2;
            }
            _ => return None,
        }
    }
    let body = end.next_multiple_of(8);
    let said = says_text.then(|| text(message, body)).flatten();
    let error = error.map(|name| match said {
        Some((said, _)) => format!("{said} ({name})"),
        None => name,
    });
    Some(Received {
        kind,
        answers,
        error,
    })
}

fn text(message: &[u8], at: usize) -> Option<(String, usize)> {
    let at = at.next_multiple_of(4);
    let length = word(message, at)? as usize;
    let begin = at + 4;
    let end = begin.checked_add(length)?;
    let bytes = message.get(begin..end)?;
    // A zero byte follows.
    Some((String::from_utf8_lossy(bytes).into_owned(), end + 1))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const METHOD: Method = Method {
        destination: "org.freedesktop.systemd1",
        path: "/o",
        interface: "i.i",
        member: "M",
    };

    /// An answer as a bus would send it.
    pub(in super::super) fn answer(kind: Kind, serial: u32, name: &str, said: &str) -> Vec<u8> {
        let mut fields = vec![field(REPLY_SERIAL, Value::Number(serial))];
        if kind == Kind::Error {
            fields.push(field(ERROR_NAME, Value::text(name)));
        }
        fields.push(field(SIGNATURE, Value::Signature("s".to_owned())));
        let mut body = Vec::new();
        Value::text(said).write(&mut body);
        let mut message = vec![LITTLE_ENDIAN, kind as u8, 0, PROTOCOL];
        number(&mut message, body.len());
        message.extend(9_u32.to_le_bytes());
        Fields(fields).write(&mut message);
        align(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_has_it() {
        let arguments = [
            Value::text("ab"),
            Value::Array(
                "(sv)",
                vec![Value::Struct(vec![
                    Value::text("P"),
                    Value::Variant(Box::new(Value::Switch(true))),
                ])],
            ),
        ];
        let message = call(METHOD, 7, &arguments);
        let fixed = message[..FIXED_BYTES].try_into().unwrap();
        assert_eq!(length(&fixed), Some(message.len()));
        assert_eq!(message[8], 7);
        let body_bytes = word(&message, 4).unwrap() as usize;
        let body = &message[message.len() - body_bytes..];
        let expected: &[u8] = &[
            2, 0, 0, 0, b'a', b'b', 0, 0, // "ab", and padding to the array's length
            16, 0, 0, 0, 0, 0, 0,
            0, // 16 bytes from the structure on, padding to 8, not counted
            1, 0, 0, 0, b'P', 0, // the name
            1, b'b', 0, 0, 0, 0, // the variant's signature, padding to 4
            1, 0, 0, 0, // true
        ];
        // The array's first element begins at a multiple of eight.
        assert_eq!(body.len(), expected.len(), "{body:?}");
        assert_eq!(body, expected);
    }

    #[test]
    fn answers_are_told_apart_and_errors_say_what_is_wrong() {
        let good = parse(&answer(Kind::MethodReturn, 7, "", "/job/1")).unwrap();
        assert_eq!(
            (good.kind, good.answers, good.error),
            (Kind::MethodReturn, Some(7), None)
        );
        let bad = parse(&answer(Kind::Error, 8, "org.x.No", "not today")).unwrap();
        assert_eq!(bad.error.as_deref(), Some("not today (org.x.No)"));
        assert_eq!(bad.answers, Some(8));
    }

    #[test]
    fn nonsense_is_refused_wherever_it_is_cut_or_changed() {
        let message = answer(Kind::Error, 8, "org.x.No", "not today");
        for end in 0..message.len() {
            let _ = parse(&message[..end]);
        }
        for at in 0..message.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = message.clone();
                changed[at] = value;
                let _ = parse(&changed);
            }
        }
        let fixed = |bytes: [u8; 16]| length(&bytes);
        assert_eq!(fixed([0xff; 16]), None);
        let mut huge = [0; 16];
        huge[0] = LITTLE_ENDIAN;
        huge[3] = PROTOCOL;
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(fixed(huge), None);
    }
}
