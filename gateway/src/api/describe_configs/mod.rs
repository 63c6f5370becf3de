//! DescribeConfigs, versions 1 to 4 (KIP-226, KIP-569): every setting of a topic or of this broker, with where its value
//! comes from.
//!
//! A topic's settings were given when it was created; those of the broker are those the node was started with. Where a
//! setting is best effort, or without effect here, its description says so.

mod broker;
mod topic;

use crate::api::Context;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::settings::Kind;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

pub(super) use topic::shown as topic_settings;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, by Kafka's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub(super) enum Source {
    /// It was given to the topic.
    Topic = 1,
    /// The node was started with it.
    Broker = 4,
    /// Nobody has said anything.
    Default = 5,
}

/// A setting as clients see it.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: Source,
    pub(super) read_only: bool,
    kind: Kind,
    documentation: &'static str,
    /// Where the value was looked for, the first that counts first.
    synonyms: Vec<Synonym>,
}

#[derive(Clone, Debug)]
struct Synonym {
    name: &'static str,
    value: String,
    source: Source,
}

/// Why a resource is not described, with words for people.
type Refused = (Refusal, String);

/// Describes each resource.
pub fn handle(broker: &Broker, context: &Context, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let name = resource.resource_name.as_str();
        let settings = match resource.resource_type {
            TOPIC => topic::describe(broker, name),
            BROKER => broker::describe(broker, name),
            other => Err((Refusal::InvalidRequest, format!("there are no settings of resources of type {other}"))),
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_message(None);
        match settings {
            Ok(settings) => {
                let wanted = settings.into_iter().filter(|setting| is_wanted(resource, setting));
                result.with_configs(wanted.map(|setting| encoded(setting, context, request)).collect())
            }
            Err((refusal, reason)) => result.with_error_code(refusal.code()).with_error_message(Some(reason.into())),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// No keys means all of them.
fn is_wanted(resource: &DescribeConfigsResource, setting: &Setting) -> bool {
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    keys.is_empty() || keys.iter().any(|key| key.as_str() == setting.name)
}

fn encoded(setting: Setting, context: &Context, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    /// The first version with a setting's type and description.
    const DOCUMENTED_SINCE: i16 = 3;
    let text = StrBytes::from_static_str;
    let synonyms = setting.synonyms.into_iter().filter(|_| request.include_synonyms).map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(synonym.name))
            .with_value(Some(synonym.value.into()))
            .with_source(synonym.source as i8)
    });
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(setting.name))
        .with_value(Some(setting.value.into()))
        .with_read_only(setting.read_only)
        .with_config_source(setting.source as i8)
        .with_synonyms(synonyms.collect());
    if context.version < DOCUMENTED_SINCE {
        return result;
    }
    let documentation = request.include_documentation.then(|| text(setting.documentation));
    result.with_config_type(setting.kind as i8).with_documentation(documentation)
}
