//! The program that answers by a call's number alone: a binary search over
//! ranges of numbers with the same answer.

use std::collections::BTreeMap;

use nix::libc;

use super::encode;
use crate::launch::plan::SeccompProgram;

const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The kernel's mark of our own architecture (linux/audit.h), and whether its
/// numbers from 2^30 on are those of another ABI, x32.
#[cfg(target_arch = "x86_64")]
const OURS: (u32, bool) = (0xc000_003e, true);
#[cfg(target_arch = "aarch64")]
const OURS: (u32, bool) = (0xc000_00b7, false);

/// From where on the numbers are x32's, and from where on they are nobody's.
const X32: [u32; 2] = [0x4000_0000, 0x8000_0000];

/// An instruction, encoded.
type Instruction = [u8; 8];

/// Numbers from `first` on, up to the next range, have one `answer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    first: u32,
    answer: u32,
}

/// Gives each list of calls its answer, and ENOSYS to every other number.
pub(super) fn program(answers: &[(&[&[i64]], u32)]) -> SeccompProgram {
    let (architecture, has_x32) = OURS;
    let mut instructions = vec![
        encode(LOAD_WORD, 0, 0, ARCHITECTURE),
        encode(JUMP_IF_EQUAL, 1, 0, architecture),
        encode(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        encode(LOAD_WORD, 0, 0, NUMBER),
    ];
    instructions.extend(search(&ranges(answers, has_x32)));
    SeccompProgram(instructions)
}

fn ranges(answers: &[(&[&[i64]], u32)], has_x32: bool) -> Vec<Range> {
    let unknown = super::refusal(libc::ENOSYS);
    let mut starts = BTreeMap::from([(0, unknown)]);
    if has_x32 {
        starts.extend([(X32[0], libc::SECCOMP_RET_KILL_PROCESS), (X32[1], unknown)]);
    }
    for (calls, answer) in answers {
        for number in calls
            .concat()
            .into_iter()
            .filter_map(|it| u32::try_from(it).ok())
        {
            starts.insert(number, *answer);
            starts.entry(number + 1).or_insert(unknown);
        }
    }
    let mut ranges: Vec<Range> = Vec::new();
    for (first, answer) in starts {
        if ranges.last().is_none_or(|last| last.answer != answer) {
            ranges.push(Range { first, answer });
        }
    }
    ranges
}

/// The search among `ranges`, with the number loaded.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (Some(_), Some(middle)) = (lower.first(), upper.first()) else {
        let answer = upper
            .first()
            .map_or(libc::SECCOMP_RET_KILL_PROCESS, |it| it.answer);
        return vec![encode(RETURN, 0, 0, answer)];
    };
    let lower = search(lower);
    // A conditional jump reaches 255 instructions, a plain one any number.
    let mut instructions = match u8::try_from(lower.len()) {
        Ok(distance) => vec![encode(JUMP_IF_AT_LEAST, distance, 0, middle.first)],
        Err(_) => vec![
            encode(JUMP_IF_AT_LEAST, 0, 1, middle.first),
            encode(JUMP, 0, 0, lower.len() as u32),
        ],
    };
    instructions.extend(lower);
    instructions.extend(search(upper));
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_one_answer_are_one_range() {
        let ranges = ranges(&[(&[&[1, 2, 3, 7]], 10), (&[&[4]], 20)], false);
        let unknown = super::super::refusal(libc::ENOSYS);
        let expected = [
            (0, unknown),
            (1, 10),
            (4, 20),
            (5, unknown),
            (7, 10),
            (8, unknown),
        ];
        assert_eq!(
            ranges,
            expected.map(|(first, answer)| Range { first, answer })
        );
    }

    #[test]
    fn long_jumps_take_two_instructions() {
        let calls: Vec<i64> = (0..1000).step_by(2).collect();
        let program = program(&[(&[&calls], libc::SECCOMP_RET_ALLOW)]);
        assert!(program.0.len() > 2 * 255);
        for number in 0..1010 {
            let expected = match number < 1000 && number % 2 == 0 {
                true => libc::SECCOMP_RET_ALLOW,
                false => super::super::refusal(libc::ENOSYS),
            };
            assert_eq!(super::super::tests::run_number(&program, number), expected);
        }
    }
}
