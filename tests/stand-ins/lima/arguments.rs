//! limactl's command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::check_name;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Make an instance of a template, and start it.
    Create { name: String, template: PathBuf },
    /// Start one that is there.
    Start(String),
    /// Shut one down, or cut its power.
    Stop { name: String, force: bool },
    /// Remove one.
    Delete { name: String, force: bool },
    /// All of them, an object a line.
    List,
}

/// Options and operands, which may be in any order.
#[derive(Default)]
struct Words {
    name: Option<String>,
    force: bool,
    json: bool,
    operands: Vec<String>,
}

impl Command {
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let (verb, rest) = words.split_first().context("a command is missing")?;
        let words = Words::parse(verb, rest)?;
        let one = || match words.operands.as_slice() {
            [one] => Ok(one.clone()),
            other => bail!("accepts 1 arg(s), received {}", other.len()),
        };
        let command = match verb.as_str() {
            "start" => match (one()?, words.name) {
                (file, Some(name)) => Self::Create {
                    name,
                    template: file.into(),
                },
                (name, None) => Self::Start(name),
            },
            "stop" => Self::Stop {
                name: one()?,
                force: words.force,
            },
            "delete" => Self::Delete {
                name: one()?,
                force: words.force,
            },
            "list" => {
                ensure!(words.json, "a table is for people");
                ensure!(words.operands.is_empty(), "all are listed here");
                Self::List
            }
            other => bail!("unknown command {other:?} for \"limactl\""),
        };
        let name = match &command {
            Self::Create { name, template } => {
                ensure!(template.is_file(), "no template {}", template.display());
                Some(name)
            }
            Self::Start(name) | Self::Stop { name, .. } | Self::Delete { name, .. } => Some(name),
            Self::List => None,
        };
        name.map_or(Ok(()), |name| check_name(name))?;
        Ok(command)
    }
}

impl Words {
    fn parse(verb: &str, words: &[String]) -> Result<Self> {
        let mut found = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.as_str(), None),
            };
            let mut value = || {
                let next = inline.map(str::to_owned).or_else(|| rest.next().cloned());
                next.with_context(|| format!("flag needs an argument: {flag}"))
            };
            match (verb, flag) {
                // Without it limactl asks questions.
                ("start", "--tty") => ensure!(inline == Some("false"), "there is no terminal"),
                ("start", "--name") => found.name = Some(value()?),
                ("stop" | "delete", "--force" | "-f") if inline.is_none() => found.force = true,
                ("list", "--format" | "-f") => found.json = value()? == "json",
                (_, flag) if flag.starts_with('-') => bail!("unknown flag: {flag}"),
                _ => found.operands.push(word.clone()),
            }
        }
        Ok(found)
    }
}
