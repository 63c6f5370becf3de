//! The test suites of Kafka's own clients, run against Waybill. Each has a list of what passes, which only grows, and says
//! of everything else why it does not.

mod librdkafka;
mod rust_clients;
mod sources;
