//! Images out of the store and into it again, through archives of every kind.

use std::process::Command;

use isolazi::image::{ImportOptions, Loaded, Selection, import, load, save};
use serde_json::{Value, json};

use crate::distribution::available;
use crate::fixture::{Home, OCI_MANIFEST, TestImage, descriptor, digest, gzip, noise, tar};

fn platform() -> isolazi::image::Platform {
    "linux/amd64".parse().unwrap()
}

fn loaded(home: &Home, archive: &[u8]) -> Result<Vec<Loaded>, String> {
    load(&home.store, archive, &platform()).map_err(|error| {
        let line = format!("{:#}", anyhow::Error::from(error));
        assert!(!line.contains('\n'), "{line}");
        line
    })
}

/// Files in a tar; a name that ends with `->` is a link, its content the target.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (name, content) = match name.strip_suffix("->") {
            Some(name) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(content).unwrap();
                (name, &b""[..])
            }
            None => (*name, *content),
        };
        header.set_size(content.len() as u64);
        // Names as they are, which `set_path` would not take.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI layout of an image, its files to be tampered with.
fn layout(image: &TestImage, entry: &Value) -> Vec<(String, Vec<u8>)> {
    let blobs = image.blobs.iter().map(|(digest, bytes)| {
        let name = format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        (name, bytes.to_vec())
    });
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    blobs
        .chain([("index.json".to_owned(), index.to_string().into_bytes())])
        .collect()
}

fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (&**name, &**bytes))
        .collect();
    archive(&files)
}

fn named(image: &TestImage, name: &str) -> Value {
    let mut entry = descriptor(OCI_MANIFEST, &image.manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    entry
}

#[test]
fn what_is_saved_is_loaded_as_it_was() {
    let home = Home::new();
    let images = [
        TestImage::with_layers(&[300_000, 10]),
        TestImage::with_layers(&[10, 20]),
    ];
    for (image, name) in images.iter().zip(["one:1", "localhost:5000/two:2"]) {
        let files = layout(
            image,
            &named(
                image,
                &format!("docker.io/library/{name}")
                    .replace("docker.io/library/localhost", "localhost"),
            ),
        );
        let loaded = loaded(&home, &packed(&files)).unwrap();
        assert_eq!(loaded[0].names[0].to_string(), name);
        assert_eq!(
            loaded[0].image.manifest_digest.as_str(),
            digest(&image.manifest)
        );
    }
    let one = home.store.find("one:1").unwrap();
    home.store
        .add_name(&"one:latest".parse().unwrap(), &one.image().manifest_digest)
        .unwrap();
    let words = ["one:1", "one", "localhost:5000/two:2"];
    let found = words.map(|word| home.store.find(word).unwrap()).to_vec();
    let mut bytes = Vec::new();
    save(&home.store, &Selection::of(found.clone()), &mut bytes).unwrap();
    let mut again = Vec::new();
    save(&home.store, &Selection::of(found), &mut again).unwrap();
    assert!(bytes == again, "the same images are the same archive");

    for archive in [bytes.clone(), gzip(&bytes).to_vec()] {
        let other = Home::new();
        let loaded = loaded(&other, &archive).unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(
            other.listed(),
            ["one:1", "one:latest", "localhost:5000/two:2"]
        );
        assert_eq!(other.partials(), Vec::<String>::new());
        for image in other.store.list().unwrap().images {
            for layer in &image.layers {
                assert!(other.store.has_blob(&layer.digest, layer.size));
            }
        }
        // Once more does no harm.
        assert!(load(&other.store, &archive[..], &platform()).is_ok());
    }
}

#[test]
fn an_image_saved_by_its_id_has_no_name() {
    let home = Home::new();
    let image = TestImage::with_layers(&[10]);
    loaded(
        &home,
        &packed(&layout(&image, &named(&image, "docker.io/library/a:1"))),
    )
    .unwrap();
    let id = home
        .store
        .find("a:1")
        .unwrap()
        .image()
        .config_digest
        .clone();
    let mut bytes = Vec::new();
    let found = home.store.find(id.as_str()).unwrap();
    save(&home.store, &Selection::of(vec![found]), &mut bytes).unwrap();
    let other = Home::new();
    let loaded = loaded(&other, &bytes).unwrap();
    assert!(loaded[0].names.is_empty() && loaded[0].image.reference.is_unnamed());
    assert_eq!(other.store.find(&id.hex()[..12]).unwrap().images.len(), 1);
}

#[test]
fn blobs_that_are_damaged_are_not_saved() {
    let home = Home::new();
    let image = TestImage::with_layers(&[1000]);
    loaded(
        &home,
        &packed(&layout(&image, &named(&image, "docker.io/library/a:1"))),
    )
    .unwrap();
    let found = home.store.find("a:1").unwrap();
    let path = home.store.blob_path(&found.image().layers[0].digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = save(&home.store, &Selection::of(vec![found]), std::io::sink()).unwrap_err();
    assert!(
        error.to_string().contains("damaged in the local store"),
        "{error}"
    );
    // Loading mends it.
    loaded(
        &home,
        &packed(&layout(&image, &named(&image, "docker.io/library/a:1"))),
    )
    .unwrap();
    let found = home.store.find("a:1").unwrap();
    save(&home.store, &Selection::of(vec![found]), std::io::sink()).unwrap();
}

#[test]
fn the_older_form_of_docker_with_its_links() {
    let layer = tar(5000);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer), digest(&layer)]},
    });
    let config = config.to_string();
    let name = format!(
        "{}.json",
        digest(config.as_bytes()).trim_start_matches("sha256:")
    );
    let manifest = json!([{
        "Config": name, "RepoTags": ["old:1", "example.com/old:2"],
        "Layers": ["aa/layer.tar", "bb/layer.tar"],
    }]);
    let manifest = manifest.to_string();
    let files: [(&str, &[u8]); 5] = [
        ("aa/layer.tar", &layer),
        ("aa/VERSION", b"1.0"),
        ("bb/layer.tar->", b"../aa/layer.tar"),
        (&name, config.as_bytes()),
        ("./manifest.json", manifest.as_bytes()),
    ];
    let home = Home::new();
    let loaded = loaded(&home, &archive(&files)).unwrap();
    assert_eq!(loaded[0].image.config.cmd, ["/x"]);
    assert_eq!(loaded[0].image.layers.len(), 2);
    assert_eq!(home.listed(), ["old:1", "example.com/old:2"]);
    assert_eq!(home.partials(), Vec::<String>::new());
}

