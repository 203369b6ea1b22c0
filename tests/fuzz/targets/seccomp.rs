//! A system-call profile from a file: it is refused in one line, or comes to a
//! program that the kernel takes, and what is shown of it to the same program.

#![no_main]

use isolazi_agent::seccomp::{Granted, programs, show};
use isolazi_agent::sys::caps::CapabilitySet;
use isolazi_protocol::SeccompProfile;
use libfuzzer_sys::fuzz_target;

/// `BPF_MAXINSNS`.
const MOST: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let granted = Granted {
        caps: CapabilitySet::of(&[0, 1, 18]),
        kernel: (6, 12),
    };
    let profile = file(text);
    match programs(&profile, &granted) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(compiled) => {
            compiled.iter().for_each(|program| check(&program.0));
            let shown = show(&profile, &granted).expect("what compiles can be shown");
            let again = programs(&file(&shown), &granted).expect("what is shown compiles");
            assert_eq!(compiled, again);
        }
    }
});

fn file(text: &str) -> SeccompProfile {
    SeccompProfile::File {
        name: "fuzz".to_owned(),
        text: text.to_owned(),
    }
}

/// What the kernel checks, and that no jump leads out (`bpf_check_classic`).
fn check(program: &[[u8; 8]]) {
    assert!(!program.is_empty() && program.len() <= MOST);
    for (at, [code, _, if_so, if_not, k @ ..]) in program.iter().enumerate() {
        let k = u32::from_ne_bytes(*k) as usize;
        let furthest = match code {
            0x05 => k,
            0x15 | 0x25 | 0x35 => usize::from(*if_so.max(if_not)),
            0x20 => {
                assert!(k % 4 == 0 && k < 64);
                0
            }
            _ => 0,
        };
        assert!(at + 1 + furthest < program.len() || *code == 0x06);
    }
    assert_eq!(program[program.len() - 1][0], 0x06);
}
