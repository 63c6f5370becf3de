//! `kafka-cluster` and `kafka-broker-api-versions`.

use waybill_compat_tests::network::Network;

use super::Tools;

pub fn see_one_cluster(tools: &Tools, network: &Network<'_>) {
    let ids = ["acme", "globex"].map(|name| tools.run("kafka-cluster", network.kafka(name), "cluster-id"));
    assert!(ids[0].starts_with("Cluster ID: "), "{}", ids[0]);
    assert_eq!(ids[0], ids[1], "one network, whoever is asked");

    let acme = network.kafka("acme");
    let (host, port) = acme.rsplit_once(':').expect("host:port");
    let endpoints = tools.run("kafka-cluster", acme, "list-endpoints");
    let rows = super::rows(&endpoints, &["1"]);
    assert_eq!(rows, [["1", host, port, "null", "unfenced", "broker"]], "clients see their own organisation's nodes");

    let versions = tools.run("kafka-broker-api-versions", acme, "");
    assert!(versions.starts_with(&format!("{acme} (id: 1 rack: null isFenced: false) -> (\n")), "{versions}");
    // What every producer, consumer and operator needs is understood by both sides.
    for api in ["Produce(0)", "Fetch(1)", "Metadata(3)", "JoinGroup(11)", "CreateTopics(19)", "DescribeConfigs(32)"] {
        let line = versions.lines().find(|line| line.trim_start().starts_with(&format!("{api}: ")));
        assert!(line.is_some_and(|line| line.contains("[usable: ")), "{api} in\n{versions}");
    }
}
