//! Options of the commands that serve the user's shell.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `isolazi completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
bash:  echo 'source <(isolazi completion bash)' >> ~/.bashrc
zsh:   echo 'source <(isolazi completion zsh)' >> ~/.zshrc
fish:  echo 'isolazi completion fish | source' > ~/.config/fish/completions/isolazi.fish")]
pub struct CompletionArgs {
    /// For which shell
    pub shell: Shell,
}

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// `isolazi man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write isolazi.1, isolazi-run.1 and so on to this folder, which is made if need be
    pub dir: Option<PathBuf>,
}
