//! Real Kafka clients against real Waybill processes.
//!
//! This library is what the stories under `tests/` and the benchmark share: it builds and starts the binary
//! `waybill`, and drives it with clients that know nothing of it. It depends on no crate of Waybill, so that nothing
//! can be tested but what a user can reach: ports, files, exit codes, words.
//!
//! Everything here panics when the system under test does not do what is asked: a panic is a failed test, and the
//! message says what was expected and what came instead. Nothing sleeps and hopes: each wait is for a condition, and
//! has a limit.
//!
//! # Layout
//! - [`binary`] builds and finds `waybill`.
//! - [`network`] runs `waybill dev` on a data directory: start, stop, kill, start again.
//! - [`command`] runs any command to its end; [`wait`] waits for conditions.
//! - [`kcat`] installs and runs Debian's kcat; [`librdkafka`] holds what the stories share of its Rust client.
//! - [`client`] installs the programs of the client matrix and gives them tasks; [`records`] are what they carry.
//! - [`suite`] holds what a client's own test suite came to against what is expected of it.
//! - [`wire`] speaks the Kafka protocol byte by byte, for what no client would send.
//! - [`http`] and [`process`] look at a running node from outside.
//!
//! # Deliberately absent
//! A mock of anything, and a way to skip: a test whose tool cannot be installed fails and says so.

pub mod binary;
pub mod client;
pub mod command;
pub mod http;
pub mod kcat;
pub mod librdkafka;
pub mod network;
pub mod process;
pub mod records;
pub mod suite;
pub mod wait;
pub mod wire;
