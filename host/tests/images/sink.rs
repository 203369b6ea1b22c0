//! What the engine gets to see of a pull.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use isolazi::image::{
    ImageError, LayerSink, LayerWriter, NoProgress, Reference, SinkError, push_layers,
};
use isolazi_protocol::{Compression, Digest};

use crate::fixture::{Home, TestImage, digest, gzip, line, tar};
use crate::server::{Answer, Body, Server};

/// Keeps finished layers in memory.
#[derive(Default)]
struct Engine {
    finished: Mutex<HashMap<Digest, Vec<u8>>>,
    begun: Mutex<usize>,
    /// Refuses after this many bytes of a layer.
    fails_after: Option<usize>,
}

struct Writer {
    engine: Arc<Engine>,
    diff_id: Digest,
    bytes: Vec<u8>,
}

/// The engine as a sink.
struct Sink(Arc<Engine>);

impl LayerSink for Sink {
    fn missing<'a>(
        &'a self,
        diff_ids: &'a [Digest],
    ) -> BoxFuture<'a, Result<Vec<Digest>, SinkError>> {
        let finished = self.0.finished.lock().unwrap();
        let missing = diff_ids.iter().filter(|it| !finished.contains_key(it));
        let missing = missing.cloned().collect();
        async { Ok(missing) }.boxed()
    }

    fn begin<'a>(
        &'a self,
        diff_id: &'a Digest,
        compression: Compression,
    ) -> BoxFuture<'a, Result<Box<dyn LayerWriter>, SinkError>> {
        assert_eq!(compression, Compression::Gzip);
        *self.0.begun.lock().unwrap() += 1;
        let writer = Writer {
            engine: Arc::clone(&self.0),
            diff_id: diff_id.clone(),
            bytes: Vec::new(),
        };
        async { Ok(Box::new(writer) as Box<dyn LayerWriter>) }.boxed()
    }
}

impl LayerWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        self.bytes.extend_from_slice(&chunk);
        let full = self
            .engine
            .fails_after
            .is_some_and(|it| self.bytes.len() > it);
        async move {
            match full {
                true => Err("corrupt deflate stream".into()),
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move {
            let mut finished = self.engine.finished.lock().unwrap();
            finished.insert(self.diff_id, self.bytes);
            Ok(())
        }
        .boxed()
    }
}

impl Engine {
    fn sink(self: &Arc<Self>) -> Arc<dyn LayerSink> {
        Arc::new(Sink(Arc::clone(self)))
    }

    /// Its layers are those of the image, byte for byte.
    fn assert_has(&self, image: &TestImage) {
        let finished = self.finished.lock().unwrap();
        let mut kept: Vec<_> = finished.values().cloned().collect();
        let mut expected: Vec<_> = image.layers.iter().map(|it| it.to_vec()).collect();
        kept.sort();
        expected.sort();
        expected.dedup();
        assert!(kept == expected);
    }
}

