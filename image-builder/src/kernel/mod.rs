//! The guest's kernel: nothing but what the fragments name, so that it builds
//! in minutes and boots in less than a second.

pub(crate) mod config;
pub(crate) mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Arch;
use crate::cache::{Cache, Names, Piece};
use crate::command::{self, Log};
use crate::error::BuildError;
use crate::files::failed;
use crate::key::Key;
use crate::progress::Progress;
use crate::tools::{self, Tool};
use config::{KernelConfig, Wanted};
use source::KernelSource;

/// To be counted up when the way a kernel is built changes.
const RECIPE: u32 = 1;
/// The final configuration, kept beside the image.
const CONFIG: &str = "config";
/// Processor time that a build takes, measured on a 2.6 GHz core.
const CPU_MINUTES: usize = 11;

/// What the build of a kernel needs, and Debian's packages of it.
const TOOLS: [Tool; 9] = [
    Tool::program("make", "make"),
    Tool::program("flex", "flex"),
    Tool::program("bison", "bison"),
    Tool::program("bc", "bc"),
    Tool::program("perl", "perl"),
    Tool::program("tar", "tar"),
    Tool::program("xz", "xz-utils"),
    Tool::program("bzip2", "bzip2"),
    Tool::header("gelf.h", "libelf-dev"),
];

/// What a kernel is made of.
#[derive(Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) arch: Arch,
    /// Whether it is for another processor than this one.
    pub(crate) cross: bool,
    /// The folder of the fragments.
    pub(crate) fragments: &'a Path,
    /// What the user named, if anything.
    pub(crate) source: Option<&'a Path>,
}

/// The kernel, built now unless it was before.
pub(crate) fn provide(
    recipe: &Recipe<'_>,
    cache: &Cache,
    progress: &mut Progress<'_>,
) -> Result<Piece, BuildError> {
    let wanted = Wanted::read(recipe.fragments, recipe.arch)?;
    let source = match recipe.source {
        Some(path) => KernelSource::given(path)?,
        None => KernelSource::packaged(progress)?,
    };
    let toolchain = Toolchain::of(recipe);
    tools::ensure(&[toolchain.tool(recipe.arch)], progress)?;
    let log = Log::create(cache.log("kernel"))?;
    let key = Key::new("kernel", RECIPE)
        .with(recipe.arch.name())
        .with(wanted.config.render())
        .with(toolchain.version(&log)?);
    let key = source.identify(key)?;
    let file = recipe.arch.kernel_image();
    if let Some(piece) = cache.find("kernel", &key, file) {
        // What is required may have grown since.
        let config = read_config(&piece.path.with_file_name(CONFIG))?;
        wanted.required.check(&config)?;
        progress.say(&format!("kernel {}, built before", piece.version));
        return Ok(piece);
    }
    tools::ensure(&TOOLS, progress)?;
    let names = Names {
        file,
        beside: &[CONFIG],
    };
    cache.make("kernel", &key, &names, |work| {
        let build = KernelBuild {
            arch: recipe.arch,
            toolchain,
            source: unpack(&source, work, &log, progress)?,
            work,
            log: &log,
        };
        build.run(&wanted, progress)
    })
}

fn read_config(path: &Path) -> Result<KernelConfig, BuildError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    Ok(KernelConfig::parse(&text, &path.display().to_string())?)
}

/// The C compiler and its companions.
#[derive(Debug, Clone, Copy)]
struct Toolchain {
    /// What their names start with.
    prefix: &'static str,
}

impl Toolchain {
    fn of(recipe: &Recipe<'_>) -> Self {
        let prefix = if recipe.cross {
            recipe.arch.cross_prefix()
        } else {
            ""
        };
        Self { prefix }
    }

    fn tool(self, arch: Arch) -> Tool {
        if self.prefix.is_empty() {
            Tool::program("gcc", "gcc")
        } else {
            Tool::program(arch.cross_compiler(), arch.cross_package())
        }
    }

    fn version(self, log: &Log) -> Result<String, BuildError> {
        let mut said = String::new();
        for name in ["gcc", "ld"] {
            let mut command = Command::new(format!("{}{name}", self.prefix));
            let answer = command::output(command.arg("--version").env("LC_ALL", "C"), log)?;
            said.extend(answer.lines().take(1));
        }
        Ok(said)
    }
}

