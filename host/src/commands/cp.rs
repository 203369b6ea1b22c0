//! `isolazi cp`.
//!
//! ```text
//!  host ─► container   ask what is at the target, settle, pack ═► Write
//!  container ─► host   Read: what it is comes first, settle, ═► extract
//! ```

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use isolazi_protocol::{Compression, Content, Event, PathInfo, PathKind, Reply, Request};
use tokio::sync::mpsc;

use crate::cli::CpArgs;
use crate::commands::{Context, read};
use crate::connection::Incoming;
use crate::copy::extract::{self, Destination, Extracted};
use crate::copy::pack::{Owner, Packer};
use crate::copy::target::{Becomes, Source, Target, settle};
use crate::copy::{Side, ends_in_separator, flow, last_name, means_content};
use crate::engine::Engine;
use crate::output;

/// What an archive calls the one thing it holds.
const ROOT: &str = ".";

pub(super) async fn cp(context: &Context, args: &CpArgs) -> Result<u8> {
    let sides = (Side::parse(&args.source), Side::parse(&args.target));
    let ((Side::Container { container, .. }, _) | (_, Side::Container { container, .. })) =
        (&sides.0, &sides.1)
    else {
        bail!("neither side is in a container; write CONTAINER:PATH for the one that is")
    };
    let engine = context.engine_of(container).await?;
    match sides {
        (Side::Container { container, path }, Side::Stream) => {
            let name = last_name(&path).filter(|_| !means_content(&path));
            let content = Content::Path {
                follow: args.follow_link,
                name: name.unwrap_or_default().to_owned(),
                path,
            };
            return read::to_stdout(&engine, container, content).await;
        }
        (Side::Container { container, path }, Side::Local(target)) => {
            let from = (container, path);
            let done = take_out(&engine, args, from, &target).await?;
            report(args, done.bytes);
            if done.left_out > 0 {
                output::warning(&format!(
                    "{} devices, pipes or links were left out, which cannot be made here",
                    done.left_out
                ));
            }
        }
        (Side::Local(source), Side::Container { container, path }) => {
            let bytes = put_in(&engine, args, &source, (container, path)).await?;
            report(args, bytes);
        }
        (Side::Stream, Side::Container { container, path }) => {
            put_archive_in(&engine, container, path).await?;
        }
        (Side::Container { .. }, Side::Container { .. }) => {
            bail!("copying between containers is not supported; copy by way of this host")
        }
        // One of the two is in a container, as was found above.
        (Side::Local(_) | Side::Stream, _) => {}
    }
    Ok(0)
}

fn report(args: &CpArgs, bytes: u64) {
    if !args.quiet && std::io::stdout().is_terminal() {
        let size = output::decimal_size(bytes);
        let target = output::printable(&args.target);
        output::progress(format!("Successfully copied {size} to {target}"));
    }
}

/// From a container to this host.
async fn take_out(
    engine: &Engine,
    args: &CpArgs,
    (container, path): (String, String),
    target: &Path,
) -> Result<Extracted> {
    let request = Request::Read {
        container,
        content: Content::Path {
            path: path.clone(),
            follow: args.follow_link,
            name: ROOT.to_owned(),
        },
    };
    let mut conversation = engine.open(&request).await?;
    let Incoming::Event(Event::Path(info)) = conversation.next().await? else {
        bail!("the agent did not say what is at {path}");
    };
    let destination = destination(&path, &info, target)?;
    let (sender, received) = flow::to_thread();
    let keep_owner = args.archive;
    let extracting =
        tokio::task::spawn_blocking(move || extract::extract(received, &destination, keep_owner));
    let read = read::to_channel(&mut conversation, &sender).await;
    drop(sender);
    // An extraction that failed is why nothing more was read.
    let extracted = extracting.await.context("the extraction broke off")?;
    match (extracted, read) {
        (Ok(done), Ok(())) => Ok(done),
        (Err(error @ extract::ExtractError::Read(_)), read) => {
            Err(read.err().unwrap_or(error.into()))
        }
        (Err(error), _) => Err(error.into()),
        (Ok(_), Err(error)) => Err(error),
    }
}

/// Where on this host something of a container goes.
fn destination(path: &str, info: &PathInfo, target: &Path) -> Result<Destination> {
    let written = target.to_string_lossy();
    let shown = output::printable(&written);
    let kind = match std::fs::metadata(target) {
        Ok(found) if found.is_dir() => Some(PathKind::Folder),
        Ok(_) => Some(PathKind::File),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    let source = Source {
        is_folder: info.kind == PathKind::Folder,
        content_only: means_content(path),
        name: last_name(path).or_else(|| last_name(&info.path)),
    };
    let settled = Target {
        kind,
        says_folder: ends_in_separator(&written),
    };
    let settled = settle(source, settled).with_context(|| format!("cannot copy to {shown}"))?;
    Ok(match settled {
        Becomes::Content => Destination::Content(target.to_owned()),
        Becomes::Inside(name) => Destination::Named(target.to_owned(), name.into()),
        Becomes::Target => {
            let (folder, name) = split(target, kind.is_some())?;
            Destination::Named(folder, name)
        }
    })
}

/// The folder and the name of a path; of what a link leads to where it exists.
fn split(path: &Path, exists: bool) -> Result<(PathBuf, OsString)> {
    let real = match exists {
        true => std::fs::canonicalize(path)?,
        false => path.to_owned(),
    };
    let name = real
        .file_name()
        .ok_or_else(|| anyhow!("{} does not end in a name", path.display()))?;
    let folder = match real.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        bail!(
            "the folder {} does not exist; create it first",
            folder.display()
        );
    }
    Ok((folder.to_owned(), name.to_owned()))
}