fn image() -> TestImage {
    TestImage::with_layers(&[2_000_000, 400_000])
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_arrive_in_one_pass() {
    let image = image();
    let server = Server::serving(&image).await;
    let (home, engine) = (Home::new(), Arc::new(Engine::default()));
    let reference = server.reference("app:1");
    home.pull_into(&reference, engine.sink()).await.unwrap();
    engine.assert_has(&image);
    // A second time there is nothing to do.
    let requests = server.seen().len();
    home.pull_into(&reference, engine.sink()).await.unwrap();
    assert_eq!(*engine.begun.lock().unwrap(), 2);
    assert_eq!(server.seen().len(), requests + 1, "only the manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_layer_arrives_whole() {
    let image = image();
    let server = Server::serving(&image).await;
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    server.play(move |request| {
        let hit = request.path.ends_with(&name);
        hit.then(|| match request.offset() {
            0 => Answer::new(200, Body::Cut(layer.slice(..700_000), layer.len())),
            _ => Answer::status(502),
        })
    });
    let (home, engine) = (Home::new(), Arc::new(Engine::default()));
    let reference = server.reference("app:1");
    home.pull_into(&reference, engine.sink()).await.unwrap_err();
    server.behave();
    home.pull_into(&reference, engine.sink()).await.unwrap();
    engine.assert_has(&image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_a_wrong_digest_is_never_finished() {
    let image = TestImage::with_layers(&[100_000]);
    let server = Server::serving(&image).await;
    let mut other = image.layers[0].to_vec();
    *other.last_mut().unwrap() ^= 1;
    let name = digest(&image.layers[0]);
    server.play(move |request| {
        let hit = request.path.ends_with(&name);
        hit.then(|| Answer::ok(other.clone()))
    });
    let (home, engine) = (Home::new(), Arc::new(Engine::default()));
    let reference = server.reference("app:1");
    let error = home.pull_into(&reference, engine.sink()).await.unwrap_err();
    assert!(
        matches!(error, ImageError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(engine.finished.lock().unwrap().is_empty());
    home.assert_unspoilt();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_refuses_ends_the_pull() {
    let image = TestImage::with_layers(&[3_000_000, 2_000_000]);
    let server = Server::serving(&image).await;
    let home = Home::new();
    let engine = Arc::new(Engine {
        fails_after: Some(300_000),
        ..Engine::default()
    });
    let reference = server.reference("app:1");
    let error = line(home.pull_into(&reference, engine.sink()).await.unwrap_err());
    assert!(
        error.ends_with("cannot be unpacked: corrupt deflate stream"),
        "{error}"
    );
    home.assert_unspoilt();
}

async fn pulled(image: &TestImage) -> (Home, Reference) {
    let server = Server::serving(image).await;
    let (home, reference) = (Home::new(), server.reference("app:1"));
    home.pull(&reference).await.unwrap();
    (home, reference)
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_come_from_the_store_without_a_registry() {
    let image = image();
    let (home, reference) = pulled(&image).await;
    let engine = Arc::new(Engine::default());
    let stored = home.store.resolve(&reference).unwrap().unwrap();
    push_layers(&home.store, &stored, engine.sink(), Arc::new(NoProgress))
        .await
        .unwrap();
    engine.assert_has(&image);
}

/// Flips a bit in the middle.
fn damage(blob: &std::path::Path) {
    let mut bytes = std::fs::read(blob).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(blob, &bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_never_reaches_the_engine_and_is_mended_by_a_pull() {
    let image = image();
    let server = Server::serving(&image).await;
    let (home, reference) = (Home::new(), server.reference("app:1"));
    let stored = home.pull(&reference).await.unwrap();
    damage(&home.store.blob_path(&stored.layers[0].digest));

    let engine = Arc::new(Engine::default());
    let progress = Arc::new(NoProgress);
    let pushed = push_layers(&home.store, &stored, engine.sink(), progress).await;
    let error = line(pushed.unwrap_err());
    assert!(error.contains("damaged in the local store"), "{error}");
    let finished = engine.finished.lock().unwrap().len();
    assert!(finished <= 1, "at most the other layer");

    home.pull_into(&reference, engine.sink()).await.unwrap();
    engine.assert_has(&image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_mends_a_damaged_blob_by_itself() {
    let image = image();
    let server = Server::serving(&image).await;
    let (home, reference) = (Home::new(), server.reference("app:1"));
    let stored = home.pull(&reference).await.unwrap();
    damage(&home.store.blob_path(&stored.layers[0].digest));
    let engine = Arc::new(Engine::default());
    home.pull_into(&reference, engine.sink()).await.unwrap();
    engine.assert_has(&image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_occurs_twice_is_sent_once() {
    let plain = tar(50_000);
    let layer = gzip(&plain);
    let image = TestImage::new(
        vec![layer.clone(), layer],
        &[digest(&plain), digest(&plain)],
    );
    let server = Server::serving(&image).await;
    let (home, engine) = (Home::new(), Arc::new(Engine::default()));
    let reference = server.reference("app:1");
    let pulled = home.pull_into(&reference, engine.sink()).await.unwrap();
    assert_eq!(pulled.layers.len(), 2);
    assert_eq!(pulled.size, image.layers[0].len() as u64);
    assert_eq!(*engine.begun.lock().unwrap(), 1);
}
