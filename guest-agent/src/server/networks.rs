//! Requests about networks, and what containers need of them.

use isolazi_protocol::{
    ContainerSpec, EndpointRequest, ErrorCode, NetworkMember, NetworkMode, NetworkRequest, Reply,
    WireError,
};

use super::containers::tell_shim;
use super::{Engine, container_error};
use crate::container::{ContainerDir, Record, validate_endpoint};
use crate::net::{Hold, Network, NetworkError};
use crate::shim::ShimRequest;

impl Engine {
    pub(super) async fn create_network(&self, request: NetworkRequest) -> Result<Reply, WireError> {
        Self::require_root()?;
        let network = self.networks.create(request).await?;
        Ok(Reply::Networks(vec![network.detail(Vec::new())]))
    }

    pub(super) fn list_networks(&self, names: Option<&[String]>) -> Result<Reply, WireError> {
        Ok(Reply::Networks(self.networks.details(names)?))
    }

    pub(super) async fn remove_network(&self, name: &str, force: bool) -> Result<Reply, WireError> {
        Self::require_root()?;
        match self.networks.remove(name).await {
            Err(NetworkError::NotFound(_)) if force => Ok(Reply::Done),
            removed => Ok(removed.map(|()| Reply::Done)?),
        }
    }

    pub(super) async fn prune_networks(&self) -> Result<Reply, WireError> {
        Self::require_root()?;
        Ok(Reply::PrunedNetworks(self.networks.prune().await?))
    }

    /// Names the networks of a container as they are called, and keeps them from being
    /// removed. What they cannot give is better said before anything is made.
    pub(super) fn resolve_networks(
        &self,
        spec: &mut ContainerSpec,
    ) -> Result<Option<Hold>, WireError> {
        let NetworkMode::Networks(endpoints) = &mut spec.network else {
            return Ok(None);
        };
        let hold = self.networks.hold()?;
        let mut networks = Vec::new();
        for endpoint in endpoints.iter_mut() {
            networks.push(self.resolve(endpoint)?);
        }
        let leads_nowhere = networks.iter().all(|network| network.internal);
        if let Some(network) = networks.first()
            && leads_nowhere
            && !spec.options.network.ports.is_empty()
        {
            let message = format!(
                "network {} is internal, so that no ports can be published; leave them out, or name another network first",
                network.name
            );
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        }
        Ok(Some(hold))
    }

    /// The network that is asked for, which is named as it is called.
    fn resolve(&self, endpoint: &mut EndpointRequest) -> Result<Network, WireError> {
        let network = self.networks.find(&endpoint.network)?;
        endpoint.network.clone_from(&network.name);
        validate_endpoint(endpoint)?;
        network.check(endpoint)?;
        Ok(network)
    }

    /// Lets a container join a further network.
    pub(super) async fn connect(
        &self,
        container: &str,
        mut endpoint: EndpointRequest,
    ) -> Result<Reply, WireError> {
        Self::require_root()?;
        let _networks = self.networks.hold()?;
        let network = self.resolve(&mut endpoint)?;
        self.change(container, async |dir, record, joined| {
            if joined.iter().any(|it| it.network == network.name) {
                let message = format!(
                    "container {container} is in network {} already",
                    network.name
                );
                return Err(WireError::new(ErrorCode::Conflict, message));
            }
            let request = ShimRequest::Connect {
                endpoint: Box::new(endpoint.clone()),
            };
            tell_shim(dir, &request).await?;
            joined.push(endpoint);
            let container = ("container", record.id.to_string());
            self.networks.tell(&network, "connect", &[container]);
            Ok(())
        })
        .await
    }

    /// Takes a container off a network, which may have been removed meanwhile.
    pub(super) async fn disconnect(
        &self,
        container: &str,
        network: &str,
    ) -> Result<Reply, WireError> {
        Self::require_root()?;
        let _networks = self.networks.hold()?;
        let found = self.networks.find(network);
        let name = found.as_ref().map_or(network, |it| &it.name).to_owned();
        self.change(container, async |dir, record, joined| {
            let Some(at) = joined.iter().position(|it| it.network == name) else {
                found?;
                let message = format!("container {container} is not in network {name}");
                return Err(WireError::new(ErrorCode::Conflict, message));
            };
            let request = ShimRequest::Disconnect { network: name };
            tell_shim(dir, &request).await?;
            joined.remove(at);
            if let Ok(network) = found {
                let container = ("container", record.id.to_string());
                self.networks.tell(&network, "disconnect", &[container]);
            }
            Ok(())
        })
        .await
    }

    /// Changes which networks a container joins, and keeps that.
    async fn change(
        &self,
        container: &str,
        how: impl AsyncFnOnce(
            &ContainerDir,
            &Record,
            &mut Vec<EndpointRequest>,
        ) -> Result<(), WireError>,
    ) -> Result<Reply, WireError> {
        let _changes = self.networks.hold_changes().await?;
        let dir = self.containers.find(container)?;
        let failed = |error| container_error(container, error);
        let mut record = dir.record().map_err(failed)?;
        let before = record.clone();
        let NetworkMode::Networks(joined) = &mut record.spec.network else {
            let message = format!(
                "container {container} has network {}, beside which there is no other",
                record.spec.network
            );
            return Err(WireError::new(ErrorCode::Conflict, message));
        };
        how(&dir, &before, joined).await?;
        dir.set_record(&record, true).map_err(failed)?;
        Ok(Reply::Done)
    }

    /// Has a running container be found by its new name. Where that fails, it is found
    /// by the old one until it starts again.
    pub(super) fn rename_in_networks(&self, dir: &ContainerDir) {
        let (Ok(record), Ok(state)) = (dir.record(), dir.state()) else {
            return;
        };
        for endpoint in dir.network(&state).endpoints {
            let member = NetworkMember {
                container: record.id.clone(),
                name: record.name.clone(),
                endpoint,
            };
            let _ = self.networks.members().enter(&member);
        }
    }
}
