//! Which cases run, in which modes, and what happens before and after them.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Trial};

use crate::command::Invocation;
use crate::debian::{self, Debian};
use crate::fixture;
use crate::host::Traces;
use crate::mode::Mode;
use crate::output::Output;
use crate::pace;
use crate::registry::Registry;
use crate::surroundings::{appliance, built, is_ci, program, tools_lack};
use crate::verbs;
use crate::world::{Shared, World};

/// In which modes a case makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The same in all, as almost everything has to be.
    Both,
    /// About the host's own kernel.
    NativeOnly,
    /// About Debian's kernel and systemd.
    DebianOnly,
    /// About the virtual machine.
    VmOnly,
    /// About machines of vfkit's and Lima's, with nothing else going on.
    ElsewhereAlone,
    /// About distributions of WSL.
    Wsl2Only,
    /// In all, with nothing else going on: it stops machines or counts what is left.
    Alone,
    /// About the host's own kernel, with nothing else going on.
    NativeAlone,
    /// About the virtual machine, with nothing else going on.
    VmAlone,
    /// About distributions of WSL, with nothing else going on.
    Wsl2Alone,
}

impl Scope {
    fn has(self, mode: Mode) -> bool {
        match self {
            Self::Both | Self::Alone => true,
            Self::NativeOnly | Self::NativeAlone => mode.is_native(),
            Self::DebianOnly => mode == Mode::Debian,
            Self::VmOnly | Self::VmAlone => mode == Mode::Vm,
            Self::ElsewhereAlone => mode.is_elsewhere(),
            Self::Wsl2Only | Self::Wsl2Alone => mode == Mode::Wsl2,
        }
    }

    fn is_alone(self) -> bool {
        matches!(
            self,
            Self::Alone
                | Self::NativeAlone
                | Self::VmAlone
                | Self::Wsl2Alone
                | Self::ElsewhereAlone
        )
    }
}

/// One thing that has to be true in a world.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What the test runner calls it.
    pub name: &'static str,
    /// Where it applies.
    pub scope: Scope,
    /// Finds out.
    pub run: fn(&World) -> Result<()>,
}

/// All cases, and what they need.
#[derive(Debug)]
pub struct Suite {
    cases: Vec<Case>,
}

impl Suite {
    /// A suite of `cases`, to be run in all modes.
    pub fn new(cases: Vec<Case>) -> Self {
        Self { cases }
    }

    /// Runs what the command line asks for.
    pub fn main(&self) -> ExitCode {
        let arguments = Arguments::from_args();
        if arguments.list {
            return libtest_mimic::run(&arguments, self.listing()).exit_code();
        }
        match self.run(&arguments) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn listing(&self) -> Vec<Trial> {
        let all = Mode::ALL.into_iter().flat_map(|mode| {
            let cases = self.cases.iter().filter(move |case| case.scope.has(mode));
            cases.map(move |case| Trial::test(title(mode, case), || Ok(())))
        });
        all.collect()
    }

    fn run(&self, arguments: &Arguments) -> Result<ExitCode> {
        sweep();
        let wanted = |mode: Mode| {
            let mut cases = self.cases.iter().filter(|case| case.scope.has(mode));
            cases.any(|case| takes_part(arguments, mode, case))
        };
        let stage = Stage::set(Mode::ALL.into_iter().filter(|mode| wanted(*mode)))?;
        let together = libtest_mimic::run(arguments, self.trials(arguments, &stage, false));
        let mut one_by_one = arguments.clone();
        one_by_one.test_threads = Some(1);
        let alone = libtest_mimic::run(&one_by_one, self.trials(arguments, &stage, true));
        // What is called elsewhere is not counted here.
        let here = |mode: &Mode| wanted(*mode) && *mode != Mode::Debian;
        let modes: Vec<Mode> = Mode::ALL.into_iter().filter(here).collect();
        if debian::inside().is_none() {
            eprintln!("{}{}", verbs::table(&modes), pace::slowest());
        }
        let failed = together.has_failed() || alone.has_failed();
        // After failures there may be things left that the failed cases did not get to remove.
        let cleared = stage.clear(!failed);
        cleared?;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn trials(&self, arguments: &Arguments, stage: &Stage, alone: bool) -> Vec<Trial> {
        let cases = self
            .cases
            .iter()
            .filter(|case| case.scope.is_alone() == alone);
        let mut trials = Vec::new();
        for case in cases {
            let modes = Mode::ALL.into_iter();
            let modes =
                modes.filter(|mode| case.scope.has(*mode) && takes_part(arguments, *mode, case));
            trials.extend(modes.map(|mode| match (mode, &stage.debian) {
                (Mode::Debian, Some(debian)) => trial_in_debian(*case, debian),
                _ => trial(*case, mode, stage.world_of(mode)),
            }));
        }
        if let Some(debian) = &stage.debian {
            debian.expect(trials.iter().map(Trial::name));
        }
        trials
    }
}

fn title(mode: Mode, case: &Case) -> String {
    format!("{mode}::{}", case.name)
}

/// One that is run there together with all others.
fn trial_in_debian(case: Case, debian: &Arc<Debian>) -> Trial {
    let (title, debian) = (title(Mode::Debian, &case), Arc::clone(debian));
    let asked = title.clone();
    Trial::test(title, move || {
        debian
            .result_of(&asked)
            .map_err(|error| format!("{error:#}").into())
    })
}

fn trial(case: Case, mode: Mode, world: Option<Arc<World>>) -> Trial {
    let ignored = world.is_none();
    let run = move || match (&world, mode.leaves_out(case.name)) {
        (Some(_), Some(reason)) => {
            eprintln!("skipped: {}: {reason}", title(mode, &case));
            Ok(())
        }
        (Some(world), None) => {
            let begun = Instant::now();
            let result = (case.run)(world);
            pace::note(title(mode, &case), begun.elapsed());
            result.map_err(|error| format!("{error:#}").into())
        }
        (None, _) => Err(format!("there is no {mode} mode here").into()),
    };
    Trial::test(title(mode, &case), run).with_ignored_flag(ignored)
}

/// Whether a case is to be run. In a mode of which a sample suffices, that is what is in
/// the sample, and everything for whoever asks for the mode by its name.
fn takes_part(arguments: &Arguments, mode: Mode, case: &Case) -> bool {
    if let Some(wanted) = debian::inside() {
        return wanted.contains(&title(mode, case));
    }
    let named = format!("{mode}::");
    let asks_for_mode = |filter: &String| filter.starts_with(&named);
    let suffices = !mode.samples(case) && !arguments.filter.as_ref().is_some_and(asks_for_mode);
    !suffices && is_selected(arguments, &title(mode, case))
}

/// As libtest-mimic decides it.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |pattern: &String| match arguments.exact {
        true => name == pattern,
        false => name.contains(pattern.as_str()),
    };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

/// Everything that the cases stand on.
struct Stage {
    worlds: Vec<Arc<World>>,
    folder: PathBuf,
    registry: Option<Registry>,
    /// Where cases of that mode are run, unless this is there.
    debian: Option<Arc<Debian>>,
}

impl Stage {
    fn set(wanted: impl Iterator<Item = Mode>) -> Result<Self> {
        let mut modes = Vec::new();
        for mode in wanted {
            if offered(mode)? {
                modes.push(mode);
            }
        }
        let folder = env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        let mut stage = Self {
            worlds: Vec::new(),
            folder,
            registry: None,
            debian: None,
        };
        if !modes.is_empty()
            && let Err(error) = stage.build(&modes)
        {
            drop(stage.clear(false));
            return Err(error);
        }
        Ok(stage)
    }

