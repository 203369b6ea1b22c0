//! Running a program and judging what it did.
//!
//! Nothing here waits without an end: a program that takes longer than its time
//! is killed and reported with what it had said by then. The same goes for
//! output that stays open after the program ended, which is how a background
//! process that kept its starter's streams shows.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::output::Output;
use crate::terminal::Session;

/// How long output may stay open after its program ended.
const DRAIN: Duration = Duration::from_secs(5);
/// Between two looks at a child that has not ended yet.
const TICK: Duration = Duration::from_millis(2);

/// A program that is about to be run.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    stdin: Input,
    timeout: Duration,
}

#[derive(Debug)]
enum Input {
    Null,
    Bytes(Vec<u8>),
    Held,
    Given,
}

impl Invocation {
    /// `program` with no arguments, no input and `timeout` to end.
    pub fn new(program: impl AsRef<OsStr>, timeout: Duration) -> Self {
        Self {
            command: Command::new(program),
            stdin: Input::Null,
            timeout,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs it in `folder`.
    #[must_use]
    pub fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Feeds `input` to its standard input, then closes it.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(input.into());
        self
    }

    /// Keeps its standard input open, to be written to by [`Running::write`].
    #[must_use]
    pub fn hold_stdin(mut self) -> Self {
        self.stdin = Input::Held;
        self
    }

    /// Connects its standard input to `stdio`.
    #[must_use]
    pub fn stdin_from(mut self, stdio: impl Into<Stdio>) -> Self {
        self.command.stdin(stdio);
        self.stdin = Input::Given;
        self
    }

    /// Ends it after `timeout` instead.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Puts `program` with `args` in front, as `setpriv` and `setsid` want it.
    #[must_use]
    pub fn through(self, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).arg(self.command.get_program());
        command.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command, ..self }
    }

    /// The bare command, for whoever wants to measure nothing but it.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Starts it on a terminal of its own.
    pub fn on_terminal(self, rows: u16, columns: u16) -> Result<Session> {
        Session::start(&self.command, rows, columns, self.timeout)
    }

    /// Starts it.
    pub fn spawn(mut self) -> Result<Running> {
        let shown = shown(&self.command);
        match self.stdin {
            Input::Null => self.command.stdin(Stdio::null()),
            Input::Given => &mut self.command,
            Input::Bytes(_) | Input::Held => self.command.stdin(Stdio::piped()),
        };
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let stdin = child.stdin.take();
        let stdin = match self.stdin {
            Input::Bytes(bytes) => {
                feed(stdin, bytes);
                None
            }
            _ => stdin,
        };
        Ok(Running {
            stdout: Collected::from(child.stdout.take()),
            stderr: Collected::from(child.stderr.take()),
            started: Instant::now(),
            timeout: self.timeout,
            command: shown,
            child,
            stdin,
        })
    }

    /// Runs it to its end.
    pub fn output(self) -> Result<Output> {
        self.spawn()?.wait()
    }
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if !word.is_empty() && !word.contains([' ', '\'', '"', '$', '\n', ';']) {
            return word.into_owned();
        }
        format!("'{}'", word.replace('\'', r"'\''"))
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Writes in a thread of its own, since a program may well answer before it has read all.
fn feed(stdin: Option<ChildStdin>, bytes: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        // A program that closes its input early is no error of the test.
        thread::spawn(move || drop(stdin.write_all(&bytes)));
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    command: String,
    started: Instant,
    timeout: Duration,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no such process")?, signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.command))
    }

    /// Writes to the standard input that [`Invocation::hold_stdin`] kept open.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("standard input is closed")?;
        stdin.write_all(bytes)?;
        Ok(stdin.flush()?)
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until its standard output contains `text`.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let deadline = self.started + self.timeout;
        if self.stdout.wait_for(text, deadline) {
            return Ok(());
        }
        let output = self.give_up()?;
        Err(output.complaint(&format!("standard output never had {text:?}")))
    }

    /// Waits for its end, in the time that it was given.
    pub fn wait(mut self) -> Result<Output> {
        self.stdin = None;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if self.started.elapsed() > self.timeout {
                let output = self.give_up()?;
                return Err(output.complaint(&format!("did not end in {:?}", self.timeout)));
            }
            thread::sleep(TICK);
        };
        let drained = Instant::now() + DRAIN;
        let complete = self.stdout.wait_end(drained) && self.stderr.wait_end(drained);
        let output = self.collected(status);
        if !complete {
            return Err(output.complaint("ended, but something it started holds its output open"));
        }
        if output.stderr_text().contains("panicked at") {
            return Err(output.complaint("a panic reached the user"));
        }
        Ok(output)
    }

    fn give_up(&mut self) -> Result<Output> {
        self.child.kill()?;
        let status = self.child.wait()?;
        Ok(self.collected(status))
    }

    fn collected(&self, status: ExitStatus) -> Output {
        Output {
            command: self.command.clone(),
            status,
            stdout: self.stdout.lock().bytes.clone(),
            stderr: self.stderr.lock().bytes.clone(),
            elapsed: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// One output stream, read by a thread of its own.
#[derive(Debug, Clone)]
struct Collected(Arc<(Mutex<Stream>, Condvar)>);

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    ended: bool,
}

impl Collected {
    fn from(source: Option<impl Read + Send + 'static>) -> Self {
        let collected = Self(Arc::default());
        let own = collected.clone();
        if let Some(source) = source {
            thread::spawn(move || own.read(source));
        }
        collected
    }

    fn read(&self, mut source: impl Read) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = source.read(&mut buffer).unwrap_or(0);
            let mut stream = self.lock();
            stream.bytes.extend_from_slice(&buffer[..read]);
            stream.ended = read == 0;
            self.0.1.notify_all();
            if read == 0 {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, deadline: Instant, done: impl Fn(&Stream) -> bool) -> bool {
        let mut stream = self.lock();
        while !done(&stream) && !stream.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.0.1.wait_timeout(stream, left);
            stream = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        done(&stream)
    }

    fn wait_end(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |stream| stream.ended)
    }

    fn wait_for(&self, text: &str, deadline: Instant) -> bool {
        self.wait_until(deadline, |stream| {
            let text = text.as_bytes();
            stream.bytes.windows(text.len()).any(|part| part == text)
        })
    }
}

/// Runs a tool that the harness itself needs.
pub fn tool<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
    let args: Vec<OsString> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
    let invocation = Invocation::new(program, Duration::from_secs(600)).args(&args);
    Ok(invocation.output()?.success()?.stdout_text())
}

/// Tries `attempt` until it gives a value, for at most `timeout`.
pub fn eventually<T>(
    timeout: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "not in {timeout:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fails with both values where they differ.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Result<()> {
    if is != should {
        bail!("{what} is {is:?}, should be {should:?}");
    }
    Ok(())
}