/// Archives that must not be loaded, and what is said about them.
#[test]
fn hostile_and_damaged_archives_leave_nothing() {
    let image = TestImage::with_layers(&[5000, 20]);
    let good = || layout(&image, &named(&image, "docker.io/library/a:1"));
    let with = |name: &str, content: &[u8]| {
        let mut files = good();
        files.push((name.to_owned(), content.to_vec()));
        packed(&files)
    };
    let blob = |bytes: &[u8]| {
        format!(
            "blobs/sha256/{}",
            digest(bytes).trim_start_matches("sha256:")
        )
    };
    let without = |name: &str| {
        let mut files = good();
        files.retain(|(it, _)| it != name);
        packed(&files)
    };
    let replaced = |name: &str, content: &[u8]| {
        let mut files = good();
        for file in files.iter_mut().filter(|(it, _)| it == name) {
            file.1 = content.to_vec();
        }
        packed(&files)
    };
    let mut long = named(&image, "docker.io/library/a:1");
    long["size"] = json!(image.manifest.len() + 1);
    let foreign = named(&image, &format!("docker.io/library/a@{}", digest(b"other")));
    let climbing = named(&image, "docker.io/../a:1");
    let whole = packed(&good());
    // Within an entry: between two it would be an archive of fewer.
    let layer = &image.layers[0][..];
    let middle = whole.windows(layer.len()).position(|it| it == layer);
    let middle = middle.unwrap() + layer.len() / 2;
    let bomb = json!({"schemaVersion": 2, "manifests": [], "x": "y".repeat(5 << 20)});
    let other_layers = TestImage::new(vec![tar(10).into()], &[digest(b"something else")]);
    let mut plain = named(&other_layers, "docker.io/library/a:1");
    let manifest = other_layers.altered(|it| {
        it["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
    });
    plain["digest"] = json!(digest(&manifest));
    plain["size"] = json!(manifest.len());
    let mut mismatched = layout(&other_layers, &plain);
    mismatched.push((blob(&manifest), manifest.to_vec()));

    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("climbing name", with("../evil", b"x"), "'../evil'"),
        ("absolute name", with("/etc/evil", b"x"), "'/etc/evil'"),
        ("control character", with("a\x1b[2J", b"x"), "a\\u{1b}[2J"),
        ("link outwards", with("x->", b"../../etc/passwd"), "passwd"),
        ("absolute link", with("x->", b"/etc/passwd"), "passwd"),
        ("twice", with("index.json", b"{}"), "'index.json' twice"),
        (
            "path as digest",
            with("blobs/sha256/abc", b"x"),
            "blobs/sha256/abc",
        ),
        (
            "other content",
            replaced(&blob(&image.layers[0]), b"x"),
            "not what it should be",
        ),
        ("missing layer", without(&blob(&image.layers[1])), "layer"),
        (
            "missing configuration",
            without(&blob(&image.config)),
            "configuration",
        ),
        (
            "missing manifest",
            without(&blob(&image.manifest)),
            "manifest",
        ),
        ("no index", without("index.json"), "holds no images"),
        ("empty", archive(&[]), "holds no images"),
        ("wrong size", packed(&layout(&image, &long)), "wrong size"),
        (
            "name of another",
            packed(&layout(&image, &foreign)),
            "calls another image",
        ),
        ("no name", packed(&layout(&image, &climbing)), "malformed"),
        (
            "huge index",
            replaced("index.json", bomb.to_string().as_bytes()),
            "too large",
        ),
        (
            "index that is none",
            replaced("index.json", b"[]"),
            "malformed",
        ),
        (
            "wrong diff-id",
            packed(&mismatched),
            "not what it should be",
        ),
        ("cut off", whole[..middle].to_vec(), "damaged"),
        ("no tar", noise(5000), "no tar archive"),
        ("xz", b"\xfd7zXZ\0\0\0\0\0".to_vec(), "xz"),
    ];
    for (what, bytes, expected) in cases {
        let home = Home::new();
        let error = loaded(&home, &bytes).unwrap_err();
        assert!(error.contains(expected), "{what}: {error}");
        home.assert_unspoilt();
        let blobs = std::fs::read_dir(home.images().join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 0, "{what}");
        loaded(&home, &packed(&good())).unwrap();
        assert_eq!(home.listed(), ["a:1"], "{what}");
    }
}

