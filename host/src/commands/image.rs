//! `isolazi image`: the verbs about images under their noun.

use anyhow::Result;

use crate::cli::{Command, ImageCommand};
use crate::commands::{Context, carry_out, prune};

pub(super) async fn image(context: Context, command: ImageCommand) -> Result<u8> {
    let verb = match command {
        ImageCommand::Prune(args) => return prune::images(&context, args).await,
        ImageCommand::Ls(args) => Command::Images(args),
        ImageCommand::Rm(args) => Command::Rmi(args),
        ImageCommand::Inspect(args) => Command::Inspect(args.into()),
        ImageCommand::History(args) => Command::History(args),
        ImageCommand::Tag(args) => Command::Tag(args),
        ImageCommand::Save(args) => Command::Save(args),
        ImageCommand::Load(args) => Command::Load(args),
        ImageCommand::Import(args) => Command::Import(args),
        ImageCommand::Push(args) => Command::Push(args),
        ImageCommand::Pull(args) => Command::Pull(args),
    };
    Box::pin(carry_out(context, verb)).await
}
