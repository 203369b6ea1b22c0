//! The kernel that vfkit boots: one that the user has put into the machine's folder, else
//! the appliance's.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::machine::MachineError;
use crate::machine::appliance::Appliance;
use crate::machine::supervised::Layout;

/// What a kernel is called, the first that is there.
const NAMES: [&str; 3] = ["vmlinuz", "Image", "vmlinux"];
/// No kernel is larger, uncompressed.
const LARGEST: u64 = 512 << 20;

/// `isolazi/vm` in the user's data folder; on macOS that is
/// `~/Library/Application Support/isolazi/vm`.
fn folder() -> Option<PathBuf> {
    Some(dirs::data_dir()?.join("isolazi/vm"))
}

/// The kernel to boot, not compressed.
pub(super) fn choose(appliance: &Appliance, layout: &Layout) -> Result<PathBuf, MachineError> {
    match folder().and_then(|folder| by_hand(&folder)) {
        Some(kernel) => uncompressed(&kernel, &layout.folder().join("kernel")),
        None => appliance.kernel(),
    }
}

fn by_hand(folder: &Path) -> Option<PathBuf> {
    let kernels = NAMES.map(|name| folder.join(name));
    kernels.into_iter().find(|kernel| kernel.is_file())
}

/// The kernel, or `copy` with what is compressed in it: as distributions have it on
/// arm64, where the framework starts only what is not.
fn uncompressed(kernel: &Path, copy: &Path) -> Result<PathBuf, MachineError> {
    let cannot_read = || MachineError::io("read", kernel);
    let mut start = [0; 8];
    let mut file = File::open(kernel).map_err(cannot_read())?;
    let count = file.read(&mut start).map_err(cannot_read())?;
    match &start[..count] {
        [0x1f, 0x8b, ..] => {
            let file = File::open(kernel).map_err(cannot_read())?;
            decompress(file, copy).map_err(MachineError::io("decompress", kernel))?;
            Ok(copy.to_owned())
        }
        // Linux' drivers/firmware/efi/libstub/zboot-header.S
        [b'M', b'Z', _, _, b'z', b'i', b'm', b'g'] => Err(MachineError::Failed(format!(
            "{} is a compressed EFI program, which vfkit cannot boot; put an uncompressed Image there, or remove it to boot the appliance's kernel",
            kernel.display()
        ))),
        _ => Ok(kernel.to_owned()),
    }
}

fn decompress(file: File, copy: &Path) -> io::Result<()> {
    let mut content = MultiGzDecoder::new(file).take(LARGEST);
    let size = io::copy(&mut content, &mut File::create(copy)?)?;
    match size < LARGEST {
        true => Ok(()),
        false => Err(io::Error::other("it is larger than any kernel")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_kernel_put_there_by_hand_is_found_and_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        assert_eq!(by_hand(at), None);
        std::fs::write(at.join("Image"), "plain").unwrap();
        let plain = by_hand(at).unwrap();
        assert_eq!(uncompressed(&plain, &at.join("copy")).unwrap(), plain);
        let packed = File::create(at.join("vmlinuz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(b"unpacked").unwrap();
        packed.finish().unwrap();
        let kernel = uncompressed(&by_hand(at).unwrap(), &at.join("copy")).unwrap();
        assert_eq!(std::fs::read(kernel).unwrap(), b"unpacked");
    }

    #[test]
    fn what_cannot_be_booted_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("vmlinuz");
        std::fs::write(&kernel, b"MZ\0\0zimg").unwrap();
        let error = uncompressed(&kernel, &folder.path().join("copy")).unwrap_err();
        assert!(error.to_string().contains("vmlinuz"));
        std::fs::write(&kernel, b"\x1f\x8bno gzip").unwrap();
        assert!(uncompressed(&kernel, &folder.path().join("copy")).is_err());
    }
}
