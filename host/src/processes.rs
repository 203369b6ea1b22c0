//! The columns of ps(1), from what the agent knows of processes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};
use isolazi_protocol::ProcessInfo;

/// Why options make no columns.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// An option of ps that is not known here.
    #[error("'{0}' is not an option that top has; use -ef, aux, or -o with columns")]
    Option(String),
    /// A column that is not known here.
    #[error("'{0}' is not a column that top has; it has {list}", list = names())]
    Column(String),
    /// `-o` with nothing after it.
    #[error("-o needs columns, such as -o pid,cmd")]
    Missing,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Effective user, root by name.
    Uid,
    /// The same under ps's other head.
    User,
    /// Process id.
    Pid,
    /// Parent's id.
    Ppid,
    /// Share of a processor over its life, in whole percent.
    C,
    /// The same with a digit after the point.
    Cpu,
    /// Virtual memory in KiB.
    Vsz,
    /// Resident memory in KiB.
    Rss,
    /// When it started.
    Stime,
    /// Terminal.
    Tty,
    /// Terminal, under ps's head in `aux`.
    Tt,
    /// State.
    Stat,
    /// Threads.
    Nlwp,
    /// Processor time.
    Time,
    /// How long it has run.
    Etime,
    /// Command and arguments.
    Cmd,
    /// The same under ps's head in `aux`.
    Command,
    /// Name of its executable.
    Comm,
}

/// Names that `-o` takes.
const NAMES: [(&str, Column); 21] = [
    ("pid", Column::Pid),
    ("ppid", Column::Ppid),
    ("uid", Column::Uid),
    ("user", Column::User),
    ("c", Column::C),
    ("pcpu", Column::Cpu),
    ("%cpu", Column::Cpu),
    ("vsz", Column::Vsz),
    ("rss", Column::Rss),
    ("stime", Column::Stime),
    ("tty", Column::Tty),
    ("tt", Column::Tt),
    ("stat", Column::Stat),
    ("s", Column::Stat),
    ("nlwp", Column::Nlwp),
    ("time", Column::Time),
    ("etime", Column::Etime),
    ("cmd", Column::Cmd),
    ("args", Column::Cmd),
    ("command", Column::Command),
    ("comm", Column::Comm),
];

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(pub Vec<Column>);

impl Columns {
    /// The columns that options of ps ask for; without any those of `ps -ef`.
    pub fn parse(options: &[String]) -> Result<Self, ColumnsError> {
        use Column::{
            C, Cmd, Command, Cpu, Pid, Ppid, Rss, Stat, Stime, Time, Tt, Tty, Uid, User, Vsz,
        };
        let mut columns = Vec::new();
        let mut options = options.iter().map(String::as_str);
        while let Some(option) = options.next() {
            match option {
                "-ef" | "-e" | "-f" | "ef" => {}
                "aux" | "-aux" => {
                    columns = vec![User, Pid, Cpu, Vsz, Rss, Tt, Stat, Stime, Time, Command];
                }
                "-o" | "-eo" | "o" => {
                    columns.extend(list(options.next().ok_or(ColumnsError::Missing)?)?);
                }
                other => match other.strip_prefix("-eo").or(other.strip_prefix("-o")) {
                    Some(rest) => columns.extend(list(rest)?),
                    None => return Err(ColumnsError::Option(other.to_owned())),
                },
            }
        }
        if columns.is_empty() {
            columns = vec![Uid, Pid, Ppid, C, Stime, Tty, Time, Cmd];
        }
        Ok(Self(columns))
    }
}

fn list(text: &str) -> Result<Vec<Column>, ColumnsError> {
    let names = text.split([',', ' ']).filter(|name| !name.is_empty());
    let columns: Vec<_> = names.map(column).collect::<Result<_, _>>()?;
    match columns.is_empty() {
        true => Err(ColumnsError::Missing),
        false => Ok(columns),
    }
}

fn column(name: &str) -> Result<Column, ColumnsError> {
    let found = NAMES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let unknown = || ColumnsError::Column(name.to_owned());
    found.map(|(_, column)| *column).ok_or_else(unknown)
}

/// When the list is made.
#[derive(Debug, Clone, Copy)]
pub struct Moment(SystemTime);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    fn since(&self, nanos: u64) -> Duration {
        let then = UNIX_EPOCH + Duration::from_nanos(nanos);
        self.0.duration_since(then).unwrap_or_default()
    }
}

