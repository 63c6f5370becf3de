//! Every advertised version of every API: what succeeds and what is refused, in the words of that version.
//!
//! The answers are decoded by `kafka-protocol` in the version that was asked, to the last byte, and their content is
//! checked. What a version does not say yet comes out as that library's default.

mod cluster;
mod data;
mod groups;
mod offsets;
mod security;
mod topics;

use crate::client::Client;
use crate::network::{acme, globex, notary};
pub(crate) use data::zstd;
use kafka_protocol::messages::ApiVersionsRequest;
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

/// Clients take a version or an API that is listed at its word, and fall back from what is not.
#[test]
fn nothing_is_listed_that_needs_topic_ids_new_groups_or_telemetry() {
    let listed = Client::connect(acme()).ask(4, &ApiVersionsRequest::default()).api_keys;
    let max = |key: i16| listed.iter().find(|api| api.api_key == key).map(|api| api.max_version);
    let (produce, fetch) = (max(0).expect("Produce"), max(1).expect("Fetch"));
    assert!((7..=12).contains(&produce), "zstd since 7, topic ids since 13: {produce}");
    assert!((10..=12).contains(&fetch), "zstd since 10, topic ids since 13: {fetch}");
    assert!(max(8) < Some(9) && max(9) < Some(9), "with 9, clients of KIP-848 name members there");
    for (key, what) in [(68, "new groups"), (69, "new groups"), (71, "telemetry"), (72, "telemetry"), (75, "paging")] {
        assert_eq!(max(key), None, "{what}");
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
        Api::CreatePartitions => topics::create_partitions(version, clients),
        Api::DeleteTopics => topics::delete_topics(version, clients),
        Api::DescribeConfigs => topics::describe_configs(version, clients, data),
        Api::OffsetCommit => offsets::offset_commit(version, clients, data),
        Api::OffsetFetch => offsets::offset_fetch(version, clients, data),
        Api::OffsetDelete => offsets::offset_delete(version, clients, data),
        Api::SaslHandshake => security::sasl_handshake(version, clients),
        Api::SaslAuthenticate => security::sasl_authenticate(version, clients),
        Api::DescribeClientQuotas => security::describe_client_quotas(version, clients),
        Api::DescribeUserScramCredentials => security::describe_user_scram_credentials(version, clients),
        Api::AlterUserScramCredentials => security::alter_user_scram_credentials(version, clients),
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
