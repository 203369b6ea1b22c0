//! Health checks as images have them (Docker's `Healthcheck`; the image-spec
//! leaves it to Docker), and back.

use isolazi_protocol::{HealthCheck, HealthTest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::json::null_is_default;

/// `Healthcheck` of an image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHealth {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", LINE]`.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Nanoseconds, as all of the following; 0 where it is not said.
    #[serde(deserialize_with = "null_is_default")]
    pub interval: i64,
    /// As above.
    #[serde(deserialize_with = "null_is_default")]
    pub timeout: i64,
    /// As above.
    #[serde(deserialize_with = "null_is_default")]
    pub start_period: i64,
    /// As above.
    #[serde(deserialize_with = "null_is_default")]
    pub start_interval: i64,
    /// So many failures in a row are unhealthy.
    #[serde(deserialize_with = "null_is_default")]
    pub retries: i64,
}

impl ImageHealth {
    /// As Docker writes it: what is not said is not there.
    pub(super) fn described(&self) -> Value {
        let mut described = Map::from_iter([("Test".to_owned(), json!(self.test))]);
        for (key, value) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
            ("Retries", self.retries),
        ] {
            if value != 0 {
                described.insert(key.to_owned(), value.into());
            }
        }
        described.into()
    }

    /// The check; `None` where there is none, or none that anybody knows.
    pub fn check(&self, shell: &[String]) -> Option<HealthCheck> {
        let test = match self.test.split_first()? {
            (kind, []) if kind == "NONE" => HealthTest::Disabled,
            (kind, command) if kind == "CMD" && !command.is_empty() => {
                HealthTest::Command(command.to_vec())
            }
            (kind, [line]) if kind == "CMD-SHELL" => shell_test(line, shell),
            _ => return None,
        };
        // Nobody waits for less than nothing.
        let time = |nanos: i64| match u64::try_from(nanos).unwrap_or(0) {
            0 => 0,
            // What Docker would not have made, either.
            nanos => nanos.max(1_000_000),
        };
        Some(HealthCheck {
            test,
            interval: time(self.interval),
            timeout: time(self.timeout),
            start_period: time(self.start_period),
            start_interval: time(self.start_interval),
            retries: u32::try_from(self.retries.max(0)).unwrap_or(u32::MAX),
        })
    }
}

/// A line for the image's shell.
pub fn shell_test(line: &str, shell: &[String]) -> HealthTest {
    let shell = match shell {
        [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        shell => shell.to_vec(),
    };
    HealthTest::Shell {
        line: line.to_owned(),
        shell,
    }
}

/// The check as an image would have it, in Docker's words.
pub fn described(check: &HealthCheck) -> Value {
    let words = |kind: &str, rest: &[String]| {
        let kind = [kind.to_owned()];
        kind.into_iter().chain(rest.iter().cloned()).collect()
    };
    let time = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
    let image = ImageHealth {
        test: match &check.test {
            HealthTest::Disabled => words("NONE", &[]),
            HealthTest::Command(command) => words("CMD", command),
            HealthTest::Shell { line, .. } => words("CMD-SHELL", std::slice::from_ref(line)),
        },
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: check.retries.into(),
    };
    image.described()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageHealth {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn dockers_forms_are_read_and_written() {
        for text in [
            r#"{"Test":["NONE"]}"#,
            r#"{"Test":["CMD","/check","-x"],"Interval":5000000000,"Retries":2}"#,
            r#"{"Test":["CMD-SHELL","curl localhost"],"StartPeriod":1000000,"StartInterval":2000000,"Timeout":3000000}"#,
        ] {
            let check = image(text).check(&[]).unwrap();
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(described(&check), expected);
        }
        let zsh = ["/bin/zsh".to_owned(), "-c".to_owned()];
        let check = image(r#"{"Test":["CMD-SHELL","x"]}"#).check(&zsh).unwrap();
        assert_eq!(check.test.command().unwrap(), ["/bin/zsh", "-c", "x"]);
    }

    #[test]
    fn what_nobody_knows_is_no_check() {
        for text in [
            "{}",
            r#"{"Test":null}"#,
            r#"{"Test":[]}"#,
            r#"{"Test":["CMD"]}"#,
            r#"{"Test":["CMD-SHELL"]}"#,
            r#"{"Test":["MAGIC","x"]}"#,
        ] {
            assert_eq!(image(text).check(&[]), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_tamed() {
        let check = image(r#"{"Test":["CMD","x"],"Interval":-5,"Timeout":1,"Retries":-1}"#);
        let check = check.check(&[]).unwrap();
        assert_eq!(
            (check.interval, check.timeout, check.retries),
            (0, 1_000_000, 0)
        );
    }
}
