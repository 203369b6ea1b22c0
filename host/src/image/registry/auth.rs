//! Tokens for anonymous pulls (distribution-spec's "Authentication", which is
//! Docker's token protocol), by oci-client.

use std::sync::atomic::Ordering;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as OciReference, RegistryOperation};
use reqwest::header::HeaderValue;
use tokio::time::timeout;

use super::super::error::{ImageError, Reason, escape};
use super::super::reference::is_loopback;
use super::fault::Fault;
use super::{Registry, USER_AGENT, stalled};

/// As a list of hosts that no proxy is used for: all names, all addresses.
const EVERYTHING: &str = "*,0.0.0.0/0,::/0";

impl Registry {
    /// Gets a token to replace `refused`. `None` where the registry offers no
    /// way to get one. Parallel requests that are refused log in once.
    pub(super) async fn login(
        &self,
        refused: Option<HeaderValue>,
    ) -> Result<Option<HeaderValue>, ImageError> {
        let mut token = self.token.lock().await;
        if *token == refused {
            *token = self.request_token().await?;
        }
        Ok(token.clone())
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
        let request = client.auth(&repository, &anonymous, RegistryOperation::Pull);
        let token = timeout(self.network.stall_timeout, request)
            .await
            .map_err(|_| stalled(&self.name, self.network.stall_timeout))?
            .map_err(|error| self.failed(error))?;
        token.map(|token| self.header(&token)).transpose()
    }

    fn header(&self, token: &str) -> Result<HeaderValue, ImageError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| self.refused("its token is malformed"))?;
        value.set_sensitive(true);
        Ok(value)
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

    fn refused(&self, reason: &str) -> ImageError {
        ImageError::Login {
            registry: self.name.clone(),
            source: Reason(escape(reason.trim())),
        }
    }
}
