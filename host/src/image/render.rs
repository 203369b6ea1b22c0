//! Progress for people: bars on a terminal, lines elsewhere. Always on
//! standard error, so that standard output stays clean for the command's own.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use isolazi_protocol::Digest;

use super::progress::{Progress, ProgressEvent};
use super::text::{escape, short};

/// A line about a download that is under way, at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// What suits standard error.
pub fn stderr_progress() -> Arc<dyn Progress> {
    match std::io::stderr().is_terminal() {
        true => Arc::new(Bars::new()),
        false => Arc::new(Lines::new(std::io::stderr())),
    }
}

/// A bar for each layer under way.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    /// Bars on standard error.
    pub fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            layers: Mutex::default(),
        }
    }

    fn start(&self, digest: &Digest, size: u64, resumed: u64) {
        let bar = self.all.add(ProgressBar::new(size).with_style(style()));
        bar.set_prefix(short(digest).to_owned());
        bar.set_position(resumed);
        // Bytes from before say nothing about the speed.
        bar.reset_eta();
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = layers.insert(digest.clone(), bar) {
            old.finish_and_clear();
        }
    }

    fn on_bar(&self, digest: &Digest, change: impl FnOnce(&ProgressBar)) {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = layers.get(digest) {
            change(bar);
        }
    }

    fn line(&self, text: &str) {
        // A terminal that is gone is no reason to fail.
        let _ = self.all.println(text);
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix} {bar:30} {decimal_bytes:>10}/{decimal_total_bytes} {msg}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bars {
    fn event(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Started {
                digest,
                size,
                resumed,
            } => self.start(digest, size, resumed),
            ProgressEvent::Sending { digest, size } => self.start(digest, size, 0),
            ProgressEvent::Advanced { digest, received } => {
                self.on_bar(digest, |bar| bar.set_position(received));
            }
            ProgressEvent::Done(digest) => {
                self.on_bar(digest, |bar| bar.finish_with_message("done"));
            }
            other => {
                if let Some(text) = describe(other) {
                    self.line(&text);
                }
            }
        }
    }
}

/// Plain lines, for logs and pipes.
#[derive(Debug)]
pub struct Lines<W> {
    state: Mutex<LineState<W>>,
}

#[derive(Debug)]
struct LineState<W> {
    output: W,
    layers: HashMap<Digest, Download>,
}

#[derive(Debug)]
struct Download {
    size: u64,
    told: Instant,
}

impl<W: Write> Lines<W> {
    /// Lines on `output`.
    pub fn new(output: W) -> Self {
        Self {
            state: Mutex::new(LineState {
                output,
                layers: HashMap::new(),
            }),
        }
    }
}

impl<W: Write> LineState<W> {
    fn line(&mut self, text: &str) {
        // A closed pipe is no reason to fail.
        let _ = writeln!(self.output, "{text}");
    }

    fn start(&mut self, digest: &Digest, size: u64, resumed: u64) {
        let told = Instant::now();
        self.layers.insert(digest.clone(), Download { size, told });
        let (name, total) = (short(digest), DecimalBytes(size));
        match resumed {
            0 => self.line(&format!("{name}: downloading {total}")),
            all if all == size => self.line(&format!("{name}: unpacking {total}")),
            some => {
                let from = DecimalBytes(some);
                self.line(&format!("{name}: downloading {total}, resuming at {from}"));
            }
        }
    }

    fn send(&mut self, digest: &Digest, size: u64) {
        let told = Instant::now();
        self.layers.insert(digest.clone(), Download { size, told });
        self.line(&format!(
            "{}: pushing {}",
            short(digest),
            DecimalBytes(size)
        ));
    }

    fn advance(&mut self, digest: &Digest, received: u64) {
        let Some(download) = self.layers.get_mut(digest) else {
            return;
        };
        if download.told.elapsed() < LINE_INTERVAL {
            return;
        }
        download.told = Instant::now();
        let (received, size) = (DecimalBytes(received), DecimalBytes(download.size));
        self.line(&format!("{}: {received} of {size}", short(digest)));
    }
}

impl<W: Write + Send> Progress for Lines<W> {
    fn event(&self, event: ProgressEvent<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ProgressEvent::Started {
                digest,
                size,
                resumed,
            } => state.start(digest, size, resumed),
            ProgressEvent::Sending { digest, size } => state.send(digest, size),
            ProgressEvent::Advanced { digest, received } => state.advance(digest, received),
            other => {
                if let Some(text) = describe(other) {
                    state.line(&text);
                }
            }
        }
    }
}

/// The line for an event that is one line everywhere.
fn describe(event: ProgressEvent<'_>) -> Option<String> {
    Some(match event {
        ProgressEvent::Resolving(reference) => format!("pulling {reference}"),
        ProgressEvent::Present(digest) => format!("{}: already here", short(digest)),
        ProgressEvent::Waiting(digest) => {
            format!("{}: waiting for another pull", short(digest))
        }
        ProgressEvent::Retrying { what, reason } => {
            format!("{}: {}; trying again", escape(what), escape(reason))
        }
        ProgressEvent::Done(digest) => format!("{}: done", short(digest)),
        ProgressEvent::Complete {
            reference,
            manifest,
        } => format!("{reference}: {manifest}"),
        ProgressEvent::Started { .. }
        | ProgressEvent::Sending { .. }
        | ProgressEvent::Advanced { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_start_and_end_and_nothing_unprintable() {
        let lines = Lines::new(Vec::new());
        let digest = Digest::from_bytes(&[0xab; 32]);
        lines.event(ProgressEvent::Started {
            digest: &digest,
            size: 12_300_000,
            resumed: 0,
        });
        for received in 0..1000 {
            lines.event(ProgressEvent::Advanced {
                digest: &digest,
                received,
            });
        }
        lines.event(ProgressEvent::Retrying {
            what: "x",
            reason: "\x1b[2J",
        });
        lines.event(ProgressEvent::Done(&digest));
        let text = String::from_utf8(lines.state.into_inner().unwrap().output).unwrap();
        assert_eq!(
            text,
            "abababababab: downloading 12.30 MB\nx: \\u{1b}[2J; trying again\nabababababab: done\n"
        );
    }
}