    fn build(&mut self, modes: &[Mode]) -> Result<()> {
        let storage = fixture::storage()?;
        fs::create_dir_all(&self.folder)?;
        let registry = Registry::start(&storage, &self.folder)?;
        let shared = Shared {
            program: program()?,
            registry: registry.address(),
            appliance: appliance()?,
            stand_ins: self.folder.join("stand-ins"),
        };
        self.registry = Some(registry);
        fs::create_dir_all(&shared.stand_ins)?;
        for mode in modes {
            if *mode == Mode::Debian && debian::inside().is_none() {
                self.debian = Some(Arc::new(Debian::new(&self.folder)));
                continue;
            }
            if let Some((name, place)) = mode.stand_in() {
                symlink(built(name)?, shared.stand_ins.join(place))?;
            }
            let world = self.world(*mode, &shared)?;
            self.worlds.push(world);
        }
        Ok(())
    }

    fn world_of(&self, mode: Mode) -> Option<Arc<World>> {
        let found = self.worlds.iter().find(|world| world.mode() == mode);
        found.cloned()
    }

    /// A world that has pulled what most cases run; in a VM this boots it.
    fn world(&self, mode: Mode, shared: &Shared) -> Result<Arc<World>> {
        let folder = self.folder.join(mode.to_string());
        fs::create_dir_all(&folder)?;
        let world = World::new(mode, folder, shared.clone());
        for image in [world.busybox(), world.image("configured")] {
            world
                .isolazi(["run", "--rm", &image, "true"])
                .output()?
                .success()
                .with_context(|| format!("{mode} mode cannot run anything"))?;
        }
        Ok(Arc::new(world))
    }

    /// Takes everything down, as far as that goes, and tells what stayed when `strict`.
    fn clear(self, strict: bool) -> Result<()> {
        for world in self.worlds.iter().filter(|world| world.is_vm()) {
            let stopped = world
                .bare(["vm", "stop"])
                .output()
                .and_then(Output::success);
            if let Err(error) = stopped {
                eprintln!("warning: the machine does not stop: {error:#}");
            }
        }
        drop(self.registry);
        drop(self.worlds);
        let left = match strict {
            true => Traces::in_the_end(&self.folder).ensure_none(),
            false => Ok(()),
        };
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        left
    }
}

const PREFIX: &str = "isolazi-e2e-";

/// Stops and removes what test runs that were killed left behind.
fn sweep() {
    let entries = fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    for folder in entries.map(|entry| entry.path()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some(pid) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if pid.bytes().all(|b| b.is_ascii_digit()) && !Path::new("/proc").join(pid).exists() {
            drop(catch_unwind(AssertUnwindSafe(|| remove_stale(&folder))));
        }
    }
}

fn remove_stale(folder: &Path) {
    eprintln!(
        "removing {}, left by a test run that was killed",
        folder.display()
    );
    if let Ok(program) = program() {
        let stop = Invocation::new(program, std::time::Duration::from_secs(30))
            .env("ISOLAZI_HOME", folder.join("vm/data"))
            .args(["vm", "stop"]);
        drop(stop.output());
    }
    drop(fs::remove_dir_all(folder));
}

/// Whether a mode is to be run. Where something is missing that is a skip with
/// its reason, and in CI, which has to have everything, an error.
fn offered(mode: Mode) -> Result<bool> {
    let Some(reason) = mode.lacks().or_else(tools_lack) else {
        return Ok(true);
    };
    ensure!(!is_ci(), "{mode} mode cannot be tested: {reason}");
    eprintln!("skipping {mode} mode: {reason}");
    Ok(false)
}
