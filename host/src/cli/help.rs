//! The overview of the verbs, by theme, and how mistakes are told.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use super::Cli;

/// The verbs by theme, in the order in which they are shown. One that is in no
/// theme is shown behind them all, and one that does not exist is not shown.
const THEMES: [(&str, &[&str]); 5] = [
    (
        "Containers",
        &[
            "run", "exec", "create", "start", "stop", "restart", "kill", "pause", "unpause",
            "wait", "attach", "rm", "rename", "update", "ps", "logs", "inspect", "top", "port",
            "stats", "port", "cp", "diff", "commit", "export",
        ],
    ),
    (
        "Images",
        &[
            "pull", "push", "build", "images", "rmi", "tag", "history", "save", "load", "import",
            "search", "login", "logout",
        ],
    ),
    ("Volumes and networks", &["volume", "network"]),
    ("Machine", &["vm", "doctor"]),
    (
        "General",
        &[
            "prune",
            "system",
            "events",
            "seccomp",
            "info",
            "version",
            "completion",
            "man",
            "help",
        ],
    ),
];
const OTHERS: &str = "Others";
const HELP: &str = "Print this message, or what a command does";

/// The whole command line.
pub fn command() -> Command {
    let command = Cli::command();
    let overview = overview(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{overview}\
         Options:\n{{options}}\n\n'isolazi help COMMAND' has every option of a command.{{after-help}}"
    ))
}

/// The command line for parsing `words`, with the overview only where it may
/// have to be shown: to make it takes a tenth of what `isolazi version` does.
pub fn command_for(words: impl ExactSizeIterator<Item = OsString>) -> Command {
    let bare = words.len() <= 1;
    let mut words = words;
    match bare || words.any(|word| word == "help" || word == "--help" || word == "-h") {
        true => command(),
        false => Cli::command(),
    }
}

/// The verbs and what they do, by theme.
fn overview(command: &Command) -> String {
    let mut left: Vec<(&str, String)> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| (verb.get_name(), verb.get_about().map(ToString::to_string)))
        .map(|(name, about)| (name, about.unwrap_or_default()))
        .chain([("help", HELP.to_owned())])
        .collect();
    let width = left.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = |title: &str, verbs: &[(&str, String)]| {
        if verbs.is_empty() {
            return;
        }
        text.push_str(&format!("{title}:\n"));
        for (name, about) in verbs {
            // Braces are the template's own.
            let about = about.replace(['{', '}'], "");
            text.push_str(&format!("  {name:<width$}  {about}\n"));
        }
        text.push('\n');
    };
    for (title, verbs) in THEMES {
        let mut shown = Vec::new();
        for verb in verbs {
            if let Some(at) = left.iter().position(|(name, _)| name == verb) {
                shown.push(left.remove(at));
            }
        }
        section(title, &shown);
    }
    section(OTHERS, &left);
    text
}

/// A mistake on the command line in one line, with what may have been meant;
/// `None` where nothing is wrong, but help was asked for.
pub fn complaint(error: &clap::Error) -> Option<String> {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        return None;
    }
    let rendered = error.render().to_string();
    // The first paragraph says what is wrong, some others what may help.
    let what: Vec<&str> = rendered
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    let what = what.join(" ");
    let mut line = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let tips = rendered
        .lines()
        .filter_map(|it| it.trim().strip_prefix("tip: "));
    for tip in tips {
        line.push_str("; ");
        line.push_str(tip);
    }
    let verb = verb_of(error);
    if verb.is_empty()
        && !line.contains("; ")
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(near) = near(word)
    {
        line.push_str(&format!("; a similar subcommand exists: '{near}'"));
    }
    line.push_str(&format!("; see isolazi help{verb}"));
    Some(line)
}

/// The verb that `word` may be a slip of: clap knows those of long words, but
/// `rnu` is too far from `run` for it.
fn near(word: &str) -> Option<String> {
    const SLIP: usize = 1;
    let command = Cli::command();
    let verbs = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned());
    let mut near = verbs.filter(|verb| strsim::damerau_levenshtein(word, verb) <= SLIP);
    near.next()
}

/// The verbs that clap's usage line names, each with a space before it.
fn verb_of(error: &clap::Error) -> String {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return String::new();
    };
    let usage = usage.to_string();
    let words = usage.split_whitespace();
    // "Usage:" comes first and the program, by whatever name it was called;
    // options that were given stand between the verbs.
    let verbs = words
        .skip(2)
        .take_while(|word| !word.starts_with(['[', '<']))
        .filter(|word| !word.starts_with('-'));
    verbs.map(|verb| format!(" {verb}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help() -> String {
        command().render_help().to_string()
    }

    #[test]
    fn every_verb_is_in_the_overview_once_and_under_its_theme() {
        let help = help();
        for verb in Cli::command().get_subcommands() {
            let start = format!("  {} ", verb.get_name());
            let lines = help.lines().filter(|line| line.starts_with(&start));
            assert_eq!(lines.count(), 1, "{start}: {help}");
        }
        let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text}: {help}"));
        assert!(at("Containers:") < at("\n  run ") && at("\n  run ") < at("Images:"));
        assert!(at("Images:") < at("\n  pull ") && at("\n  pull ") < at("Machine:"));
        assert!(at("Machine:") < at("\n  vm ") && at("\n  vm ") < at("General:"));
        assert!(at("\nOptions:") < at("--insecure-registry"));
    }

    #[test]
    fn a_verb_of_no_theme_is_shown_all_the_same() {
        let command = Command::new("x").subcommand(Command::new("novel").about("a {new} one"));
        assert!(overview(&command).contains("Others:\n  novel  a new one\n"));
    }

    fn complaint_of(words: &[&str]) -> Option<String> {
        let words = ["isolazi"].iter().chain(words);
        let error = command().try_get_matches_from(words).unwrap_err();
        complaint(&error)
    }

    #[test]
    fn mistakes_are_one_line_and_say_what_may_have_been_meant() {
        for (words, said) in [
            (
                &["rnu"][..],
                "unrecognized subcommand 'rnu'; a similar subcommand exists: 'run'; see isolazi help",
            ),
            (
                &["ps", "--al"],
                "unexpected argument '--al' found; a similar argument exists: '--all'; see isolazi help ps",
            ),
            (
                &["--vm", "ps", "--al"],
                "unexpected argument '--al' found; a similar argument exists: '--all'; see isolazi help ps",
            ),
            (
                &["rm"],
                "the following required arguments were not provided: <CONTAINERS>...; see isolazi help rm",
            ),
            (
                &["vm", "strat"],
                "unrecognized subcommand 'strat'; some similar subcommands exist: 'status', 'restart', 'start'; see isolazi help vm",
            ),
        ] {
            assert_eq!(complaint_of(words).as_deref(), Some(said));
        }
        for words in [&["help"][..], &["help", "run"], &["--version"], &[]] {
            assert_eq!(complaint_of(words), None, "{words:?}");
        }
    }
}
