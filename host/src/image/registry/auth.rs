//! What to show a registry that wants to know who is there: a credential's token
//! where there is one ([`super::token`]), else that of an anonymous user, which
//! oci-client gets (distribution-spec's "Authentication", Docker's token
//! protocol).

use std::sync::atomic::Ordering;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as OciReference, RegistryOperation};
use reqwest::header::HeaderValue;
use tokio::time::timeout;

use super::super::credentials::Credential;
use super::super::error::{ImageError, Reason};
use super::super::reference::is_loopback;
use super::super::text::escape;
use super::fault::Fault;
use super::token::Challenge;
use super::{Access, Registry, USER_AGENT, stalled};

/// As a list of hosts that no proxy is used for: all names, all addresses.
const EVERYTHING: &str = "*,0.0.0.0/0,::/0";

impl Registry {
    /// Gets a token to replace `refused`. `None` where the registry offers no
    /// way to get one. Parallel requests that are refused log in once.
    pub(super) async fn login(
        &self,
        refused: Option<HeaderValue>,
        challenge: Option<&Challenge>,
    ) -> Result<Option<HeaderValue>, ImageError> {
        let mut token = self.token.lock().await;
        if *token == refused {
            *token = match (challenge, self.credential().await?) {
                (Some(challenge), Some(credential)) => {
                    let scope = format!("repository:{}:{}", self.repository, self.access.actions());
                    let answer = self.answer(challenge, &credential, Some(&scope));
                    Some(answer.await?)
                }
                _ => self.request_token().await?,
            };
        }
        Ok(token.clone())
    }

    /// The user's credential for this registry and no other.
    async fn credential(&self) -> Result<Option<Credential>, ImageError> {
        match &self.network.credentials {
            Some(credentials) => Ok(credentials.get(&self.name).await?),
            None => Ok(None),
        }
    }

    async fn request_token(&self) -> Result<Option<HeaderValue>, ImageError> {
        let client = Client::try_from(self.client_config()).map_err(|it| self.failed(it))?;
        // The tag plays no part in the token's scope.
        let repository = OciReference::with_tag(
            self.name.clone(),
            self.repository.clone(),
            "latest".to_owned(),
        );
        let anonymous = RegistryAuth::Anonymous;
        let operation = match self.access {
            Access::Pull => RegistryOperation::Pull,
            Access::Push => RegistryOperation::Push,
        };
        let request = client.auth(&repository, &anonymous, operation);
        let token = timeout(self.network.stall_timeout, request)
            .await
            .map_err(|_| stalled(&self.name, self.network.stall_timeout))?
            .map_err(|error| self.failed(error))?;
        token
            .map(|token| self.secret_header("Bearer", &token))
            .transpose()
    }

    fn client_config(&self) -> ClientConfig {
        // For a registry on this computer a proxy that nothing uses stands in
        // for the environment's, which oci-client would take.
        let (http_proxy, no_proxy) = match is_loopback(&self.name) {
            true => (
                Some("http://localhost".to_owned()),
                Some(EVERYTHING.to_owned()),
            ),
            false => (None, None),
        };
        ClientConfig {
            protocol: match self.tls.load(Ordering::Relaxed) {
                true => ClientProtocol::Https,
                false => ClientProtocol::Http,
            },
            connect_timeout: Some(self.network.connect_timeout),
            read_timeout: Some(self.network.stall_timeout),
            user_agent: USER_AGENT,
            extra_root_certificates: self.network.authorities.certificates(),
            http_proxy,
            no_proxy,
            ..ClientConfig::default()
        }
    }

    fn failed(&self, error: OciDistributionError) -> ImageError {
        match error {
            OciDistributionError::RequestError(error) => Fault::of(&error).into_error(&self.name),
            OciDistributionError::AuthenticationFailure(reason) => self.refused(&reason),
            other => self.refused(&other.to_string()),
        }
    }

    pub(super) fn refused(&self, reason: &str) -> ImageError {
        ImageError::Login {
            registry: self.name.clone(),
            source: Reason(escape(reason.trim())),
        }
    }
}