#[test]
fn endless_archives_are_given_up() {
    let names: Vec<String> = (0..=10_000).map(|n| format!("d{n}")).collect();
    let mut builder = tar::Builder::new(Vec::new());
    for name in &names {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        builder.append_data(&mut header, name, &b""[..]).unwrap();
    }
    let home = Home::new();
    let error = loaded(&home, &builder.into_inner().unwrap()).unwrap_err();
    assert!(error.contains("10000 entries"), "{error}");
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let home = Home::new();
    let plain = tar(100_000);
    for (name, bytes) in [("plain", plain.clone()), ("gzip", gzip(&plain).to_vec())] {
        let options = ImportOptions {
            reference: Some(name.parse().unwrap()),
            message: "by hand".to_owned(),
            platform: platform(),
        };
        let image = import(&home.store, &bytes[..], &options).unwrap();
        assert_eq!(image.layers[0].diff_id.as_str(), digest(&plain), "{name}");
        assert_eq!(image.layers[0].digest.as_str(), digest(&bytes));
        assert_eq!(image.platform, Some(platform()));
        assert_eq!(home.store.history(&image).unwrap()[0].comment, "by hand");
    }
    let options = ImportOptions {
        reference: None,
        message: String::new(),
        platform: platform(),
    };
    let image = import(&home.store, &plain[..], &options).unwrap();
    assert!(image.reference.is_unnamed());

    let home = Home::new();
    let cut = &gzip(&plain)[..1000];
    for bad in [&b"no archive"[..], b"", cut, &plain[..50_000]] {
        assert!(import(&home.store, bad, &options).is_err());
        home.assert_unspoilt();
    }
}

#[test]
fn other_programs_read_and_write_the_same_archives() {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new();
    let image = TestImage::with_layers(&[5000, 20]);
    loaded(
        &home,
        &packed(&layout(&image, &named(&image, "docker.io/library/a:1"))),
    )
    .unwrap();
    let ours = folder.path().join("ours.tar");
    let found = home.store.find("a:1").unwrap();
    save(
        &home.store,
        &Selection::of(vec![found]),
        std::fs::File::create(&ours).unwrap(),
    )
    .unwrap();
    for (kind, suffix) in [("docker-archive", ":a:1"), ("oci-archive", ":1")] {
        let theirs = folder.path().join(format!("{kind}.tar"));
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy"])
            .arg(format!("{kind}:{}{suffix}", ours.display()))
            .arg(format!("{kind}:{}:b:1", theirs.display()))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {errors}");
        let other = Home::new();
        let loaded = loaded(&other, &std::fs::read(&theirs).unwrap()).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(other.listed(), ["b:1"], "{kind}");
        assert_eq!(
            loaded[0].image.config_digest.as_str(),
            digest(&image.config)
        );
    }
}
