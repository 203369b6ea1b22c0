//! The system calls of an architecture, by name and by number.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// An architecture whose calls this machine's kernel may be made to serve.
#[derive(Debug)]
pub(super) struct Architecture {
    /// Its name in a profile.
    pub(super) name: &'static str,
    /// The kernel's mark of it (`linux/audit.h`).
    pub(super) audit: u32,
    /// Its numbers from 2^30 on are those of another ABI, x32.
    pub(super) has_x32: bool,
    /// Its arguments have 32 bits.
    pub(super) is_narrow: bool,
    /// Its socket and IPC calls have a second way in (socketcall(2), ipc(2)).
    pub(super) multiplexes: bool,
    table: &'static LazyLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<&'static str, u32>,
    names: BTreeMap<u32, &'static str>,
}

impl Table {
    fn new(
        calls: impl Iterator<Item = (&'static str, i32)>,
        further: &[(&'static str, u32)],
    ) -> Self {
        let mut table = Self::default();
        let further = further.iter().copied();
        let calls = calls.filter_map(|(name, number)| Some((name, u32::try_from(number).ok()?)));
        for (name, number) in further.chain(calls) {
            table.numbers.insert(name, number);
            table.names.entry(number).or_insert(name);
        }
        table
    }
}

macro_rules! table {
    ($module:ident, $further:expr) => {
        LazyLock::new(|| {
            let calls = syscalls::$module::Sysno::iter();
            Table::new(calls.map(|call| (call.name(), call.id())), $further)
        })
    };
}

static X86_64_CALLS: LazyLock<Table> = table!(x86_64, &[]);
static X86_CALLS: LazyLock<Table> = table!(x86, &[]);
// The kernel has a name of its own for one of them (asm-generic/unistd.h).
static AARCH64_CALLS: LazyLock<Table> = table!(aarch64, &[("newfstatat", 79)]);
static ARM_CALLS: LazyLock<Table> = table!(arm, &[]);

pub(super) static X86_64: Architecture = Architecture {
    name: "SCMP_ARCH_X86_64",
    audit: 0xc000_003e,
    has_x32: true,
    is_narrow: false,
    multiplexes: false,
    table: &X86_64_CALLS,
};
static X86: Architecture = Architecture {
    name: "SCMP_ARCH_X86",
    audit: 0x4000_0003,
    has_x32: false,
    is_narrow: true,
    multiplexes: true,
    table: &X86_CALLS,
};
pub(super) static AARCH64: Architecture = Architecture {
    name: "SCMP_ARCH_AARCH64",
    audit: 0xc000_00b7,
    has_x32: false,
    is_narrow: false,
    multiplexes: false,
    table: &AARCH64_CALLS,
};
static ARM: Architecture = Architecture {
    name: "SCMP_ARCH_ARM",
    audit: 0x4000_0028,
    has_x32: false,
    is_narrow: true,
    multiplexes: false,
    table: &ARM_CALLS,
};

/// A kind of machine, and the calls that its kernel may serve.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its name in a profile's `arches`: Docker's, and so Go's.
    pub(super) name: &'static str,
    pub(super) native: &'static Architecture,
    pub(super) foreign: &'static Architecture,
}

static MACHINES: [Machine; 2] = [
    Machine {
        name: "amd64",
        native: &X86_64,
        foreign: &X86,
    },
    Machine {
        name: "arm64",
        native: &AARCH64,
        foreign: &ARM,
    },
];

/// The one that this is built for.
pub(super) static HERE: &Machine = &MACHINES[if cfg!(target_arch = "x86_64") { 0 } else { 1 }];

impl Architecture {
    /// The number of a call.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.table.numbers.get(name).copied()
    }

    /// All calls, by number.
    pub(super) fn calls(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.table
            .names
            .iter()
            .map(|(number, name)| (*number, *name))
    }

    /// Which call also serves this one, and how its first argument says so.
    pub(super) fn multiplexer(&self, name: &str) -> Option<(&'static str, u64)> {
        if !self.multiplexes {
            return None;
        }
        let place = |names: &[&str]| names.iter().position(|it| *it == name).map(|at| at as u64);
        if let Some(at) = place(&SOCKET_CALLS) {
            return Some(("socketcall", at + 1));
        }
        let of_ipc = IPC_CALLS.iter().find(|(it, _)| *it == name);
        of_ipc.map(|(_, number)| ("ipc", *number))
    }
}

/// From 1 on (`linux/net.h`).
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// `linux/ipc.h`.
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
