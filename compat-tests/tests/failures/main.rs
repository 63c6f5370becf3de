//! What a network survives: processes killed, nodes stopped, files deleted, bytes flipped.

mod corruption;
mod derived_state;
mod killed;
mod one_stopped;
