//! DescribeConfigs beyond its versions: every key, where its value comes from, and what is asked for by name.

use crate::client::Client;
use crate::network::{acme, network};
use crate::requests::*;
use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use waybill_gateway::topics::settings::TOPIC_SETTINGS;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

fn configs(client: &mut Client, kind: i8, name: &str, keys: Option<&[&str]>) -> Vec<DescribeConfigsResourceResult> {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let request = request.with_include_documentation(true);
    let result = client.ask(4, &request).results[0].clone();
    assert_eq!((result.error_code, result.error_message), (0, None));
    result.configs
}

#[test]
fn a_topic_shows_every_key_and_what_it_was_given() {
    let name = "configs-topic";
    let given = vec![config("retention.ms", "5000"), config("max.message.bytes", "77777")];
    let mut client = acme_with(creatable(name).with_configs(given));
    let all = configs(&mut client, TOPIC, name, None);
    let keys: Vec<_> = all.iter().map(|config| config.name.to_string()).collect();
    assert_eq!(keys, TOPIC_SETTINGS.map(|setting| setting.name.to_string()));
    let of = |name: &str| all.iter().find(|config| config.name.as_str() == name).expect("a key");
    let synonyms = |name: &str| {
        let synonyms = of(name).synonyms.iter();
        let value = |value: &Option<kafka_protocol::protocol::StrBytes>| value.as_ref().expect("a value").to_string();
        synonyms.map(|synonym| (synonym.name.to_string(), value(&synonym.value), synonym.source)).collect::<Vec<_>>()
    };
    let entry = |name: &str, value: &str, source| (name.to_string(), value.to_string(), source);
    let retention = of("retention.ms");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5000"), FROM_TOPIC));
    let documentation = retention.documentation.as_ref().expect("a description");
    assert!(documentation.contains("kept longer than asked"), "{}", documentation.as_str());
    let expected = [entry("retention.ms", "5000", FROM_TOPIC), entry("log.retention.ms", "-1", DEFAULT)];
    assert_eq!(synonyms("retention.ms"), expected);
    assert!(all.iter().all(|config| !config.read_only && !config.is_sensitive), "MirrorMaker takes them all along");
    for setting in TOPIC_SETTINGS {
        let shown = of(setting.name);
        assert_eq!(shown.config_type, setting.kind as i8, "{}", setting.name);
        assert_eq!(shown.documentation.as_deref(), Some(setting.documentation), "{}", setting.name);
    }
    assert_eq!(of("cleanup.policy").config_source, DEFAULT);
    assert_eq!(synonyms("cleanup.policy"), [entry("log.cleanup.policy", "delete", DEFAULT)]);

    let asked = configs(&mut client, TOPIC, name, Some(&["segment.ms", "no.such.key"]));
    let [only] = &asked[..] else { panic!("one of the two exists") };
    assert_eq!(only.name.as_str(), "segment.ms");
}

#[test]
fn a_broker_shows_what_it_was_started_with() {
    let mut client = Client::connect(acme());
    let all = configs(&mut client, BROKER, &network().acme.node.to_string(), None);
    assert!(all.windows(2).all(|pair| pair[0].name < pair[1].name), "each once, in order");
    assert!(all.iter().all(|config| config.read_only && config.value.is_some() && !config.is_sensitive));
    for (name, value, source) in [
        ("auto.create.topics.enable", "true", FROM_BROKER),
        ("default.replication.factor", "4", DEFAULT),
        ("log.message.timestamp.after.max.ms", "3600000", DEFAULT),
        ("log.retention.ms", "-1", DEFAULT),
        ("max.incremental.fetch.session.cache.slots", "0", DEFAULT),
        ("message.max.bytes", "1048588", DEFAULT),
        ("node.id", "1", FROM_BROKER),
        ("num.partitions", "1", FROM_BROKER),
    ] {
        let config = all.iter().find(|config| config.name.as_str() == name).expect("a key");
        assert_eq!((config.value.as_deref(), config.config_source), (Some(value), source), "{name}");
    }
    assert_eq!(configs(&mut client, BROKER, "", None), [], "nothing is set for all brokers");
}
