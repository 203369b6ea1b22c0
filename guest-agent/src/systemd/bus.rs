//! A connection to a message bus, for one call.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::message::{self, FIXED_BYTES, Kind, Method, Value};

/// What the bus, and systemd behind it, may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest line of the bus before messages begin.
const LONGEST_LINE: u64 = 4096;
/// Messages of others that may come before the answer.
const MOST_OTHERS: usize = 1000;

const HELLO: Method = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
};
const START_TRANSIENT_UNIT: Method = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "StartTransientUnit",
};

/// A bus that knows who we are.
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Bus {
    /// Connects and says who we are: what the kernel says of the socket. A number of
    /// our own could be wrong, as in a user namespace users have others.
    pub(super) fn connect(path: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self {
            stream: BufReader::new(stream),
            serial: 0,
        };
        // D-Bus specification, "Authentication Protocol".
        bus.say(b"\0AUTH EXTERNAL\r\n")?;
        bus.expect("DATA")?;
        bus.say(b"DATA\r\n")?;
        bus.expect("OK ")?;
        bus.say(b"BEGIN\r\n")?;
        match bus.exchange(HELLO, &[])? {
            Ok(()) => Ok(bus),
            Err(reason) => Err(io::Error::other(reason)),
        }
    }

    /// Calls StartTransientUnit; inside, what systemd says of it.
    pub(super) fn call(&mut self, arguments: &[Value]) -> io::Result<Result<(), String>> {
        self.exchange(START_TRANSIENT_UNIT, arguments)
    }

    fn exchange(&mut self, method: Method, arguments: &[Value]) -> io::Result<Result<(), String>> {
        self.serial += 1;
        self.say(&message::call(method, self.serial, arguments))?;
        for _ in 0..MOST_OTHERS {
            let received = self.receive()?;
            if received.answers != Some(self.serial) {
                continue;
            }
            match received.kind {
                Kind::MethodReturn => return Ok(Ok(())),
                Kind::Error => return Ok(Err(received.error.unwrap_or_default())),
                Kind::MethodCall | Kind::Signal => {}
            }
        }
        Err(nonsense())
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn expect(&mut self, start: &str) -> io::Result<()> {
        let mut line = String::new();
        (&mut self.stream).take(LONGEST_LINE).read_line(&mut line)?;
        match line.starts_with(start) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it does not take us for who we are",
            )),
        }
    }

    fn receive(&mut self) -> io::Result<message::Received> {
        let mut fixed = [0; FIXED_BYTES];
        self.stream.read_exact(&mut fixed)?;
        let length = message::length(&fixed).ok_or_else(nonsense)?;
        let mut whole = fixed.to_vec();
        whole.resize(length, 0);
        self.stream.read_exact(&mut whole[FIXED_BYTES..])?;
        message::parse(&whole).ok_or_else(nonsense)
    }
}

fn nonsense() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it says nothing that makes sense",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;

    use super::super::message::tests::answer;
    use super::*;

    /// A bus that answers each call with the next of these.
    fn bus(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut zero = [1];
            stream.read_exact(&mut zero).unwrap();
            assert_eq!(zero, [0]);
            let mut hear = |expected: &str, reply: &str| {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                assert_eq!(line, expected);
                stream.get_mut().write_all(reply.as_bytes()).unwrap();
            };
            hear("AUTH EXTERNAL\r\n", "DATA\r\n");
            hear("DATA\r\n", "OK 0123456789abcdef\r\n");
            hear("BEGIN\r\n", "");
            for reply in answers {
                let mut fixed = [0; FIXED_BYTES];
                stream.read_exact(&mut fixed).unwrap();
                let mut rest = vec![0; message::length(&fixed).unwrap() - FIXED_BYTES];
                stream.read_exact(&mut rest).unwrap();
                stream.get_mut().write_all(&reply).unwrap();
            }
        });
        (folder, path)
    }

    fn ask(answers: Vec<Vec<u8>>) -> io::Result<Result<(), String>> {
        let (_folder, path) = bus(answers);
        Bus::connect(path.to_str().unwrap())?.call(&[Value::text("x")])
    }

    #[test]
    fn a_call_gets_its_own_answer() {
        let hello = answer(Kind::MethodReturn, 1, "", ":1.7");
        let signal = answer(Kind::Signal, 0, "", "NameAcquired");
        let job = answer(Kind::MethodReturn, 2, "", "/job/1");
        let said = ask(vec![hello.clone(), [signal, job].concat()]);
        assert_eq!(said.unwrap(), Ok(()));
        let no = answer(Kind::Error, 2, "org.x.Exists", "there is one");
        let said = ask(vec![hello, no]).unwrap();
        assert_eq!(said, Err("there is one (org.x.Exists)".to_owned()));
    }

    #[test]
    fn a_bus_that_goes_or_lies_is_an_error() {
        assert!(ask(vec![]).is_err());
        assert!(ask(vec![vec![0xff; 64]]).is_err());
        assert!(Bus::connect("/no/such/bus").is_err());
    }
}
