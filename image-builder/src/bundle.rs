//! One file to install: the appliance, compressed, behind the program that is to
//! unpack it (`isolazi_protocol::appliance::bundle` has the format).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use isolazi_protocol::appliance::bundle::{Index, Piece, TRAILER_BYTES, Trailer};
use isolazi_protocol::appliance::{MANIFEST, Manifest};
use sha2::{Digest as _, Sha256};

use crate::build::{Options, build, cache_root, default_output, workspace};
use crate::command::Log;
use crate::error::{BuildError, BundleError};
use crate::files::{self, failed};
use crate::progress::Progress;
use crate::tools::{self, Tool};
use crate::{Arch, agent};

const ZSTD: Tool = Tool::program("zstd", "zstd");

/// The best that it can do within a window of 8 MiB, which the unpacking program has
/// to keep in memory.
const OPTIONS: &[&str] = &["--ultra", "-22", "--zstd=wlog=23", "-T0", "-q", "-c"];

/// What is in front of the appliance.
#[derive(Debug, Clone)]
pub enum Front {
    /// This checkout's program for this machine, built now, and its appliance, too.
    Built,
    /// A program that is there.
    Program(PathBuf),
    /// Nothing: the result is for `ISOLAZI_BUNDLE`.
    Nothing,
}

/// What to make one file of.
#[derive(Debug, Clone)]
pub struct BundleOptions {
    /// What is in front.
    pub front: Front,
    /// The appliance's folder; [`default_output`] for the program's processor (this
    /// machine's without a program) if `None`.
    pub appliance: Option<PathBuf>,
    /// The file to make.
    pub output: PathBuf,
}

/// Makes one file of a program and its appliance; returns the length of the result
/// in bytes. `tell` gets lines of progress.
pub fn bundle(options: &BundleOptions, tell: &mut dyn FnMut(&str)) -> Result<u64, BuildError> {
    let program = match &options.front {
        Front::Built => Some(build_all(options, tell)?),
        Front::Program(program) => Some(program.clone()),
        Front::Nothing => None,
    };
    let mut progress = Progress::new(1, tell);
    progress.advance();
    let arch = match &program {
        Some(program) => arch_of(program)?,
        None => Arch::host()?,
    };
    let folder = match &options.appliance {
        Some(folder) => folder.clone(),
        None => default_output(arch)?,
    };
    let manifest = manifest_of(&folder)?;
    if let Some(program) = &program
        && manifest.arch != arch.name()
    {
        return Err(BundleError::Arch {
            program: program.clone(),
            wanted: arch,
            folder,
            found: manifest.arch,
        }
        .into());
    }
    tools::ensure(&[ZSTD], &mut progress)?;
    progress.say("compressing the appliance …");
    let mut output = Output::create(&options.output)?;
    if let Some(program) = &program {
        output.copy(program, program_length(program)?)?;
    }
    let length = write_payload(&mut output, &folder, manifest)?;
    output.finish(program.is_some())?;
    progress.say(&format!(
        "{}, {:.1} MiB",
        options.output.display(),
        length as f64 / f64::from(1 << 20)
    ));
    Ok(length)
}

/// Builds the appliance and the program as far as they are not up to date; returns
/// where the program is.
fn build_all(options: &BundleOptions, tell: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let options = Options {
        arch: None,
        output: options.appliance.clone(),
        kernel_source: None,
        cache: None,
    };
    build(&options, tell)?;
    let log = Log::create(cache_root(&options)?.join("log/isolazi.log"))?;
    agent::program(&workspace()?, &log, &mut Progress::new(1, tell))
}

/// Appends pieces, index and trailer; returns the length of the whole.
fn write_payload(
    output: &mut Output,
    folder: &Path,
    manifest: Manifest,
) -> Result<u64, BuildError> {
    let start = output.length;
    let mut pieces = BTreeMap::new();
    for (name, entry) in &manifest.files {
        let path = folder.join(name.as_str());
        if files::entry_of_file(&path)? != *entry {
            return Err(BundleError::Damaged(path).into());
        }
        let piece = output.compress(&path, start)?;
        pieces.insert(name.clone(), piece);
    }
    let pieces_length = output.length - start;
    let index = Index::new(manifest, pieces)?;
    let index = serde_json::to_vec(&index)
        .map_err(io::Error::from)
        .map_err(failed("describe", folder))?;
    let trailer = Trailer {
        pieces: pieces_length,
        index: index.len() as u64,
        index_digest: Sha256::digest(&index).into(),
    };
    output.append(&index)?;
    output.append(&trailer.encode())?;
    Ok(output.length)
}

