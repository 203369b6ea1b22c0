//! Which verbs have been driven in which mode: the table that a run ends with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use crate::command::Invocation;
use crate::mode::Mode;
use crate::surroundings::program;

/// How often each verb was used, by the mode's name.
static USED: Mutex<BTreeMap<(String, String), usize>> = Mutex::new(BTreeMap::new());

/// Options before the verb that take a value.
const WITH_VALUE: [&str; 1] = ["--root"];

/// Notes the verb of a command line.
pub(crate) fn note<'a>(mode: Mode, args: impl IntoIterator<Item = &'a OsStr>) {
    let args = args.into_iter().map(|it| it.to_string_lossy().into_owned());
    if let Some(verb) = verb(args)
        && let Ok(mut used) = USED.lock()
    {
        *used.entry((verb, mode.to_string())).or_default() += 1;
    }
}

fn verb(mut args: impl Iterator<Item = String>) -> Option<String> {
    loop {
        let arg = args.next()?;
        if WITH_VALUE.contains(&arg.as_str()) {
            args.next();
        } else if !arg.starts_with('-') {
            return arg.bytes().all(|it| it.is_ascii_lowercase()).then_some(arg);
        }
    }
}

/// The table of all verbs that the program has, for the modes of this run. A cell is how
/// often the verb was used, or why it was not.
pub(crate) fn table(modes: &[Mode]) -> String {
    let used = USED.lock().map(|used| used.clone()).unwrap_or_default();
    let mut text = format!("\n{:<12}", "verb");
    for mode in modes {
        let _ = write!(text, "{:>14}", mode.to_string());
    }
    text.push('\n');
    for verb in known() {
        let _ = write!(text, "{verb:<12}");
        for mode in modes {
            let count = used.get(&(verb.clone(), mode.to_string()));
            let cell = match (count, mode.is_sampled()) {
                (Some(count), _) => count.to_string(),
                (None, true) => "not sampled".to_owned(),
                (None, false) => "not selected".to_owned(),
            };
            let _ = write!(text, "{cell:>14}");
        }
        text.push('\n');
    }
    text
}

/// The verbs in the program's own help: indented by two, with what they do behind.
fn known() -> Vec<String> {
    let help = program().and_then(|program| {
        let help = Invocation::new(program, Duration::from_secs(30)).args(["--help"]);
        Ok(help.output()?.stdout_text())
    });
    let help = help.unwrap_or_default();
    let verbs = help.lines().filter_map(|line| {
        let verb = line.strip_prefix("  ")?.split(' ').next()?;
        let is_verb = !verb.is_empty() && verb.bytes().all(|it| it.is_ascii_lowercase());
        is_verb.then(|| verb.to_owned())
    });
    verbs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_comes_after_the_options() {
        let verb = |line: &str| verb(line.split(' ').map(str::to_owned));
        assert_eq!(verb("--vm run --rm x").as_deref(), Some("run"));
        assert_eq!(verb("--root /tmp/x ps -a").as_deref(), Some("ps"));
        assert_eq!(verb("--help"), None);
        assert_eq!(verb("Nonsense"), None);
    }
}
