//! What is kept on the agent's disk.

use serde::{Deserialize, Serialize};

use crate::{ContainerId, Digest};

/// What layers, containers and volumes take on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Unpacked layers.
    pub layers: Vec<LayerUsage>,
    /// Containers, in whatever state.
    pub containers: Vec<ContainerDiskUsage>,
    /// Volumes, by name, where they were asked for.
    pub volumes: Vec<VolumeUsage>,
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerUsage {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// On disk.
    pub bytes: u64,
}

/// A container's own files: its changes to the image, and its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDiskUsage {
    /// Full id.
    pub id: ContainerId,
    /// On disk.
    pub bytes: u64,
}

/// A volume's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUsage {
    /// Unique name.
    pub name: String,
    /// What its files hold.
    pub bytes: u64,
    /// A container has it, in whatever state.
    pub in_use: bool,
}
