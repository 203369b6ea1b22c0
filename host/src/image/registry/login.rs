//! Whether a registry takes a credential, before it is kept.

use reqwest::{Method, StatusCode};

use super::super::credentials::Credential;
use super::super::error::ImageError;
use super::super::reference::Reference;
use super::request::{Request, Target};
use super::token::Challenge;
use super::{Access, NetworkOptions, Registry};

/// Shows `credential` to `registry`. A registry that asks nobody for a name
/// takes any.
pub async fn check_login(
    registry: &str,
    credential: &Credential,
    network: &NetworkOptions,
) -> Result<(), ImageError> {
    // The repository plays no part.
    let nothing = format!("{registry}/login").parse::<Reference>();
    let nothing = nothing.map_err(|error| ImageError::Malformed {
        what: format!("registry '{registry}'"),
        reason: error.to_string(),
    })?;
    let registry = Registry::at(registry, &nothing, network, Access::Pull)?;
    registry.check(credential).await
}

impl Registry {
    async fn check(&self, credential: &Credential) -> Result<(), ImageError> {
        let root = Request::to(Method::GET, Target::Root);
        let mut response = self.send(&root, None).await?;
        if response.status() == StatusCode::BAD_REQUEST && self.turns_to_tls(&mut response).await {
            response = self.send(&root, None).await?;
        }
        match response.status() {
            StatusCode::OK => return Ok(()),
            StatusCode::UNAUTHORIZED => {}
            status => return Err(self.status(status)),
        }
        let Some(challenge) = Challenge::of(&response) else {
            return Err(self.refused("it offers no way to log in"));
        };
        let answer = self.answer(&challenge, credential, None).await?;
        if challenge != Challenge::Basic {
            // The token server has looked at it.
            return Ok(());
        }
        match self.send(&root, Some(answer)).await?.status() {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.bad_login()),
            status => Err(self.status(status)),
        }
    }

    fn status(&self, status: StatusCode) -> ImageError {
        ImageError::Status {
            registry: self.name.clone(),
            status: status.as_u16(),
        }
    }
}
