//! What the user sees of a build: one plain line for each step.

/// Counts the steps of a build and tells each to a listener.
pub struct Progress<'a> {
    tell: &'a mut dyn FnMut(&str),
    step: usize,
    steps: usize,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Progress({}/{})", self.step, self.steps)
    }
}

impl<'a> Progress<'a> {
    /// Progress of `steps` steps; `tell` gets one line without a line break.
    pub fn new(steps: usize, tell: &'a mut dyn FnMut(&str)) -> Self {
        Self {
            tell,
            step: 0,
            steps,
        }
    }

    /// Counts one step.
    pub(crate) fn advance(&mut self) {
        self.step += 1;
    }

    /// Tells something about the current step.
    pub(crate) fn say(&mut self, text: &str) {
        (self.tell)(&format!("[{}/{}] {text}", self.step, self.steps));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_the_step() {
        let mut lines = Vec::new();
        let mut tell = |line: &str| lines.push(line.to_owned());
        let mut progress = Progress::new(2, &mut tell);
        progress.advance();
        progress.say("kernel");
        progress.advance();
        progress.say("agent");
        assert_eq!(lines, ["[1/2] kernel", "[2/2] agent"]);
    }
}