fn manifest_of(folder: &Path) -> Result<Manifest, BuildError> {
    let none = || BundleError::NoAppliance(folder.to_owned());
    let text = fs::read(folder.join(MANIFEST)).map_err(|_| none())?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| none())?;
    manifest.check_usable(&manifest.arch).map_err(|_| none())?;
    Ok(manifest)
}

/// The processor that a program is for, of its header: ELF (elf(5), `e_machine`) or
/// PE (Microsoft's "PE Format", `Machine` behind the signature that 0x3c points to).
fn arch_of(program: &Path) -> Result<Arch, BuildError> {
    let mut start = Vec::new();
    File::open(program)
        .and_then(|file| file.take(4096).read_to_end(&mut start))
        .map_err(failed("read", program))?;
    let short = |at: usize| Some(u16::from_le_bytes([*start.get(at)?, *start.get(at + 1)?]));
    let pe = || {
        let at = usize::from(short(0x3c)?);
        let signed = start.get(at..at + 4)? == b"PE\0\0";
        short(at + 4).filter(|_| signed)
    };
    let machine = match start.as_slice() {
        [0x7f, b'E', b'L', b'F', ..] => short(18),
        [b'M', b'Z', ..] => pe(),
        // Mach-O, 64-bit, and universal binaries.
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            return Err(BundleError::Signed(program.to_owned()).into());
        }
        _ => None,
    };
    match machine {
        Some(62 | 0x8664) => Ok(Arch::X86_64),
        Some(183 | 0xaa64) => Ok(Arch::Aarch64),
        _ => Err(BundleError::NotAProgram(program.to_owned()).into()),
    }
}

/// Length of the program itself, without a payload that is there already.
fn program_length(program: &Path) -> Result<u64, BuildError> {
    let measure = || {
        let mut file = File::open(program)?;
        let length = file.seek(SeekFrom::End(0))?;
        let Some(at) = length.checked_sub(TRAILER_BYTES as u64) else {
            return Ok(length);
        };
        file.seek(SeekFrom::Start(at))?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact(&mut trailer)?;
        let payload = Trailer::decode(&trailer).and_then(|it| it.payload());
        Ok(payload.map_or(length, |payload| length.saturating_sub(payload)))
    };
    Ok(measure().map_err(failed("read", program))?)
}

/// The file in the making, which gets its name when it is whole.
struct Output {
    path: PathBuf,
    file: tempfile::NamedTempFile,
    length: u64,
}

