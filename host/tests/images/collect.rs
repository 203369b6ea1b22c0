//! Names that are taken away, and the blobs that go with the last of them.

use std::time::Duration;

use isolazi::image::{ImageError, Use, prune};

use crate::fixture::{Home, TestImage, digest};
use crate::server::{Answer, Body, Server};

const AT_ONCE: Duration = Duration::ZERO;

fn blobs(home: &Home) -> usize {
    let folder = home.images().join("blobs/sha256");
    std::fs::read_dir(folder).unwrap().count()
}

fn add(home: &Home, image: &TestImage, name: &str) -> isolazi::image::Image {
    for blob in image.blobs.values() {
        home.store.add_blob(blob).unwrap();
    }
    let manifest = digest(&image.manifest).parse().unwrap();
    home.store
        .add_name(&name.parse().unwrap(), &manifest)
        .unwrap()
}

#[tokio::test]
async fn blobs_go_with_their_last_name() {
    let home = Home::new();
    let (one, two) = (
        TestImage::with_layers(&[10, 20]),
        TestImage::with_layers(&[20, 30]),
    );
    add(&home, &one, "one");
    add(&home, &one, "again");
    add(&home, &two, "two");
    assert_eq!(blobs(&home), 3 + 2 + 2, "a layer is shared");

    assert!(home.store.untag(&"one".parse().unwrap()).unwrap());
    assert!(!home.store.untag(&"one".parse().unwrap()).unwrap());
    let alone = home.store.alone(AT_ONCE).await.unwrap().unwrap();
    assert_eq!(home.store.collect(&alone).unwrap(), []);
    home.store.untag(&"again".parse().unwrap()).unwrap();
    let gone = home.store.collect(&alone).unwrap();
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert_eq!(home.listed(), ["two:latest"]);
    let image = home.store.find("two").unwrap();
    for layer in &image.image().layers {
        assert!(home.store.has_blob(&layer.digest, layer.size));
    }
    // Folders without a name in them are gone as well.
    let names = std::fs::read_dir(home.images().join("manifests/docker.io/library")).unwrap();
    assert_eq!(names.count(), 1);
}

