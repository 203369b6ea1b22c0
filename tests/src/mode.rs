//! The places where containers run, and what each needs to be tested.
//!
//! ```text
//!  native   this machine's kernel
//!  debian   Debian's kernel, in a machine that systemd runs: see `debian`
//!  vm       QEMU, the real one
//!  vfkit    a stand-in for vfkit: the same guest, under QEMU
//!  lima     a stand-in for limactl: the same agent, in namespaces
//!  wsl2     a stand-in for wsl.exe: the same agent, in namespaces
//! ```

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::debian;
use crate::suite::{Case, Scope};
use crate::surroundings::{native_lacks, stand_in_lacks, vm_lacks};

/// Where containers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On this machine's kernel.
    Native,
    /// The same in a machine with Debian's kernel and systemd; see [`crate::debian`].
    Debian,
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

/// Cases for all modes, or for the native one, that are also run under Debian's kernel:
/// those about what depends on the kernel, on version 2 of cgroups or on systemd.
const SAMPLE_OF_DEBIAN: &[&str] = &[
    "exec_is_in_every_namespace_of_the_container",
    "limits_reach_the_kernel_and_inspect",
    "a_container_that_wants_too_much_memory_is_killed",
    "limits_change_while_it_runs",
    "a_paused_container_is_not_probed",
    "stats_tells_what_a_container_uses",
    "a_device_is_used_only_as_allowed",
    "mounts_are_all_as_they_should_be",
    "read_only_reaches_as_far_as_asked",
    "layers_and_volumes_are_everybodys_own",
    "a_container_has_an_address_and_a_way_out",
    "a_port_is_reached_through_the_host",
    "nobody_takes_anothers_address",
    "an_ordinary_user_is_root_in_containers",
    "files_of_other_ids_go_in_and_out",
    "a_place_that_works_is_found_well",
];

impl Mode {
    /// Whether a case is run in this mode unless its name is asked for.
    pub fn samples(self, case: &Case) -> bool {
        let sample = match self {
            Self::Vfkit => SAMPLE,
            Self::Debian => SAMPLE_OF_DEBIAN,
            _ => return true,
        };
        let is_others = matches!(
            case.scope,
            Scope::Both | Scope::Alone | Scope::NativeOnly | Scope::NativeAlone
        );
        !is_others || sample.contains(&case.name)
    }

    /// Whether only some of the cases for all modes are run in this one by default.
    pub fn is_sampled(self) -> bool {
        matches!(self, Self::Vfkit | Self::Debian)
    }

    /// Whether containers run on the kernel that the program itself runs on.
    pub fn is_native(self) -> bool {
        matches!(self, Self::Native | Self::Debian)
    }

    /// Whether it is macOS that such machines are used on.
    pub fn is_elsewhere(self) -> bool {
        matches!(self, Self::Vfkit | Self::Lima)
    }

    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Native,
        Self::Debian,
        Self::Vm,
        Self::Vfkit,
        Self::Lima,
        Self::Wsl2,
    ];

    /// The stand-in that it needs: the program's name here, and the one it takes.
    pub fn stand_in(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Native | Self::Debian | Self::Vm => None,
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
            Self::Native | Self::Debian | Self::Vm => Vec::new(),
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
            Self::Debian => native_lacks().or_else(debian::lacks),
            Self::Vm => vm_lacks(),
            Self::Vfkit => vm_lacks().or_else(|| stand_in_lacks(self)),
            Self::Lima | Self::Wsl2 => native_lacks().or_else(|| stand_in_lacks(self)),
        }
    }

    /// Why a case that fits all places does not fit this one.
    pub fn leaves_out(self, case: &str) -> Option<&'static str> {
        let table = match self {
            Self::Native | Self::Debian | Self::Vm | Self::Vfkit => return None,
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
            Self::Debian => "debian",
            Self::Vm => "vm",
            Self::Vfkit => "vfkit",
            Self::Lima => "lima",
            Self::Wsl2 => "wsl2",
        })
    }
}
