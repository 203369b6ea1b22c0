//! What a pull tells while it runs. How it is shown is [`super::render`]'s.

use isolazi_protocol::Digest;

use super::reference::Reference;

/// Something a user may want to see.
#[derive(Debug, Clone, Copy)]
pub enum ProgressEvent<'a> {
    /// The registry is being asked what the image is.
    Resolving(&'a Reference),
    /// A layer is in the store, and in the engine if that wants it.
    Present(&'a Digest),
    /// Another process is downloading this blob; we wait for its result.
    Waiting(&'a Digest),
    /// A layer's bytes begin to arrive.
    Started {
        /// The compressed layer.
        digest: &'a Digest,
        /// Its size in bytes.
        size: u64,
        /// How many of them an earlier attempt has left us.
        resumed: u64,
    },
    /// This many of a layer's bytes have arrived by now.
    Advanced {
        /// The compressed layer.
        digest: &'a Digest,
        /// Bytes from its start.
        received: u64,
    },
    /// The connection broke; another attempt follows.
    Retrying {
        /// The compressed layer or the manifest.
        what: &'a str,
        /// What went wrong, in one line.
        reason: &'a str,
    },
    /// A blob's bytes begin to leave for a registry.
    Sending {
        /// The blob.
        digest: &'a Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A layer is verified, stored and unpacked, or sent.
    Done(&'a Digest),
    /// The image is complete and has its name.
    Complete {
        /// Its name.
        reference: &'a Reference,
        /// The digest of its manifest.
        manifest: &'a Digest,
    },
}

/// Whoever wants to know.
pub trait Progress: Send + Sync {
    /// Called often and from several threads; must be quick.
    fn event(&self, event: ProgressEvent<'_>);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn event(&self, _: ProgressEvent<'_>) {}
}
