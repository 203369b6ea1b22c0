//! What every process of a container does last, inside its root: it becomes
//! the user, with that user's privileges only, and then the command.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl::{set_keepcaps, set_no_new_privs, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{execve, fchdir, getcwd};

use isolazi_protocol::ExecSpec;

use super::environment::{DEFAULT_PATH, Environment, arguments};
use super::error::{At, LaunchError, Stage};
use super::foreign;
use super::init::Init;
use super::label::Labels;
use super::limits;
use super::plan::{LaunchPlan, SeccompProgram, Settings};
use super::report::Reporter;
use super::resolve::{Kind, Root};
use super::stdio::{self, Stdio, Terminals};
use super::user::{self, Identity};
use crate::sys::caps::{self, CapabilitySet};
use crate::sys::filter;
use crate::sys::idmap::may_set_groups;
use crate::sys::process::{CloseRange, close_range, exit_now, reset_signals};

/// Number of `CAP_SYS_ADMIN`.
const SYS_ADMIN: u8 = 21;

/// A process to be, its strings checked.
#[derive(Debug)]
pub(super) struct Process<'a> {
    args: Vec<CString>,
    environment: Environment,
    cwd: &'a str,
    user: &'a str,
    seccomp: &'a [SeccompProgram],
    settings: &'a Settings,
    /// It keeps all capabilities, and nothing filters its system calls.
    privileged: bool,
    /// Comes between the container and the command.
    init: Option<Init>,
}

impl<'a> Process<'a> {
    /// The plan's own process.
    pub(super) fn first(plan: &'a LaunchPlan) -> Result<Self, LaunchError> {
        let process = Self::checked(plan, &plan.process.args, &[], None, None)?;
        let init = plan.settings.init.then(Init::load).transpose()?;
        Ok(Self { init, ..process })
    }

    /// A further process, with the plan's values where `spec` has none.
    pub(super) fn further(plan: &'a LaunchPlan, spec: &'a ExecSpec) -> Result<Self, LaunchError> {
        let (cwd, user) = (spec.cwd.as_deref(), spec.user.as_deref());
        let process = Self::checked(plan, &spec.args, &spec.env, cwd, user)?;
        Ok(Self {
            privileged: spec.privileged,
            ..process
        })
    }

    fn checked(
        plan: &'a LaunchPlan,
        args: &[String],
        env: &[String],
        cwd: Option<&'a str>,
        user: Option<&'a str>,
    ) -> Result<Self, LaunchError> {
        let mut environment = Environment::default();
        environment.extend(&plan.process.env);
        environment.extend(env);
        environment.set_if_missing("PATH", DEFAULT_PATH);
        environment.set_if_missing("HOSTNAME", &plan.hostname);
        environment.to_c()?;
        Ok(Self {
            args: arguments(args)?,
            environment,
            // Docker's default, for images that set none.
            cwd: match cwd.unwrap_or(&plan.process.cwd) {
                "" => "/",
                cwd => cwd,
            },
            user: user.unwrap_or(&plan.process.user),
            seccomp: &plan.seccomp,
            settings: &plan.settings,
            privileged: false,
            init: None,
        })
    }

    /// Becomes the command. `root` is the root of the calling process.
    pub(super) fn execute(
        mut self,
        root: &Root,
        stdio: Stdio,
        terminals: &Terminals<'_>,
        reporter: &Reporter,
    ) -> Result<Infallible, LaunchError> {
        let identity = user::resolve(root, self.user, &self.settings.groups)?;
        self.complete_environment(&identity, stdio.is_terminal());
        let environment = self.environment.to_c()?;
        let labels = match self.privileged {
            true => Labels::default(),
            false => Labels::open(root, &self.settings.label)?,
        };
        stdio::install(stdio, terminals, root, identity.uid, reporter)?;
        enter_folder(root, self.cwd)?;
        umask(Mode::from_bits_truncate(0o022));
        reset_signals().at(Stage::Privileges, || "reset signals")?;
        limits::set_ulimits(&self.settings.ulimits, reporter);
        let kept = match self.privileged {
            true => caps::permitted().at(Stage::Privileges, || "read capabilities")?,
            false => self.settings.kept(),
        };
        drop_privileges(&identity, kept, self.filters_as_admin()).at(Stage::Privileges, || {
            format!("become user {}", identity.uid)
        })?;
        if !self.privileged && !self.settings.may_gain_privileges {
            set_no_new_privs().at(Stage::Privileges, || "renounce privileges")?;
        }
        self.replace(&environment, labels, reporter)
    }

    /// Whether the filters need `CAP_SYS_ADMIN` to be installed, for want of
    /// no_new_privs.
    fn filters_as_admin(&self) -> bool {
        self.settings.may_gain_privileges && !self.privileged && !self.seccomp.is_empty()
    }

    fn complete_environment(&mut self, identity: &Identity, terminal: bool) {
        if terminal {
            self.environment.set_if_missing("TERM", "xterm");
        }
        let home = identity.home.as_deref().filter(|home| !home.is_empty());
        self.environment.set_if_missing("HOME", home.unwrap_or("/"));
    }

    /// The last steps. Does not return: most descriptors are closed here, and
    /// values that own them must not be dropped any more.
    fn replace(self, environment: &[CString], labels: Labels, reporter: &Reporter) -> ! {
        // Takes effect at `execve`; with its files it goes.
        if let Err(error) = labels.apply() {
            fail(reporter, &Err(error));
        }
        let kept = keep_only(reporter, self.init.as_ref());
        let (reporter, init) = match kept {
            Ok(kept) => kept,
            Err(errno) => fail(
                reporter,
                &Err(errno).at(Stage::Stdio, || "close descriptors"),
            ),
        };
        let command = || {
            self.install_filters()?;
            self.search_and_execute(environment)
        };
        let steps = || {
            // Checked here, once nothing clears the signal any more.
            reporter
                .ready()
                .at(Stage::Exec, || "reach the launcher, which is gone")?;
            match &init {
                None => command(),
                Some(init) => init.run(|| fail(&reporter, &command()), || self.install_filters()),
            }
        };
        fail(&reporter, &steps())
    }