fn unpack(
    source: &KernelSource,
    work: &Path,
    log: &Log,
    progress: &mut Progress<'_>,
) -> Result<PathBuf, BuildError> {
    let tarball = match source {
        KernelSource::Folder(path) => return Ok(path.clone()),
        KernelSource::Tarball(path) => path,
    };
    progress.say(&format!("unpacking {} …", tarball.display()));
    let folder = work.join("source");
    fs::create_dir(&folder).map_err(failed("create", &folder))?;
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=1", "-C"]).arg(&folder);
    log.run(tar.arg("-xf").arg(tarball))?;
    // A tarball of something else is noticed here, and not by make.
    match KernelSource::given(&folder) {
        Ok(_) => Ok(folder),
        Err(_) => Err(source::SourceError::NotSource(tarball.clone()).into()),
    }
}

struct KernelBuild<'a> {
    arch: Arch,
    toolchain: Toolchain,
    source: PathBuf,
    work: &'a Path,
    log: &'a Log,
}

impl KernelBuild<'_> {
    /// Configures, checks, builds; returns the version.
    fn run(&self, wanted: &Wanted, progress: &mut Progress<'_>) -> Result<String, BuildError> {
        self.configure(wanted, progress)?;
        let version = self.release()?;
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let minutes = CPU_MINUTES.div_ceil(jobs);
        progress.say(&format!(
            "building kernel {version} (first time only, about {minutes} minutes; log in {}) …",
            self.log.path().display()
        ));
        let job_option = format!("-j{jobs}");
        self.log
            .run(self.make().args([&job_option, self.arch.kernel_image()]))?;
        self.finish()?;
        Ok(version)
    }

    fn configure(&self, wanted: &Wanted, progress: &mut Progress<'_>) -> Result<(), BuildError> {
        let asked = self.work.join("asked.config");
        fs::write(&asked, wanted.config.render()).map_err(failed("write", &asked))?;
        let mut all = std::ffi::OsString::from("KCONFIG_ALLCONFIG=");
        all.push(&asked);
        self.log.run(self.make().arg(all).arg("allnoconfig"))?;
        let kept = self.work.join(CONFIG);
        fs::copy(self.output().join(".config"), &kept).map_err(failed("write", &kept))?;
        let actual = read_config(&kept)?;
        for lost in wanted.config.unmet(&actual) {
            progress.say(&format!("note: this kernel has no such choice: {lost}"));
        }
        Ok(wanted.required.check(&actual)?)
    }

    /// As `uname -r` will say it.
    fn release(&self) -> Result<String, BuildError> {
        let said = command::output(self.make().args(["-s", "kernelrelease"]), self.log)?;
        match said.trim() {
            "" => Err(command::CommandError::Output {
                program: "make kernelrelease".to_owned(),
                wanted: "version",
            }
            .into()),
            version => Ok(version.to_owned()),
        }
    }

    /// Puts the image, without symbols, where the cache expects it.
    fn finish(&self) -> Result<(), BuildError> {
        let built = self.output().join(self.arch.kernel_image_path());
        let image = self.work.join(self.arch.kernel_image());
        if self.arch.kernel_is_elf() {
            let mut strip = Command::new(format!("{}strip", self.toolchain.prefix));
            self.log.run(strip.arg("-o").arg(&image).arg(&built))?;
        } else {
            fs::rename(&built, &image).map_err(failed("create", &image))?;
        }
        Ok(())
    }

    fn output(&self) -> PathBuf {
        self.work.join("output")
    }

    /// `make` in the source, with nothing of this machine in the result.
    fn make(&self) -> Command {
        let mut make = Command::new("make");
        let mut output = std::ffi::OsString::from("O=");
        output.push(self.output());
        make.arg("-C").arg(&self.source).arg(output);
        make.arg(format!("ARCH={}", self.arch.kernel_arch()));
        make.arg(format!("CROSS_COMPILE={}", self.toolchain.prefix));
        make.env("LC_ALL", "C")
            .env("KBUILD_BUILD_USER", "isolazi")
            .env("KBUILD_BUILD_HOST", "isolazi")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970");
        for variable in [
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
            "KBUILD_OUTPUT",
            "LOCALVERSION",
        ] {
            make.env_remove(variable);
        }
        make
    }
}
