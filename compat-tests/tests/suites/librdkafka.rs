//! librdkafka's own test suite.
