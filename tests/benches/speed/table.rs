//! The table that people read.

use std::fmt;

use crate::measure::Pairs;

/// One line: a figure of isolazi's, and what it is to be compared with.
pub(crate) struct Row {
    what: &'static str,
    ours: String,
    peer: &'static str,
    theirs: String,
    ratio: String,
    /// What the ratio, or the figure, is to be at most.
    aim: String,
}

impl Row {
    /// Beside a peer's time, of which at most `aim` is to be taken.
    pub(crate) fn of_pairs(
        what: &'static str,
        peer: &'static str,
        pairs: &Pairs,
        aim: f64,
    ) -> Self {
        Self {
            what,
            ours: seconds(pairs.ours()),
            peer,
            theirs: seconds(pairs.theirs()),
            ratio: format!("{:.2}", pairs.ratio()),
            aim: format!("{aim:.2}"),
        }
    }

    /// A time in seconds that is to be `aim` milliseconds at most.
    pub(crate) fn of_time(what: &'static str, ours: f64, aim: usize) -> Self {
        Self {
            what,
            ours: seconds(ours),
            peer: "",
            theirs: String::new(),
            ratio: String::new(),
            aim: format!("{aim} ms"),
        }
    }

    /// Memory in KiB, beside a peer's where there is one, of which at most `aim`
    /// KiB is to be taken.
    pub(crate) fn of_memory(
        what: &'static str,
        ours: f64,
        beside: Option<(&'static str, f64)>,
        aim: usize,
    ) -> Self {
        let (peer, theirs) = beside.unzip();
        Self {
            what,
            ours: kibibytes(ours),
            peer: peer.unwrap_or_default(),
            theirs: theirs.map(kibibytes).unwrap_or_default(),
            ratio: theirs
                .map(|it| format!("{:.2}", ours / it))
                .unwrap_or_default(),
            aim: kibibytes(aim as f64),
        }
    }

    /// A count that is to be `aim` at most.
    pub(crate) fn of_count(what: &'static str, count: usize, aim: usize) -> Self {
        Self {
            what,
            ours: count.to_string(),
            peer: "",
            theirs: String::new(),
            ratio: String::new(),
            aim: aim.to_string(),
        }
    }
}

fn kibibytes(value: f64) -> String {
    match value {
        value if value < 1024.0 => format!("{value:.0} KiB"),
        value => format!("{:.1} MiB", value / 1024.0),
    }
}

fn seconds(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{:.1} ms", value * 1e3),
        value => format!("{value:.2} s"),
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            f,
            [
                self.what,
                &self.ours,
                self.peer,
                &self.theirs,
                &self.ratio,
                &self.aim,
            ],
        )
    }
}

fn line(f: &mut impl fmt::Write, cells: [&str; 6]) -> fmt::Result {
    let [what, ours, peer, theirs, ratio, aim] = cells;
    write!(
        f,
        "{what:<34} {ours:>10}   {peer:<22} {theirs:>10} {ratio:>7} {aim:>7}"
    )
}

/// Names the columns.
pub(crate) fn heading() -> String {
    let mut heading = String::new();
    let names = ["", "isolazi", "beside", "", "ratio", "at most"];
    // Writing to a String cannot fail.
    let _ = line(&mut heading, names);
    heading
}
