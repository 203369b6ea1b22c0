//! What profiles answer, by running their programs the way the kernel does.

use nix::libc;
use serde_json::Value;

use super::calls::HERE;
use super::*;
use crate::sys::caps::CapabilitySet;

mod builtin;
mod conditions;
mod files;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// What a container without options has, on a kernel of today.
fn granted() -> Granted {
    Granted {
        caps: crate::launch::plan::DEFAULT_CAPABILITIES,
        kernel: (6, 12),
    }
}

/// A call that can be made.
#[derive(Debug, Clone, Copy)]
struct Made {
    arch: u32,
    number: u32,
    arguments: [u64; 6],
}

fn made(name: &str, arguments: &[u64]) -> Made {
    let number = HERE.native.number(name);
    numbered(
        number.unwrap_or_else(|| panic!("no {name} here")),
        arguments,
    )
}

fn numbered(number: u32, arguments: &[u64]) -> Made {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    Made {
        arch: HERE.native.audit,
        number,
        arguments: all,
    }
}

/// Classic BPF, as far as filters use it (bpf(4)), on a `struct seccomp_data`.
fn run(program: &SeccompProgram, made: &Made) -> u32 {
    let mut data = vec![made.number, made.arch, 0, 0];
    data.extend(
        made.arguments
            .iter()
            .flat_map(|it| [*it as u32, (it >> 32) as u32]),
    );
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = program.0[at];
        let code = u16::from_ne_bytes([c0, c1]);
        let k = u32::from_ne_bytes([k0, k1, k2, k3]);
        at += 1;
        let taken = match code {
            0x20 => {
                a = data[k as usize / 4];
                continue;
            }
            0x54 => {
                a &= k;
                continue;
            }
            0x06 => return k,
            0x05 => {
                at += k as usize;
                continue;
            }
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            other => panic!("instruction {other:#x} is not used by filters"),
        };
        at += usize::from(if taken { jt } else { jf });
    }
}

fn compiled(profile: &SeccompProfile) -> SeccompProgram {
    programs(profile, &granted()).unwrap().remove(0)
}

fn file(document: &Value) -> SeccompProfile {
    SeccompProfile::File {
        name: "test.json".to_owned(),
        text: document.to_string(),
    }
}

fn answer(profile: &SeccompProfile, made: Made) -> u32 {
    run(&compiled(profile), &made)
}

const ALL: [SeccompProfile; 3] = [
    SeccompProfile::Default,
    SeccompProfile::Minimal,
    SeccompProfile::Strict,
];
