//! Certificate authorities that the user trusts besides the system's.

use std::path::{Path, PathBuf};

use oci_client::client::{Certificate, CertificateEncoding};

/// Larger than the bundle of all public authorities.
const MAX_BYTES: u64 = 4 << 20;

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificates in '{}': {reason}", path.display())]
pub struct AuthorityError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Certificates that have been read and make sense.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    trusted: Vec<reqwest::Certificate>,
    /// The same, for oci-client.
    bundles: Vec<Vec<u8>>,
}

impl Authorities {
    /// Reads files of one or more certificates each, in PEM.
    pub fn read(files: &[PathBuf]) -> Result<Self, AuthorityError> {
        let mut authorities = Self::default();
        for path in files {
            let failed = |reason: String| AuthorityError {
                path: path.clone(),
                reason,
            };
            let bundle = read(path).map_err(|error| failed(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&bundle)
                .map_err(|_| failed("they are not in PEM".to_owned()))?;
            if certificates.is_empty() {
                return Err(failed("there are none; expected PEM".to_owned()));
            }
            authorities.trusted.extend(certificates);
            authorities.bundles.extend(split(&bundle));
        }
        Ok(authorities)
    }

    pub(super) fn trusted(&self) -> Vec<reqwest::Certificate> {
        self.trusted.clone()
    }

    pub(super) fn certificates(&self) -> Vec<Certificate> {
        let bundles = self.bundles.iter();
        bundles
            .map(|data| Certificate {
                encoding: CertificateEncoding::Pem,
                data: data.clone(),
            })
            .collect()
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(std::io::Error::other("the file is too large")),
        false => Ok(bytes),
    }
}

/// oci-client takes one certificate at a time.
fn split(bundle: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(bundle);
    let parts = text.split_inclusive(END);
    parts
        .filter_map(|part| {
            part.find("-----BEGIN CERTIFICATE-----")
                .map(|at| &part[at..])
        })
        .map(|part| format!("{part}\n").into_bytes())
        .collect()
}
