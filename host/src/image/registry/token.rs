//! Tokens for users who are known (distribution-spec's "Authentication").
//!
//! oci-client could get these too, but it sends a credential wherever the
//! registry points. Here it goes to the registry itself, or over TLS to the
//! token server that the registry names, and to nobody by a redirect.

use http_auth::ChallengeRef;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::super::credentials::Credential;
use super::super::error::ImageError;
use super::super::text::escape;
use super::fault::Fault;
use super::{Registry, authority, stalled};

const MAX_TOKEN: u64 = 256 << 10;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The credential itself.
    Basic,
    /// A token from this server.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Challenge {
    /// The one that a refusal holds which we can meet best.
    pub(super) fn of(response: &Response) -> Option<Self> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let texts = headers.iter().filter_map(|header| header.to_str().ok());
        let mut basic = None;
        for text in texts {
            for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
                match Self::read(&challenge) {
                    Some(Self::Basic) => basic = Some(Self::Basic),
                    Some(bearer) => return Some(bearer),
                    None => {}
                }
            }
        }
        basic
    }

    fn read(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let param = |name: &str| {
            let mut params = challenge.params.iter();
            params
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_unescaped())
        };
        match challenge.scheme {
            scheme if scheme.eq_ignore_ascii_case("basic") => Some(Self::Basic),
            scheme if scheme.eq_ignore_ascii_case("bearer") => Some(Self::Bearer {
                realm: param("realm")?,
                service: param("service"),
            }),
            _ => None,
        }
    }
}

impl Registry {
    /// The `Authorization` that answers a challenge. `scope` is what the token
    /// shall allow; none for a login that only has to be right.
    pub(super) async fn answer(
        &self,
        challenge: &Challenge,
        credential: &Credential,
        scope: Option<&str>,
    ) -> Result<HeaderValue, ImageError> {
        match challenge {
            Challenge::Basic => self.secret_header("Basic", &basic(credential)),
            Challenge::Bearer { realm, service } => {
                let realm = self.safe_realm(realm)?;
                let token = self
                    .fetch_token(realm, service.as_deref(), credential, scope)
                    .await?;
                self.secret_header("Bearer", &token)
            }
        }
    }

    /// The token server's address, where a credential may go there.
    fn safe_realm(&self, realm: &str) -> Result<Url, ImageError> {
        let refused = || ImageError::Redirect {
            registry: self.name.clone(),
            target: escape(realm),
        };
        let url = Url::parse(realm).map_err(|_| refused())?;
        let safe = match url.scheme() {
            "https" => true,
            "http" => {
                self.network.allows_plain(&self.name) && self.network.allows_plain(&authority(&url))
            }
            _ => false,
        };
        match safe {
            true => Ok(url),
            false => Err(refused()),
        }
    }

    async fn fetch_token(
        &self,
        realm: Url,
        service: Option<&str>,
        credential: &Credential,
        scope: Option<&str>,
    ) -> Result<String, ImageError> {
        let mut query = vec![("account", credential.username.as_str())];
        query.extend(service.map(|it| ("service", it)));
        query.extend(scope.map(|it| ("scope", it)));
        let mut url = realm;
        url.query_pairs_mut().extend_pairs(query);
        let authorization = self.secret_header("Basic", &basic(credential))?;
        let request = self
            .client
            .get(url)
            .header(reqwest::header::AUTHORIZATION, authorization)
            .send();
        let mut response = timeout(self.network.stall_timeout, request)
            .await
            .map_err(|_| stalled(&self.name, self.network.stall_timeout))?
            .map_err(|error| Fault::of(&error).into_error(&self.name))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                    self.bad_login()
                }
                StatusCode::TOO_MANY_REQUESTS => ImageError::RateLimited(self.name.clone()),
                _ => ImageError::Status {
                    registry: self.name.clone(),
                    status: status.as_u16(),
                },
            });
        }
        let answer = self.read(&mut response, MAX_TOKEN).await?;
        let malformed = || self.refused("its token server's answer is malformed");
        let answer = answer.ok_or_else(malformed)?;
        let token: Token = serde_json::from_slice(&answer).map_err(|_| malformed())?;
        token.token.or(token.access_token).ok_or_else(malformed)
    }

    pub(super) fn bad_login(&self) -> ImageError {
        ImageError::BadLogin(self.name.clone())
    }

    pub(super) fn secret_header(
        &self,
        scheme: &str,
        secret: &str,
    ) -> Result<HeaderValue, ImageError> {
        let mut value = HeaderValue::from_str(&format!("{scheme} {secret}"))
            .map_err(|_| self.refused("its token is malformed"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn basic(credential: &Credential) -> String {
    use base64::Engine as _;
    let Credential { username, secret } = credential;
    base64::engine::general_purpose::STANDARD.encode(format!("{username}:{secret}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{NetworkOptions, Reference};

    fn parse(text: &str) -> Vec<Challenge> {
        let challenges = http_auth::parse_challenges(text).unwrap();
        challenges.iter().filter_map(Challenge::read).collect()
    }

    #[test]
    fn challenges_are_read() {
        let bearer = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(bearer),
            [Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
            }]
        );
        assert_eq!(parse("Basic realm=x, Negotiate"), [Challenge::Basic]);
        assert_eq!(parse("Bearer service=x"), [], "no realm");
    }

    #[test]
    fn credentials_go_to_token_servers_by_tls_only() {
        let network = NetworkOptions::default();
        let registry = |name: &str| {
            let reference: Reference = format!("{name}/x").parse().unwrap();
            Registry::new(&reference, &network).unwrap()
        };
        let far = registry("reg.example");
        assert!(far.safe_realm("https://auth.example/token").is_ok());
        for bad in [
            "http://reg.example/token",
            "http://127.0.0.1/token",
            "ftp://reg.example",
            "/token",
        ] {
            assert!(far.safe_realm(bad).is_err(), "{bad}");
        }
        let near = registry("localhost:5000");
        assert!(near.safe_realm("http://127.0.0.1:5001/token").is_ok());
        assert!(near.safe_realm("http://auth.example/token").is_err());
    }
}
