//! Registries that do wrong. Each ends in one clear line, leaves nothing
//! behind, and does not spoil the pull after it.

use bytes::Bytes;
use serde_json::json;

use crate::fixture::{GZIP, Home, OCI_INDEX, TestImage, descriptor, digest, line, noise};
use crate::server::{Answer, Body, Request, Server};

/// Pulls while the registry plays `trick`: the error must contain `expected`,
/// and an honest pull must work afterwards.
async fn refuses(
    image: &TestImage,
    expected: &str,
    trick: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
) {
    let server = Server::serving(image).await;
    let home = Home::new();
    let reference = server.reference("app:1");
    server.play(trick);
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(error.contains(expected), "{error}");
    home.assert_unspoilt();
    server.behave();
    home.pull(&reference).await.unwrap();
    assert_eq!(home.listed(), [reference.to_string()]);
}

/// A trick on the first layer only.
fn on_layer(
    image: &TestImage,
    answer: impl Fn(&Request, &Bytes) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    let layer = image.layers[0].clone();
    let name = digest(&layer);
    move |request| {
        let hit = request.path.ends_with(&name);
        hit.then(|| answer(request, &layer))
    }
}

fn on_manifest(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    move |request| request.is_manifest().then(&answer)
}

fn image() -> TestImage {
    TestImage::with_layers(&[300_000, 200_000])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_other_content() {
    let image = image();
    let trick = on_layer(&image, |_, layer| {
        let mut other = layer.to_vec();
        other[1000] ^= 1;
        Answer::ok(other)
    });
    refuses(&image, "is not what it should be: expected sha256:", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_layer_that_says_so() {
    let image = image();
    let trick = on_layer(&image, |_, layer| Answer::ok(layer.slice(..1000)));
    refuses(&image, "only 1000 sent", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_layer_that_does_not() {
    let image = image();
    let trick = on_layer(&image, |_, layer| {
        Answer::new(200, Body::Chunked(layer.slice(..1000)))
    });
    refuses(&image, "only 1000 sent", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_layer_that_says_so() {
    let image = image();
    let trick = on_layer(&image, |_, layer| {
        Answer::ok([&layer[..], b"more"].concat())
    });
    refuses(&image, "wrong size", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_without_end() {
    let image = image();
    let trick = on_layer(&image, |_, _| Answer::new(200, Body::Endless));
    refuses(&image, "at least", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_layer() {
    let image = image();
    let trick = on_layer(&image, |_, _| Answer::status(404));
    refuses(&image, "is missing in registry", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_other_content() {
    let image = image();
    let name = digest(&image.config);
    let length = image.config.len();
    refuses(&image, "the configuration of", move |request| {
        let hit = request.path.ends_with(&name);
        hit.then(|| Answer::ok(noise(length)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_a_hundred_megabytes() {
    let declared = on_manifest(|| Answer::new(200, Body::Stall(Bytes::new(), 100 << 20)));
    refuses(&image(), "too large", declared).await;
    let endless = on_manifest(|| Answer::new(200, Body::Endless));
    refuses(&image(), "too large", endless).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_page_without_end() {
    let page = on_manifest(|| Answer::new(404, Body::Endless));
    refuses(&image(), "no such tag", page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_no_manifest() {
    for (body, expected) in [
        ("<html>\x1b[2Jlogin</html>", "malformed"),
        ("{\"schemaVersion\": 1, \"fsLayers\": []}", "schema 1"),
        ("", "malformed"),
    ] {
        refuses(&image(), expected, on_manifest(move || Answer::ok(body))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_also_an_index() {
    let image = image();
    let both = image.altered(|manifest| manifest["manifests"] = json!([]));
    let trick = on_manifest(move || Answer::ok(both.clone()));
    refuses(&image, "both a manifest and an index", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_a_path() {
    let image = image();
    let path = image.altered(|it| it["layers"][0]["digest"] = json!("sha256:../../../../etc/x"));
    let trick = on_manifest(move || Answer::ok(path.clone()));
    refuses(&image, "is not a digest", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_impossible_size() {
    let image = image();
    let huge = image.altered(|it| it["layers"][0]["size"] = json!(u64::MAX));
    let trick = on_manifest(move || Answer::ok(huge.clone()));
    refuses(&image, "claim to be", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_other_layers() {
    let image = image();
    let fewer = image.altered(|it| {
        it["layers"].as_array_mut().unwrap().pop();
    });
    let trick = on_manifest(move || Answer::ok(fewer.clone()));
    refuses(&image, "1 layers, its configuration 2", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_within_an_index_without_end() {
    // Each index points to the next, which differs by its annotation.
    let index = |level: usize, inner: Option<&Bytes>| {
        let manifests: Vec<_> = inner.iter().map(|it| descriptor(OCI_INDEX, it)).collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests, "annotations": {"l": level.to_string()}});
        Bytes::from(index.to_string())
    };
    let mut chain = vec![index(0, None)];
    for level in 1..20 {
        chain.push(index(level, chain.last()));
    }
    let top = chain.last().unwrap().clone();
    refuses(&image(), "nested", move |request| {
        let last = request.path.rsplit('/').next().unwrap();
        let inner = chain.iter().find(|it| digest(it) == last);
        let manifest = request.is_manifest();
        manifest.then(|| Answer::ok(inner.unwrap_or(&top).clone()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_not_there() {
    let image = image();
    let mut entry = descriptor(crate::fixture::OCI_MANIFEST, &image.manifest);
    entry["platform"] = json!({"os": "linux", "architecture": "s390x\u{1b}[31m"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let trick = on_manifest(move || Answer::ok(index.clone()));
    let expected = "is not made for linux/amd64: it is for linux/s390x\\\\u{1b}[31m";
    refuses(&image, expected, trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_have_meanings() {
    let code = |code: &str| json!({"errors": [{"code": code, "message": "\u{1b}"}]}).to_string();
    let (name, tag) = (code("NAME_UNKNOWN"), code("MANIFEST_UNKNOWN"));
    for (status, page, expected) in [
        (401, "", "not found, or it needs a login"),
        (403, "", "not found, or it needs a login"),
        (404, "", "no such tag"),
        (404, &tag[..], "no such tag"),
        (404, &name[..], "not found, or it needs a login"),
        (429, "", "wait a while"),
        (418, "", "status 418"),
        (503, "", "status 503"),
    ] {
        let page = Bytes::from(page.to_owned());
        let answer = move || Answer::new(status, Body::Whole(page.clone()));
        refuses(&image(), expected, on_manifest(answer)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence() {
    let nothing = on_manifest(|| Answer::new(200, Body::Stall(Bytes::new(), 100)));
    refuses(&image(), "sent nothing", nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there() {
    let home = Home::new();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let reference = format!("127.0.0.1:{port}/x").parse().unwrap();
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(error.contains("cannot connect to registry"), "{error}");
    assert!(error.contains("refused"), "{error}");

    let reference = "no-such-host.invalid/x".parse().unwrap();
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(error.contains("cannot find registry"), "{error}");
    home.assert_unspoilt();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_plain_http_elsewhere() {
    let image = image();
    let trick = on_layer(&image, |_, _| {
        Answer::status(307).with("Location", "http://example.invalid/blob")
    });
    refuses(&image, "not safe to follow", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_without_end() {
    let image = image();
    let trick = on_layer(&image, |request, _| {
        Answer::status(307).with("Location", request.path.clone())
    });
    refuses(&image, "not safe to follow", trick).await;
}

/// Answers 401 with a challenge, hands out a token, and wants to see it.
fn wants_token(server: &Server) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    let realm = format!("http://{}/token", server.address);
    move |request| {
        if request.path.starts_with("/token") {
            assert!(request.path.contains("scope=repository%3Aapp%3Apull"));
            return Some(Answer::ok(r#"{"token": "let-me-in"}"#));
        }
        if request.header("authorization") == Some("Bearer let-me-in") {
            return None;
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="test""#);
        Some(Answer::status(401).with("WWW-Authenticate", challenge))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_where_one_is_wanted() {
    let server = Server::serving(&image()).await;
    server.play(wants_token(&server));
    let home = Home::new();
    home.pull(&server.reference("app:1")).await.unwrap();
    let tokens = server.seen();
    let tokens = tokens.iter().filter(|it| it.path.starts_with("/token"));
    assert_eq!(tokens.count(), 1, "one token serves the whole pull");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_stays_with_its_registry() {
    let image = image();
    let elsewhere = Server::serving(&image).await;
    let server = Server::serving(&image).await;
    let wants_token = wants_token(&server);
    let target = elsewhere.address;
    server.play(move |request| {
        wants_token(request).or_else(|| {
            let location = format!("http://{target}{}", request.path);
            request
                .is_blob()
                .then(|| Answer::status(307).with("Location", location))
        })
    });
    Home::new().pull(&server.reference("app:1")).await.unwrap();
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 3, "all blobs came from there");
    assert!(seen.iter().all(|it| it.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_header() {
    let server = Server::serving(&image()).await;
    let wants_token = wants_token(&server);
    server.play(move |request| match request.path.starts_with("/token") {
        true => Some(Answer::ok(r#"{"token": "a\nHost: b"}"#)),
        false => wants_token(request),
    });
    let home = Home::new();
    let error = line(home.pull(&server.reference("app:1")).await.unwrap_err());
    assert!(error.contains("token is malformed"), "{error}");
    home.assert_unspoilt();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_a_type_nobody_knows() {
    let image = image();
    let odd = image.altered(|it| it["layers"][0]["mediaType"] = json!(format!("{GZIP}+encrypted")));
    let trick = on_manifest(move || Answer::ok(odd.clone()));
    refuses(&image, "not supported", trick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_manifest_with_other_content() {
    let image = image();
    let server = Server::serving(&image).await;
    let other = image.altered(|it| it["annotations"] = json!({}));
    server.play(on_manifest(move || Answer::ok(other.clone())));
    let home = Home::new();
    let reference = server.reference(&format!("app:1@{}", digest(&image.manifest)));
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(error.contains("is not what it should be"), "{error}");
    home.assert_unspoilt();
    server.behave();
    let pulled = home.pull(&reference).await.unwrap();
    assert_eq!(pulled.manifest_digest.as_str(), digest(&image.manifest));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    // A file system of one mebibyte, seen by the child only.
    let script = "mount -t tmpfs -o size=1m none \"$TMPDIR\" && echo mounted && exec \"$0\" \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serving(&TestImage::with_layers(&[3_000_000])).await;
    let mut child = tokio::process::Command::new("unshare");
    child
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "distribution::pull_for_another_test",
            "--nocapture",
        ])
        .env(
            "ISOLAZI_TEST_REFERENCE",
            server.reference("app:1").to_string(),
        )
        .env("TMPDIR", folder.path());
    let output = child.output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    if !printed.contains("mounted") {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI needs user namespaces"
        );
        eprintln!("skipped: no file system can be mounted in a user namespace");
        return;
    }
    assert!(printed.contains("is full: free some space"), "{printed}");
}
