//! The settings of a topic.

use super::{Refused, Setting, Source, Synonym};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::settings::TOPIC_SETTINGS;
use crate::topics::{self, Failure};

/// Every setting of the topic of this name.
pub(super) fn describe(broker: &Broker, name: &str) -> Result<Vec<Setting>, Refused> {
    topics::check_name(name).map_err(|Failure { refusal, reason }| {
        (refusal, reason.unwrap_or_else(|| format!("no name of a topic: {name}")))
    })?;
    let system = broker.system();
    let topic = system
        .topic_named(name)
        .ok_or_else(|| (Refusal::UnknownTopicOrPartition, format!("there is no topic '{name}'")))?;
    if !broker.may_see(topic) {
        return Err((Refusal::TopicDenied, format!("{} neither reads nor writes topic '{name}'", broker.org)));
    }
    Ok(shown(&topic.settings).collect())
}

/// Every setting of a topic that was given some.
pub(in crate::api) fn shown(given: &[(String, String)]) -> impl Iterator<Item = Setting> {
    TOPIC_SETTINGS.iter().map(move |setting| {
        let own = given.iter().find(|(name, _)| name == setting.name).map(|(_, value)| value.clone());
        let from_topic = own.clone().map(|value| Synonym { name: setting.name, value, source: Source::Topic });
        let default = setting.default.to_string();
        let from_broker =
            setting.broker_name.map(|name| Synonym { name, value: default.clone(), source: Source::Default });
        Setting {
            name: setting.name,
            source: if own.is_some() { Source::Topic } else { Source::Default },
            value: own.unwrap_or(default),
            // As in Kafka, also where it is best effort: MirrorMaker takes along only what is not read-only.
            read_only: false,
            kind: setting.kind,
            documentation: setting.documentation,
            synonyms: from_topic.into_iter().chain(from_broker).collect(),
        }
    })
}
