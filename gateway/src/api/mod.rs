//! The Kafka APIs: one file each, named after the API. Each says which versions it serves and what is particular to them.

mod alter_user_scram_credentials;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_user_scram_credentials;
mod fetch;
mod find_coordinator;
mod groups;
mod init_producer_id;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_delete;
mod offset_for_leader_epoch;
mod offsets;
mod operations;
mod produce;
mod records;
pub(crate) mod sasl_authenticate;
pub(crate) mod sasl_handshake;
pub mod versions;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::connection::{Caller, ConnectionError};
use crate::frame::RequestHeader;
use crate::request::Request;
use crate::response::{EncodeError, Response};
use crate::security::{Address, Listener, Principal};
use crate::versions::Api;
use kafka_protocol::protocol::{Encodable, StrBytes};

/// What is known of a request besides its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// The version in which it was asked and is answered.
    pub version: i16,
    /// Ties the answer to the question.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: StrBytes,
    /// Where the client is.
    pub address: SocketAddr,
    /// Where it asks, which decides what addresses it is told.
    pub listener: Arc<Listener>,
    /// Who it is.
    pub principal: Principal,
}

impl Context {
    /// From the request's header and what is known of its connection.
    pub fn new(header: &RequestHeader, caller: &Caller) -> Self {
        Context {
            version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.clone().unwrap_or_default(),
            address: caller.address,
            listener: caller.listener.clone(),
            principal: caller.principal.clone(),
        }
    }

    /// The node's own address, as this client is to know it.
    fn own_address(&self, broker: &Broker) -> Address {
        // A listener has an address at each node that opens it: there is no other way to have come here.
        let own = self.listener.address(broker.node).cloned();
        own.unwrap_or_else(|| Address { host: String::new(), port: 0 })
    }

    /// Encodes the answer.
    pub fn answer<T: Encodable>(&self, api: Api, body: &T) -> Result<Response, EncodeError> {
        Response::encode(api, self.version, self.correlation_id, body)
    }
}

/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, ConnectionError>> + Send>>;

/// A request that has been taken.
pub enum Begun {
    /// Its batches have their place; the answer comes when they are on the ledger. None for acks=0.
    Produce(Pin<Box<dyn Future<Output = Result<Option<Response>, ConnectionError>> + Send>>),
    /// Handled when it is called, and cut short when the node stops.
    Other(Box<dyn FnOnce(watch::Receiver<bool>) -> Answer + Send>),
}

/// Takes a request. Only Produce does anything before its turn to be answered.
pub async fn begin(broker: &Arc<Broker>, context: Context, request: Request) -> Begun {
    let broker = broker.clone();
    if let Request::Produce(request) = request {
        return Begun::Produce(produce::begin(broker, context, request).await);
    }
    Begun::Other(Box::new(move |stop| Box::pin(handle(broker, context, request, stop))))
}

async fn handle(
    broker: Arc<Broker>,
    context: Context,
    request: Request,
    stop: watch::Receiver<bool>,
) -> Result<Response, ConnectionError> {
    let api = request.api();
    let response = match request {
        // Where a client logs in, these are answered before they come here.
        Request::SaslHandshake(_) => context.answer(api, &sasl_handshake::out_of_place()),
        Request::SaslAuthenticate(_) => context.answer(api, &sasl_authenticate::out_of_place()),
        Request::DescribeUserScramCredentials(request) => {
            context.answer(api, &describe_user_scram_credentials::handle(&broker, request).await)
        }
        Request::DescribeClientQuotas(request) => context.answer(api, &describe_client_quotas::handle(&request)),
        Request::AlterUserScramCredentials(request) => {
            context.answer(api, &alter_user_scram_credentials::handle(&broker, request).await)
        }
        Request::ApiVersions(request) => context.answer(api, &versions::handle(&request)),
        Request::Metadata(request) => context.answer(api, &metadata::handle(&broker, &context, request).await),
        Request::CreateTopics(request) => context.answer(api, &create_topics::handle(&broker, request).await),
        Request::CreatePartitions(request) => context.answer(api, &create_partitions::handle(&broker, request).await),
        Request::DeleteTopics(request) => context.answer(api, &delete_topics::handle(&broker, request).await),
        Request::Fetch(request) => return fetch::handle(&broker, &context, request, stop).await,
        Request::ListOffsets(request) => context.answer(api, &list_offsets::handle(&broker, &context, request).await),
        Request::FindCoordinator(request) => context.answer(api, &find_coordinator::handle(&broker, &context, request)),
        Request::InitProducerId(request) => context.answer(api, &init_producer_id::handle(&broker, request).await),
        Request::OffsetCommit(request) => context.answer(api, &offsets::commit(&broker, &context, request).await),
        Request::OffsetFetch(request) => context.answer(api, &offsets::fetch(&broker, &context, request).await),
        Request::OffsetForLeaderEpoch(request) => {
            context.answer(api, &offset_for_leader_epoch::handle(&broker, request))
        }
        Request::DescribeGroups(request) => {
            context.answer(api, &describe_groups::handle(&broker, &context, request).await)
        }
        Request::ListGroups(request) => context.answer(api, &list_groups::handle(&broker, &request).await),
        Request::DeleteGroups(request) => context.answer(api, &delete_groups::handle(&broker, request).await),
        Request::OffsetDelete(request) => context.answer(api, &offset_delete::handle(&broker, request).await),
        Request::DescribeConfigs(request) => {
            context.answer(api, &describe_configs::handle(&broker, &context, &request))
        }
        Request::DescribeCluster(request) => {
            context.answer(api, &describe_cluster::handle(&broker, &context, &request))
        }
        request => return groups::handle(&broker, &context, request, stop).await,
    };
    Ok(response?)
}
