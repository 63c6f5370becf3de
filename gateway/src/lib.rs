//! placeholder
pub mod frame;
pub mod request;
pub mod versions;
