//! System-call filters.
//!
//! A filter compiled by seccompiler has one action for what matches and one
//! for what does not, but a profile needs four answers. So it is a stack, of
//! which the kernel runs every program and takes the strictest answer
//! (seccomp(2)):
//!
//! ```text
//!             x32 ABI   not in the table   denied   denied arguments   the rest
//!  foreign     kill          allow          allow        allow          allow
//!  known       enosys        enosys         allow        allow          allow
//!  denied      allow         allow          eperm        eperm          allow
//!  together    kill          enosys         eperm        eperm          allow
//! ```
//!
//! ENOSYS for calls that are newer than the table, and for `clone3`, whose
//! arguments a filter cannot see, makes a C library fall back to older ones.
//! Another architecture's calls are killed by the check that seccompiler puts
//! in front of each of its programs. What is always allowed costs next to
//! nothing per call: the kernel caches it in a bitmap.

mod table;

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::launch::plan::SeccompProgram;

/// Why a profile does not compile, which would be a mistake in its table.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// For an architecture without a table.
    #[error("no system-call table for {0}")]
    Architecture(&'static str),
    /// seccompiler's verdict.
    #[error("the profile does not compile")]
    Compile(#[from] seccompiler::BackendError),
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Flags of clone(2) that make namespaces, each to be refused.
const NAMESPACE_FLAGS: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Address families that reach past the network namespace: the kernel's crypto
/// interface, and the way to the agent itself.
const DENIED_FAMILIES: [libc::c_int; 2] = [libc::AF_ALG, libc::AF_VSOCK];

/// Execution domains that ordinary programs ask for: Linux, Linux with the
/// uname(2) of 2.6, both with 32-bit addresses, and "tell me".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The programs of the `default` profile, in the order of their installation.
pub fn default_profile() -> Result<Vec<SeccompProgram>, SeccompError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| SeccompError::Architecture(std::env::consts::ARCH))?;
    let known: Rules = every(table::ALLOWED).chain(every(table::DENIED)).collect();
    let mut programs = foreign(arch);
    programs.push(compile(known, libc::ENOSYS, Matched::Allowed, arch)?);
    programs.push(compile(denied()?, libc::EPERM, Matched::Refused, arch)?);
    Ok(programs)
}

/// A rule for each call, whatever its arguments.
fn every(calls: &[&[i64]]) -> impl Iterator<Item = (i64, Vec<SeccompRule>)> {
    calls.concat().into_iter().map(|call| (call, vec![]))
}

fn denied() -> Result<Rules, SeccompError> {
    let mut rules: Rules = every(table::DENIED).collect();
    rules.insert(
        libc::SYS_clone,
        any_of(NAMESPACE_FLAGS.iter().map(|&flag| {
            let flag = u64::from(flag.cast_unsigned());
            condition(SeccompCmpOp::MaskedEq(flag), flag)
        }))?,
    );
    rules.insert(
        libc::SYS_socket,
        any_of(
            DENIED_FAMILIES
                .iter()
                .map(|&family| condition(SeccompCmpOp::Eq, u64::from(family.cast_unsigned()))),
        )?,
    );
    let none_of: Result<Vec<_>, _> = PERSONALITIES
        .iter()
        .map(|&persona| condition(SeccompCmpOp::Ne, persona))
        .collect();
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(none_of?)?]);
    Ok(rules)
}

/// One condition on the lower half of the first argument, which is all that
/// the kernel looks at in an `int`.
fn condition(operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, SeccompError> {
    Ok(SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}

fn any_of(
    conditions: impl Iterator<Item = Result<SeccompCondition, SeccompError>>,
) -> Result<Vec<SeccompRule>, SeccompError> {
    conditions
        .map(|condition| Ok(SeccompRule::new(vec![condition?])?))
        .collect()
}

/// What becomes of the calls that a program lists; the others get the opposite.
#[derive(Clone, Copy)]
enum Matched {
    Allowed,
    Refused,
}

fn compile(
    rules: Rules,
    errno: libc::c_int,
    matched: Matched,
    arch: TargetArch,
) -> Result<SeccompProgram, SeccompError> {
    let refusal = SeccompAction::Errno(errno.cast_unsigned());
    let (listed, others) = match matched {
        Matched::Allowed => (SeccompAction::Allow, refusal),
        Matched::Refused => (refusal, SeccompAction::Allow),
    };
    let program: BpfProgram = SeccompFilter::new(rules, others, listed, arch)?.try_into()?;
    let instruction = |it: &seccompiler::sock_filter| encode(it.code, it.jt, it.jf, it.k);
    Ok(SeccompProgram(program.iter().map(instruction).collect()))
}

/// Kills whoever calls through the x32 ABI, whose numbers have bit 30 set
/// under x86_64's own architecture mark.
fn foreign(arch: TargetArch) -> Vec<SeccompProgram> {
    const X32_BIT: u32 = 0x4000_0000;
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    match arch {
        TargetArch::x86_64 => vec![SeccompProgram(vec![
            encode(LOAD_NUMBER, 0, 0, 0),
            encode(JUMP_IF_SET, 0, 1, X32_BIT),
            encode(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            encode(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ])],
        _ => vec![],
    }
}

/// The bytes of a `struct sock_filter`.
fn encode(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> [u8; 8] {
    let [code_0, code_1] = code.to_ne_bytes();
    let [k0, k1, k2, k3] = operand.to_ne_bytes();
    [code_0, code_1, jump_true, jump_false, k0, k1, k2, k3]
}

#[cfg(test)]
mod tests;
