//! Against Docker's registry, with images that skopeo pushes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Home, OCI_CONFIG, OCI_MANIFEST, TestImage, descriptor, digest, line};

/// Docker's registry on a free port of loopback, its data in a temporary folder.
pub(crate) struct Registry {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the programs are there. Where they are not the test is skipped,
/// except in CI, where it fails.
pub(crate) fn available() -> bool {
    let missing = ["docker-registry", "skopeo", "openssl"]
        .into_iter()
        .find(|tool| Command::new(tool).arg("version").output().is_err());
    if let Some(tool) = missing {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI needs {tool}"
        );
        eprintln!("skipped: {tool} is not installed");
    }
    missing.is_none()
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), "")
    }

    /// `http` is added to that section of its configuration.
    pub(crate) fn start_with(folder: tempfile::TempDir, http: &str) -> Self {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let data = folder.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'{http}}}\n",
            data.display()
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self {
            process,
            port,
            folder,
        };
        registry.wait();
        registry
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn push(&self, image: &TestImage, name: &str, arguments: &[&str]) {
        let layout = tempfile::tempdir_in(self.folder.path()).unwrap();
        let entry = descriptor(OCI_MANIFEST, &image.manifest);
        image.write_layout(
            layout.path(),
            &json!({"schemaVersion": 2, "manifests": [entry]}),
        );
        self.copy(layout.path(), name, arguments);
    }

    fn copy(&self, layout: &Path, name: &str, arguments: &[&str]) {
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
            .args(arguments)
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://127.0.0.1:{}/{name}", self.port))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }

    pub(crate) fn reference(&self, name: &str) -> isolazi::image::Reference {
        format!("127.0.0.1:{}/{name}", self.port).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_every_format() {
    if !available() {
        return;
    }
    let registry = Registry::start();
    let image = TestImage::with_layers(&[500_000, 300_000]);
    for (name, arguments) in [
        ("oci", &[][..]),
        ("docker", &["--format", "v2s2"][..]),
        (
            "zstd",
            &["--dest-compress-format", "zstd", "--dest-compress"][..],
        ),
    ] {
        registry.push(&image, &format!("{name}:1"), arguments);
        let home = Home::new();
        let pulled = home
            .pull(&registry.reference(&format!("{name}:1")))
            .await
            .unwrap();
        assert_eq!(pulled.layers.len(), 2, "{name}");
        assert_eq!(pulled.config.env, ["PATH=/bin"]);
        for layer in &pulled.layers {
            assert!(home.store.has_blob(&layer.digest, layer.size));
        }
        assert_eq!(home.listed().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    if !available() {
        return;
    }
    let registry = Registry::start();
    registry.push(&TestImage::with_layers(&[1000]), "app:1", &[]);
    let home = Home::new();
    for (name, expected) in [
        ("app:2", "no such tag"),
        ("nothing:1", "no such tag"),
        (
            &format!("app@sha256:{}", "0".repeat(64)),
            "no such tag or digest",
        ),
    ] {
        let error = line(home.pull(&registry.reference(name)).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    home.assert_unspoilt();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_by_platform_and_by_digest() {
    if !available() {
        return;
    }
    let registry = Registry::start();
    let mut all = TestImage::with_layers(&[1000]);
    let mut other = TestImage::with_layers(&[2000]);
    other.config = String::from_utf8(other.config.to_vec())
        .unwrap()
        .replace("amd64", "arm64")
        .into();
    other.manifest = other.altered(|it| it["config"] = descriptor(OCI_CONFIG, &other.config));
    let entries = [(&all, "amd64"), (&other, "arm64")].map(|(image, architecture)| {
        let mut entry = descriptor(OCI_MANIFEST, &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    });
    let index =
        json!({"schemaVersion": 2, "mediaType": crate::fixture::OCI_INDEX, "manifests": entries});
    let index_bytes = bytes::Bytes::from(index.to_string());
    for blob in [
        &other.config,
        &other.manifest,
        &other.layers[0],
        &index_bytes,
    ] {
        all.blobs.insert(digest(blob), blob.clone());
    }
    let layout = tempfile::tempdir().unwrap();
    let entry = descriptor(crate::fixture::OCI_INDEX, &index_bytes);
    all.write_layout(
        layout.path(),
        &json!({"schemaVersion": 2, "manifests": [entry]}),
    );
    registry.copy(layout.path(), "multi:1", &["--multi-arch", "all"]);

    let mut home = Home::new();
    let reference = registry.reference("multi:1");
    let pulled = home.pull(&reference).await.unwrap();
    assert_eq!(pulled.manifest_digest.as_str(), digest(&all.manifest));
    home.options.platform = "linux/arm64".parse().unwrap();
    let pulled = home.pull(&reference).await.unwrap();
    assert_eq!(pulled.manifest_digest.as_str(), digest(&other.manifest));
    home.options.platform = "linux/riscv64".parse().unwrap();
    let error = line(home.pull(&reference).await.unwrap_err());
    assert!(
        error.contains("it is for linux/amd64, linux/arm64"),
        "{error}"
    );
    // By the digest of one platform's manifest.
    home.options.platform = "linux/amd64".parse().unwrap();
    let pinned = registry.reference(&format!("multi@{}", digest(&all.manifest)));
    home.pull(&pinned).await.unwrap();
    assert_eq!(home.listed().len(), 2);
}

/// A certificate for 127.0.0.1 that signs itself.
pub(crate) fn make_certificate(folder: &Path) {
    let output = Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout key.pem -out cert.pem".split(' '))
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_be_trusted_and_ssl_cert_file_does_so() {
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
    let home = Home::new();
    let error = line(home.pull(&registry.reference("app:1")).await.unwrap_err());
    assert!(error.contains("no secure connection"), "{error}");
    assert!(error.contains("invalid peer certificate"), "{error}");
    home.assert_unspoilt();

    // The variable must be there before the process starts.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "distribution::pull_for_another_test",
            "--nocapture",
        ])
        .env(
            "ISOLAZI_TEST_REFERENCE",
            registry.reference("app:1").to_string(),
        )
        .env("SSL_CERT_FILE", &certificate)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("outcome: pulled"), "{printed}");
}

/// Pulls what the environment names; for tests that need one of their own.
#[tokio::test(flavor = "multi_thread")]
async fn pull_for_another_test() {
    let Ok(reference) = std::env::var("ISOLAZI_TEST_REFERENCE") else {
        return;
    };
    let home = Home::new();
    match home.pull(&reference.parse().unwrap()).await {
        Ok(_) => println!("outcome: pulled"),
        Err(error) => {
            home.assert_unspoilt();
            println!("outcome: {}", line(error));
        }
    }
}