impl Column {
    /// Its head.
    pub fn head(&self) -> &'static str {
        match self {
            Self::Uid => "UID",
            Self::User => "USER",
            Self::Pid => "PID",
            Self::Ppid => "PPID",
            Self::C => "C",
            Self::Cpu => "%CPU",
            Self::Vsz => "VSZ",
            Self::Rss => "RSS",
            Self::Stime => "STIME",
            Self::Tty => "TTY",
            Self::Tt => "TT",
            Self::Stat => "STAT",
            Self::Nlwp => "NLWP",
            Self::Time => "TIME",
            Self::Etime => "ELAPSED",
            Self::Cmd => "CMD",
            Self::Command => "COMMAND",
            Self::Comm => "COMM",
        }
    }

    /// What it says of a process.
    pub fn cell(&self, process: &ProcessInfo, now: &Moment) -> String {
        let life = now.since(process.started_at);
        let used = Duration::from_nanos(process.cpu_time);
        let share = used.as_secs_f64() / life.as_secs_f64().max(0.01) * 100.0;
        match self {
            Self::Uid | Self::User => match process.uid {
                0 => "root".to_owned(),
                uid => uid.to_string(),
            },
            Self::Pid => process.pid.to_string(),
            Self::Ppid => process.parent.to_string(),
            Self::C => format!("{:.0}", share.floor().min(99.0)),
            Self::Cpu => format!("{share:.1}"),
            Self::Vsz => (process.virtual_memory / 1024).to_string(),
            Self::Rss => (process.resident_memory / 1024).to_string(),
            Self::Stime => started(process.started_at, now),
            Self::Tty | Self::Tt => process.terminal.clone().unwrap_or_else(|| "?".to_owned()),
            Self::Stat => process.state.to_string(),
            Self::Nlwp => process.threads.to_string(),
            Self::Time => clock(used, true),
            Self::Etime => clock(life, false),
            Self::Cmd | Self::Command => match process.command.is_empty() {
                true => format!("[{}]", process.name),
                false => process.command.join(" "),
            },
            Self::Comm => process.name.clone(),
        }
    }
}

/// The time of today, the day of this year, or the year.
fn started(nanos: u64, now: &Moment) -> String {
    let then: DateTime<Local> = (UNIX_EPOCH + Duration::from_nanos(nanos)).into();
    let age = now.since(nanos);
    let today: DateTime<Local> = now.0.into();
    let format = match () {
        () if then.date_naive() == today.date_naive() => "%H:%M",
        () if age < Duration::from_secs(364 * 86_400) => "%b%d",
        () => "%Y",
    };
    then.format(format).to_string()
}

/// `[DAYS-]HH:MM:SS`; without `hours` these are left out where there are none.
fn clock(duration: Duration, hours: bool) -> String {
    let seconds = duration.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    match (days, h) {
        (0, 0) if !hours => format!("{m:02}:{s:02}"),
        (0, _) => format!("{h:02}:{m:02}:{s:02}"),
        _ => format!("{days}-{h:02}:{m:02}:{s:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Columns, ColumnsError> {
        let options: Vec<_> = options.iter().map(|it| (*it).to_owned()).collect();
        Columns::parse(&options)
    }

    fn heads(options: &[&str]) -> String {
        let columns = parse(options).unwrap().0;
        columns
            .iter()
            .map(Column::head)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn options_are_those_of_ps() {
        assert_eq!(heads(&[]), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(heads(&["-ef"]), heads(&[]));
        assert_eq!(heads(&["-o", "pid,cmd"]), "PID CMD");
        assert_eq!(heads(&["-eo", "pid", "-ocomm"]), "PID COMM");
        assert!(heads(&["aux"]).starts_with("USER PID %CPU"));
        assert!(matches!(parse(&["--forest"]), Err(ColumnsError::Option(_))));
        assert!(matches!(
            parse(&["-o", "nice"]),
            Err(ColumnsError::Column(_))
        ));
        assert!(matches!(parse(&["-o"]), Err(ColumnsError::Missing)));
    }

    #[test]
    fn a_process_is_shown_as_ps_shows_it() {
        let now = Moment(UNIX_EPOCH + Duration::from_secs(1000));
        let process = ProcessInfo {
            pid: 7,
            parent: 1,
            uid: 0,
            terminal: None,
            state: 'S',
            threads: 1,
            started_at: 900 * 1_000_000_000,
            cpu_time: 12_340_000_000,
            virtual_memory: 4096,
            resident_memory: 2048,
            name: "sleep".to_owned(),
            command: vec![],
        };
        let cells = |options: &[&str]| {
            let columns = parse(options).unwrap().0;
            let cells = columns.iter().map(|column| column.cell(&process, &now));
            cells.collect::<Vec<_>>().join(" ")
        };
        let options = ["-o", "uid,pid,ppid,c,pcpu,tty,time,etime,cmd,vsz,rss"];
        assert_eq!(
            cells(&options),
            "root 7 1 12 12.3 ? 00:00:12 01:40 [sleep] 4 2"
        );
        assert_eq!(clock(Duration::from_secs(90_061), true), "1-01:01:01");
    }
}
