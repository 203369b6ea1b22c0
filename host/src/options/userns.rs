//! `--rootless`, `--uid-map`, `--gid-map` and `--userns`.

use isolazi_protocol::{IdMapping, UserNamespace};

use super::OptionError;
use crate::cli::{UsernsArgs, UsernsMode};

/// What was asked for. Users and groups are mapped alike where only one is said.
pub(super) fn userns(args: &UsernsArgs) -> Result<UserNamespace, OptionError> {
    let (users, groups) = (mappings(&args.uid_map)?, mappings(&args.gid_map)?);
    let mapped = match (users.is_empty(), groups.is_empty()) {
        (true, true) => None,
        (false, true) => Some((users.clone(), users)),
        (true, false) => Some((groups.clone(), groups)),
        (false, false) => Some((users, groups)),
    };
    match (args.userns, mapped) {
        (Some(UsernsMode::Host), Some(_)) => Err(OptionError::Users("--userns host", "--uid-map")),
        (Some(UsernsMode::Auto), Some(_)) => Err(OptionError::Users("--userns auto", "--uid-map")),
        (Some(UsernsMode::Host), None) if args.rootless => {
            Err(OptionError::Users("--userns host", "--rootless"))
        }
        (_, Some((users, groups))) => Ok(UserNamespace::Mapped { users, groups }),
        (Some(UsernsMode::Auto), None) => Ok(UserNamespace::Auto),
        (None, None) if args.rootless => Ok(UserNamespace::Rootless),
        (Some(UsernsMode::Host) | None, None) => Ok(UserNamespace::Host),
    }
}

fn mappings(texts: &[String]) -> Result<Vec<IdMapping>, OptionError> {
    let parse = |text: &String| text.parse().map_err(OptionError::Mapping);
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        rootless: bool,
        mode: Option<UsernsMode>,
        users: &[&str],
        groups: &[&str],
    ) -> Result<UserNamespace, String> {
        let texts = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let args = UsernsArgs {
            rootless,
            uid_map: texts(users),
            gid_map: texts(groups),
            userns: mode,
        };
        userns(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn one_map_is_for_both() {
        let map: IdMapping = "0:1000:1".parse().unwrap();
        let both = UserNamespace::Mapped {
            users: vec![map],
            groups: vec![map],
        };
        assert_eq!(asked(true, None, &["0:1000:1"], &[]), Ok(both.clone()));
        assert_eq!(asked(false, None, &[], &["0:1000:1"]), Ok(both));
        let other: IdMapping = "0:5:1".parse().unwrap();
        let mixed = UserNamespace::Mapped {
            users: vec![map],
            groups: vec![other],
        };
        assert_eq!(asked(true, None, &["0:1000:1"], &["0:5:1"]), Ok(mixed));
    }

    #[test]
    fn modes_are_what_they_say() {
        use UsernsMode::{Auto, Host};
        assert_eq!(asked(false, None, &[], &[]), Ok(UserNamespace::Host));
        assert_eq!(asked(false, Some(Host), &[], &[]), Ok(UserNamespace::Host));
        assert_eq!(asked(true, None, &[], &[]), Ok(UserNamespace::Rootless));
        assert_eq!(asked(true, Some(Auto), &[], &[]), Ok(UserNamespace::Auto));
        for contradiction in [
            asked(false, Some(Host), &["0:1:1"], &[]),
            asked(false, Some(Auto), &[], &["0:1:1"]),
            asked(true, Some(Host), &[], &[]),
        ] {
            assert!(contradiction.unwrap_err().contains("--userns"));
        }
        assert!(
            asked(true, None, &["0:1"], &[])
                .unwrap_err()
                .contains("0:1")
        );
    }
}