#[tokio::test]
async fn images_are_found_by_name_digest_and_id() {
    let home = Home::new();
    let image = add(&home, &TestImage::with_layers(&[10]), "one:1");
    home.store
        .add_name(&"two".parse().unwrap(), &image.manifest_digest)
        .unwrap();
    let id = image.config_digest.as_str();
    for word in [
        id,
        image.config_digest.hex(),
        &image.config_digest.hex()[..1],
    ] {
        let found = home.store.find(word).unwrap();
        assert!(found.by_id && found.images.len() == 2, "{word}");
    }
    let pinned = format!("one@{}", image.manifest_digest);
    for word in ["one:1", "docker.io/library/one:1", &pinned] {
        let found = home.store.find(word).unwrap();
        assert!(!found.by_id && found.images.len() == 1, "{word}");
    }
    add(&home, &TestImage::with_layers(&[20]), "three");
    let other = format!("two@{}", digest(b"other"));
    for word in ["one", "", "sha256:", "ABC", "../x", &other] {
        let error = home.store.find(word).unwrap_err();
        assert!(
            matches!(error, ImageError::NoSuchImage(_)),
            "{word}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_an_image_is_being_pulled() {
    let image = TestImage::with_layers(&[1000, 300_000]);
    let server = Server::serving(&image).await;
    let slow = digest(&image.layers[1]);
    let body = image.layers[1].clone();
    server.play(move |request| {
        let stalls = request.path.ends_with(&slow);
        stalls.then(|| Answer::new(200, Body::Stall(body.slice(..10), body.len())))
    });
    let home = Home::new();
    let reference = server.reference("app:1");
    {
        let pulling = home.pull(&reference);
        let collecting = async {
            while blobs(&home) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            home.store.alone(AT_ONCE).await.unwrap().is_some()
        };
        tokio::select! {
            _ = pulling => panic!("the pull should stall"),
            free = collecting => assert!(!free, "a pull is under way"),
        }
    }
    // Its first layer has no name; now that the pull is gone it may go.
    let alone = home
        .store
        .alone(Duration::from_secs(5))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(home.store.collect(&alone).unwrap().len(), 1);
    home.store.discard_interrupted(&alone).unwrap();
    assert_eq!(home.partials(), Vec::<String>::new());
    drop(alone);
    server.behave();
    home.pull(&reference).await.unwrap();
}

#[tokio::test]
async fn pruning_leaves_what_containers_use() {
    let home = Home::new();
    let used = add(&home, &TestImage::with_layers(&[10]), "used");
    let unnamed = add(&home, &TestImage::with_layers(&[20]), "x");
    home.store.untag(&"x".parse().unwrap()).unwrap();
    let stand_in = isolazi::image::Reference::unnamed(&unnamed.manifest_digest);
    home.store
        .add_name(&"y".parse().unwrap(), &unnamed.manifest_digest)
        .unwrap();
    home.store.untag(&"y".parse().unwrap()).unwrap();
    home.store.tag(&stand_in, &unnamed.manifest_digest).unwrap();
    add(&home, &TestImage::with_layers(&[30]), "idle");
    let uses = [Use {
        image: used.config_digest.clone(),
        container: "abc".to_owned(),
    }];
    let alone = home.store.alone(AT_ONCE).await.unwrap().unwrap();
    let removal = prune(&home.store, &alone, &uses, true).unwrap();
    assert_eq!(removal.deleted, [unnamed.config_digest]);
    assert!(removal.bytes > 0);
    assert_eq!(home.listed(), ["idle:latest", "used:latest"]);
    prune(&home.store, &alone, &uses, false).unwrap();
    assert_eq!(home.listed(), ["used:latest"]);
    assert_eq!(blobs(&home), 3);
    assert_eq!(
        prune(&home.store, &alone, &[], false)
            .unwrap()
            .untagged
            .len(),
        1
    );
    assert_eq!(blobs(&home), 0);
}

#[test]
fn a_name_takes_the_place_of_the_stand_in() {
    let home = Home::new();
    let image = add(&home, &TestImage::with_layers(&[10]), "x");
    home.store.untag(&"x".parse().unwrap()).unwrap();
    let stand_in = isolazi::image::Reference::unnamed(&image.manifest_digest);
    home.store.tag(&stand_in, &image.manifest_digest).unwrap();
    assert_eq!(home.listed(), [stand_in.to_string()]);
    home.store
        .add_name(&"y".parse().unwrap(), &image.manifest_digest)
        .unwrap();
    assert_eq!(home.listed(), ["y:latest"]);
}

#[test]
fn history_and_description_are_dockers() {
    let home = Home::new();
    let image = TestImage::with_layers(&[10, 20]);
    let mut config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    config["author"] = "somebody".into();
    config["history"] = serde_json::json!([
        {"created": "2024-01-02T03:04:05Z", "created_by": "ADD x"},
        {"created_by": "ENV a=b", "empty_layer": true, "comment": "c"},
        {"created_by": "RUN y"},
    ]);
    let config = home.store.add_blob(config.to_string().as_bytes()).unwrap();
    let size = std::fs::metadata(home.store.blob_path(&config))
        .unwrap()
        .len();
    let manifest = image.altered(|it| {
        it["config"]["digest"] = config.as_str().into();
        it["config"]["size"] = size.into();
    });
    for layer in &image.layers {
        home.store.add_blob(layer).unwrap();
    }
    let manifest = home.store.add_blob(&manifest).unwrap();
    let image = home
        .store
        .add_name(&"a:1".parse().unwrap(), &manifest)
        .unwrap();

    let steps = home.store.history(&image).unwrap();
    let told: Vec<_> = steps.iter().map(|it| (&*it.created_by, it.size)).collect();
    let sizes: Vec<u64> = image.layers.iter().map(|it| it.size).collect();
    assert_eq!(
        told,
        [("RUN y", sizes[1]), ("ENV a=b", 0), ("ADD x", sizes[0])]
    );
    assert!(steps[2].created.is_some() && steps[1].comment == "c");

    let all = home.store.list().unwrap().images;
    let described = home.store.describe(&image, &all).unwrap();
    assert_eq!(described["Id"], config.as_str());
    assert_eq!(described["RepoTags"][0], "a:1");
    assert_eq!(described["RepoDigests"][0], format!("a@{manifest}"));
    assert_eq!(described["Author"], "somebody");
    assert_eq!(described["Config"]["WorkingDir"], "/w");
    assert_eq!(described["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&described["Os"], &described["Architecture"]),
        (&"linux".into(), &"amd64".into())
    );
}
