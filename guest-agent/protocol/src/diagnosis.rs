//! What `isolazi doctor` finds.

use serde::{Deserialize, Serialize};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub subject: String,
    /// How it is.
    pub grade: Grade,
    /// What was found, in one line.
    pub state: String,
    /// How to mend it, in one line.
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Containers run, but something that a user may want does not work.
    Lacking,
    /// Containers do not run.
    Broken,
}

impl Finding {
    /// Nothing to mend.
    pub fn good(subject: &str, state: impl Into<String>) -> Self {
        Self {
            subject: subject.to_owned(),
            grade: Grade::Good,
            state: state.into(),
            remedy: None,
        }
    }

    /// Something to mend.
    pub fn bad(
        subject: &str,
        grade: Grade,
        state: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.to_owned(),
            grade,
            state: state.into(),
            remedy: Some(remedy.into()),
        }
    }
}
