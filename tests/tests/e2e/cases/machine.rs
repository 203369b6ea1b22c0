//! A machine and what runs in it outlive whoever looks after them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, World, host};
use rustix::process::{Pid, Signal, kill_process};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmOnly: [
            an_idle_machine_stops_and_starts_on_demand,
        ],
        VmAlone: [
            a_supervisor_that_is_killed_is_replaced,
            a_machine_whose_vsock_is_lost_ends,
            commands_during_a_stop_get_the_next_machine,
            folders_are_shared_where_namespaces_are_refused,
            an_agent_restarts_under_running_containers,
            the_guests_clock_is_right_after_a_pause,
        ],
    }
}

/// The process of the machine whose command line has both words.
pub(super) fn process(program: &str, word: &str) -> Result<Option<(Pid, Vec<String>)>> {
    host::process(|words| words[0].ends_with(program) && words.iter().any(|it| it.contains(word)))
}

fn kill(world: &World, program: &str) -> Result<()> {
    let root = world.root().display().to_string();
    let found = process(program, &root)?.with_context(|| format!("no {program}"))?;
    kill_process(found.0, Signal::KILL)?;
    eventually(Duration::from_secs(5), "its end", || {
        Ok(process(program, &root)?.is_none().then_some(()))
    })
}

/// The machine's line in `vm status`.
fn machine(world: &World) -> Result<String> {
    let status = world.bare(["vm", "status"]).output()?.success()?;
    let said = status.stdout_text();
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// A container that counts, and ends with 7 when told to stop.
const COUNTER: &str = "trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

/// That the log is 1, 2, 3 … without a gap; tells how far.
fn counted(world: &World, name: &str) -> Result<usize> {
    let logs = world.isolazi(["logs", name]).output()?.success()?;
    let lines = logs.stdout_text();
    for (index, line) in lines.lines().enumerate() {
        same("line of the log", &line, &(index + 1).to_string().as_str())?;
    }
    Ok(lines.lines().count())
}

fn goes_on_counting(world: &World, name: &str) -> Result<()> {
    let before = counted(world, name)?;
    eventually(world.patience(10), "it goes on", || {
        Ok((counted(world, name)? > before + 2).then_some(()))
    })
}

fn a_supervisor_that_is_killed_is_replaced(world: &World) -> Result<()> {
    let shared = world.temp()?;
    fs::write(shared.path().join("file"), "one\n")?;
    let volume = format!("{}:/mnt", shared.path().display());
    let container = world.start(&["-v", &volume], &["sh", "-c", COUNTER])?;
    container.wait_log("1\n")?;
    let before = machine(world)?;
    kill(world, "isolazi-machine")?;
    // Whoever asks next finds everything as it was.
    ensure!(container.is_listed()?, "it is not listed");
    goes_on_counting(world, container.name())?;
    same("machine", &machine(world)?, &before)?;
    fs::write(shared.path().join("file"), "two\n")?;
    let read = ["cat", "/mnt/file"];
    container
        .exec(&[], &read)
        .output()?
        .success()?
        .stdout_is("two\n")?;
    let again = world.run_with(&["-v", &volume], read).output()?;
    again.success()?.stdout_is("two\n")?;
    let other = world.temp()?;
    let volume = format!("{}:/mnt", other.path().display());
    let another = world.run_with(&["-v", &volume], ["touch", "/mnt/made"]);
    another.output()?.success()?;
    ensure!(other.path().join("made").exists(), "nothing was made");

    // A stop without a supervisor gets one first.
    kill(world, "isolazi-machine")?;
    let stopped = world.isolazi(["stop", container.name()]).output()?;
    stopped.success()?;
    let waited = world.isolazi(["wait", container.name()]).output()?;
    waited.success()?.stdout_is("7\n")?;
    kill(world, "isolazi-machine")?;
    world
        .bare(["vm", "stop"])
        .output()?
        .success()?
        .stdout_is("stopped\n")?;
    let root = world.root().display().to_string();
    for program in ["qemu-system-x86_64", "isolazi-vsock", "virtiofsd"] {
        ensure!(process(program, &root)?.is_none(), "{program} is left");
    }
    Ok(())
}

fn a_machine_whose_vsock_is_lost_ends(world: &World) -> Result<()> {
    world.run(["true"]).output()?.success()?;
    let root = world.root().display().to_string();
    if process("isolazi-vsock", &root)?.is_none() {
        eprintln!("skipped: this host's kernel has a vsock, so there is no helper to kill");
        return Ok(());
    }
    kill(world, "isolazi-vsock")?;
    eventually(Duration::from_secs(10), "the machine stops", || {
        Ok(machine(world)?.ends_with("stopped").then_some(()))
    })?;
    world
        .run(["echo", "again"])
        .output()?
        .success()?
        .stdout_is("again\n")?;
    Ok(())
}

fn commands_during_a_stop_get_the_next_machine(world: &World) -> Result<()> {
    // Its end takes a while, and its beginning is seen out here.
    let shared = world.temp()?;
    let volume = format!("{}:/mnt", shared.path().display());
    let script =
        "trap 'touch /mnt/stopping; sleep 1; exit' TERM; echo up; while :; do sleep 0.1; done";
    let container = world.start(&["-v", &volume], &["sh", "-c", script])?;
    container.wait_log("up\n")?;
    let stopping = world.bare(["vm", "stop"]).spawn()?;
    eventually(world.patience(10), "the stop", || {
        Ok(shared.path().join("stopping").exists().then_some(()))
    })?;
    let mut running = Vec::new();
    for number in 0..5 {
        let echo = world.run(["echo", &number.to_string()]);
        running.push(echo.timeout(Duration::from_secs(180)).spawn()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    stopping.wait()?.success()?.stdout_is("stopped\n")?;
    for (number, running) in running.into_iter().enumerate() {
        let output = running.wait()?.success()?;
        output.stdout_is(&format!("{number}\n"))?;
    }
    Ok(())
}

fn folders_are_shared_where_namespaces_are_refused(world: &World) -> Result<()> {
    world.bare(["vm", "stop"]).output()?.success()?;
    let shared = world.temp()?;
    fs::write(shared.path().join("file"), "seen\n")?;
    let volume = format!("{}:/mnt", shared.path().display());
    let script = "cat /mnt/file && echo made >/mnt/made";
    let run = world
        .run_with(&["-v", &volume], ["sh", "-c", script])
        .through("setpriv", &["--bounding-set=-sys_admin"]);
    run.output()?.success()?.stdout_is("seen\n")?;
    same(
        "the file made",
        &fs::read_to_string(shared.path().join("made"))?,
        &"made\n".to_owned(),
    )?;
    let daemon = process("virtiofsd", &shared.path().display().to_string())?;
    let (_, words) = daemon.context("no virtiofsd")?;
    ensure!(words.iter().any(|word| word == "none"), "{words:?}");
    world.bare(["vm", "stop"]).output()?.success()?;
    Ok(())
}

fn an_agent_restarts_under_running_containers(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", COUNTER])?;
    container.wait_log("1\n")?;
    let waiting = world.isolazi(["wait", container.name()]).spawn()?;
    let restarted = world.bare(["vm", "restart", "--agent"]).output()?;
    restarted.success()?.stdout_is("the agent runs again\n")?;
    goes_on_counting(world, container.name())?;
    container
        .exec(&[], &["echo", "hi"])
        .output()?
        .success()?
        .stdout_is("hi\n")?;
    // Who was talking to the agent is told; who asks again gets the truth.
    waiting
        .wait()?
        .fails_with(1, "lost the connection to the agent")?;
    world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    let waited = world.isolazi(["wait", container.name()]).output()?;
    waited.success()?.stdout_is("7\n")?;
    Ok(())
}

/// QEMU's monitor.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(world: &World) -> Result<Self> {
        let socket = world.root().join("machine/run/qmp.sock");
        let connected = UnixStream::connect(&socket);
        let connected = connected.with_context(|| socket.display().to_string())?;
        let mut monitor = Self(BufReader::new(connected));
        monitor.0.read_line(&mut String::new())?;
        monitor.execute("qmp_capabilities")?;
        Ok(monitor)
    }

    fn execute(&mut self, command: &str) -> Result<()> {
        let request = format!("{{\"execute\": \"{command}\"}}\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "QEMU hung up");
            ensure!(!line.contains("\"error\""), "{line}");
            if line.contains("\"return\"") {
                return Ok(());
            }
        }
    }
}

fn the_guests_clock_is_right_after_a_pause(world: &World) -> Result<()> {
    const PAUSE: Duration = Duration::from_secs(4);
    let clock = "while :; do date +%s; sleep 0.3; done";
    let container = world.start(&[], &["sh", "-c", clock])?;
    container.wait_log("\n")?;
    let mut monitor = Monitor::connect(world)?;
    monitor.execute("stop")?;
    std::thread::sleep(PAUSE);
    monitor.execute("cont")?;
    // Nobody says anything to the machine for longer than a heartbeat.
    std::thread::sleep(Duration::from_secs(13));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let logs = world
        .isolazi(["logs", "-n", "1", container.name()])
        .output()?;
    let there: u64 = logs.success()?.stdout_text().trim().parse()?;
    ensure!(
        now.as_secs().abs_diff(there) <= 2,
        "here {now:?}, there {there}"
    );
    Ok(())
}

fn an_idle_machine_stops_and_starts_on_demand(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    fs::create_dir_all(own.root())?;
    fs::write(
        own.root().join("config.toml"),
        "[machine]\nidle-stop = \"2s\"\n",
    )?;
    let patience = Duration::from_secs(240);
    let idles = || {
        eventually(patience, "the machine stops", || {
            Ok(machine(&own)?.ends_with("stopped").then_some(()))
        })
    };
    let hello = || {
        own.isolazi(["run", "--rm", "hello"])
            .timeout(patience)
            .output()
    };
    hello()?.success()?;
    idles()?;
    // What runs keeps it up.
    let busy = own.isolazi(["run", "-d", "--name", "busy", &own.busybox(), "sleep", "8"]);
    busy.timeout(patience).output()?.success()?;
    std::thread::sleep(Duration::from_secs(5));
    ensure!(
        machine(&own)?.contains("running"),
        "it stopped under a container"
    );
    idles()?;
    let state = own
        .isolazi(["ps", "-a", "--filter", "name=busy"])
        .output()?;
    state.success()?.stdout_has("Exited (0)")?;
    Ok(())
}
