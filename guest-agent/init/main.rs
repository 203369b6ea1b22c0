//! Process 1 of a container that was asked to have an init.
//!
//! The launcher has already made the command its child, so nothing is left to
//! do but to pass signals on to the child, to reap what is orphaned, and to
//! end as the child ends. It is started with every signal blocked, so none is
//! lost, and takes one argument: the child's process id.
//!
//! It is the whole of what a container sees of isolazi, so it is made of a few
//! system calls and of no library, not even Rust's.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

// Both ABIs start a program with the stack pointer at argc, argv following.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x0, sp",
    "bl {start}",
    "brk #0",
    start = sym start
);

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const KILL: usize = 62;
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
}
#[cfg(target_arch = "aarch64")]
mod numbers {
    pub const KILL: usize = 129;
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const PRCTL: usize = 167;
}

const WNOHANG: usize = 1;
const PR_SET_NAME: usize = 15;
const SIGCHLD: isize = 17;
/// Of a reader or writer in the background of a terminal: not for the child.
const SIGTTIN: isize = 21;
const SIGTTOU: isize = 22;
/// What a usage error ends with.
const USAGE: usize = 125;

/// A system call; the kernel keeps all registers but those named.
///
/// # Safety
/// Pointers among the arguments must be valid for what the call does with them.
unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [a, b, c, d] = arguments;
    let result: isize;
    // SAFETY: this is the kernel's calling convention; the caller answers for
    // the arguments.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d,
        );
    }
    result
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: takes an integer, and does not return.
        unsafe { call(numbers::EXIT_GROUP, [status, 0, 0, 0]) };
    }
}

/// The decimal number that the C string `text` is; 0 where it is none.
///
/// # Safety
/// `text` must be null or end in NUL.
unsafe fn number(mut text: *const u8) -> usize {
    let mut value: usize = 0;
    // SAFETY: every byte up to the NUL may be read (the caller's word).
    while !text.is_null() && unsafe { *text } != 0 {
        // SAFETY: as above.
        let digit = unsafe { *text }.wrapping_sub(b'0');
        if digit > 9 {
            return 0;
        }
        value = value.wrapping_mul(10).wrapping_add(digit as usize);
        text = text.wrapping_add(1);
    }
    value
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc there, then as many pointers to C strings,
    // then a null pointer (execve(2)), so argv[1] can be read where argc > 0.
    let child = unsafe {
        match *stack {
            0 => 0,
            _ => number(*stack.wrapping_add(2) as *const u8),
        }
    };
    if child == 0 {
        exit(USAGE);
    }
    // Without a file of its own it has no name that says anything in `ps`.
    let name = c"isolazi-init".as_ptr() as usize;
    // SAFETY: the name is a C string of fewer than 16 bytes.
    unsafe { call(numbers::PRCTL, [PR_SET_NAME, name, 0, 0]) };
    loop {
        reap(child);
        pass_on(child);
    }
}

/// Reaps all that has ended; ends with the child.
fn reap(child: usize) {
    loop {
        let mut status: i32 = 0;
        let at = &raw mut status as usize;
        // SAFETY: `status` is a live integer; no usage is asked for.
        let ended = unsafe { call(numbers::WAIT4, [usize::MAX, at, WNOHANG, 0]) };
        if ended <= 0 {
            return;
        }
        if ended as usize == child {
            exit(status_of(status));
        }
    }
}

/// The exit status that a shell would report (wait(2)).
fn status_of(status: i32) -> usize {
    match status & 0x7f {
        0 => (status >> 8 & 0xff) as usize,
        signal => 128 + signal as usize,
    }
}

/// Waits for a signal, and sends it to the child unless it is about a child.
fn pass_on(child: usize) {
    let all: u64 = u64::MAX;
    let set = &raw const all as usize;
    // SAFETY: the set is as long as is said (8 bytes); neither details nor a
    // time limit are asked for.
    let signal = unsafe { call(numbers::RT_SIGTIMEDWAIT, [set, 0, 0, 8]) };
    if signal > 0 && !matches!(signal, SIGCHLD | SIGTTIN | SIGTTOU) {
        // SAFETY: takes integers.
        unsafe { call(numbers::KILL, [child, signal as usize, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(USAGE)
}
