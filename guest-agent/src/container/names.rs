//! Names of containers: what is allowed, and made-up ones.

use isolazi_protocol::ContainerId;

const ADJECTIVES: [&str; 32] = [
    "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "crisp", "daring",
    "eager", "early", "fair", "fleet", "gentle", "glad", "golden", "honest", "keen", "kind",
    "lively", "lucid", "mellow", "noble", "patient", "quiet", "rapid", "silver", "steady", "sunny",
    "vivid", "witty",
];

const NOUNS: [&str; 32] = [
    "acorn", "badger", "beacon", "birch", "canyon", "cedar", "comet", "coral", "falcon", "fjord",
    "garnet", "glacier", "harbor", "heron", "island", "juniper", "lagoon", "lantern", "maple",
    "meadow", "nebula", "otter", "pebble", "quartz", "raven", "river", "saffron", "sparrow",
    "tundra", "valley", "willow", "zephyr",
];

/// Most characters a name may have.
const LONGEST: usize = 255;

/// Whether `name` has Docker's form: a letter or digit, then one or more of
/// letters, digits, `_`, `.` and `-`.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() >= 2
        && name.len() <= LONGEST
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A name derived from the id. After a collision, `attempt` lengthens it. In a
/// guest the second half of the nouns is used, on a host the first: names made
/// up in the two places are never the same.
pub(crate) fn made_up(id: &ContainerId, attempt: usize, in_guest: bool) -> String {
    let digits = id.as_str().as_bytes();
    let pick = |at: usize| usize::from(digits[at]) * 7 + usize::from(digits[at + 1]) * 3;
    let adjective = ADJECTIVES[pick(0) % ADJECTIVES.len()];
    let (here, there) = NOUNS.split_at(NOUNS.len() / 2);
    let nouns = if in_guest { there } else { here };
    let noun = nouns[pick(2) % nouns.len()];
    match attempt {
        0 => format!("{adjective}_{noun}"),
        _ => format!(
            "{adjective}_{noun}_{}",
            &id.as_str()[4..8 + attempt.min(40)]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_docker() {
        for good in ["web", "a1", "my.app-2_x"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "-a",
            ".a",
            "a/b",
            "a b",
            "a\n",
            "ä1",
            &"x".repeat(256),
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn made_up_names_are_valid_and_differ_after_a_collision() {
        let id = ContainerId::from_random(&[0xa7; 32]);
        let name = |attempt| made_up(&id, attempt, false);
        assert!(is_valid(&name(0)));
        assert!(is_valid(&name(100)));
        assert_ne!(name(0), name(1));
        assert_ne!(name(1), name(2));
    }

    #[test]
    fn made_up_names_of_a_guest_are_never_a_hosts() {
        let names = |in_guest| {
            let ids = (0..=255).map(|byte| ContainerId::from_random(&[byte; 32]));
            let names: std::collections::HashSet<_> =
                ids.map(|id| made_up(&id, 0, in_guest)).collect();
            names
        };
        assert!(names(true).is_disjoint(&names(false)));
    }
}
