//! What fuzz targets need that nobody else does (`tests/fuzz`): the way from a
//! registry's documents to an image, without the registry and without a store.

use isolazi_protocol::Digest;
use serde_json::Value;

use super::describe::{self, Step};
use super::error::ImageError;
use super::manifest::{Document, choose};
use super::platform::Platform;
use super::reference::Reference;
use super::store::{Image, assemble, digest_of};

/// The manifest that an index has for a platform.
///
/// # Errors
/// One line.
pub fn choice(index: &[u8], platform: &Platform) -> Result<Digest, String> {
    match Document::parse(index)? {
        Document::Index(entries) => Ok(choose(&entries, platform)?.digest.clone()),
        Document::Image(_) => Err("it is a manifest".to_owned()),
    }
}

/// The image that a manifest and a configuration make.
///
/// # Errors
/// One line.
pub fn image(reference: &Reference, manifest: &[u8], config: &[u8]) -> Result<Image, String> {
    let Document::Image(document) = Document::parse(manifest)? else {
        return Err("it is an index".to_owned());
    };
    assemble(reference.clone(), digest_of(manifest), &document, config)
        .map_err(|error| error.to_string())
}

/// How the image was made, as `isolazi history` shows it.
///
/// # Errors
/// The configuration is malformed.
pub fn history(image: &Image, config: &[u8]) -> Result<Vec<Step>, ImageError> {
    describe::history(image, config)
}

/// The image as `isolazi inspect` shows it.
///
/// # Errors
/// The configuration is malformed.
pub fn inspect(image: &Image, config: &[u8]) -> Result<Value, ImageError> {
    describe::describe(image, std::slice::from_ref(image), config)
}
