//! The store by itself: images that were not pulled, and entries that are bad.

use isolazi::image::{ImageStore, Reference};

use crate::fixture::{Home, TestImage};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Puts an image into the store as one that is embedded in a program.
fn import(store: &ImageStore, image: &TestImage, name: &str) {
    for blob in image.blobs.values() {
        store.add_blob(blob).unwrap();
    }
    let manifest = store.add_blob(&image.manifest).unwrap();
    store.tag(&reference(name), &manifest).unwrap();
}

#[test]
fn an_embedded_image_is_imported() {
    let home = Home::new();
    let image = TestImage::with_layers(&[1000]);
    import(&home.store, &image, "hello");
    let found = home.store.resolve(&reference("hello")).unwrap().unwrap();
    assert_eq!(found.config.cmd, ["/bin/sh"]);
    assert_eq!(found.config.working_dir, "/w");
    assert_eq!(found.platform.unwrap().to_string(), "linux/amd64");
    assert!(found.created.is_some());
    assert_eq!(
        home.store.resolve(&reference("other")).unwrap().map(|_| ()),
        None
    );
    assert!(home.partials().is_empty());
}

#[test]
fn a_name_is_refused_where_blobs_are_missing() {
    let home = Home::new();
    let image = TestImage::with_layers(&[1000]);
    home.store.add_blob(&image.config).unwrap();
    let manifest = home.store.add_blob(&image.manifest).unwrap();
    let error = home.store.tag(&reference("x"), &manifest).unwrap_err();
    assert!(error.to_string().contains("missing or damaged"), "{error}");
    assert_eq!(home.listed(), Vec::<String>::new());
}

#[test]
fn bad_entries_do_not_hide_good_ones() {
    let home = Home::new();
    for name in ["good", "torn", "moved", "a/deep/er:1"] {
        import(&home.store, &TestImage::with_layers(&[name.len()]), name);
    }
    let folder = home.images().join("manifests/docker.io/library");
    std::fs::write(folder.join("torn/latest.json"), "{\"refer").unwrap();
    std::fs::copy(
        folder.join("good/latest.json"),
        folder.join("moved/latest.json"),
    )
    .unwrap();

    let listing = home.store.list().unwrap();
    let names: Vec<_> = listing
        .images
        .iter()
        .map(|it| it.reference.to_string())
        .collect();
    assert_eq!(names, ["a/deep/er:1", "good:latest"]);
    assert_eq!(listing.warnings.len(), 2, "{:?}", listing.warnings);
    assert!(folder.join("torn/latest.json.corrupt").exists());
    // They are out of the way now.
    assert_eq!(home.listed().len(), 2);
}

#[test]
fn an_image_with_a_damaged_manifest_is_reported_and_kept() {
    let home = Home::new();
    import(&home.store, &TestImage::with_layers(&[10]), "x");
    let image = home.store.resolve(&reference("x")).unwrap().unwrap();
    std::fs::write(home.store.blob_path(&image.manifest_digest), "{}").unwrap();
    let error = home.store.resolve(&reference("x")).unwrap_err();
    assert!(
        error.to_string().contains("pull the image again"),
        "{error}"
    );
    assert_eq!(home.store.list().unwrap().warnings.len(), 1);
    // Importing again mends it.
    import(&home.store, &TestImage::with_layers(&[10]), "x");
    assert_eq!(home.listed(), ["x:latest"]);
}

#[test]
fn old_leftovers_are_removed_on_opening() {
    let home = Home::new();
    let scratch = home.images().join("blobs/.partial");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 24 * 3600);
    let names = [
        "a.tmp".to_owned(),
        "0a".repeat(32),
        "0b".repeat(32),
        "0a.lock".to_owned(),
    ];
    for name in &names {
        let file = std::fs::File::create(scratch.join(name)).unwrap();
        if *name != names[2] {
            file.set_modified(old).unwrap();
        }
    }
    ImageStore::open(home.images()).unwrap();
    assert_eq!(
        home.partials(),
        [names[2].clone()],
        "only the recent download"
    );
}
