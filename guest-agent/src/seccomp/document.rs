//! A profile as Docker writes it in JSON (moby, `profiles/seccomp`).
//!
//! What is not one is refused here or in [`super::resolve`] with the place of
//! the mistake; what a later version of the format may add is ignored.

use serde::{Deserialize, Serialize};

/// A whole profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    /// The answer to every call that no rule is about.
    pub(super) default_action: Option<String>,
    /// Its error number, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_errno_ret: Option<u32>,
    /// Which architectures' calls are let through to the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) architectures: Option<Vec<String>>,
    /// The same, for each machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arch_map: Option<Vec<ArchMap>>,
    /// The rules.
    pub(super) syscalls: Option<Vec<Call>>,
}

/// What a machine serves beside its own calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchMap {
    pub(super) architecture: String,
    pub(super) sub_architectures: Option<Vec<String>>,
}

/// A rule about some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errno_ret: Option<u32>,
    /// All of them must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Arg>>,
    /// The rule holds where all of this does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) includes: Option<Where>,
    /// The rule does not hold where any of this does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) excludes: Option<Where>,
}

/// A condition on an argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Arg {
    pub(super) index: u32,
    pub(super) value: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_two: Option<u64>,
    pub(super) op: String,
}

/// What a rule may depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Where {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caps: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arches: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_kernel: Option<String>,
}