impl Output {
    fn create(path: &Path) -> Result<Self, BuildError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        Ok(Self {
            path: path.to_owned(),
            file: tempfile::NamedTempFile::new_in(parent).map_err(failed("create", path))?,
            length: 0,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        self.file
            .write_all(bytes)
            .map_err(failed("write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn copy(&mut self, from: &Path, length: u64) -> Result<(), BuildError> {
        let source = File::open(from).map_err(failed("read", from))?;
        self.length += io::copy(&mut source.take(length), &mut self.file)
            .map_err(failed("write", &self.path))?;
        Ok(())
    }

    /// Appends a file of the appliance, whose payload begins at `start`.
    fn compress(&mut self, path: &Path, start: u64) -> Result<Piece, BuildError> {
        let packed = tempfile::NamedTempFile::new().map_err(failed("create", path))?;
        let log = Log::create(packed.path().with_extension("log"))?;
        let mut zstd = Command::new(ZSTD.name());
        zstd.args(OPTIONS).args(["-f", "-o"]).arg(packed.path());
        let done = log.run(zstd.arg(path));
        let _ = fs::remove_file(log.path());
        done?;
        let executable = fs::metadata(path).map_err(failed("read", path))?;
        let piece = Piece {
            offset: self.length - start,
            packed: files::entry_of_file(packed.path())?,
            executable: executable.permissions().mode() & 0o100 != 0,
        };
        self.copy(packed.path(), piece.packed.size)?;
        Ok(piece)
    }

    fn finish(self, executable: bool) -> Result<(), BuildError> {
        let mode = if executable { 0o755 } else { 0o644 };
        let Self { path, file, .. } = self;
        let kept = || {
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        Ok(kept().map_err(failed("write", &path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::appliance::{DATA_TEMPLATE, FileName, INITRAMFS, Kernel};

    const X86_64_ELF: [u8; 20] = [
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 62, 0,
    ];

    fn name(text: &str) -> FileName {
        FileName::try_from(text.to_owned()).unwrap()
    }

    fn appliance(folder: &Path, arch: &str) {
        fs::create_dir_all(folder).unwrap();
        let files = ["vmlinux", INITRAMFS, DATA_TEMPLATE].map(|file| {
            files::write_new(&folder.join(file), 0o644, file.as_bytes()).unwrap();
            (name(file), files::entry_of_bytes(file.as_bytes()))
        });
        let kernel = Kernel {
            version: "6.12".to_owned(),
            file: name("vmlinux"),
        };
        let manifest = Manifest::new(arch.to_owned(), "0".to_owned(), kernel, files.into());
        let text = serde_json::to_vec(&manifest).unwrap();
        fs::write(folder.join(MANIFEST), text).unwrap();
    }

    fn options(dir: &Path, program: &[u8]) -> BundleOptions {
        let path = dir.join("program");
        fs::write(&path, program).unwrap();
        BundleOptions {
            front: Front::Program(path),
            appliance: Some(dir.join("appliance")),
            output: dir.join("dist/isolazi"),
        }
    }

    #[test]
    fn a_bundle_begins_as_the_program_and_ends_with_the_trailer() {
        let dir = tempfile::tempdir().unwrap();
        appliance(&dir.path().join("appliance"), "x86_64");
        let mut options = options(dir.path(), &X86_64_ELF);
        let length = bundle(&options, &mut |_| ()).unwrap();
        let made = fs::read(&options.output).unwrap();
        assert_eq!(made.len() as u64, length);
        assert!(made.starts_with(&X86_64_ELF));
        let trailer: [u8; TRAILER_BYTES] = made[made.len() - TRAILER_BYTES..].try_into().unwrap();
        let trailer = Trailer::decode(&trailer).unwrap();
        assert_eq!(trailer.payload(), Some(length - X86_64_ELF.len() as u64));
        let mode = fs::metadata(&options.output).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);

        // Again, of the result: the old payload does not stay in it.
        options.front = Front::Program(options.output.clone());
        assert_eq!(bundle(&options, &mut |_| ()).unwrap(), length);
        assert_eq!(fs::read(&options.output).unwrap(), made);
    }

    #[test]
    fn what_cannot_be_bundled_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("appliance");
        let refusal = |program: &[u8]| {
            let options = options(dir.path(), program);
            let error = bundle(&options, &mut |_| ()).unwrap_err().to_string();
            assert!(!options.output.exists());
            error
        };
        assert!(refusal(&X86_64_ELF).contains("no appliance"));
        appliance(&folder, "aarch64");
        assert!(refusal(&X86_64_ELF).contains("for aarch64"));
        assert!(refusal(&[0xcf, 0xfa, 0xed, 0xfe, 0]).contains("ISOLAZI_BUNDLE"));
        assert!(refusal(b"#!/bin/sh").contains("no program"));
        fs::remove_dir_all(&folder).unwrap();
        appliance(&folder, "x86_64");
        fs::write(folder.join("vmlinux"), "vmlinuz").unwrap();
        assert!(refusal(&X86_64_ELF).contains("another content"));
    }

    #[test]
    fn processors_of_windows_programs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("isolazi.exe");
        let mut program = vec![0; 0x90];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x80;
        program[0x80..0x86].copy_from_slice(b"PE\0\0\x64\xaa");
        fs::write(&path, &program).unwrap();
        assert_eq!(arch_of(&path).unwrap(), Arch::Aarch64);
        program[0x3c] = 0xff;
        program[0x3d] = 0xff;
        fs::write(&path, &program).unwrap();
        assert!(arch_of(&path).is_err());
    }
}
