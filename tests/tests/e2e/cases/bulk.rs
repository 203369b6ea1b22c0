//! Much at once: streams that are long, fast, or that nobody reads.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::handmade::digest;
use isolazi_tests::host::status_field;
use isolazi_tests::{Case, Container, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_large_file_passes_whole_both_ways,
            a_reader_that_stalls_stops_the_writer,
            input_that_is_not_taken_stays_outside,
            a_long_paste_loses_nothing,
            letters_of_many_bytes_stay_whole_on_a_terminal,
            the_last_line_on_a_terminal_is_never_lost,
        ],
    }
}

/// What a stalled stream may hold in memory, all queues and windows of one
/// process together, in KiB: twice what the protocol's windows and the shim's
/// queue come to.
const HELD: u64 = 4 << 10;

/// The keys that leave a terminal.
const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// 1 GiB. In the machine it is 64 MiB: every byte is copied some ten times by an
/// emulated processor there, which takes as long as all of it natively.
fn a_large_file_passes_whole_both_ways(world: &World) -> Result<()> {
    let mebibytes = if world.is_vm() { 64 } else { 1024 };
    let folder = world.temp()?;
    let file = folder.path().join("data");
    write_noise(&file, mebibytes)?;
    let script = "data=$1; shift; \"$@\" <\"$data\" | cmp - \"$data\"";
    world
        .run_with(&["-i"], ["cat"])
        .through(
            "sh",
            &["-c", script, "sh", file.to_str().context("no text")?],
        )
        .timeout(world.patience(60))
        .output()?
        .success()?
        .stdout_is("")?
        .stderr_is("")?;
    Ok(())
}

/// Bytes of all values, in mebibytes of which no two are the same.
fn write_noise(file: &Path, mebibytes: u32) -> Result<()> {
    let mut file = File::create(file)?;
    let mut block = vec![0; 1 << 20];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in block.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    for number in 0..mebibytes {
        block[..4].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block)?;
    }
    Ok(())
}

/// A program whose output is read when the case says so; ends with the value.
struct Unread {
    child: Child,
    stdout: ChildStdout,
}

impl Unread {
    fn start(invocation: Invocation, stdin: impl Into<Stdio>) -> Result<Self> {
        let mut command = invocation.into_command();
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self { child, stdout })
    }

    /// Reads until there was `text`.
    fn read_until(&mut self, text: &str) -> Result<()> {
        let mut seen = Vec::new();
        while !seen.ends_with(text.as_bytes()) {
            let mut byte = [0];
            self.stdout.read_exact(&mut byte)?;
            seen.extend(byte);
        }
        Ok(())
    }

    fn peak(&self) -> Result<u64> {
        peak(self.child.id())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Most memory that a process had at any time, in KiB (proc(5), VmHWM).
fn peak(pid: impl std::fmt::Display) -> Result<u64> {
    Ok(status_field(pid, "VmHWM:")?.parse()?)
}

/// The shim of a container on this machine.
fn shim(container: &Container<'_>) -> Result<String> {
    let described = container.inspect()?;
    let pid = described["State"]["Pid"].as_i64();
    status_field(pid.context("no process id")?, "PPid:")
}

/// Starts a container that waits to be told, says `ready`, and notes what it has
/// moved so far in `/moved`.
fn ready<'a>(
    world: &'a World,
    script: &str,
    stdin: impl Into<Stdio>,
) -> Result<(Container<'a>, Unread)> {
    let container = world.container();
    let script =
        format!("echo 0 >/moved; echo ready; until test -e /go; do sleep 0.05; done; {script}");
    let run = world.isolazi(["run", "-i", "--name", container.name(), &world.busybox()]);
    let mut running = Unread::start(run.args(["sh", "-c", &script]), stdin)?;
    running.read_until("ready\n")?;
    Ok((container, running))
}

/// How much the container has moved when it moves nothing more for a second.
fn standstill(world: &World, container: &Container<'_>) -> Result<u64> {
    let moved = || -> Result<u64> {
        let output = container.exec(&[], &["cat", "/moved"]).output()?;
        // Empty for the moment in which it is written.
        Ok(output.success()?.stdout_text().trim().parse().unwrap_or(0))
    };
    eventually(world.patience(20), "the container stands still", || {
        let before = moved()?;
        sleep(Duration::from_secs(1));
        Ok((before > 0 && moved()? == before).then_some(before))
    })
}

