//! Users who are known to a registry, mirrors, and certificates of one's own.

use std::path::Path;
use std::sync::Arc;

use isolazi::image::{
    Authorities, Credential, Credentials, ImageError, NoProgress, Reference, check_login, push,
};

use crate::distribution::{Registry, available, make_certificate};
use crate::fixture::{Home, TestImage, digest, line};
use crate::server::{Answer, Server};

/// `me:hunter2`, as htpasswd writes it.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";
/// `me:hunter2` in base64.
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn me(secret: &str) -> Credential {
    Credential {
        username: "me".to_owned(),
        secret: secret.to_owned(),
    }
}

/// A home whose user has a login for `registry`.
async fn home_of(folder: &Path, registry: &str) -> Home {
    let mut home = Home::new();
    let credentials = Credentials::at(folder);
    credentials.store(registry, &me("hunter2")).await.unwrap();
    home.options.network.credentials = Some(credentials);
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_demands_a_password() {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("htpasswd");
    std::fs::write(&users, HTPASSWD).unwrap();
    let auth = format!(
        "}}\nauth: {{htpasswd: {{realm: test, path: {}}}",
        users.display()
    );
    let registry = Registry::start_with(folder, &auth);
    let reference = registry.reference("app:1");
    let name = reference.registry();

    let stranger = Home::new();
    let network = &stranger.options.network;
    let error = check_login(name, &me("wrong"), network).await.unwrap_err();
    assert!(matches!(error, ImageError::BadLogin(_)), "{error}");
    check_login(name, &me("hunter2"), network).await.unwrap();

    let logins = tempfile::tempdir().unwrap();
    let home = home_of(logins.path(), name).await;
    let image = TestImage::with_layers(&[200_000]);
    for blob in image.blobs.values() {
        home.store.add_blob(blob).unwrap();
    }
    let manifest = digest(&image.manifest).parse().unwrap();
    let stored = home.store.add_name(&reference, &manifest).unwrap();
    let network = &home.options.network;
    push(
        &home.store,
        &stored,
        &reference,
        network,
        Arc::new(NoProgress),
    )
    .await
    .unwrap();

    let error = line(stranger.pull(&reference).await.unwrap_err());
    assert!(error.contains("needs a login"), "{error}");
    let error = push(
        &home.store,
        &stored,
        &reference,
        &stranger.options.network,
        Arc::new(NoProgress),
    )
    .await;
    assert!(matches!(error, Err(ImageError::Denied { .. })), "{error:?}");

    let other = home_of(logins.path(), name).await;
    other.pull(&reference).await.unwrap();
    Credentials::at(logins.path()).erase(name).await.unwrap();
    let mut forgotten = Home::new();
    forgotten.options.network.credentials = Some(Credentials::at(logins.path()));
    assert!(forgotten.pull(&reference).await.is_err());
}

/// A registry that wants a token of its own token server.
async fn guarded(image: &TestImage) -> Server {
    let server = Server::serving(image).await;
    let realm = format!("http://{}/token", server.address);
    server.play(move |request| {
        let who = request.header("authorization");
        match request.path.starts_with("/token?") {
            true if who == Some(BASIC) => Some(Answer::ok(r#"{"access_token": "t0ken"}"#)),
            true => Some(Answer::status(401)),
            false if who == Some("Bearer t0ken") => None,
            false => {
                let challenge = format!(r#"Bearer realm="{realm}",service="test""#);
                Some(Answer::status(401).with("WWW-Authenticate", challenge))
            }
        }
    });
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_shown_to_the_token_server_only() {
    let image = TestImage::with_layers(&[1000, 2000]);
    let server = guarded(&image).await;
    let reference = server.reference("app:1");
    let logins = tempfile::tempdir().unwrap();
    let home = home_of(logins.path(), reference.registry()).await;
    home.pull(&reference).await.unwrap();
    for request in server.seen() {
        let shown = request.header("authorization") == Some(BASIC);
        assert_eq!(
            shown,
            request.path.starts_with("/token?"),
            "{}",
            request.path
        );
    }
    let asked = server.seen();
    let token = asked
        .iter()
        .find(|it| it.path.starts_with("/token?"))
        .unwrap();
    for part in [
        "account=me",
        "service=test",
        "scope=repository%3Aapp%3Apull",
    ] {
        assert!(token.path.contains(part), "{}", token.path);
    }
    check_login(reference.registry(), &me("hunter2"), &home.options.network)
        .await
        .unwrap();
    let error = check_login(reference.registry(), &me("wrong"), &home.options.network).await;
    assert!(matches!(error, Err(ImageError::BadLogin(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_for_one_registry_is_not_anothers() {
    let image = TestImage::with_layers(&[1000]);
    let server = Server::serving(&image).await;
    server.play(|request| match request.header("authorization") {
        None => Some(Answer::status(401).with("WWW-Authenticate", "Basic realm=x")),
        Some(_) => None,
    });
    let logins = tempfile::tempdir().unwrap();
    // The same host, another port.
    let home = home_of(logins.path(), "127.0.0.1:1").await;
    assert!(home.pull(&server.reference("app:1")).await.is_err());
    for request in server.seen() {
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_redirects_nor_uploads_carry_a_login_elsewhere() {
    let image = TestImage::with_layers(&[1000]);
    let elsewhere = Server::serving(&image).await;
    let server = guarded(&image).await;
    let storage = elsewhere.address;
    let realm = format!("http://{}/token", server.address);
    server.play(move |request| {
        let who = request.header("authorization");
        if request.path.starts_with("/token?") {
            return Some(Answer::ok(r#"{"token": "t0ken"}"#));
        }
        if who != Some("Bearer t0ken") {
            let challenge = format!(r#"Bearer realm="{realm}""#);
            return Some(Answer::status(401).with("WWW-Authenticate", challenge));
        }
        let there = format!("http://{storage}{}", request.path);
        match &*request.method {
            "GET" if request.is_blob() => Some(Answer::status(307).with("Location", there)),
            "HEAD" => Some(Answer::status(404)),
            "POST" => Some(Answer::status(202).with("Location", there)),
            "PUT" => Some(Answer::status(201)),
            _ => None,
        }
    });
    elsewhere.play(move |request| match &*request.method {
        "PATCH" => {
            Some(Answer::status(202).with("Location", format!("http://{storage}{}", request.path)))
        }
        "PUT" => Some(Answer::status(201)),
        _ => None,
    });
    let reference = server.reference("app:1");
    let logins = tempfile::tempdir().unwrap();
    let home = home_of(logins.path(), reference.registry()).await;
    let pulled = home.pull(&reference).await.unwrap();
    let network = &home.options.network;
    push(
        &home.store,
        &pulled,
        &reference,
        network,
        Arc::new(NoProgress),
    )
    .await
    .unwrap();
    let seen = elsewhere.seen();
    let of = |method: &str| seen.iter().any(|it| it.method == method);
    assert!(of("GET") && of("PATCH") && of("PUT"), "{seen:?}");
    for request in seen {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_need_not_answer() {
    let image = TestImage::with_layers(&[1000]);
    let (mirror, origin) = (Server::serving(&image).await, Server::serving(&image).await);
    let reference = origin.reference("app:1");
    let with_mirrors = |mirrors: &[String]| {
        let mut home = Home::new();
        let mirrors = [(reference.registry().to_owned(), mirrors.to_vec())];
        home.options.network.mirrors = mirrors.into();
        home
    };
    let home = with_mirrors(&[mirror.address.to_string()]);
    let pulled = home.pull(&reference).await.unwrap();
    assert_eq!(pulled.reference, reference, "the name is the image's own");
    assert!(origin.seen().is_empty());

    // One that is down, and one that lacks a layer.
    mirror.play(|request| request.is_blob().then(|| Answer::status(404)));
    let down = "127.0.0.1:1".to_owned();
    let home = with_mirrors(&[down, mirror.address.to_string()]);
    home.pull(&reference).await.unwrap();
    assert!(!origin.seen().is_empty());
    assert_eq!(home.listed(), [reference.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_may_be_trusted_by_the_settings() {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path());
    let certificate = folder.path().join("cert.pem");
    let tls = format!(
        ", tls: {{certificate: {}, key: {}}}",
        certificate.display(),
        folder.path().join("key.pem").display()
    );
    let registry = Registry::start_with(folder, &tls);
    registry.push(&TestImage::with_layers(&[1000]), "app:1", &[]);
    let mut home = Home::new();
    let reference: Reference = registry.reference("app:1");
    assert!(home.pull(&reference).await.is_err());
    home.options.network.authorities = Authorities::read(&[certificate]).unwrap();
    home.pull(&reference).await.unwrap();
}