    fn install_filters(&self) -> Result<(), LaunchError> {
        let mut programs = self.seccomp.iter().filter(|_| !self.privileged);
        programs.try_for_each(|program| {
            filter::install(&program.0).at(Stage::Seccomp, || "install the system-call filter")
        })
    }

    /// execvp(3), by the container's own PATH.
    fn search_and_execute(&self, environment: &[CString]) -> Result<Infallible, LaunchError> {
        let Some(command) = self.args.first() else {
            return Err(LaunchError::new(Stage::Plan, "no command to run"));
        };
        let name = command.to_string_lossy();
        let (errno, path) = if command.to_bytes().contains(&b'/') {
            (self.execute_file(command, environment), command.clone())
        } else {
            self.execute_in_path(command, environment)
        };
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        if let Some(reason) = foreign::explain(&name, path, errno) {
            return Err(LaunchError::new(Stage::Exec, reason));
        }
        Err(errno).at(Stage::Exec, || describe(&name, errno))
    }

    /// Why it could not, and which file.
    fn execute_in_path(&self, command: &CString, environment: &[CString]) -> (Errno, CString) {
        let mut answer = (Errno::ENOENT, command.clone());
        if command.is_empty() {
            return answer;
        }
        for folder in self.environment.get("PATH").unwrap_or_default().split(':') {
            let folder = if folder.is_empty() { "." } else { folder };
            let path = [folder.as_bytes(), b"/", command.to_bytes()].concat();
            let Ok(path) = CString::new(path) else {
                continue;
            };
            match self.execute_file(&path, environment) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => answer = (Errno::EACCES, path),
                other => return (other, path),
            }
        }
        answer
    }

    /// Returns only with the reason why it could not.
    fn execute_file(&self, path: &CStr, environment: &[CString]) -> Errno {
        match execve(path, &self.args, environment) {
            Ok(never) => match never {},
            Err(errno) => errno,
        }
    }
}

fn describe(name: &str, errno: Errno) -> String {
    // A file that is there and not found lacks what it is to be run by.
    if errno == Errno::ENOENT && name.contains('/') && Path::new(name).exists() {
        return format!("execute `{name}`, whose interpreter or loader is missing");
    }
    format!("execute `{name}`")
}

fn fail(reporter: &Reporter, result: &Result<Infallible, LaunchError>) -> ! {
    match result {
        Ok(never) => match *never {},
        Err(error) => {
            reporter.failed(error);
            exit_now(error.exit_code())
        }
    }
}

/// Enters the working directory, making it where it is missing. It is looked
/// up without magic links, and it must lie in the container's root: a
/// directory that leaked from outside has no name there.
fn enter_folder(root: &Root, cwd: &str) -> Result<(), LaunchError> {
    let enter = || {
        let place = root.ensure(Path::new(cwd), Kind::Folder)?;
        fchdir(&place)?;
        match getcwd()?.is_absolute() {
            true => Ok(()),
            false => Err(Errno::ENOENT),
        }
    };
    enter().at(Stage::WorkingDir, || {
        format!("enter the working directory {cwd}")
    })
}

/// Leaves root with the capabilities `kept`, and everybody else with none.
///
/// To other users they are a bound only, as with Docker: nothing is inheritable
/// or ambient, so `execve` would take from them whatever they had, and what is
/// granted reaches them through set-user-id programs and file capabilities, if
/// at all. The order matters: each step needs what the next ones give up.
///
/// With `admin` the process has `CAP_SYS_ADMIN` until it is replaced: that it
/// is not in the bounding set takes it from root at `execve`, and everybody
/// else loses all capabilities there (capabilities(7)).
fn drop_privileges(identity: &Identity, kept: CapabilitySet, admin: bool) -> Result<(), Errno> {
    caps::limit_bounding_set(kept)?;
    caps::clear_ambient()?;
    match crate::sys::process::set_groups(&identity.groups) {
        // Nobody in a user namespace with a single id may (user_namespaces(7)).
        Err(Errno::EPERM) if !may_set_groups() => {}
        set => set?,
    }
    crate::sys::process::set_group(identity.gid)?;
    // Only until `execve`.
    set_keepcaps(admin)?;
    crate::sys::process::set_user(identity.uid)?;
    let left = match identity.uid {
        0 => kept,
        _ => CapabilitySet::EMPTY,
    };
    caps::set_permitted(if admin { left.with(SYS_ADMIN) } else { left })?;
    // Changing the user or capabilities has cleared it.
    set_pdeathsig(Signal::SIGKILL)
}

/// Closes every descriptor but the standard ones, the channel, which comes to
/// be number 3, and the init, number 4. Both close on `execve`.
fn keep_only(reporter: &Reporter, init: Option<&Init>) -> Result<(Reporter, Option<Init>), Errno> {
    // Moved out of each other's way first.
    let init = init.map(Init::above_fixed).transpose()?;
    let kept = reporter.moved_to(3)?;
    let init = init.map(|init| init.moved_to(4)).transpose()?;
    close_range(if init.is_some() { 5 } else { 4 }, CloseRange::Now)?;
    Ok((kept, init))
}
