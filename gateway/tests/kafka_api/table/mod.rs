//! Every advertised version of every API: what succeeds and what is refused, in the words of that version.
//!
//! The answers are decoded by `kafka-protocol` in the version that was asked, to the last byte, and their content is
//! checked. What a version does not say yet comes out as that library's default.

mod cluster;
mod data;
mod groups;
mod offsets;
mod topics;

use crate::client::Client;
use crate::network::{acme, globex, notary};
pub(crate) use data::zstd;
use waybill_gateway::versions::{Api, TABLE};

/// One connection to each kind of organisation.
struct Clients {
    /// It owns the topics.
    owner: Client,
    /// It reads them.
    reader: Client,
    /// It may do neither.
    witness: Client,
}

#[test]
fn every_version_of_every_api_is_answered_in_kind() {
    let mut clients = Clients {
        owner: Client::connect(acme()),
        reader: Client::connect(globex()),
        witness: Client::connect(notary()),
    };
    let data = data::Topic::make(&mut clients);
    for row in TABLE {
        for version in row.min..=row.max {
            exercise(row.api, version, &mut clients, &data);
        }
    }
}

/// An API without a case here does not compile.
fn exercise(api: Api, version: i16, clients: &mut Clients, data: &data::Topic) {
    println!("{} {version}", api.name());
    match api {
        Api::Produce => data::produce(version, clients),
        Api::Fetch => data::fetch(version, clients, data),
        Api::ListOffsets => data::list_offsets(version, clients, data),
        Api::OffsetForLeaderEpoch => data::offset_for_leader_epoch(version, clients, data),
        Api::Metadata => topics::metadata(version, clients, data),
        Api::CreateTopics => topics::create_topics(version, clients),
        Api::DeleteTopics => topics::delete_topics(version, clients),
        Api::DescribeConfigs => topics::describe_configs(version, clients, data),
        Api::OffsetCommit => offsets::offset_commit(version, clients, data),
        Api::OffsetFetch => offsets::offset_fetch(version, clients, data),
        Api::OffsetDelete => offsets::offset_delete(version, clients, data),
        Api::FindCoordinator => cluster::find_coordinator(version, clients),
        Api::ApiVersions => cluster::api_versions(version, clients),
        Api::InitProducerId => cluster::init_producer_id(version, clients),
        Api::DescribeCluster => cluster::describe_cluster(version, clients),
        Api::JoinGroup => groups::join_group(version, clients),
        Api::SyncGroup => groups::sync_group(version, clients),
        Api::Heartbeat => groups::heartbeat(version, clients),
        Api::LeaveGroup => groups::leave_group(version, clients),
        Api::DescribeGroups => groups::describe_groups(version, clients),
        Api::ListGroups => groups::list_groups(version, clients),
        Api::DeleteGroups => groups::delete_groups(version, clients),
    }
}
