//! Command line of the appliance builder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use isolazi_image_builder::{
    Arch, BundleOptions, Front, Options, build, bundle, ensure_hypervisor,
};

/// Builds the appliance: the kernel, agent and disk that `isolazi --vm` boots
#[derive(Parser)]
#[command(name = "isolazi-image-builder", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing or has changed
    Build(BuildArgs),
    /// Make one file of a program and its appliance, which is the whole installation
    Bundle(BundleArgs),
    /// Install the hypervisor that boots the appliance, where it is missing
    Hypervisor,
}

#[derive(Args)]
struct BuildArgs {
    /// Processor the appliance is for: x86_64 or aarch64 [default: this machine's]
    #[arg(long)]
    arch: Option<Arch>,
    /// Folder of the appliance [default: $ISOLAZI_APPLIANCE, else
    /// ~/.local/share/isolazi/appliance/<ARCH>]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Folder or tarball of the kernel's source [default: the distribution's
    /// linux-source package]
    #[arg(long, value_name = "PATH")]
    kernel_source: Option<PathBuf>,
    /// Folder of what was built before [default: ~/.cache/isolazi]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

#[derive(Args)]
struct BundleArgs {
    /// The program, for Linux or Windows [default: this checkout's, built now as its
    /// appliance is]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// No program: the result is to be compiled in, by ISOLAZI_BUNDLE=FILE
    #[arg(long, conflicts_with = "program")]
    payload_only: bool,
    /// Folder of the appliance [default: where `build` puts the one for the program's
    /// processor]
    #[arg(long, value_name = "DIR")]
    appliance: Option<PathBuf>,
    /// The file to make
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

fn main() -> ExitCode {
    let mut tell = |line: &str| eprintln!("{line}");
    let result = match Cli::parse().command {
        Command::Build(args) => build(&args.into(), &mut tell).map(drop),
        Command::Bundle(args) => bundle(&args.into(), &mut tell).map(drop),
        Command::Hypervisor => ensure_hypervisor(&mut tell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolazi-image-builder: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

impl From<BuildArgs> for Options {
    fn from(args: BuildArgs) -> Self {
        Self {
            arch: args.arch,
            output: args.output,
            kernel_source: args.kernel_source,
            cache: args.cache,
        }
    }
}

impl From<BundleArgs> for BundleOptions {
    fn from(args: BundleArgs) -> Self {
        Self {
            front: match args.program {
                Some(program) => Front::Program(program),
                None if args.payload_only => Front::Nothing,
                None => Front::Built,
            },
            appliance: args.appliance,
            output: args.output,
        }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
