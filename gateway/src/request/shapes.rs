//! The layouts of the requests that are decoded, one table per API (see [`super::shape`]).
//!
//! To add an API: a row in `versions`, a table here, a line in `requests!` of the parent module. The tests of the
//! parent module then hold table and decoder against each other.

use super::shape::{Field, blob, fixed, fixeds, structs, text, texts};

const INT8: usize = 1;
const INT16: usize = 2;
const INT32: usize = 4;
const INT64: usize = 8;
const BOOL: usize = 1;
const UUID: usize = 16;

/// Versions 0 to 2, which `old_produce` decodes, lack only the transactional id.
pub(super) const PRODUCE: &[Field] = &[
    text().since(3), // transactional id
    fixed(INT16),    // acks
    fixed(INT32),    // timeout
    structs(PRODUCE_TOPIC),
];
const PRODUCE_TOPIC: &[Field] = &[text(), structs(PRODUCE_PARTITION)];
const PRODUCE_PARTITION: &[Field] = &[fixed(INT32), blob()];

pub(super) const FETCH: &[Field] = &[
    fixed(INT32),          // replica id
    fixed(INT32),          // maximum wait
    fixed(INT32),          // minimum bytes
    fixed(INT32),          // maximum bytes
    fixed(INT8),           // isolation level
    fixed(INT32).since(7), // session id
    fixed(INT32).since(7), // session epoch
    structs(FETCH_TOPIC),
    structs(FORGOTTEN_TOPIC).since(7),
    text().since(11), // rack
];
const FETCH_TOPIC: &[Field] = &[text(), structs(FETCH_PARTITION)];
const FETCH_PARTITION: &[Field] = &[
    fixed(INT32),           // partition
    fixed(INT32).since(9),  // current leader epoch
    fixed(INT64),           // offset
    fixed(INT32).since(12), // last fetched epoch
    fixed(INT64).since(5),  // log start offset
    fixed(INT32),           // maximum bytes
];
const FORGOTTEN_TOPIC: &[Field] = &[text(), fixeds(INT32)];

pub(super) const LIST_OFFSETS: &[Field] = &[
    fixed(INT32),         // replica id
    fixed(INT8).since(2), // isolation level
    structs(LIST_OFFSETS_TOPIC),
];
const LIST_OFFSETS_TOPIC: &[Field] = &[text(), structs(LIST_OFFSETS_PARTITION)];
const LIST_OFFSETS_PARTITION: &[Field] = &[
    fixed(INT32),          // partition
    fixed(INT32).since(4), // current leader epoch
    fixed(INT64),          // timestamp
];

pub(super) const METADATA: &[Field] = &[
    structs(METADATA_TOPIC),
    fixed(BOOL).since(4),           // allow auto-creation
    fixed(BOOL).since(8).until(10), // include the cluster's authorised operations
    fixed(BOOL).since(8),           // include the topics' authorised operations
];
const METADATA_TOPIC: &[Field] = &[fixed(UUID).since(10), text()];

pub(super) const OFFSET_COMMIT: &[Field] = &[
    text(),                // group
    fixed(INT32),          // generation
    text(),                // member
    text().since(7),       // group instance
    fixed(INT64).until(4), // retention time
    structs(OFFSET_COMMIT_TOPIC),
];
const OFFSET_COMMIT_TOPIC: &[Field] = &[text(), structs(OFFSET_COMMIT_PARTITION)];
const OFFSET_COMMIT_PARTITION: &[Field] = &[
    fixed(INT32),          // partition
    fixed(INT64),          // offset
    fixed(INT32).since(6), // leader epoch
    text(),                // metadata
];

pub(super) const OFFSET_FETCH: &[Field] = &[
    text().until(7), // group
    structs(OFFSET_FETCH_TOPIC).until(7),
    structs(OFFSET_FETCH_GROUP).since(8),
    fixed(BOOL).since(7), // require stable
];
const OFFSET_FETCH_TOPIC: &[Field] = &[text(), fixeds(INT32)];
const OFFSET_FETCH_GROUP: &[Field] = &[text(), structs(OFFSET_FETCH_TOPIC)];

pub(super) const FIND_COORDINATOR: &[Field] = &[
    text().until(3),      // key
    fixed(INT8).since(1), // kind of key
    texts().since(4),     // keys
];

pub(super) const JOIN_GROUP: &[Field] = &[
    text(),                // group
    fixed(INT32),          // session timeout
    fixed(INT32).since(1), // rebalance timeout
    text(),                // member
    text().since(5),       // group instance
    text(),                // protocol type
    structs(JOIN_GROUP_PROTOCOL),
    text().since(8), // reason
];
const JOIN_GROUP_PROTOCOL: &[Field] = &[text(), blob()];

pub(super) const HEARTBEAT: &[Field] = &[
    text(),          // group
    fixed(INT32),    // generation
    text(),          // member
    text().since(3), // group instance
];

