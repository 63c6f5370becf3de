//! placeholder
pub mod batch;
pub mod error;
pub mod frame;
pub mod group;
pub mod request;
pub mod versions;