fn a_reader_that_stalls_stops_the_writer(world: &World) -> Result<()> {
    // In pieces of 64 KiB, 24 MiB in all.
    let pieces = 384_u64;
    let script = format!(
        "i=0; while [ $i -lt {pieces} ]; do \
         head -c 65536 /dev/zero; i=$((i + 1)); echo $i >/moved; done"
    );
    let (container, mut running) = ready(world, &script, Stdio::null())?;
    let before = running.peak()?;
    let shim = match world.is_vm() {
        true => None,
        false => Some(shim(&container)?),
    };
    let shim_before = shim.as_ref().map(peak).transpose()?;
    container.touch("/go")?;
    let moved = standstill(world, &container)?;
    ensure!(
        moved < pieces / 2,
        "it has written {moved} pieces to nobody"
    );
    let grown = running.peak()? - before;
    ensure!(grown < HELD, "the command holds {grown} KiB");
    if let (Some(shim), Some(before)) = (&shim, shim_before) {
        let grown = peak(shim)? - before;
        ensure!(grown < HELD, "the shim holds {grown} KiB");
    }
    // Whoever reads on gets everything.
    let mut rest = Vec::new();
    running.stdout.read_to_end(&mut rest)?;
    same("bytes", &(rest.len() as u64), &(pieces << 16))?;
    ensure!(rest.iter().all(|&byte| byte == 0), "other bytes");
    Ok(())
}

fn input_that_is_not_taken_stays_outside(world: &World) -> Result<()> {
    let endless = File::open("/dev/zero")?;
    let script = "head -c 1000 >/dev/null; echo 1 >/moved; sleep 1000";
    let (container, running) = ready(world, script, endless)?;
    let before = running.peak()?;
    container.touch("/go")?;
    standstill(world, &container)?;
    let grown = running.peak()? - before;
    ensure!(grown < HELD, "the command holds {grown} KiB");
    let io = fs::read_to_string(format!("/proc/{}/io", running.child.id()))?;
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    let read: u64 = read.context("no rchar")?.parse()?;
    ensure!(read < 8 << 20, "{read} bytes were read for nobody");
    // A signal does not wait behind what is not taken.
    let stop = world.isolazi(["stop", "-t", "0", container.name()]);
    stop.output()?.success()?;
    Ok(())
}

fn a_long_paste_loses_nothing(world: &World) -> Result<()> {
    let size = 10 << 20;
    // Any byte may be typed but those that leave the terminal.
    let keys = (0..=255_u8).filter(|key| ![CTRL_P, CTRL_Q].contains(key));
    let typed: Vec<u8> = keys.cycle().take(size).collect();
    let script = format!("stty raw -echo; echo ready; head -c {size} | sha256sum; exit 8");
    let mut session = world
        .run_with(&["-it"], ["sh", "-c", &script])
        .timeout(world.patience(60))
        .on_terminal(24, 80)?;
    session.wait_for("ready")?;
    let digest = digest(&typed);
    session.paste(typed)?;
    session.wait_for(digest.trim_start_matches("sha256:"))?;
    same("exit code", &session.wait()?.code(), &Some(8))
}

fn letters_of_many_bytes_stay_whole_on_a_terminal(world: &World) -> Result<()> {
    // Seven bytes a round, so that every border of a chunk is met in all places.
    let word = "aé€😀\u{301}";
    let rounds = 60_000;
    let script = format!(
        "stty raw -echo; echo ready; yes '{word}' | head -n {rounds} | tr -d '\\n'; \
         IFS= read -r line; echo \"<$line>\""
    );
    let mut session = world
        .run_with(&["-it"], ["sh", "-c", &script])
        .on_terminal(24, 80)?;
    session.wait_for("ready")?;
    let typed = word.repeat(100);
    session.type_in(&format!("{typed}\n"))?;
    session.wait_for(&format!("<{typed}>"))?;
    session.wait()?;
    let shown = String::from_utf8(session.bytes())?;
    same("words", &shown.matches(word).count(), &(rounds + 100))?;
    Ok(())
}

/// Terminals lose what is written just before their last user ends, if the
/// reader takes the end for the end of the output.
fn the_last_line_on_a_terminal_is_never_lost(world: &World) -> Result<()> {
    for _ in 0..if world.is_vm() { 4 } else { 15 } {
        let script = "seq 1 3000; printf 'the very last'";
        let mut session = world
            .run_with(&["-it"], ["sh", "-c", script])
            .on_terminal(24, 80)?;
        same("exit code", &session.wait()?.code(), &Some(0))?;
        // The harness's own reader may be a moment behind.
        session.wait_for("the very last")?;
        let expected: String = (1..=3000).map(|n| format!("{n}\r\n")).collect();
        same("all", &session.shown(), &(expected + "the very last"))?;
    }
    Ok(())
}
