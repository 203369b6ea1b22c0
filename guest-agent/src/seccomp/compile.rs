//! The program of a resolved profile: for each architecture a binary search
//! over ranges of numbers with the same answer, and the conditions of the few
//! calls that have some.
//!
//! What is always allowed costs next to nothing per call: the kernel finds out
//! by itself which answers depend on the number alone, and keeps them in a
//! bitmap. Installing a program costs more the longer it is, though, and every
//! container pays: a chain of 440 numbers took 1.2 ms, the search over their
//! ranges takes a tenth of that.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::sock_filter;

use super::SeccompError;
use super::resolve::{Action, Answer, Comparison, Condition, Conditional, Resolved, Section};
use crate::launch::plan::SeccompProgram;

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ABOVE: u16 = 0x25;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Most instructions of a program (`BPF_MAXINSNS`).
const MOST: usize = 4096;
/// From where on the numbers are x32's, and from where on they are nobody's.
const X32: [u32; 2] = [0x4000_0000, 0x8000_0000];
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Numbers from `first` on, up to the next range, have one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range<'a> {
    first: u32,
    answer: Leaf<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf<'a> {
    Value(u32),
    Conditional(&'a [Conditional]),
}

pub(super) fn program(profile: &Resolved) -> Result<SeccompProgram, SeccompError> {
    let mut program = vec![load(ARCHITECTURE)];
    for section in &profile.sections {
        let body = body(section, profile.default);
        program.push(jump_if(JUMP_IF_EQUAL, section.architecture.audit, 1, 0));
        program.push(jump(body.len()));
        program.extend(body);
    }
    program.push(give(KILL));
    match program.len() {
        0..=MOST => Ok(SeccompProgram(program.iter().map(encode).collect())),
        needed => Err(SeccompError::TooLong { needed, most: MOST }),
    }
}

/// What is done with the calls of an architecture. Always ends in an answer.
fn body(section: &Section, default: Action) -> Vec<sock_filter> {
    let mut body = vec![load(NUMBER)];
    body.extend(search(&ranges(section, default), section, default));
    body
}

/// A number that is no call's is as if the kernel did not know it, where the
/// profile refuses what it does not name: that makes a C library fall back to
/// an older call.
fn ranges(section: &Section, default: Action) -> Vec<Range<'_>> {
    let unknown = Leaf::Value(match default {
        Action::Errno(_) => Action::Errno(libc::ENOSYS as u16).value(),
        other => other.value(),
    });
    let mut starts = BTreeMap::from([(0, unknown)]);
    if section.architecture.has_x32 {
        starts.extend([(X32[0], Leaf::Value(KILL)), (X32[1], unknown)]);
    }
    for (number, _) in section.architecture.calls() {
        let answer = match section.answers.get(&number) {
            None => Leaf::Value(default.value()),
            Some(Answer::Always(action)) => Leaf::Value(action.value()),
            Some(Answer::When(rules)) => Leaf::Conditional(rules),
        };
        starts.insert(number, answer);
        starts.entry(number + 1).or_insert(unknown);
    }
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (first, answer) in starts {
        if ranges.last().is_none_or(|last| last.answer != answer) {
            ranges.push(Range { first, answer });
        }
    }
    ranges
}

/// The search among `ranges`, with the number loaded.
fn search(ranges: &[Range<'_>], section: &Section, default: Action) -> Vec<sock_filter> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (Some(_), Some(middle)) = (lower.first(), upper.first()) else {
        return match upper.first().map(|it| it.answer) {
            Some(Leaf::Value(value)) => vec![give(value)],
            Some(Leaf::Conditional(rules)) => conditional(rules, section, default),
            None => vec![give(KILL)],
        };
    };
    let lower = search(lower, section, default);
    // A conditional jump reaches 255 instructions, a plain one any number.
    let mut program = match u8::try_from(lower.len()) {
        Ok(distance) => vec![jump_if(JUMP_IF_AT_LEAST, middle.first, distance, 0)],
        Err(_) => vec![
            jump_if(JUMP_IF_AT_LEAST, middle.first, 0, 1),
            jump(lower.len()),
        ],
    };
    program.extend(lower);
    program.extend(search(upper, section, default));
    program
}

