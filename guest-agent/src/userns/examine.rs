//! What this machine has for containers of users other than root.

use isolazi_protocol::{Finding, Grade};
use nix::unistd::{User, geteuid};

use super::make::{HELPERS, find};
use super::subordinate::Subordinate;

/// What can be told without making a namespace.
pub fn examine() -> Vec<Finding> {
    let user = geteuid();
    let name = User::from_uid(user).ok().flatten().map(|it| it.name);
    let name = name.unwrap_or_else(|| user.to_string());
    let missing = HELPERS.into_iter().find(|it| find(it).is_none());
    let network = ["pasta", "slirp4netns"]
        .into_iter()
        .find(|it| find(it).is_some());
    vec![
        ids(&Subordinate::of(user), &name, missing),
        way_out(network),
    ]
}

fn ids(ids: &Subordinate, name: &str, missing: Option<&str>) -> Finding {
    const SUBJECT: &str = "ids";
    let lacking = |why: String, remedy: String| {
        let state = format!("containers have user 0 only: {why}");
        Finding::bad(SUBJECT, Grade::Lacking, state, remedy)
    };
    let count = |ranges: &[(u32, u32)]| ranges.iter().map(|it| u64::from(it.1)).sum::<u64>();
    let least = count(&ids.users).min(count(&ids.groups));
    match (least, missing) {
        (0, _) => lacking(
            format!("/etc/subuid and /etc/subgid have none for {name}"),
            format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
        ),
        (_, Some(helper)) => lacking(
            format!("{helper} is not installed"),
            "install it (Debian, Ubuntu: apt-get install uidmap; Fedora: dnf install shadow-utils)"
                .to_owned(),
        ),
        _ => Finding::good(SUBJECT, format!("{least} besides {name}'s own")),
    }
}

fn way_out(program: Option<&str>) -> Finding {
    const SUBJECT: &str = "way out";
    match program {
        Some(program) => Finding::good(SUBJECT, format!("by {program}")),
        None => Finding::bad(
            SUBJECT,
            Grade::Lacking,
            "containers reach nothing but each other",
            "install pasta or slirp4netns (Debian, Ubuntu: apt-get install passt)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_lacks_is_told_with_its_remedy() {
        let some = |count| Subordinate {
            users: vec![(100_000, count)],
            groups: vec![(100_000, count)],
        };
        let none = Subordinate {
            users: vec![],
            ..some(7)
        };
        assert_eq!(
            ids(&some(65536), "ann", None).state,
            "65536 besides ann's own"
        );
        let found = ids(&none, "ann", None);
        assert_eq!(found.grade, Grade::Lacking);
        assert!(found.remedy.is_some_and(|it| it.ends_with("ann")));
        let found = ids(&some(7), "ann", Some("newuidmap"));
        assert!(found.state.contains("newuidmap"), "{found:?}");
        assert_eq!(way_out(None).grade, Grade::Lacking);
    }
}
