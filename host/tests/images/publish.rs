//! Pushing, to Docker's registry and to one that misbehaves.

use std::sync::{Arc, Mutex};

use isolazi::image::{
    Image, ImageError, NoProgress, Progress, ProgressEvent, Pushed, Reference, push,
};

use crate::distribution::{Registry, available};
use crate::fixture::{Home, TestImage, digest, line};
use crate::server::{Answer, Server};

/// Remembers what was sent and what was there.
#[derive(Default)]
struct Seen {
    sent: Mutex<Vec<String>>,
    present: Mutex<Vec<String>>,
}

impl Progress for Seen {
    fn event(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Sending { digest, .. } => {
                self.sent.lock().unwrap().push(digest.to_string());
            }
            ProgressEvent::Present(digest) => self.present.lock().unwrap().push(digest.to_string()),
            _ => {}
        }
    }
}

fn stored(home: &Home, image: &TestImage, name: &str) -> Image {
    for blob in image.blobs.values() {
        home.store.add_blob(blob).unwrap();
    }
    let manifest = digest(&image.manifest).parse().unwrap();
    home.store
        .add_name(&name.parse().unwrap(), &manifest)
        .unwrap()
}

async fn pushed(home: &Home, image: &Image, reference: &Reference) -> Result<Pushed, ImageError> {
    let network = &home.options.network;
    push(&home.store, image, reference, network, Arc::new(NoProgress)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_pulled_as_it_was_and_sent_once() {
    if !available() {
        return;
    }
    let registry = Registry::start();
    let home = Home::new();
    let image = stored(&home, &TestImage::with_layers(&[2_000_000, 300, 300]), "a");
    let seen = Arc::new(Seen::default());
    let reference = registry.reference("team/app:1");
    let network = &home.options.network;
    let pushed = push(&home.store, &image, &reference, network, seen.clone())
        .await
        .unwrap();
    assert_eq!(pushed.digest, image.manifest_digest);
    assert_eq!(
        seen.sent.lock().unwrap().len(),
        3,
        "two different layers and the configuration"
    );

    let other = Home::new();
    let pulled = other.pull(&reference).await.unwrap();
    assert_eq!(pulled.manifest_digest, image.manifest_digest);

    let seen = Arc::new(Seen::default());
    let again = registry.reference("team/app:2");
    push(&home.store, &image, &again, network, seen.clone())
        .await
        .unwrap();
    assert!(seen.sent.lock().unwrap().is_empty());
    assert_eq!(seen.present.lock().unwrap().len(), 3);
    other.pull(&again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_blobs_are_not_pushed() {
    if !available() {
        return;
    }
    let registry = Registry::start();
    let home = Home::new();
    let image = stored(&home, &TestImage::with_layers(&[5000]), "a");
    let path = home.store.blob_path(&image.layers[0].digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let reference = registry.reference("app:1");
    let error = line(pushed(&home, &image, &reference).await.unwrap_err());
    assert!(error.contains("damaged in the local store"), "{error}");
    assert!(Home::new().pull(&reference).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let image = TestImage::with_layers(&[1000]);
    let server = Server::serving(&image).await;
    let home = Home::new();
    let stored = stored(&home, &image, "a");
    let reference = server.reference("app:1");
    server.play(|request| (request.method == "HEAD").then(|| Answer::status(403)));
    let error = line(pushed(&home, &stored, &reference).await.unwrap_err());
    assert!(error.contains("isolazi login"), "{error}");

    server.play(|request| match &*request.method {
        "HEAD" => Some(Answer::status(404)),
        "POST" => Some(Answer::ok("").with("X", "y")),
        _ => None,
    });
    let error = line(pushed(&home, &stored, &reference).await.unwrap_err());
    assert!(error.contains("status 200"), "{error}");

    server.play(|request| match &*request.method {
        "PUT" => {
            let mut answer = Answer::status(400);
            let page = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no \u001b good"}]}"#;
            answer.body = crate::server::Body::Whole(page.into());
            Some(answer)
        }
        // Everything is there but the manifest.
        "HEAD" => Some(Answer::status(200)),
        _ => None,
    });
    let error = line(pushed(&home, &stored, &reference).await.unwrap_err());
    assert!(
        error.contains("the manifest (status 400): no \\u{1b} good"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_starts_again() {
    let image = TestImage::with_layers(&[1000]);
    let server = Server::serving(&image).await;
    let home = Home::new();
    let stored = stored(&home, &image, "a");
    let failures = Mutex::new(1);
    server.play(move |request| match &*request.method {
        "HEAD" => Some(Answer::status(404)),
        "POST" => Some(Answer::status(202).with("Location", "/v2/app/blobs/uploads/1?state=x")),
        "PATCH" => {
            let mut left = failures.lock().unwrap();
            match *left {
                0 => Some(Answer::status(202).with("Location", "/v2/app/blobs/uploads/1?state=y")),
                _ => {
                    *left -= 1;
                    Some(Answer::status(503))
                }
            }
        }
        "PUT" => Some(Answer::status(201)),
        _ => None,
    });
    pushed(&home, &stored, &server.reference("app:1"))
        .await
        .unwrap();
    let seen = server.seen();
    let count = |method: &str| seen.iter().filter(|it| it.method == method).count();
    assert_eq!(
        (count("PATCH"), count("PUT")),
        (3, 3),
        "two blobs, one twice; then the manifest"
    );
    let put = seen.iter().find(|it| it.method == "PUT").unwrap();
    assert!(
        put.path.contains("?state=y&digest=sha256%3A"),
        "{}",
        put.path
    );
}
