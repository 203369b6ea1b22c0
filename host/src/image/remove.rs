//! Which names go when an image is removed, and which images when unused ones
//! are. What is decided here touches no file.

use std::collections::HashSet;

use isolazi_protocol::Digest;

use super::error::ImageError;
use super::reference::Reference;
use super::store::{Alone, Found, Image, ImageStore};
use super::text::short;

/// A container and the image that it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The image's id.
    pub image: Digest,
    /// The container's, shortened.
    pub container: String,
}

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A container was made from it, and this is its last name.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its referenced image {id}; remove the container first or use rmi -f"
    )]
    UsedByName {
        /// The name.
        name: String,
        /// The container.
        container: String,
        /// The image's id, shortened.
        id: String,
    },
    /// A container was made from it.
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is being used by container {container}; remove the container first or use rmi -f"
    )]
    UsedById {
        /// The image's id, shortened.
        id: String,
        /// The container.
        container: String,
    },
    /// It has names that have nothing to do with each other.
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories; name one of them or use rmi -f"
    )]
    SeveralRepositories {
        /// The image's id, shortened.
        id: String,
    },
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Removal {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Ids of images without a name by now.
    pub deleted: Vec<Digest>,
    /// Bytes of the store that are free again.
    pub bytes: u64,
}

/// The names to take away where the user wants `found` gone, of `all` images
/// that there are.
pub fn removal(
    all: &[Image],
    found: &Found,
    uses: &[Use],
    force: bool,
) -> Result<Vec<Reference>, Refusal> {
    let image = found.image();
    let id = short(&image.config_digest).to_owned();
    let of_image = |it: &&Image| it.config_digest == image.config_digest;
    let names: Vec<&Reference> = all
        .iter()
        .filter(of_image)
        .map(|it| &it.reference)
        .collect();
    let going = match found.by_id {
        true => names.iter().map(|name| (*name).clone()).collect(),
        false => with_digests(found, &names),
    };
    let first = &image.reference;
    if found.by_id && !force && !names.iter().all(|name| name.is_same_repository(first)) {
        return Err(Refusal::SeveralRepositories { id });
    }
    let user = uses.iter().find(|it| it.image == image.config_digest);
    match user {
        Some(user) if !force && going.len() == names.len() => Err(match found.by_id {
            true => Refusal::UsedById {
                id,
                container: user.container.clone(),
            },
            false => Refusal::UsedByName {
                name: first.to_string(),
                container: user.container.clone(),
                id,
            },
        }),
        _ => Ok(going),
    }
}

/// The names found, and with a repository's last tag the digests that are
/// known of it.
fn with_digests(found: &Found, names: &[&Reference]) -> Vec<Reference> {
    let mut going: Vec<Reference> = found.images.iter().map(|it| it.reference.clone()).collect();
    let first = &found.image().reference;
    let siblings = names
        .iter()
        .filter(|name| name.is_same_repository(first) && !going.contains(name));
    let siblings: Vec<&Reference> = siblings.copied().collect();
    if siblings.iter().all(|name| name.digest().is_some()) {
        going.extend(siblings.into_iter().cloned());
    }
    going
}

/// Removes the images that no container uses, and in any case the blobs that
/// belong to no image. Without `unnamed_only` images with names go as well.
pub fn prune(
    store: &ImageStore,
    alone: &Alone,
    uses: &[Use],
    unnamed_only: bool,
) -> Result<Removal, ImageError> {
    let used: HashSet<&Digest> = uses.iter().map(|it| &it.image).collect();
    let mut removal = Removal::default();
    for image in store.list()?.images {
        let stays =
            used.contains(&image.config_digest) || (unnamed_only && !image.reference.is_unnamed());
        if !stays && store.untag(&image.reference)? {
            removal.untagged.push(image.reference);
            removal.deleted.push(image.config_digest);
        }
    }
    removal.deleted.sort_unstable();
    removal.deleted.dedup();
    removal.bytes = store.discard_interrupted(alone)?;
    removal.bytes += store.collect(alone)?.iter().map(|it| it.size).sum::<u64>();
    Ok(removal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    fn image(name: &str, id: u8) -> Image {
        Image {
            reference: name.parse().unwrap(),
            manifest_digest: Digest::from_bytes(&[id; 32]),
            config_digest: Digest::from_bytes(&[id; 32]),
            platform: None,
            config: ImageConfig::default(),
            layers: Vec::new(),
            created: None,
            size: 0,
        }
    }

    fn pinned(name: &str, id: u8) -> Image {
        let mut image = image(name, id);
        image.reference = image.reference.pinned(&image.manifest_digest);
        image
    }

    fn found(all: &[Image], wanted: &[usize], by_id: bool) -> Found {
        Found {
            images: wanted.iter().map(|index| all[*index].clone()).collect(),
            by_id,
        }
    }

    fn going(
        all: &[Image],
        found: &Found,
        uses: &[Use],
        force: bool,
    ) -> Result<Vec<String>, Refusal> {
        let going = removal(all, found, uses, force)?;
        let mut names: Vec<String> = going.iter().map(ToString::to_string).collect();
        names.sort();
        Ok(names)
    }

    fn used(id: u8) -> [Use; 1] {
        [Use {
            image: Digest::from_bytes(&[id; 32]),
            container: "abc".to_owned(),
        }]
    }

    #[test]
    fn a_name_goes_alone_and_an_id_with_all_its_names() {
        let all = [image("a:1", 1), image("a:2", 1), image("b:1", 2)];
        assert_eq!(
            going(&all, &found(&all, &[0], false), &[], false).unwrap(),
            ["a:1"]
        );
        let both = found(&all, &[0, 1], true);
        assert_eq!(going(&all, &both, &[], false).unwrap(), ["a:1", "a:2"]);
    }

    #[test]
    fn digests_go_with_the_last_tag_of_their_repository() {
        let all = [
            image("a:1", 1),
            image("a:2", 1),
            pinned("a", 1),
            pinned("b", 1),
        ];
        assert_eq!(
            going(&all, &found(&all, &[0], false), &[], false).unwrap(),
            ["a:1"]
        );
        let last = &all[1..];
        let names = going(last, &found(last, &[0], false), &[], false).unwrap();
        assert_eq!(names.len(), 2);
        assert!(names[1].starts_with("a@sha256:"), "{names:?}");
    }

    #[test]
    fn a_used_image_keeps_its_last_name_unless_forced() {
        let all = [image("a:1", 1), image("b:1", 1)];
        let one = found(&all, &[0], false);
        assert!(
            going(&all, &one, &used(1), false).is_ok(),
            "another is left"
        );
        let last = &all[..1];
        assert!(matches!(
            going(last, &one, &used(1), false),
            Err(Refusal::UsedByName { .. })
        ));
        assert!(going(last, &one, &used(2), false).is_ok());
        assert!(going(last, &one, &used(1), true).is_ok());
        let by_id = found(last, &[0], true);
        assert!(matches!(
            going(last, &by_id, &used(1), false),
            Err(Refusal::UsedById { .. })
        ));
    }

    #[test]
    fn an_id_of_several_repositories_must_be_forced() {
        let all = [image("a:1", 1), image("b:1", 1)];
        let by_id = found(&all, &[0, 1], true);
        assert!(matches!(
            going(&all, &by_id, &[], false),
            Err(Refusal::SeveralRepositories { .. })
        ));
        assert_eq!(going(&all, &by_id, &[], true).unwrap(), ["a:1", "b:1"]);
    }
}
