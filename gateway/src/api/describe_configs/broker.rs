//! The settings of this broker, under Kafka's names. All are read-only: a node takes them from where it is started.

use super::{Refused, Setting, Source, Synonym};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::frame::FRAME_BYTES_LIMIT;
use crate::security::Mechanism;
use crate::topics;
use crate::topics::settings::{Kind, TOPIC_SETTINGS};
use waybill_ledger::contract::PRODUCER_EXPIRATION_MS;
use waybill_ledger::organisation::OFFSET_METADATA_BYTES_MAX;

/// Every setting of the broker with this id; none have been set for all brokers, which an empty id asks for.
pub(super) fn describe(broker: &Broker, id: &str) -> Result<Vec<Setting>, Refused> {
    if id.is_empty() {
        return Ok(Vec::new());
    }
    let own = broker.node.0.to_string();
    if id != own {
        let reason = format!("this is broker {own}: ask broker {id} for its own settings");
        return Err((Refusal::InvalidRequest, reason));
    }
    let defaults = TOPIC_SETTINGS.iter().filter_map(|setting| {
        let name = setting.broker_name?;
        Some(shown(name, setting.kind, setting.default.to_string(), Source::Default, setting.documentation))
    });
    let mut settings: Vec<Setting> = defaults.chain(of_node(broker)).collect();
    settings.sort_by_key(|setting| setting.name);
    Ok(settings)
}

fn of_node(broker: &Broker) -> Vec<Setting> {
    let settings = &broker.settings;
    let groups = &settings.groups;
    let joined = |texts: Vec<String>| texts.join(",");
    let advertised = settings
        .listeners
        .iter()
        .filter_map(|listener| listener.address(broker.node).map(|address| format!("{}://{address}", listener.name)));
    let advertised = joined(advertised.collect());
    let protocols = settings.listeners.iter().map(|listener| format!("{}:{}", listener.name, listener.protocol));
    let protocols = joined(protocols.collect());
    let mechanisms = joined(Mechanism::ALL.map(|mechanism| mechanism.name().to_string()).to_vec());
    let set = |name, kind, value: &dyn ToString, documentation| {
        shown(name, kind, value.to_string(), Source::Broker, documentation)
    };
    let fixed = |name, kind, value: &dyn ToString, documentation| {
        shown(name, kind, value.to_string(), Source::Default, documentation)
    };
    vec![
        set("advertised.listeners", Kind::String, &advertised, "Where clients are told to connect to."),
        set(
            "listener.security.protocol.map",
            Kind::String,
            &protocols,
            "What the connections of each listener are wrapped in.",
        ),
        fixed("sasl.enabled.mechanisms", Kind::List, &mechanisms, "How users prove who they are, where they log in."),
        set(
            "auto.create.topics.enable",
            Kind::Boolean,
            &settings.auto_create_topics,
            "Whether a topic that a client asks for is created.",
        ),
        set("broker.id", Kind::Int, &broker.node.0, "The node's number in the network."),
        set("node.id", Kind::Int, &broker.node.0, "The node's number in the network."),
        set(
            "connections.max.idle.ms",
            Kind::Long,
            &settings.connection_idle_max.as_millis(),
            "How long a client may be idle before its connection is closed.",
        ),
        set("max.connections", Kind::Int, &settings.connections_max, "Clients that may be connected at a time."),
        set("num.partitions", Kind::Int, &settings.default_partitions, "Partitions of a topic that does not say."),
        set(
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            &groups.initial_rebalance_delay_ms,
            "How long an empty group waits for more members.",
        ),
        set("group.max.session.timeout.ms", Kind::Int, &groups.session_timeout_ms_max, "The longest session."),
        set("group.max.size", Kind::Int, &groups.members_max, "Members of a consumer group."),
        set("group.min.session.timeout.ms", Kind::Int, &groups.session_timeout_ms_min, "The shortest session."),
        fixed(
            "default.replication.factor",
            Kind::Int,
            &topics::default_replication_factor(broker),
            "Replicas of a partition that does not say, and the least it gets.",
        ),
        fixed("delete.topic.enable", Kind::Boolean, &true, "Owners may delete their topics."),
        fixed("max.incremental.fetch.session.cache.slots", Kind::Int, &0, "Fetch sessions are not kept."),
        fixed("offset.metadata.max.bytes", Kind::Int, &OFFSET_METADATA_BYTES_MAX, "A note beside a committed offset."),
        fixed("offsets.retention.minutes", Kind::Int, &i32::MAX, "Committed offsets are kept until they are deleted."),
        fixed(
            "producer.id.expiration.ms",
            Kind::Int,
            &PRODUCER_EXPIRATION_MS,
            "A producer silent for so long is forgotten.",
        ),
        fixed("socket.request.max.bytes", Kind::Int, &FRAME_BYTES_LIMIT, "The largest request."),
    ]
}

fn shown(name: &'static str, kind: Kind, value: String, source: Source, documentation: &'static str) -> Setting {
    let synonyms = vec![Synonym { name, value: value.clone(), source }];
    Setting { name, value, source, read_only: true, kind, documentation, synonyms }
}
