//! The networks of the shim's container in the course of its lives.

use isolazi_protocol::{EndpointRequest, Reply, WireError};

use crate::launch::plan::NetworkPlan;
use crate::shim::life::Shim;
use crate::shim::network::{Attached, Joined};

impl Shim {
    /// Makes the container's network, unless an earlier start has.
    pub(super) async fn join_networks(&self) -> Result<(), WireError> {
        let spent = self.network.borrow_mut().take_if(|it| !it.lasts());
        if let Some(spent) = spent {
            spent.leave().await;
        }
        if self.network.borrow().is_none() {
            let plan = self.start().plan.clone();
            let joined = Joined::by(&plan, &self.dir).await?;
            self.network.replace(Some(joined));
        }
        Ok(())
    }

    /// Takes the container off its networks, if it is in any.
    pub(super) async fn leave_networks(&self) {
        let network = self.network.take();
        if let Some(network) = network {
            network.leave().await;
        }
    }

    /// Gives back what others may want of the container's networks.
    pub(super) async fn retire_from_networks(&self) {
        if let Some(attached) = self.attached() {
            attached.retire().await;
        }
    }

    /// What it is attached to; between two lives there may be nothing.
    fn attached(&self) -> Option<Attached> {
        self.network.borrow().as_ref().and_then(Joined::attached)
    }

    /// Attaches the container to a further network, now and when it starts again.
    pub(super) async fn connect(&self, endpoint: EndpointRequest) -> Result<Reply, WireError> {
        if let Some(attached) = self.attached() {
            attached.join(&endpoint).await?;
        }
        self.plan_networks(|endpoints| endpoints.push(endpoint));
        Ok(Reply::Done)
    }

    /// Takes the container off a network, now and when it starts again.
    pub(super) async fn disconnect(&self, network: &str) -> Result<Reply, WireError> {
        if let Some(attached) = self.attached() {
            attached.leave(network).await?;
        }
        self.plan_networks(|endpoints| endpoints.retain(|it| it.network != network));
        Ok(Reply::Done)
    }

    fn plan_networks(&self, change: impl FnOnce(&mut Vec<EndpointRequest>)) {
        let plan = &mut self.start.borrow_mut().plan.network;
        if let NetworkPlan::Networks(networks) = plan {
            change(&mut networks.endpoints);
        }
    }
}
