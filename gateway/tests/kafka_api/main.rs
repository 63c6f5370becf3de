//! The Kafka face over real sockets: one network of four organisations in this process, asked by clients that write bytes.
//!
//! [`table`] sends every advertised version of every API and checks the answers; it does not compile until a new API has
//! its case. The other modules ask what a version number does not tell: order, limits, waiting, groups, permission.
//!
//! # Where each trap is tested
//! What other brokers stumbled over, by the numbers of the design. `unit` is `gateway/src`, `ledger` is `ledger/src`,
//! `clients` is `compat-tests/tests/clients`, the rest is here.
//!
//! | trap | test |
//! |---|---|
//! | 1. Produce from 0, or librdkafka 2.0 does not compress | unit `versions::old_clients_find_the_minima_they_need`, `table::data::old_produce`, clients `kcat::every_codec_passes_untouched_and_none_is_silently_dropped` |
//! | 2. JoinGroup from 0 | unit `versions::old_clients_find_the_minima_they_need`, `table::groups::join_group` |
//! | 2. zstd needs Produce 7 and Fetch 10 | `table::data::produce`, [`fetch`]`::a_topic_of_zstd_is_kept_from_clients_that_may_not_know_it`, `table::nothing_is_listed_…` |
//! | 3. a too new ApiVersions is answered in version 0, with the list | [`connection`]`::a_too_new_api_versions_is_answered_with_the_list_in_version_0`, unit `versions::api_versions_is_always_answered_with_header_0` |
//! | 3. flexible headers | unit `versions::header_versions_agree_with_the_specification`, [`table`] |
//! | 4, 5. no topic ids, no new groups, no telemetry listed | `table::nothing_is_listed_that_needs_topic_ids_new_groups_or_telemetry`, [`connection`]`::unknown_apis_and_versions_end_the_connection_as_in_kafka` |
//! | 6. cluster and node ids are stable | [`restart`], clients `rdkafka::each_gateway_names_itself_alone_and_the_cluster_keeps_its_name` |
//! | 7. answers in order, behind long polls too; no connection holds up another | [`connection`]`::answers_leave_in_the_order_of_requests_behind_a_long_poll_too`, `…::pipelined_batches_get_offsets_in_the_order_they_were_sent`, clients `wire::a_long_poll_is_never_overtaken_and_holds_nobody_else` |
//! | 8. acks=0 gets no bytes, its failure ends the connection | [`connection`]`::acks_0_gets_no_bytes_and_its_failure_ends_the_connection` |
//! | 9. OffsetFetch of an unknown group; notes round-trip | `table::offsets::offset_fetch`, `…::offset_commit`, [`restart`] |
//! | 10. every request in every state | unit `group::tests::states` |
//! | 10. metadata and assignments are opaque, Connect | [`groups`]`::metadata_and_assignments_are_opaque_and_groups_need_not_be_consumers` |
//! | 10. static members | unit `group::tests::static_members`, [`groups`]`::a_static_member_comes_back_to_its_assignment_and_fences_its_former_self`, [`restart`] |
//! | 10. concurrent rebalances | [`groups`]`::members_that_come_and_go_at_once_settle_on_one_generation`, unit `group::tests::random` |
//! | 10. rejoin with an unchanged subscription | unit `group::tests::rejoin`, [`groups`]`::two_members_share_rebalance_and_commit` |
//! | 10. a member lost in mid-rebalance | unit `group::tests::timeouts`, [`groups`]`::a_member_that_falls_silent_is_dropped_and_the_other_goes_on` |
//! | 10. a restart loses no offset and no generation | [`restart`], unit `api::offsets::an_answer_before_groups_are_loaded_is_an_error_…`, unit `group::tests::upkeep`, clients `groups::offsets_and_their_notes_are_kept_…` |
//! | 10. ids first (KIP-394), protocols, sizes, session bounds | unit `group::tests::start`, `table::groups::join_group`, [`groups`]`::a_member_of_another_kind_or_without_a_common_protocol_is_kept_out` |
//! | 10. OffsetCommit with generation -1 | unit `group::tests::states::committing`, [`groups`]`::offsets_without_members_make_a_group_that_can_be_deleted` |
//! | 11. the first non-empty partition gives a whole batch | [`fetch`]`::the_first_partition_that_has_something_gives_a_whole_batch_whatever_the_limits`, `…::limits_cut_between_batches_and_never_the_first_one` |
//! | 11. an offset inside a batch returns the batch | `table::data::fetch` |
//! | 12. no sessions | [`fetch`]`::a_session_that_is_asked_for_is_not_given`, `table::data::fetch` |
//! | 13. repetitions, unknown producers, epochs | [`idempotence`], [`restart`], ledger `contract::tests::idempotence` |
//! | 14. max.message.bytes of topic and broker, compressed size counts | [`produce`]`::the_limit_of_a_topic_is_exact`, `…::the_default_limit_is_exact_and_counts_what_is_compressed` |
//! | 15. no record without a key on a compacted topic | [`produce`]`::a_compacted_topic_refuses_a_batch_with_a_record_without_a_key_and_names_the_record`, unit `batch::rules` |
//! | 16. LogAppendTime: bit, maximum, checksum | [`list_offsets`]`::append_time_counts_where_the_topic_says_so_at_both_organisations`, unit `batch::tests::log_append_time_…` |
//! | 17. by time the first record; -1 to -4, each since its version | [`list_offsets`], `table::data::list_offsets`, unit `batch::search` |
//! | 18. leader, controller and coordinator are in `brokers` | `table::topics::metadata`, `table::cluster::find_coordinator`, `table::cluster::describe_cluster` |
//! | 18. under the address of the listener that was asked | [`security`]`::login::who_asks_at_a_listener_is_told_its_addresses` |
//! | 19. every key with source and synonyms | [`configs`], unit `topics::settings::the_keys_are_those_of_kafka_4`, `table::topics::describe_configs` |
//! | 19. unknown topics, auto-creation | `table::topics::metadata_creates`, [`metadata`]`::a_topic_that_many_ask_for_at_once_is_created_once_and_described_to_all` |
//! | 21. sessions last; bare tokens after handshake 0, SaslAuthenticate after 1 | [`security`]`::login`, `table::security` |

mod client;
mod configs;
mod connection;
mod fetch;
mod groups;
mod idempotence;
mod idle;
mod list_offsets;
mod metadata;
mod network;
mod produce;
mod requests;
mod restart;
mod security;
mod table;
mod topics;
