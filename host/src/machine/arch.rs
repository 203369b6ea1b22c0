//! The processor that guests have: this machine's, as no other runs at full speed.

use std::fmt;

use crate::image::Platform;
use crate::machine::MachineError;

/// Names another one than this machine's, which QEMU then emulates. For tests of
/// appliances, where there is no machine of their kind.
pub const VARIABLE: &str = "ISOLAZI_GUEST_ARCH";

/// A processor that there are appliances for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestArch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl GuestArch {
    /// What guests have here.
    pub fn current() -> Self {
        Self::named().ok().flatten().unwrap_or_else(Self::host)
    }

    /// Refuses an environment that names none.
    pub fn check() -> Result<(), MachineError> {
        Self::named().map(drop)
    }

    /// This machine's. Where that is neither, x86_64 is emulated.
    fn host() -> Self {
        Self::of_name(std::env::consts::ARCH).unwrap_or(Self::X86_64)
    }

    fn named() -> Result<Option<Self>, MachineError> {
        let value = std::env::var(VARIABLE).unwrap_or_default();
        match Self::of_name(&value) {
            None if !value.is_empty() => Err(MachineError::Failed(format!(
                "{VARIABLE}: '{value}' is no processor of a guest; use x86_64 or aarch64"
            ))),
            found => Ok(found),
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::X86_64, Self::Aarch64]
            .into_iter()
            .find(|arch| arch.name() == name)
    }

    /// As [`std::env::consts::ARCH`] names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Whether this machine's processor cannot execute the guest.
    pub fn is_foreign(self) -> bool {
        self.name() != std::env::consts::ARCH
    }

    /// What images for the guest say.
    pub fn platform(self) -> Platform {
        Platform::new("linux", self.name(), None)
    }
}

impl fmt::Display for GuestArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_images_too() {
        let x86_64 = GuestArch::of_name("x86_64").unwrap();
        assert_eq!(x86_64.platform().to_string(), "linux/amd64");
        assert_eq!(GuestArch::Aarch64.platform().to_string(), "linux/arm64");
        assert_eq!(GuestArch::of_name("riscv64"), None);
    }
}
