//! Conditions on arguments, and every number, by random profiles.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

fn holds(op: &str, argument: u64, value: u64, two: u64) -> bool {
    match op {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        _ => argument & value == two & value,
    }
}

/// Values whose halves often are equal, or next to each other.
fn value() -> impl Strategy<Value = u64> {
    let half = prop_oneof![Just(0_u32), Just(1), Just(2), Just(u32::MAX), any::<u32>()];
    (half.clone(), half).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

type Compared = (usize, u64, u64);

proptest! {
    /// Rules are tried one after the other; all conditions of one must hold.
    #[test]
    fn conditions_mean_what_they_say(
        rules in prop::collection::vec(prop::collection::vec((0..7_usize, value(), value()), 1..=6), 1..6),
        arguments in prop::array::uniform6(value()),
    ) {
        let arg = |(index, (op, value, two)): (usize, &Compared)| {
            json!({"index": index, "value": value, "valueTwo": two, "op": OPERATORS[*op]})
        };
        let described: Vec<Value> = rules.iter().enumerate().map(|(number, conditions)| {
            let args: Vec<Value> = conditions.iter().enumerate().map(arg).collect();
            json!({"name": "futex", "action": "SCMP_ACT_ERRNO", "errnoRet": 100 + number, "args": args})
        }).collect();
        let profile = file(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": described}));
        let first = rules.iter().position(|conditions| {
            conditions.iter().zip(arguments).all(|((op, value, two), argument)| {
                holds(OPERATORS[*op], argument, *value, *two)
            })
        });
        let expected = first.map_or(ALLOW, |number| libc::SECCOMP_RET_ERRNO | (100 + number as u32));
        prop_assert_eq!(answer(&profile, made("futex", &arguments)), expected);
    }

    /// Whatever is listed, every number finds its answer, however far the jumps.
    #[test]
    fn every_number_finds_its_answer(listed in prop::collection::vec(any::<bool>(), 500)) {
        let calls: Vec<(u32, &str)> = HERE.native.calls().collect();
        let is_listed = |number: u32| listed.get(number as usize) == Some(&true);
        let names: Vec<&str> = calls.iter().filter(|(number, _)| is_listed(*number)).map(|(_, name)| *name).collect();
        let profile = file(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}));
        let program = compiled(&profile);
        for number in 0..600 {
            let known = calls.iter().any(|(it, _)| *it == number);
            let expected = match (known, is_listed(number)) {
                (true, true) => ALLOW,
                (true, false) => EPERM,
                (false, _) => ENOSYS,
            };
            prop_assert_eq!(run(&program, &numbered(number, &[])), expected, "{}", number);
        }
    }
}
