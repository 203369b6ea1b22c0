//! The build from end to end.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use isolazi_protocol::appliance::{
    DATA_TEMPLATE, FileEntry, FileName, INITRAMFS, Kernel, Manifest,
};

use crate::cache::{Cache, Piece};
use crate::command::Log;
use crate::error::BuildError;
use crate::files::{self, failed};
use crate::helpers::{self, HELPERS, Helper};
use crate::output::{self, Content, Item};
use crate::progress::Progress;
use crate::{Arch, agent, disk, initramfs, kernel};

/// Kernel, agent, data disk, folder; helpers come on top.
const STEPS: usize = 4;

const PROGRAM: u32 = 0o755;
const DATA: u32 = 0o644;

/// What to build, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The processor; this machine's if `None`.
    pub arch: Option<Arch>,
    /// The appliance's folder; [`default_output`] if `None`.
    pub output: Option<PathBuf>,
    /// A folder or tarball of the kernel's source; the distribution's package
    /// if `None`.
    pub kernel_source: Option<PathBuf>,
    /// Where finished pieces are kept; the user's cache folder if `None`.
    pub cache: Option<PathBuf>,
}

/// What a build left.
#[derive(Debug)]
pub struct Built {
    /// The appliance's folder.
    pub folder: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// Whether it was so before.
    pub unchanged: bool,
}

/// Builds what is missing of the appliance. `tell` gets lines of progress.
pub fn build(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let host = Arch::host()?;
    let arch = options.arch.unwrap_or(host);
    let folder = match &options.output {
        Some(folder) => folder.clone(),
        None => default_output(arch)?,
    };
    output::check_replaceable(&folder)?;
    let workspace = workspace()?;
    let helpers = helpers_of(arch, host);
    let mut progress = Progress::new(STEPS + helpers.len(), tell);
    let root = cache_root(options)?;
    let cache = Cache::open(&root, || progress.say(&waiting_for(&root)))?;
    let work = Work {
        arch,
        cross: arch != host,
        helpers,
        workspace: &workspace,
        cache: &cache,
    };
    let parts = Parts::collect(&work, options, &mut progress)?;
    let (manifest, items) = parts.assemble(arch)?;
    progress.advance();
    let unchanged = output::is_current(&folder, &manifest);
    if unchanged {
        progress.say(&format!("{} is up to date", folder.display()));
    } else {
        let waiting = || progress.say(&waiting_for(&folder));
        output::replace(&folder, &manifest, &items, waiting)?;
        progress.say(&format!("appliance in {}", folder.display()));
    }
    Ok(Built {
        folder,
        manifest,
        unchanged,
    })
}

fn waiting_for(place: &Path) -> String {
    format!(
        "waiting for another builder that uses {} …",
        place.display()
    )
}

/// Where the host looks for the appliance: `ISOLAZI_APPLIANCE`, or a folder
/// named after the processor among the user's data.
pub fn default_output(arch: Arch) -> Result<PathBuf, BuildError> {
    if let Some(folder) = env::var_os("ISOLAZI_APPLIANCE").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let data = dirs::data_dir().ok_or(BuildError::NoHome {
        what: "appliance",
        option: "--output",
    })?;
    Ok(data.join("isolazi/appliance").join(arch.name()))
}

pub(crate) fn cache_root(options: &Options) -> Result<PathBuf, BuildError> {
    let root = match &options.cache {
        Some(root) => root.clone(),
        None => dirs::cache_dir()
            .ok_or(BuildError::NoHome {
                what: "cache",
                option: "--cache",
            })?
            .join("isolazi"),
    };
    // Absolute, because make and cargo run in other folders.
    Ok(std::path::absolute(&root).map_err(failed("find", &root))?)
}

/// The sources of isolazi, from where this program was compiled.
pub(crate) fn workspace() -> Result<PathBuf, BuildError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if folder.join("guest-agent/Cargo.toml").is_file() {
        Ok(folder)
    } else {
        Err(BuildError::NoWorkspace(folder))
    }
}

/// Helpers run beside the hypervisor, so an appliance that is built on another
/// kind of machine than it is for has none.
fn helpers_of(arch: Arch, host: Arch) -> &'static [Helper] {
    if arch == host { &HELPERS } else { &[] }
}

/// What a build has to do, and with what.
struct Work<'a> {
    arch: Arch,
    /// Whether that is another processor than this one.
    cross: bool,
    helpers: &'static [Helper],
    workspace: &'a Path,
    cache: &'a Cache,
}

/// All that goes into an appliance.
struct Parts {
    kernel: Piece,
    initramfs: Vec<u8>,
    data: Piece,
    helpers: Vec<(&'static str, Piece)>,
}

impl Parts {
    fn collect(
        work: &Work<'_>,
        options: &Options,
        progress: &mut Progress<'_>,
    ) -> Result<Self, BuildError> {
        let Work {
            arch,
            cross,
            workspace,
            cache,
            ..
        } = *work;
        progress.advance();
        let recipe = kernel::Recipe {
            arch,
            cross,
            fragments: &workspace.join("kernel-config"),
            source: options.kernel_source.as_deref(),
        };
        let kernel = kernel::provide(&recipe, cache, progress)?;
        progress.advance();
        let log = Log::create(cache.log("agent"))?;
        let agent = agent::provide(arch, cross, workspace, &log, progress)?;
        let agent = fs::read(&agent).map_err(failed("read", &agent))?;
        progress.advance();
        let data = disk::provide(cache, progress)?;
        let mut helpers = Vec::new();
        for helper in work.helpers {
            progress.advance();
            helpers.push((helper.name, helpers::provide(helper, cache, progress)?));
        }
        Ok(Self {
            kernel,
            initramfs: initramfs::build(&agent)?,
            data,
            helpers,
        })
    }

    fn assemble(self, arch: Arch) -> Result<(Manifest, Vec<Item>), BuildError> {
        let mut folder = Folder::default();
        let image = arch.kernel_image();
        let version = self.kernel.version.clone();
        folder.add_piece(image, DATA, self.kernel)?;
        folder.add_bytes(INITRAMFS, self.initramfs)?;
        folder.add_piece(DATA_TEMPLATE, DATA, self.data)?;
        for (name, helper) in self.helpers {
            folder.add_piece(name, PROGRAM, helper)?;
        }
        let kernel = Kernel {
            version,
            file: FileName::try_from(image.to_owned())?,
        };
        let own_version = env!("CARGO_PKG_VERSION").to_owned();
        let manifest = Manifest::new(arch.name().to_owned(), own_version, kernel, folder.entries);
        Ok((manifest, folder.items))
    }
}

/// A folder's files, and what its manifest will say of them.
#[derive(Default)]
struct Folder {
    entries: BTreeMap<FileName, FileEntry>,
    items: Vec<Item>,
}

impl Folder {
    fn add_piece(&mut self, name: &str, mode: u32, piece: Piece) -> Result<(), BuildError> {
        self.add(name, mode, piece.entry, Content::File(piece.path))
    }

    fn add_bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), BuildError> {
        let entry = files::entry_of_bytes(&bytes);
        self.add(name, DATA, entry, Content::Bytes(bytes))
    }

    fn add(
        &mut self,
        name: &str,
        mode: u32,
        entry: FileEntry,
        content: Content,
    ) -> Result<(), BuildError> {
        let file = FileName::try_from(name.to_owned())?;
        self.entries.insert(file, entry);
        self.items.push(Item {
            name: name.to_owned(),
            mode,
            content,
        });
        Ok(())
    }
}
