//! Everything that differs between processors, in one place.

use std::fmt;
use std::str::FromStr;

/// The processor that an appliance is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// A processor isolazi has no appliance for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no appliance can be built for '{0}': it is x86_64 or aarch64")]
pub struct UnknownArch(String);

impl Arch {
    /// The processor this program runs on.
    pub fn host() -> Result<Self, UnknownArch> {
        std::env::consts::ARCH.parse()
    }

    /// As [`std::env::consts::ARCH`] names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// `ARCH=` of the kernel's makefiles.
    pub(crate) fn kernel_arch(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The image that hypervisors start without a decompressor: what to make,
    /// and what it is called in the appliance.
    pub(crate) fn kernel_image(self) -> &'static str {
        match self {
            Self::X86_64 => "vmlinux",
            Self::Aarch64 => "Image",
        }
    }

    /// Where the makefiles leave the image, below the build folder.
    pub(crate) fn kernel_image_path(self) -> &'static str {
        match self {
            Self::X86_64 => "vmlinux",
            Self::Aarch64 => "arch/arm64/boot/Image",
        }
    }

    /// Whether the image is an ELF file, whose symbols can be stripped.
    pub(crate) fn kernel_is_elf(self) -> bool {
        match self {
            Self::X86_64 => true,
            Self::Aarch64 => false,
        }
    }

    /// Rust's name for it with a static libc.
    pub(crate) fn musl_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// First part of the C tools' names when they run on another processor.
    pub(crate) fn cross_prefix(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu-",
            Self::Aarch64 => "aarch64-linux-gnu-",
        }
    }

    /// The C compiler of [`Self::cross_prefix`].
    pub(crate) fn cross_compiler(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu-gcc",
            Self::Aarch64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// Debian's package of [`Self::cross_compiler`].
    pub(crate) fn cross_package(self) -> &'static str {
        match self {
            Self::X86_64 => "gcc-x86-64-linux-gnu",
            Self::Aarch64 => "gcc-aarch64-linux-gnu",
        }
    }
}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(text: &str) -> Result<Self, UnknownArch> {
        match text {
            "x86_64" | "amd64" => Ok(Self::X86_64),
            "aarch64" | "arm64" => Ok(Self::Aarch64),
            other => Err(UnknownArch(other.to_owned())),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_others_are_refused() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            assert_eq!(arch.name().parse(), Ok(arch));
        }
        let refusal = "riscv64".parse::<Arch>().unwrap_err().to_string();
        assert!(refusal.contains("'riscv64'"), "{refusal}");
    }
}