/// From this host to a container; returns the bytes of the files.
async fn put_in(
    engine: &Engine,
    args: &CpArgs,
    local: &Path,
    (container, path): (String, String),
) -> Result<u64> {
    let written = local.to_string_lossy().into_owned();
    let content_only = means_content(&written);
    let follow = args.follow_link || content_only || ends_in_separator(&written);
    let look = match follow {
        true => std::fs::metadata(local),
        false => std::fs::symlink_metadata(local),
    };
    let found = look.with_context(|| format!("cannot read {}", local.display()))?;
    if !found.is_dir() && ends_in_separator(&written) {
        bail!("{} is not a folder", local.display());
    }
    let name = match content_only {
        true => None,
        false => local_name(local)?,
    };
    let source = Source {
        is_folder: found.is_dir(),
        content_only,
        name: name.as_deref(),
    };
    let (folder, name) = place(engine, &container, &path, source).await?;
    let owner = match args.archive {
        true => Owner::Same,
        false => Owner::Root,
    };
    let (sent, pieces) = flow::from_thread();
    let local = local.to_owned();
    let packing = tokio::task::spawn_blocking(move || -> Result<u64> {
        let mut packer = Packer::new(sent, owner);
        packer.add(&local, Path::new(&name), follow)?;
        Ok(packer.finish()?)
    });
    let request = Request::Write {
        container,
        path: folder,
        compression: Compression::None,
    };
    send(engine, &request, pieces, packing).await
}

/// The name of a local path; `..` has one, too.
fn local_name(path: &Path) -> Result<Option<String>> {
    let name = match path.file_name() {
        Some(name) => Some(name.to_owned()),
        None => std::fs::canonicalize(path)?.file_name().map(OsString::from),
    };
    let text = name.map(OsString::into_string);
    text.transpose()
        .map_err(|name| anyhow!("the name {} is not UTF-8", name.display()))
}

/// The folder of a container that something goes into, and the name it gets;
/// `.` where only its content goes there.
async fn place(
    engine: &Engine,
    container: &str,
    path: &str,
    source: Source<'_>,
) -> Result<(String, String)> {
    let at = path_info(engine, container, bare(path)).await?;
    let target = Target {
        kind: at.as_ref().map(|info| info.kind),
        says_folder: path.ends_with('/') || means_content(path),
    };
    let settled = settle(source, target);
    let settled = settled.with_context(|| format!("cannot copy to {container}:{path}"))?;
    let real = at.map_or_else(|| path.to_owned(), |info| info.path);
    Ok(match settled {
        Becomes::Content => (real, ROOT.to_owned()),
        Becomes::Inside(name) => (real, name.to_owned()),
        Becomes::Target => {
            let real = real.trim_end_matches('/');
            let name = last_name(real);
            let name = name.ok_or_else(|| anyhow!("{path} does not end in a name"))?;
            let folder = &real[..real.len() - name.len()];
            match path_info(engine, container, folder).await? {
                Some(info) if info.kind == PathKind::Folder => (info.path, name.to_owned()),
                Some(_) => bail!("{folder} in container {container} is not a folder"),
                None => bail!("container {container} has no folder {folder}; create it first"),
            }
        }
    })
}

/// A path without the ending by which it says that it is a folder's.
fn bare(path: &str) -> &str {
    let path = path.strip_suffix("/.").unwrap_or(path);
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// What is at a path of a container.
async fn path_info(engine: &Engine, container: &str, path: &str) -> Result<Option<PathInfo>> {
    let request = Request::PathInfo {
        container: container.to_owned(),
        path: path.to_owned(),
    };
    match engine.ask(&request).await? {
        Reply::Path(info) => Ok(info),
        _ => bail!("the agent did not say what is at {path}"),
    }
}

/// A tar from standard input, compressed or not.
async fn put_archive_in(engine: &Engine, container: String, path: String) -> Result<()> {
    match path_info(engine, &container, &path).await? {
        Some(info) if info.kind == PathKind::Folder => {}
        Some(_) => bail!("{path} in container {container} is not a folder, which a tar needs"),
        None => bail!("container {container} has no folder {path}; create it first"),
    }
    let (start, compression) = tokio::task::spawn_blocking(sniff).await??;
    let (mut sent, pieces) = flow::from_thread();
    let reading = tokio::task::spawn_blocking(move || -> Result<u64> {
        let mut input = std::io::Read::chain(start.as_slice(), std::io::stdin().lock());
        let copied = std::io::copy(&mut input, &mut sent)?;
        std::io::Write::flush(&mut sent)?;
        Ok(copied)
    });
    let request = Request::Write {
        container,
        path,
        compression,
    };
    send(engine, &request, pieces, reading).await?;
    Ok(())
}

/// The first bytes of standard input, and what compression they are of.
fn sniff() -> std::io::Result<(Vec<u8>, Compression)> {
    let mut start = Vec::new();
    std::io::stdin().lock().take(4).read_to_end(&mut start)?;
    let compression = match start.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    };
    Ok((start, compression))
}

/// Sends what a thread makes.
async fn send(
    engine: &Engine,
    request: &Request,
    mut pieces: mpsc::Receiver<Bytes>,
    making: tokio::task::JoinHandle<Result<u64>>,
) -> Result<u64> {
    let mut upload = engine.upload(request).await?;
    while let Some(piece) = pieces.recv().await {
        upload.write(piece).await.map_err(unwrap_refusal)?;
    }
    // Half of it must not look like all of it.
    let made = making.await.context("reading broke off")??;
    upload.finish().await.map_err(unwrap_refusal)?;
    Ok(made)
}

/// The agent's own words, where it has any.
fn unwrap_refusal(error: Box<dyn std::error::Error + Send + Sync>) -> anyhow::Error {
    anyhow!(error)
}
