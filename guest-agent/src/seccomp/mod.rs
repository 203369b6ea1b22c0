//! System-call filters.
//!
//! A profile has four answers, and a filter compiled by seccompiler has two.
//! So the answers that depend on a call's number alone are a program of our
//! own, and seccompiler compiles a second one for those that depend on
//! arguments. The kernel runs both and takes the stricter answer (seccomp(2)):
//!
//! ```text
//!            foreign, x32   not in the table   denied   denied arguments   the rest
//!  numbers   kill           enosys             eperm    allow              allow
//!  arguments kill           allow              allow    eperm              allow
//! ```
//!
//! ENOSYS for calls that are newer than the table, and for `clone3`, whose
//! arguments a filter cannot see, makes a C library fall back to older ones.
//!
//! What is always allowed costs next to nothing per call: the kernel caches it
//! in a bitmap. Installing a program costs more the longer it is, though, and
//! every container pays: seccompiler's chain of 440 numbers took 1.2 ms, the
//! binary search over their ranges takes a tenth of that.

mod numbers;
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
    Ok(vec![
        numbers::program(&[
            (table::ALLOWED, libc::SECCOMP_RET_ALLOW),
            (table::DENIED, refusal(libc::EPERM)),
        ]),
        compile(denied_arguments()?, libc::EPERM, arch)?,
    ])
}

/// The answer that makes a call fail with `errno`.
const fn refusal(errno: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

fn denied_arguments() -> Result<Rules, SeccompError> {
    let mut rules = Rules::new();
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

/// Refuses what matches the rules, and allows the rest.
fn compile(
    rules: Rules,
    errno: libc::c_int,
    arch: TargetArch,
) -> Result<SeccompProgram, SeccompError> {
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    let program: BpfProgram = filter.try_into()?;
    let instruction = |it: &seccompiler::sock_filter| encode(it.code, it.jt, it.jf, it.k);
    Ok(SeccompProgram(program.iter().map(instruction).collect()))
}

/// The bytes of a `struct sock_filter`.
fn encode(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> [u8; 8] {
    let [code_0, code_1] = code.to_ne_bytes();
    let [k0, k1, k2, k3] = operand.to_ne_bytes();
    [code_0, code_1, jump_true, jump_false, k0, k1, k2, k3]
}

#[cfg(test)]
mod tests;
