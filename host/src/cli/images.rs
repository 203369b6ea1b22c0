//! Options of the commands about images, registries and disk space.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ImagesArgs, InspectArgs, PullArgs};

/// `isolazi rmi`.
#[derive(Debug, Args)]
pub struct RmiArgs {
    /// Remove images that containers use, and ids of several repositories
    #[arg(short, long)]
    pub force: bool,
    /// Names, ids, or starts of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// `isolazi tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Name, id, or start of an id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    pub source: String,
    /// The further name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    pub target: String,
}

/// `isolazi history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Print sizes in bytes and dates in full
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub human: bool,
    /// Print everything in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Name, id, or start of an id
    pub image: String,
}

/// `isolazi save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Names, ids, or starts of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// `isolazi load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Read from FILE instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Of an index, load the image for this platform (OS/ARCH[/VARIANT])
    #[arg(long)]
    pub platform: Option<String>,
}

/// `isolazi import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A remark for the image's history
    #[arg(short, long)]
    pub message: Option<String>,
    /// What the file system is made for (OS/ARCH[/VARIANT])
    #[arg(long)]
    pub platform: Option<String>,
    /// A tar of a root file system, plain or compressed; - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub reference: Option<String>,
}

/// `isolazi push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Print only the image's reference
    #[arg(short, long)]
    pub quiet: bool,
    /// Name of a stored image; its registry is where it goes
    #[arg(value_name = "NAME[:TAG]")]
    pub image: String,
}

/// `isolazi login`.
#[derive(Args)]
pub struct LoginArgs {
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password or token; better given by --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Registry (HOST[:PORT]); Docker's hub by default
    pub server: Option<String>,
}

impl std::fmt::Debug for LoginArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginArgs")
            .field("username", &self.username)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// `isolazi logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry (HOST[:PORT]); Docker's hub by default
    pub server: Option<String>,
}

/// `isolazi image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List cached images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Display image details as JSON
    Inspect(ImageInspectArgs),
    /// Remove images that belong to no name, or to no container
    Prune(ImagePruneArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Give an image a further name
    Tag(TagArgs),
    /// Write images to a tar archive
    Save(SaveArgs),
    /// Read images from a tar archive
    Load(LoadArgs),
    /// Make an image of a root file system
    Import(ImportArgs),
    /// Push an image to its registry
    Push(PushArgs),
    /// Pull an image from a registry
    Pull(PullArgs),
}

/// `isolazi image inspect`.
#[derive(Debug, Args)]
pub struct ImageInspectArgs {
    /// In which form.
    #[command(flatten)]
    pub format: super::FormatArgs,
    /// Names, ids, or starts of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

impl From<ImageInspectArgs> for InspectArgs {
    fn from(args: ImageInspectArgs) -> Self {
        Self {
            kind: Some(super::InspectKind::Image),
            format: args.format,
            containers: args.images,
        }
    }
}

/// `isolazi image prune`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ImagePruneArgs {
    /// Remove all images that no container uses, not just those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// `isolazi prune`.
#[derive(Debug, Clone, Copy, Args)]
pub struct PruneArgs {
    /// Do not ask, which happens on a terminal only
    #[arg(short, long)]
    pub force: bool,
}

/// `isolazi system`.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show what takes disk space
    Df,
    /// Remove stopped containers and images without a name
    Prune(SystemPruneArgs),
}

/// `isolazi system prune`.
#[derive(Debug, Clone, Copy, Args)]
pub struct SystemPruneArgs {
    /// Remove all images that no container uses, not just those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}
