//! What a newcomer and their clients see of a healthy network.

mod command_line;
mod evidence;
mod groups;
mod kcat;
mod rdkafka;
mod wire;
