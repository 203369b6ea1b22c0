//! The environment of a container's process, and the C strings of `execve`.

use std::ffi::CString;

use super::error::{LaunchError, Stage};

/// Where commands are looked for when the image does not say.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables by name, each once, in the order they were first set.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Sets each `KEY=VALUE`; the last one of a name wins. Without a `=`, or
    /// without a name, it is not a variable and is left out.
    pub(super) fn extend<'a>(&mut self, variables: impl IntoIterator<Item = &'a String>) {
        for variable in variables {
            match variable.split_once('=') {
                Some((name, value)) if !name.is_empty() => self.set(name, value),
                _ => {}
            }
        }
    }

    /// Sets a variable where there is none of its name.
    pub(super) fn set_if_missing(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// A variable's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// As `execve` takes it.
    pub(super) fn to_c(&self) -> Result<Vec<CString>, LaunchError> {
        let variables = self.0.iter().map(|(name, value)| {
            c_string(&format!("{name}={value}"), || {
                format!("environment variable {name}")
            })
        });
        variables.collect()
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

/// Arguments as `execve` takes them.
pub(super) fn arguments(args: &[String]) -> Result<Vec<CString>, LaunchError> {
    if args.is_empty() {
        return Err(LaunchError::new(
            Stage::Plan,
            "no command to run: give one, or use an image that has one",
        ));
    }
    args.iter()
        .enumerate()
        .map(|(index, arg)| c_string(arg, || format!("argument {index}")))
        .collect()
}

fn c_string(text: &str, what: impl Fn() -> String) -> Result<CString, LaunchError> {
    CString::new(text).map_err(|_| {
        LaunchError::new(
            Stage::Plan,
            format!("the {} has a NUL byte in it: remove it", what()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_wins_and_keeps_its_place() {
        let mut environment = Environment::default();
        let variables = ["A=1", "B=2", "A=3=4", "=x", "C"].map(str::to_owned);
        environment.extend(&variables);
        environment.set_if_missing("B", "other");
        environment.set_if_missing("D", "5");
        let text: Vec<_> = environment.to_c().unwrap();
        let text: Vec<_> = text.iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(text, ["A=3=4", "B=2", "D=5"]);
    }

    #[test]
    fn nul_bytes_are_refused() {
        assert!(arguments(&["a\0b".to_owned()]).is_err());
        assert!(arguments(&[]).is_err());
    }
}
