//! Connections that break, and pulls that meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fixture::{Home, TestImage, digest, line};
use crate::server::{Answer, Body, Request, Server};

const SIZE: usize = 3_000_000;

fn image() -> TestImage {
    TestImage::with_layers(&[SIZE])
}

/// Hangs up after `piece` bytes of the layer, whatever range is asked for.
fn breaking(
    image: &TestImage,
    piece: usize,
) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    move |request| {
        if !request.path.ends_with(&name) {
            return None;
        }
        let offset = request.offset();
        let rest = layer.len() - offset;
        if rest <= piece {
            return None;
        }
        let body = Body::Cut(layer.slice(offset..offset + piece), rest);
        let range = format!("bytes {offset}-{}/{}", layer.len() - 1, layer.len());
        Some(match offset {
            0 => Answer::new(200, body),
            _ => Answer::new(206, body).with("Content-Range", range),
        })
    }
}

fn offsets(server: &Server, image: &TestImage) -> Vec<usize> {
    let name = digest(&image.layers[0]);
    let seen = server.seen();
    let hits = seen.iter().filter(|it| it.path.ends_with(&name));
    hits.map(Request::offset).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_where_it_was() {
    let image = image();
    let server = Server::serving(&image).await;
    server.play(breaking(&image, 1_000_000));
    let home = Home::new();
    home.pull(&server.reference("app:1")).await.unwrap();
    let offsets = offsets(&server, &image);
    assert!(offsets.len() >= 3, "{offsets:?}");
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    assert!(home.partials().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pull_goes_on_where_the_last_one_gave_up() {
    let image = image();
    let server = Server::serving(&image).await;
    let first = breaking(&image, 1_000_000);
    let name = digest(&image.layers[0]);
    server.play(move |request| match request.offset() {
        0 => first(request),
        _ => request.path.ends_with(&name).then(|| Answer::status(503)),
    });
    let home = Home::new();
    let reference = server.reference("app:1");
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(error.contains("status 503"), "{error}");
    assert_eq!(home.listed(), Vec::<String>::new());
    assert_eq!(home.partials().len(), 1);

    server.behave();
    let before = server.seen().len();
    home.pull(&reference).await.unwrap();
    let resumed = server.seen()[before..]
        .iter()
        .any(|request| request.offset() > 0);
    assert!(resumed);
    assert!(home.partials().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_sends_everything_again() {
    let image = image();
    let server = Server::serving(&image).await;
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    let asked = AtomicUsize::new(0);
    server.play(move |request| {
        let hit = request.path.ends_with(&name);
        hit.then(|| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::new(200, Body::Cut(layer.slice(..1_000_000), layer.len())),
            _ => Answer::ok(layer.clone()),
        })
    });
    let home = Home::new();
    home.pull(&server.reference("app:1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_noticed_and_survived() {
    let image = image();
    let server = Server::serving(&image).await;
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    server.play(move |request| {
        let hit = request.path.ends_with(&name) && request.offset() == 0;
        hit.then(|| Answer::new(200, Body::Stall(layer.slice(..500_000), layer.len())))
    });
    let home = Home::new();
    home.pull(&server.reference("app:1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stall_ends_in_an_error_that_can_be_resumed() {
    let image = image();
    let server = Server::serving(&image).await;
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    server.play(move |request| {
        let length = layer.len() - request.offset();
        let range = format!(
            "bytes {}-{}/{}",
            request.offset(),
            layer.len() - 1,
            layer.len()
        );
        let hit = request.path.ends_with(&name);
        hit.then(|| match request.offset() {
            0 => Answer::new(200, Body::Stall(layer.slice(..500_000), length)),
            _ => {
                Answer::new(206, Body::Stall(layer.slice(..0), length)).with("Content-Range", range)
            }
        })
    });
    let home = Home::new();
    let reference = server.reference("app:1");
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(error.contains("sent nothing"), "{error}");
    assert_eq!(home.listed(), Vec::<String>::new());
    server.behave();
    home.pull(&reference).await.unwrap();
    assert!(home.partials().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_blob_that_was_damaged_is_downloaded_afresh() {
    let image = image();
    let server = Server::serving(&image).await;
    let home = Home::new();
    let name = digest(&image.layers[0]);
    let partial = home
        .images()
        .join("blobs/.partial")
        .join(name.trim_start_matches("sha256:"));
    for damage in [
        vec![0u8; 1000],
        vec![0u8; SIZE * 2],
        vec![0u8; image.layers[0].len()],
    ] {
        std::fs::write(&partial, &damage).unwrap();
        home.pull(&server.reference("app:1")).await.unwrap();
        assert!(home.partials().is_empty());
        let blob = home.images().join("blobs/sha256");
        std::fs::remove_file(blob.join(name.trim_start_matches("sha256:"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_that_meet_download_once() {
    let image = TestImage::with_layers(&[2_000_000, 1_000_000, 500_000]);
    let server = Server::serving(&image).await;
    let home = Arc::new(Home::new());
    let mut pulls = tokio::task::JoinSet::new();
    for name in ["a:1", "b:1", "a:2", "a:1"] {
        let (home, reference) = (Arc::clone(&home), server.reference(name));
        pulls.spawn(async move { home.pull(&reference).await });
    }
    while let Some(outcome) = pulls.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(home.listed().len(), 3);
    for layer in &image.layers {
        let name = digest(layer);
        let seen = server.seen();
        assert_eq!(seen.iter().filter(|it| it.path.ends_with(&name)).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_can_be_resumed() {
    let image = image();
    let server = Server::serving(&image).await;
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    server.play(move |request| {
        let hit = request.path.ends_with(&name);
        hit.then(|| Answer::new(200, Body::Stall(layer.slice(..500_000), layer.len())))
    });
    let mut home = Home::new();
    home.options.network.stall_timeout = std::time::Duration::from_secs(60);
    let reference = server.reference("app:1");
    let patience = std::time::Duration::from_millis(300);
    let dropped = tokio::time::timeout(patience, home.pull(&reference)).await;
    assert!(dropped.is_err());
    assert_eq!(home.listed(), Vec::<String>::new());
    server.behave();
    home.pull(&reference).await.unwrap();
    assert!(
        offsets(&server, &image)
            .last()
            .is_some_and(|last| *last > 0)
    );
    assert!(home.partials().is_empty());
}
