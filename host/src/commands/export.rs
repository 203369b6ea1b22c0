//! `isolazi export`.

use std::path::Path;

use anyhow::{Context as _, Result};
use isolazi_protocol::{Content, Request};

use crate::cli::ExportArgs;
use crate::commands::{Context, read};

pub(super) async fn export(context: &Context, args: &ExportArgs) -> Result<u8> {
    let engine = context.engine_of(&args.container).await?;
    let Some(target) = &args.output else {
        return read::to_stdout(&engine, args.container.clone(), Content::Root).await;
    };
    let request = Request::Read {
        container: args.container.clone(),
        content: Content::Root,
    };
    let mut conversation = engine.open(&request).await?;
    // A container that cannot be read leaves the file as it was.
    conversation.await_answer().await?;
    let failed = || format!("cannot write {}", target.display());
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if target.exists() && !target.is_file() {
        // A pipe or device cannot be replaced.
        let mut file = tokio::fs::File::create(target).await.with_context(failed)?;
        read::to_writer(&mut conversation, &mut file).await?;
        return Ok(0);
    }
    let temporary = tempfile::Builder::new()
        .prefix(".isolazi-export-")
        .tempfile_in(folder)
        .with_context(failed)?;
    let mut file = tokio::fs::File::from_std(temporary.reopen().with_context(failed)?);
    read::to_writer(&mut conversation, &mut file).await?;
    file.sync_all().await.with_context(failed)?;
    temporary.persist(target).with_context(failed)?;
    Ok(0)
}
