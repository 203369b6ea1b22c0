//! Which devices a container may open: the few that every program may use, and
//! those that somebody asked for.
//!
//! Making a device file is allowed: on the mounts of a container it cannot be
//! opened. This is the second line of defence behind those, and the first where
//! a container has the capability to make device files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use cgroups_rs::devices::{DevicePermissions, DeviceType, DevicesController};
use isolazi_protocol::{DeviceAccess, DeviceKind, DeviceRule};

use crate::sys::bpf::{Instruction, attach_device_program};

/// Any major or minor number, to the devices controller of v1.
const ANY: i64 = -1;

/// Any device may be made. Of the character devices these may be used: null,
/// zero, full, random, urandom, tty, console, ptmx and the terminals of devpts.
const ALLOWED: [DeviceRule; 11] = [
    any(DeviceKind::Character, DeviceAccess::MAKE),
    any(DeviceKind::Block, DeviceAccess::MAKE),
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    character(5, Some(0)),
    character(5, Some(1)),
    character(5, Some(2)),
    character(136, None),
];

const fn any(kind: DeviceKind, access: DeviceAccess) -> DeviceRule {
    DeviceRule {
        kind,
        major: None,
        minor: None,
        access,
    }
}

const fn character(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        kind: DeviceKind::Character,
        major: Some(major),
        minor,
        access: DeviceAccess::ALL,
    }
}

/// Denies all but the standard ones and `further` ones in a group of v1's
/// devices controller.
pub(super) fn limit_v1(folder: &Path, further: &[DeviceRule]) -> cgroups_rs::error::Result<()> {
    let devices = DevicesController::new(folder.to_owned());
    devices.deny_device(DeviceType::All, ANY, ANY, &DevicePermissions::all())?;
    let number = |it: Option<u32>| it.map_or(ANY, i64::from);
    for rule in ALLOWED.iter().chain(further) {
        let (major, minor) = (number(rule.major), number(rule.minor));
        let access = permissions(rule.access);
        // That "all" is of every kind only without a number.
        let kinds: &[DeviceType] = match rule.kind {
            DeviceKind::All => &[DeviceType::Char, DeviceType::Block],
            DeviceKind::Block => &[DeviceType::Block],
            DeviceKind::Character => &[DeviceType::Char],
        };
        for kind in kinds {
            devices.allow_device(*kind, major, minor, &access)?;
        }
    }
    Ok(())
}

fn permissions(access: DeviceAccess) -> Vec<DevicePermissions> {
    [
        (access.read, DevicePermissions::Read),
        (access.write, DevicePermissions::Write),
        (access.make, DevicePermissions::MkNod),
    ]
    .into_iter()
    .filter_map(|(is_set, permission)| is_set.then_some(permission))
    .collect()
}

/// The same in a group of v2, by a program.
pub fn limit_unified(folder: &Path, further: &[DeviceRule]) -> io::Result<()> {
    let group = File::open(folder)?;
    attach_device_program(group.as_fd(), &program(further))?;
    Ok(())
}

/// Registers of eBPF: the result, the context, and five of ours.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
const KIND: u8 = 5;
const COVERED: u8 = 6;
/// `struct bpf_cgroup_dev_ctx`: what is done in the upper half of the first
/// word and to which kind of device in the lower, then the two numbers.
const KIND_BITS: i32 = 0xffff;
const ACCESS_SHIFT: i32 = 16;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

const fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(0x61, register, CONTEXT, offset, 0)
}

const fn copy(to: u8, from: u8) -> Instruction {
    Instruction::new(0xbf, to, from, 0, 0)
}

const fn and(register: u8, bits: i32) -> Instruction {
    Instruction::new(0x57, register, 0, 0, bits)
}

const fn shift_right(register: u8, bits: i32) -> Instruction {
    Instruction::new(0x77, register, 0, 0, bits)
}

/// Skips `distance` instructions where the register is not `value`.
const fn skip_unless(register: u8, value: i32, distance: i16) -> Instruction {
    Instruction::new(0x55, register, 0, distance, value)
}

/// Skips `distance` instructions where the registers differ.
const fn skip_unless_same(one: u8, other: u8, distance: i16) -> Instruction {
    Instruction::new(0x5d, one, other, distance, 0)
}

const fn answer(allowed: bool) -> [Instruction; 2] {
    [
        Instruction::new(0xb7, RESULT, 0, 0, allowed as i32),
        Instruction::new(0x95, 0, 0, 0, 0),
    ]
}

fn program(further: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        load(ACCESS, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        copy(KIND, ACCESS),
        and(KIND, KIND_BITS),
        shift_right(ACCESS, ACCESS_SHIFT),
    ];
    for rule in ALLOWED.iter().chain(further) {
        program.extend(allow(rule));
    }
    program.extend(answer(false));
    program
}

/// Ends with a yes where the rule applies, and goes on behind itself otherwise.
fn allow(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests: Vec<Box<dyn Fn(i16) -> Instruction>> = Vec::new();
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => tests.push(Box::new(|to| skip_unless(KIND, BLOCK, to))),
        DeviceKind::Character => tests.push(Box::new(|to| skip_unless(KIND, CHARACTER, to))),
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            // Numbers of devices have 20 bits at most.
            let number = number.cast_signed();
            tests.push(Box::new(move |to| skip_unless(register, number, to)));
        }
    }
    if rule.access != DeviceAccess::ALL {
        let allowed = bits(rule.access);
        // Whatever is done must be among what is allowed.
        tests.push(Box::new(|_| copy(COVERED, ACCESS)));
        tests.push(Box::new(move |_| and(COVERED, allowed)));
        tests.push(Box::new(|to| skip_unless_same(COVERED, ACCESS, to)));
    }
    let yes = answer(true);
    let behind = |index: usize| (tests.len() - index - 1 + yes.len()) as i16;
    let tests = tests.iter().enumerate();
    tests
        .map(|(index, test)| test(behind(index)))
        .chain(yes)
        .collect()
}

fn bits(access: DeviceAccess) -> i32 {
    [
        (access.make, MAKE),
        (access.read, READ),
        (access.write, WRITE),
    ]
    .into_iter()
    .filter_map(|(is_set, bit)| is_set.then_some(bit))
    .sum()
}

#[cfg(test)]
mod tests;