pub(super) const LEAVE_GROUP: &[Field] = &[
    text(),          // group
    text().until(2), // member
    structs(LEAVE_GROUP_MEMBER).since(3),
];
const LEAVE_GROUP_MEMBER: &[Field] = &[
    text(),          // member
    text(),          // group instance
    text().since(5), // reason
];

pub(super) const SYNC_GROUP: &[Field] = &[
    text(),          // group
    fixed(INT32),    // generation
    text(),          // member
    text().since(3), // group instance
    text().since(5), // protocol type
    text().since(5), // protocol
    structs(SYNC_GROUP_ASSIGNMENT),
];
const SYNC_GROUP_ASSIGNMENT: &[Field] = &[text(), blob()];

pub(super) const DESCRIBE_GROUPS: &[Field] = &[
    texts(),
    fixed(BOOL).since(3), // include authorised operations
];

pub(super) const LIST_GROUPS: &[Field] = &[
    texts().since(4), // states
    texts().since(5), // types
];

pub(super) const SASL_HANDSHAKE: &[Field] = &[text()];

pub(super) const API_VERSIONS: &[Field] = &[
    text().since(3), // client software
    text().since(3), // its version
];

pub(super) const CREATE_TOPICS: &[Field] = &[
    structs(CREATABLE_TOPIC),
    fixed(INT32), // timeout
    fixed(BOOL),  // validate only
];
const CREATABLE_TOPIC: &[Field] = &[
    text(),
    fixed(INT32), // partitions
    fixed(INT16), // replication factor
    structs(CREATABLE_ASSIGNMENT),
    structs(CREATABLE_CONFIG),
];
const CREATABLE_ASSIGNMENT: &[Field] = &[fixed(INT32), fixeds(INT32)];
const CREATABLE_CONFIG: &[Field] = &[text(), text()];

pub(super) const DELETE_TOPICS: &[Field] = &[
    structs(DELETABLE_TOPIC).since(6),
    texts().until(5),
    fixed(INT32), // timeout
];
const DELETABLE_TOPIC: &[Field] = &[text(), fixed(UUID)];

pub(super) const INIT_PRODUCER_ID: &[Field] = &[
    text(),                // transactional id
    fixed(INT32),          // transaction timeout
    fixed(INT64).since(3), // producer id
    fixed(INT16).since(3), // producer epoch
];

pub(super) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    fixed(INT32).since(3), // replica id
    structs(LEADER_EPOCH_TOPIC),
];
const LEADER_EPOCH_TOPIC: &[Field] = &[text(), structs(LEADER_EPOCH_PARTITION)];
const LEADER_EPOCH_PARTITION: &[Field] = &[
    fixed(INT32), // partition
    fixed(INT32), // current leader epoch
    fixed(INT32), // leader epoch
];

pub(super) const DESCRIBE_CONFIGS: &[Field] = &[
    structs(CONFIG_RESOURCE),
    fixed(BOOL),          // include synonyms
    fixed(BOOL).since(3), // include documentation
];
const CONFIG_RESOURCE: &[Field] = &[fixed(INT8), text(), texts()];

pub(super) const SASL_AUTHENTICATE: &[Field] = &[blob()];

pub(super) const CREATE_PARTITIONS: &[Field] = &[
    structs(PARTITIONS_TOPIC),
    fixed(INT32), // timeout
    fixed(BOOL),  // validate only
];
const PARTITIONS_TOPIC: &[Field] = &[
    text(),
    fixed(INT32), // how many in all
    structs(PARTITIONS_ASSIGNMENT),
];
const PARTITIONS_ASSIGNMENT: &[Field] = &[fixeds(INT32)];

pub(super) const DELETE_GROUPS: &[Field] = &[texts()];

pub(super) const OFFSET_DELETE: &[Field] = &[
    text(), // group
    structs(OFFSET_DELETE_TOPIC),
];
const OFFSET_DELETE_TOPIC: &[Field] = &[text(), structs(OFFSET_DELETE_PARTITION)];
const OFFSET_DELETE_PARTITION: &[Field] = &[fixed(INT32)];

pub(super) const DESCRIBE_CLIENT_QUOTAS: &[Field] = &[
    structs(QUOTA_COMPONENT),
    fixed(BOOL), // strict
];
const QUOTA_COMPONENT: &[Field] = &[
    text(),
    fixed(INT8), // how it is to match
    text(),      // what it is to match
];

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: &[Field] = &[structs(USER_NAME)];
const USER_NAME: &[Field] = &[text()];

pub(super) const ALTER_USER_SCRAM_CREDENTIALS: &[Field] = &[structs(SCRAM_DELETION), structs(SCRAM_UPSERTION)];
const SCRAM_DELETION: &[Field] = &[text(), fixed(INT8)];
const SCRAM_UPSERTION: &[Field] = &[
    text(),
    fixed(INT8),  // mechanism
    fixed(INT32), // iterations
    blob(),       // salt
    blob(),       // salted password
];

pub(super) const DESCRIBE_CLUSTER: &[Field] = &[
    fixed(BOOL),          // include authorised operations
    fixed(INT8).since(1), // kind of endpoint
    fixed(BOOL).since(2), // include fenced brokers
];
