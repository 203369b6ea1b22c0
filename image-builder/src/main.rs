//! Command line of the appliance builder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use isolazi_image_builder::{Arch, Options, build};

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

fn main() -> ExitCode {
    let Command::Build(args) = Cli::parse().command;
    let options = Options {
        arch: args.arch,
        output: args.output,
        kernel_source: args.kernel_source,
        cache: args.cache,
    };
    match build(&options, &mut |line| eprintln!("{line}")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolazi-image-builder: {}", chain(&error));
            ExitCode::FAILURE
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
