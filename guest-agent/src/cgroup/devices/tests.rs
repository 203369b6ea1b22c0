use super::*;

/// What the program says of an access: the kernel's part, for the instructions
/// that it is made of.
fn ask(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> bool {
    let context = [
        (access << ACCESS_SHIFT | kind).cast_unsigned(),
        major,
        minor,
    ];
    let mut registers = [0_u64; 11];
    let mut at = 0;
    loop {
        let (code, to, from, offset, immediate) = program[at].parts();
        at += 1;
        let (to, from) = (usize::from(to), usize::from(from));
        let immediate = i64::from(immediate).cast_unsigned();
        let skips = match code {
            0x61 => {
                registers[to] = u64::from(context[offset.cast_unsigned() as usize / 4]);
                continue;
            }
            0xbf => {
                registers[to] = registers[from];
                false
            }
            0xb7 => {
                registers[to] = immediate;
                false
            }
            0x57 => {
                registers[to] &= immediate;
                false
            }
            0x77 => {
                registers[to] >>= immediate;
                false
            }
            0x55 => registers[to] != immediate,
            0x5d => registers[to] != registers[from],
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        };
        if skips {
            at += offset.cast_unsigned() as usize;
        }
    }
}

#[test]
fn without_rules_only_the_standard_devices_open() {
    let program = program(&[]);
    let ask = |kind, access, major, minor| ask(&program, kind, access, major, minor);
    assert!(ask(CHARACTER, READ | WRITE, 1, 3) && ask(CHARACTER, READ, 136, 7));
    assert!(ask(BLOCK, MAKE, 8, 0) && ask(CHARACTER, MAKE, 1, 1));
    assert!(!ask(BLOCK, READ, 8, 0) && !ask(CHARACTER, READ, 1, 1));
    assert!(!ask(BLOCK, READ, 1, 3), "a block device of that number");
    assert!(!ask(BLOCK, MAKE | READ, 8, 0));
}

#[test]
fn rules_allow_what_they_say() {
    let rules = ["b 7:* r", "c 10:229 rw", "a 4:5 w"].map(|it| it.parse().unwrap());
    let program = program(&rules);
    let ask = |kind, access, major, minor| ask(&program, kind, access, major, minor);
    assert!(ask(BLOCK, READ, 7, 9) && !ask(BLOCK, READ | WRITE, 7, 9));
    assert!(!ask(CHARACTER, READ, 7, 9) && !ask(BLOCK, READ, 8, 9));
    assert!(ask(CHARACTER, READ | WRITE, 10, 229) && !ask(CHARACTER, READ, 10, 230));
    assert!(ask(BLOCK, WRITE, 4, 5) && ask(CHARACTER, WRITE, 4, 5));
    assert!(!ask(CHARACTER, READ, 4, 5));
}

#[test]
fn all_of_all_is_all() {
    let program = program(&["a *:* rwm".parse().unwrap()]);
    assert!(ask(&program, BLOCK, READ | WRITE | MAKE, 8, 0));
}