/// The first rule that holds, else the default.
fn conditional(rules: &[Conditional], section: &Section, default: Action) -> Vec<sock_filter> {
    let narrow = section.architecture.is_narrow;
    let mut program = Vec::new();
    for (conditions, action) in rules {
        // From the last one back, for each has to know how far it is to the
        // next rule: at most 42 instructions.
        let mut block = vec![give(action.value())];
        for condition in conditions.iter().rev() {
            let mut test = test(condition, narrow, block.len() as u8);
            test.append(&mut block);
            block = test;
        }
        program.append(&mut block);
    }
    program.push(give(default.value()));
    program
}

/// Goes on behind itself where the condition holds, else `rest` further.
///
/// An argument has two halves of 32 bits, of which a 32-bit architecture uses
/// the lower one only.
fn test(condition: &Condition, narrow: bool, rest: u8) -> Vec<sock_filter> {
    let lower = ARGUMENTS + 8 * u32::from(condition.argument);
    let upper = lower + 4;
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let lower_half: (u16, bool) = match condition.comparison {
        Comparison::Masked { mask } => return masked(mask, condition.value, lower, narrow, rest),
        Comparison::Equal => (JUMP_IF_EQUAL, true),
        Comparison::NotEqual => (JUMP_IF_EQUAL, false),
        Comparison::Greater => (JUMP_IF_ABOVE, true),
        Comparison::LessOrEqual => (JUMP_IF_ABOVE, false),
        Comparison::GreaterOrEqual => (JUMP_IF_AT_LEAST, true),
        Comparison::Less => (JUMP_IF_AT_LEAST, false),
    };
    let (code, wanted) = lower_half;
    let last = match wanted {
        true => jump_if(code, low, 0, rest),
        false => jump_if(code, low, rest, 0),
    };
    let mut program = match condition.comparison {
        _ if narrow => vec![],
        // Equal upper halves leave it to the lower ones; others settle it.
        Comparison::Equal => vec![load(upper), jump_if(JUMP_IF_EQUAL, high, 0, rest + 2)],
        Comparison::NotEqual => vec![load(upper), jump_if(JUMP_IF_EQUAL, high, 0, 2)],
        Comparison::Greater | Comparison::GreaterOrEqual => vec![
            load(upper),
            jump_if(JUMP_IF_ABOVE, high, 3, 0),
            jump_if(JUMP_IF_EQUAL, high, 0, rest + 2),
        ],
        _ => vec![
            load(upper),
            jump_if(JUMP_IF_ABOVE, high, rest + 3, 0),
            jump_if(JUMP_IF_EQUAL, high, 0, 2),
        ],
    };
    program.extend([load(lower), last]);
    program
}

fn masked(mask: u64, value: u64, lower: u32, narrow: bool, rest: u8) -> Vec<sock_filter> {
    let half = |at: u32, mask: u32, value: u32, rest: u8| {
        let test = match mask {
            u32::MAX => vec![load(at)],
            mask => vec![load(at), bits(mask)],
        };
        [test, vec![jump_if(JUMP_IF_EQUAL, value, 0, rest)]].concat()
    };
    let (high, low) = ((mask >> 32) as u32, mask as u32);
    let second = match low {
        // Without a mask there is nothing to compare, and 0 is 0.
        0 => vec![],
        low => half(lower, low, value as u32, rest),
    };
    let mut program = match high {
        0 => vec![],
        _ if narrow => vec![],
        high => half(
            lower + 4,
            high,
            (value >> 32) as u32,
            rest + second.len() as u8,
        ),
    };
    program.extend(second);
    program
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(LOAD_WORD, 0, 0, offset)
}

fn bits(mask: u32) -> sock_filter {
    instruction(AND, 0, 0, mask)
}

fn give(answer: u32) -> sock_filter {
    instruction(RETURN, 0, 0, answer)
}

fn jump(distance: usize) -> sock_filter {
    instruction(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
}

fn jump_if(code: u16, value: u32, if_so: u8, if_not: u8) -> sock_filter {
    instruction(code, if_so, if_not, value)
}

/// The bytes of a `struct sock_filter`.
fn encode(instruction: &sock_filter) -> [u8; 8] {
    let [code_0, code_1] = instruction.code.to_ne_bytes();
    let [k0, k1, k2, k3] = instruction.k.to_ne_bytes();
    let (jt, jf) = (instruction.jt, instruction.jf);
    [code_0, code_1, jt, jf, k0, k1, k2, k3]
}
