//! What a user may ask of a container's confinement, beside its system calls.

use serde::{Deserialize, Serialize};

/// Most bytes of a file with a seccomp profile.
pub const MAX_PROFILE_BYTES: usize = 1 << 20;

/// `--security-opt`, but for `seccomp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityOptions {
    /// Whether set-user-id programs gain nothing (prctl(2), `PR_SET_NO_NEW_PRIVS`):
    /// so it is where nobody says.
    pub no_new_privileges: Option<bool>,
    /// Nothing below `/proc` and `/sys` is masked or read-only.
    pub system_paths_unconfined: bool,
    /// AppArmor profile of its processes; `unconfined` is none.
    pub apparmor: Option<String>,
    /// SELinux: `disable`, or parts of the label of its processes such as `type:spc_t`.
    pub labels: Vec<String>,
}
