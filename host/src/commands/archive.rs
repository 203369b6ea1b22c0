//! `isolazi save`, `load` and `import`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cli::{ImportArgs, LoadArgs, SaveArgs};
use crate::commands::{Context, pull};
use crate::image::{self, ImageStore, ImportOptions, Reference, Selection};
use crate::output;

const BUFFER: usize = 256 << 10;

pub(super) fn save(context: &Context, args: &SaveArgs) -> Result<()> {
    let store = context.images()?;
    let found = args.images.iter().map(|word| store.find(word));
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    let saved: Vec<_> = found.iter().map(|it| it.image().clone()).collect();
    write_archive(args, &store, &Selection::of(found))?;
    for image in saved {
        let name = image.reference.to_string();
        context.image_happened("save", image.config_digest.as_str(), &name);
    }
    Ok(())
}

/// Writes the archive to where it is to go.
fn write_archive(args: &SaveArgs, store: &ImageStore, selections: &[Selection]) -> Result<()> {
    let Some(path) = &args.output else {
        let stdout = io::stdout().lock();
        if stdout.is_terminal() {
            bail!(
                "an archive is no sight for a terminal; name a file with -o or redirect the output"
            );
        }
        let buffered = BufWriter::with_capacity(BUFFER, stdout);
        return Ok(image::save(store, selections, buffered)?);
    };
    if path.exists() && !path.is_file() {
        // A device or a pipe.
        let file = File::options().write(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(image::save(store, selections, file)?);
    }
    write_whole(path, |file| Ok(image::save(store, selections, file)?))
}

/// A file that is there when it is complete.
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let what = || format!("cannot write {}", path.display());
    let file = tempfile::Builder::new()
        .prefix(".isolazi-save-")
        .tempfile_in(folder)
        .with_context(what)?;
    let mut buffered = BufWriter::with_capacity(BUFFER, file);
    write(&mut buffered)?;
    let file = buffered
        .into_inner()
        .map_err(io::IntoInnerError::into_error);
    let file = file.with_context(what)?;
    file.as_file().sync_all().with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(())
}

pub(super) fn load(context: &Context, args: &LoadArgs) -> Result<()> {
    let store = context.images()?;
    let platform = pull::platform(args.platform.as_deref())?;
    let from = input(args.input.as_deref(), "-i FILE")?;
    for loaded in image::load(&store, from, &platform)? {
        let id = loaded.image.config_digest.as_str();
        let name = loaded.image.reference.to_string();
        context.image_happened("load", id, &name);
        if args.quiet {
            continue;
        }
        for name in &loaded.names {
            output::result(format!("Loaded image: {name}"));
        }
        if loaded.names.is_empty() {
            output::result(format!("Loaded image ID: {}", loaded.image.config_digest));
        }
    }
    Ok(())
}

pub(super) fn import(context: &Context, args: &ImportArgs) -> Result<()> {
    let reference = args.reference.as_deref().map(str::parse::<Reference>);
    let reference = reference.transpose()?;
    if let Some(name) = reference.as_ref().filter(|name| name.digest().is_some()) {
        bail!("cannot import as '{name}': a name to give has no digest");
    }
    let store = context.images()?;
    let path = Some(args.file.as_path()).filter(|path| *path != Path::new("-"));
    let source = path.map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    let options = ImportOptions {
        reference,
        message: match &args.message {
            Some(message) => message.clone(),
            None => format!("Imported from {source}"),
        },
        platform: pull::platform(args.platform.as_deref())?,
    };
    let image = image::import(&store, input(path, "a file")?, &options)?;
    let name = image.reference.to_string();
    context.image_happened("import", image.config_digest.as_str(), &name);
    output::result(image.config_digest.as_str());
    Ok(())
}

/// A file, or standard input.
fn input(path: Option<&Path>, how: &str) -> Result<Box<dyn Read>> {
    if let Some(path) = path {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, file)));
    }
    let stdin = io::stdin().lock();
    if stdin.is_terminal() {
        bail!("nothing to read: name {how}, or redirect standard input");
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, stdin)))
}
