//! The images that the cases run, made once and kept in the user's cache.
//!
//! What is kept is the storage of a registry that has all images already. Its
//! folder is named by the hash of everything the images are made from, so an
//! edited script makes new ones and an old cache is never mistaken for them.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::command::{Invocation, tool};
use crate::debian;
use crate::registry::Registry;
use crate::surroundings::tools_lack;

const SCRIPT: &str = include_str!("../fixtures/make-images.sh");
const PROBE: &str = include_str!("../fixtures/probe.rs");
const TRUE: &str = include_str!("../fixtures/true.rs");
const CALLS: &str = include_str!("../fixtures/calls.rs");
const HELLO: &str = include_str!("../../host/hello/main.rs");
const ECHO: &str = include_str!("../fixtures/echo.rs");
const MANY_CALLS: &str = include_str!("../fixtures/many-calls.rs");
const SERVERS: &str = include_str!("../fixtures/make-servers.sh");
const DEBIAN: &str = include_str!("../fixtures/make-debian.sh");
const INIT: &str = include_str!("../fixtures/init.rs");
/// Debootstrapping over a slow line included.
const MAKING: Duration = Duration::from_secs(900);

/// Programs that the fixtures are made with.
pub const TOOLS: &[&str] = &[
    "docker-registry",
    "skopeo",
    "umoci",
    "mmdebstrap",
    "busybox",
    "curl",
    "setcap",
    "setfattr",
    "rustc",
];

/// Where `program` lies in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Makes what takes the machine's own network to make, as far as this machine can.
/// What it cannot is found out by whoever needs it.
pub fn fetch() -> Result<()> {
    let is_listing = env::args().any(|argument| argument == "--list");
    let is_able = tools_lack().is_none() && rustix::process::geteuid().is_root();
    if is_able && !is_listing {
        storage()?;
        servers()?;
        if debian::lacks().is_none() {
            debian_kernel()?;
        }
    }
    Ok(())
}

/// The target for programs that need no library in an image.
pub fn musl_target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

/// A registry's storage with all images; made if it is not there yet.
pub fn storage() -> Result<PathBuf> {
    let folder = cache()?.join(format!("images-{}", key()?));
    let _lock = lock(&folder.with_extension("lock"))?;
    if !folder.join("docker").is_dir() {
        eprintln!("making the test images, kept in {}", folder.display());
        make(&folder)?;
    }
    Ok(folder)
}

/// `true` without anything a program could do without, for the benches.
pub fn static_true(folder: &Path) -> Result<PathBuf> {
    compile("true", TRUE, folder)
}

/// An init that says `up` and waits, for the benches.
pub fn small_init(folder: &Path) -> Result<PathBuf> {
    compile("init", INIT, folder)
}

/// A server on port 7 that gives back what it is told, for the benches.
pub fn echo(folder: &Path) -> Result<PathBuf> {
    compile("echo", ECHO, folder)
}

/// The program of the image `hello`, for a processor.
pub fn hello_for(arch: &str, folder: &Path) -> Result<PathBuf> {
    compile_for(arch, "hello", HELLO, folder)
}

/// A program that makes system calls by number.
pub fn calls(folder: &Path) -> Result<PathBuf> {
    compile("calls", CALLS, folder)
}

/// A program that makes one system call a million times, for the benches.
pub fn many_calls(folder: &Path) -> Result<PathBuf> {
    compile("many-calls", MANY_CALLS, folder)
}

/// An archive with the image `servers:1`: nginx, redis and PostgreSQL; made if
/// it is not there yet.
pub fn servers() -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(SERVERS);
    hash.update(fs::read("/etc/os-release").unwrap_or_default());
    let archive = cache()?.join(format!("servers-{}.tar", short(hash)));
    let _lock = lock(&archive.with_extension("lock"))?;
    if archive.is_file() {
        return Ok(archive);
    }
    eprintln!("making the image of servers, kept in {}", archive.display());
    make_by(SERVERS, &archive).context("cannot make the image of servers")?;
    Ok(archive)
}

