//! Docker's `config.json`, of which only what is about logins is understood;
//! the rest is kept as it is.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::{Credential, CredentialError, host_of_key, key};

const MAX_BYTES: u64 = 1 << 20;

/// The file's content, and where it came from.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    content: Map<String, Value>,
}

impl ConfigFile {
    /// Reads the file; one that is not there is empty.
    pub(super) fn read(path: &Path) -> Result<Self, CredentialError> {
        let failed = |reason: String| CredentialError::File {
            path: path.to_owned(),
            reason,
        };
        let mut bytes = Vec::new();
        match std::fs::File::open(path) {
            Ok(file) => file
                .take(MAX_BYTES + 1)
                .read_to_end(&mut bytes)
                .map(drop)
                .map_err(|error| failed(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed("it is too large".to_owned()));
        }
        let content = match bytes.trim_ascii().is_empty() {
            true => Map::new(),
            // The error has a place, but nothing of the content, in it.
            false => serde_json::from_slice(&bytes)
                .map_err(|error| failed(format!("it is malformed at line {}", error.line())))?,
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// The helper that keeps the credential of a registry: `NAME` of
    /// `docker-credential-NAME`.
    pub(super) fn helper(&self, registry: &str) -> Option<String> {
        let own = self.content.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|helpers| find(helpers, registry));
        let name = own.or_else(|| self.content.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The credential in the file itself.
    pub(super) fn credential(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(entry) = self.auths().and_then(|auths| find(auths, registry)) else {
            return Ok(None);
        };
        let text = |name: &str| {
            let value = entry.get(name).and_then(Value::as_str);
            value.filter(|it| !it.is_empty())
        };
        if text("identitytoken").is_some() {
            return Err(CredentialError::IdentityToken(registry.to_owned()));
        }
        if let (Some(username), Some(secret)) = (text("username"), text("password")) {
            return Ok(Some(Credential {
                username: username.to_owned(),
                secret: secret.to_owned(),
            }));
        }
        let Some(encoded) = text("auth") else {
            return Ok(None);
        };
        let malformed = || CredentialError::File {
            path: self.path.clone(),
            reason: format!("the login for '{registry}' is malformed; log in again"),
        };
        let decoded = BASE64.decode(encoded).map_err(|_| malformed())?;
        let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (username, secret) = decoded.split_once(':').ok_or_else(malformed)?;
        Ok(Some(Credential {
            username: username.to_owned(),
            // Docker used to pad them.
            secret: secret.trim_end_matches('\0').to_owned(),
        }))
    }

    /// Puts a login into the file; without a credential, that there is one.
    pub(super) fn set(&mut self, registry: &str, credential: Option<&Credential>) {
        self.remove(registry);
        let entry = match credential {
            Some(Credential { username, secret }) => {
                json!({ "auth": BASE64.encode(format!("{username}:{secret}")) })
            }
            None => json!({}),
        };
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Value::Object(auths) = auths {
            auths.insert(key(registry), entry);
        }
    }

    /// Takes a login out; whether there was one.
    pub(super) fn remove(&mut self, registry: &str) -> bool {
        let Some(Value::Object(auths)) = self.content.get_mut("auths") else {
            return false;
        };
        let before = auths.len();
        auths.retain(|key, _| host_of_key(key) != registry);
        auths.len() < before
    }

    /// Replaces the file, for the user's eyes only.
    pub(super) fn write(&self) -> Result<(), CredentialError> {
        // Where it is a link, what it points to is replaced.
        let target = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        self.replace(&target)
            .map_err(|error| CredentialError::File {
                path: self.path.clone(),
                reason: error.to_string(),
            })
    }

    fn replace(&self, target: &Path) -> std::io::Result<()> {
        let folder = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut text = serde_json::to_vec_pretty(&self.content)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(target)?;
        Ok(())
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.content.get("auths")?.as_object()
    }
}

/// The entry for a registry: by its own name first.
fn find<'a>(entries: &'a Map<String, Value>, registry: &str) -> Option<&'a Value> {
    let exact = entries.get(&key(registry));
    exact.or_else(|| {
        let mut alike = entries.iter().filter(|(it, _)| host_of_key(it) == registry);
        alike.next().map(|(_, value)| value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &Value) -> (tempfile::TempDir, ConfigFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, content.to_string()).unwrap();
        let file = ConfigFile::read(&path).unwrap();
        (folder, file)
    }

    #[test]
    fn logins_are_found_under_every_name_of_their_registry_and_no_other() {
        let auth = BASE64.encode("me:se:cret\0\0");
        let (_folder, file) = file(&json!({"auths": {
            "https://index.docker.io/v1/": {"auth": auth},
            "https://reg.example:5000/v2/": {"username": "u", "password": "p"},
            "empty.example": {},
        }}));
        let hub = file.credential("docker.io").unwrap().unwrap();
        assert_eq!((&*hub.username, &*hub.secret), ("me", "se:cret"));
        assert_eq!(
            file.credential("reg.example:5000").unwrap().unwrap().secret,
            "p"
        );
        for other in [
            "empty.example",
            "reg.example",
            "reg.example:5001",
            "example",
        ] {
            assert_eq!(file.credential(other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_about_logins_stays() {
        let (folder, mut file) = file(&json!({
            "auths": {"http://a.example/v1/": {"auth": "eDp5"}},
            "HttpHeaders": {"X": "y"}, "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "",
        }));
        assert_eq!(file.helper("gcr.io").as_deref(), Some("gcloud"));
        assert_eq!(file.helper("a.example"), None);
        let credential = Credential {
            username: "n".to_owned(),
            secret: "s".to_owned(),
        };
        file.set("a.example", Some(&credential));
        file.write().unwrap();
        let path = folder.path().join("config.json");
        let mut again = ConfigFile::read(&path).unwrap();
        assert_eq!(again.credential("a.example").unwrap(), Some(credential));
        assert_eq!(again.content["HttpHeaders"]["X"], "y");
        assert_eq!(again.auths().unwrap().len(), 1, "the old key is gone");
        assert!(again.remove("a.example") && !again.remove("a.example"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn bad_files_are_errors_that_give_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(ConfigFile::read(&path).unwrap().content.is_empty());
        std::fs::write(&path, "{\"auths\": {\"x\": hunter2").unwrap();
        let error = ConfigFile::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && !error.contains("hunter2"),
            "{error}"
        );
        std::fs::write(&path, r#"{"auths": {"x.io": {"auth": "%%%"}}}"#).unwrap();
        assert!(ConfigFile::read(&path).unwrap().credential("x.io").is_err());
        std::fs::write(&path, r#"{"auths": {"x.io": {"identitytoken": "t"}}}"#).unwrap();
        let error = ConfigFile::read(&path).unwrap().credential("x.io");
        assert!(matches!(error, Err(CredentialError::IdentityToken(_))));
    }
}
