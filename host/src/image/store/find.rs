//! Images by what users call them: a name, or the start of an id.

use isolazi_protocol::Digest;

use super::super::error::ImageError;
use super::super::reference::Reference;
use super::super::text::escape;
use super::{Image, ImageStore};

/// What a user's word stands for. All are the same image.
#[derive(Debug, Clone)]
pub struct Found {
    /// At least one; several names where it was an id.
    pub images: Vec<Image>,
    /// The word was an id, or the start of one.
    pub by_id: bool,
}

impl Found {
    /// The image, under the first of its names.
    pub fn image(&self) -> &Image {
        &self.images[0]
    }
}

impl ImageStore {
    /// The image that `word` stands for. A name wins over an id, as with Docker.
    pub fn find(&self, word: &str) -> Result<Found, ImageError> {
        if let Ok(reference) = word.parse::<Reference>() {
            if let Some(image) = self.resolve(&reference)? {
                return Ok(Found {
                    images: vec![image],
                    by_id: false,
                });
            }
            if let Some(digest) = reference.digest() {
                return self.by_manifest(word, &reference, digest);
            }
        }
        self.by_id(word)
    }

    /// `NAME@DIGEST` of an image that was pulled by its tag.
    fn by_manifest(
        &self,
        word: &str,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Found, ImageError> {
        let mut images = self.list()?.images;
        images.retain(|image| {
            image.reference.is_same_repository(reference) && image.manifest_digest == *digest
        });
        match images.is_empty() {
            true => Err(ImageError::NoSuchImage(escape(word))),
            false => Ok(Found {
                images,
                by_id: false,
            }),
        }
    }

    fn by_id(&self, word: &str) -> Result<Found, ImageError> {
        let digits = word.strip_prefix("sha256:").unwrap_or(word);
        let is_id = (1..=64).contains(&digits.len())
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut images = match is_id {
            true => self.list()?.images,
            false => Vec::new(),
        };
        images.retain(|image| image.config_digest.hex().starts_with(digits));
        let Some(first) = images.first() else {
            return Err(ImageError::NoSuchImage(escape(word)));
        };
        match images
            .iter()
            .all(|image| image.config_digest == first.config_digest)
        {
            true => Ok(Found {
                images,
                by_id: true,
            }),
            false => Err(ImageError::AmbiguousId(word.to_owned())),
        }
    }
}