/// A folder with Debian's `kernel`, its `modules` and an `initramfs`; made if it is not
/// there yet.
pub fn debian_kernel() -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(DEBIAN);
    let folder = cache()?.join(format!("debian-{}", short(hash)));
    let _lock = lock(&folder.with_extension("lock"))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    make_by(DEBIAN, &folder).context("cannot unpack Debian's kernel")?;
    Ok(folder)
}

/// Has a script, whose arguments are a folder to work in and what it is to make, make
/// `product`, which appears when it is whole.
fn make_by(script: &str, product: &Path) -> Result<()> {
    let work = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(cache()?)?;
    let file = work.path().join("make.sh");
    fs::write(&file, script)?;
    let made = work.path().join("product");
    Invocation::new("bash", MAKING)
        .args([file.as_path(), work.path(), &made])
        .output()?
        .success()?;
    fs::rename(&made, product)?;
    Ok(())
}

/// The folder of all that this user's programs keep.
pub fn cache_home() -> Result<PathBuf> {
    dirs::cache_dir().context("this user has no cache folder; set XDG_CACHE_HOME")
}

/// The folder for what is slow to make.
pub fn cache() -> Result<PathBuf> {
    let folder = cache_home()?.join("isolazi/tests");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Holds off other test runs of this user until the value is dropped.
pub fn lock(file: &Path) -> Result<File> {
    let held = File::create(file).with_context(|| format!("cannot make {}", file.display()))?;
    flock(&held, FlockOperation::LockExclusive)?;
    Ok(held)
}

fn key() -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(SCRIPT);
    hash.update(PROBE);
    hash.update(ECHO);
    hash.update(fs::read("/etc/os-release").unwrap_or_default());
    let busybox = find("busybox").context("busybox is not installed")?;
    hash.update(fs::read(busybox)?);
    Ok(short(hash))
}

fn short(hash: Sha256) -> String {
    let bytes = &hash.finalize()[..8];
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Makes the images beside `folder` and moves them there when all are done.
fn make(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("the cache has no parent folder")?;
    let work = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(parent)?;
    let storage = work.path().join("storage");
    fs::create_dir(&storage)?;
    let probe = compile("probe", PROBE, work.path())?;
    let echo = compile("echo", ECHO, work.path())?;
    let registry = Registry::start(&storage, work.path())?;
    let script = work.path().join("make-images.sh");
    fs::write(&script, SCRIPT)?;
    Invocation::new("bash", MAKING)
        .args([&script, work.path()])
        .env("REGISTRY", registry.address())
        .env("PROBE", &probe)
        .env("ECHO", &echo)
        .output()?
        .success()
        .context("cannot make the test images")?;
    drop(registry);
    if folder.exists() {
        bail!("{} is in the way; remove it", folder.display());
    }
    fs::rename(&storage, folder)?;
    Ok(())
}

fn compile(name: &str, source: &str, folder: &Path) -> Result<PathBuf> {
    compile_for(env::consts::ARCH, name, source, folder)
}

fn compile_for(arch: &str, name: &str, source: &str, folder: &Path) -> Result<PathBuf> {
    let file = folder.join(format!("{name}.rs"));
    let program = folder.join(name);
    fs::write(&file, source)?;
    let target = format!("{arch}-unknown-linux-musl");
    // The linker that comes with Rust knows all processors.
    let options = [
        "-Clinker=rust-lld",
        "-Clinker-flavor=ld.lld",
        "-O",
        "-Cpanic=abort",
        "-Cstrip=symbols",
        "--edition=2024",
        "--target",
    ];
    let mut args: Vec<&Path> = options.iter().map(Path::new).collect();
    args.extend([Path::new(&target), Path::new("-o"), &program, &file]);
    tool("rustc", args).context("is the musl target installed? rustup target add")?;
    Ok(program)
}
