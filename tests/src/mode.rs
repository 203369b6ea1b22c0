//! The places where containers run, and what each needs to be tested.
//!
//! ```text
//!  native   this machine's kernel
//!  vm       QEMU, the real one
//!  vfkit    a stand-in for vfkit: the same guest, under QEMU
//!  lima     a stand-in for limactl: the same agent, in namespaces
//!  wsl2     a stand-in for wsl.exe: the same agent, in namespaces
//! ```

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::suite::{Case, Scope};
use crate::surroundings::{native_lacks, stand_in_lacks, vm_lacks};

/// Where containers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On this machine's kernel.
    Native,
    /// In a virtual machine, under QEMU.
    Vm,
    /// In a virtual machine, by a stand-in for vfkit.
    Vfkit,
    /// In an instance of Lima's, by a stand-in for limactl.
    Lima,
    /// In a distribution of WSL, by a stand-in for `wsl.exe`.
    Wsl2,
}

/// Cases that make no sense with a stand-in that shares this machine's kernel, or
/// that are about what only QEMU's machine has.
const NOT_IN_WSL2: &[(&str, &str)] = &[
    (
        "names_in_etc_hosts",
        "it knows the addresses of QEMU's network",
    ),
    (
        "the_host_is_reached_by_name",
        "the host is behind the bridge's gateway, where the registry does not listen",
    ),
    (
        "the_machine_can_be_read_by_scripts",
        "a distribution has no process of its own",
    ),
];

/// As above, for Lima's.
const NOT_IN_LIMA: &[(&str, &str)] = &[
    (
        "names_in_etc_hosts",
        "it knows the addresses of QEMU's network",
    ),
    (
        "ps_prints_in_the_form_that_is_asked_for",
        "it mounts /, which Lima does not share",
    ),
    (
        "ps_filters_and_counts",
        "it mounts /tmp, which Lima does not share",
    ),
    (
        "inspect_prints_single_fields",
        "it mounts /tmp, which Lima does not share",
    ),
];

/// Cases for all modes that are also run by default behind the stand-in for vfkit, where
/// the guest is QEMU's, emulated, and only reached and equipped in another way: each of
/// those ways once. The rest says little more there, and takes minutes; `vfkit::` as a
/// filter runs it all.
const SAMPLE: &[&str] = &[
    "echo",
    "exit_codes_are_the_commands_own",
    "exec_runs_beside_the_first_process",
    "exec_streams_both_ways",
    "a_folder_is_read_and_written",
    "a_read_only_folder_refuses_writing",
    "a_file_can_be_a_volume",
    "files_made_there_are_the_users",
    "a_port_is_reached_through_the_host",
    "datagrams_are_published_too",
    "stop_sends_the_images_signal",
    "the_host_is_reached_by_name",
    "a_container_has_an_address_and_a_way_out",
    "binary_data_passes_whole_both_ways",
];

impl Mode {
    /// Whether a case is run in this mode unless its name is asked for.
    pub fn samples(self, case: &Case) -> bool {
        let is_for_all = matches!(case.scope, Scope::Both | Scope::Alone);
        !self.is_sampled() || !is_for_all || SAMPLE.contains(&case.name)
    }

    /// Whether only some of the cases for all modes are run in this one by default.
    pub fn is_sampled(self) -> bool {
        self == Self::Vfkit
    }

    /// Whether it is macOS that such machines are used on.
    pub fn is_elsewhere(self) -> bool {
        matches!(self, Self::Vfkit | Self::Lima)
    }

    /// All there are.
    pub const ALL: [Self; 5] = [Self::Native, Self::Vm, Self::Vfkit, Self::Lima, Self::Wsl2];

    /// The stand-in that it needs: the program's name here, and the one it takes.
    pub fn stand_in(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Native | Self::Vm => None,
            Self::Vfkit => Some(("stand-in-vfkit", "vfkit")),
            Self::Lima => Some(("stand-in-limactl", "limactl")),
            Self::Wsl2 => Some(("stand-in-wsl", "wsl.exe")),
        }
    }

    /// What is in the environment of every command; `folder` is the world's, and
    /// the stand-ins are in `stand_ins`.
    pub fn variables(self, folder: &Path, stand_ins: &Path) -> Vec<(&'static str, OsString)> {
        let first_on_path = || {
            let path = env::var_os("PATH").unwrap_or_default();
            let all = [stand_ins.to_owned()]
                .into_iter()
                .chain(env::split_paths(&path));
            env::join_paths(all).unwrap_or(path)
        };
        match self {
            Self::Native | Self::Vm => Vec::new(),
            Self::Vfkit => vec![
                ("ISOLAZI_BACKEND", "vfkit".into()),
                // The user's own folder is what is shared by default.
                ("HOME", env::temp_dir().into()),
                ("PATH", first_on_path()),
            ],
            Self::Lima => vec![
                ("ISOLAZI_BACKEND", "lima".into()),
                ("LIMA_HOME", folder.join("lima").into()),
                // Shared by default; Lima refuses /tmp itself.
                ("HOME", folder.into()),
                ("PATH", first_on_path()),
            ],
            Self::Wsl2 => vec![
                ("ISOLAZI_BACKEND", "wsl2".into()),
                ("ISOLAZI_STAND_IN_WSL", folder.join("wsl").into()),
                ("PATH", first_on_path()),
            ],
        }
    }

    /// Why it cannot be tested here.
    pub fn lacks(self) -> Option<String> {
        match self {
            Self::Native => native_lacks(),
            Self::Vm => vm_lacks(),
            Self::Vfkit => vm_lacks().or_else(|| stand_in_lacks(self)),
            Self::Lima | Self::Wsl2 => native_lacks().or_else(|| stand_in_lacks(self)),
        }
    }

    /// Why a case that fits all places does not fit this one.
    pub fn leaves_out(self, case: &str) -> Option<&'static str> {
        let table = match self {
            Self::Native | Self::Vm | Self::Vfkit => return None,
            Self::Lima => NOT_IN_LIMA,
            Self::Wsl2 => NOT_IN_WSL2,
        };
        let found = table.iter().find(|(name, _)| *name == case);
        found.map(|(_, reason)| *reason)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Vm => "vm",
            Self::Vfkit => "vfkit",
            Self::Lima => "lima",
            Self::Wsl2 => "wsl2",
        })
    }
}
