//! Which devices a container may open: the few that every program may use.
//!
//! Making a device file is allowed: on the mounts of a container it cannot be
//! opened. This is the second line of defence behind those.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use cgroups_rs::devices::{DevicePermissions, DeviceType, DevicesController};

use crate::sys::bpf::{Instruction, attach_device_program};

/// Any major or minor number, to the devices controller of v1.
const ANY: i64 = -1;

/// Character devices: null, zero, full, random, urandom, tty, console, ptmx
/// and the terminals of devpts.
const ALLOWED: [(i32, Option<i32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Denies all others in a group of v1's devices controller.
pub(super) fn limit_v1(folder: &Path) -> cgroups_rs::error::Result<()> {
    let devices = DevicesController::new(folder.to_owned());
    let all = DevicePermissions::all();
    let make = [DevicePermissions::MkNod];
    devices.deny_device(DeviceType::All, ANY, ANY, &all)?;
    devices.allow_device(DeviceType::Char, ANY, ANY, &make)?;
    devices.allow_device(DeviceType::Block, ANY, ANY, &make)?;
    ALLOWED.into_iter().try_for_each(|(major, minor)| {
        let minor = minor.map_or(ANY, i64::from);
        devices.allow_device(DeviceType::Char, i64::from(major), minor, &all)
    })
}

/// Denies all others in a group of v2, by a program.
pub fn limit_unified(folder: &Path) -> io::Result<()> {
    let group = File::open(folder)?;
    attach_device_program(group.as_fd(), &program())?;
    Ok(())
}

/// Registers of eBPF: the result, the context, and three of ours.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
/// `struct bpf_cgroup_dev_ctx`: what is done in the upper half of the first
/// word and to which kind of device in the lower, then the two numbers.
const MAKE_BLOCK: i32 = 1 << 16 | 1;
const MAKE_CHARACTER: i32 = 1 << 16 | 2;
const CHARACTER_BIT: i32 = 2;

const fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(0x61, register, CONTEXT, offset, 0)
}

/// Skips `distance` instructions where the register is `value`.
const fn skip_if(register: u8, value: i32, distance: i16) -> Instruction {
    Instruction::new(0x15, register, 0, distance, value)
}

/// Skips `distance` instructions where the register is not `value`.
const fn skip_unless(register: u8, value: i32, distance: i16) -> Instruction {
    Instruction::new(0x55, register, 0, distance, value)
}

const fn answer(allowed: bool) -> [Instruction; 2] {
    [
        Instruction::new(0xb7, RESULT, 0, 0, allowed as i32),
        Instruction::new(0x95, 0, 0, 0, 0),
    ]
}

fn program() -> Vec<Instruction> {
    let mut program = vec![load(ACCESS, 0), load(MAJOR, 4), load(MINOR, 8)];
    for made in [MAKE_BLOCK, MAKE_CHARACTER] {
        program.push(skip_unless(ACCESS, made, 2));
        program.extend(answer(true));
    }
    // The lower half is the kind: 1 for block devices, 2 for character ones.
    program.push(Instruction::new(0x57, ACCESS, 0, 0, CHARACTER_BIT));
    program.push(skip_if(ACCESS, CHARACTER_BIT, 2));
    program.extend(answer(false));
    for (major, minor) in ALLOWED {
        match minor {
            Some(minor) => {
                program.push(skip_unless(MAJOR, major, 3));
                program.push(skip_unless(MINOR, minor, 2));
            }
            None => program.push(skip_unless(MAJOR, major, 2)),
        }
        program.extend(answer(true));
    }
    program.extend(answer(false));
    program
}
