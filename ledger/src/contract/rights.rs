//! Who may do what, by the configuration of a ledger.

use std::collections::{BTreeMap, BTreeSet};
use waybill_types::digest::Hasher;
use waybill_types::transaction::Config;
use waybill_types::{Codec, Digest, NodeId, OrgId};

/// How many organisations a configuration can name as readers, and as writers.
pub(crate) const ORGANISATIONS_MAX: usize = 1024;
/// How many nodes a configuration can name as origins.
pub(crate) const ORIGINS_MAX: usize = 4096;

/// Whether an organisation may read this ledger's batches: the owner and the readers. To have written is not enough,
/// as Kafka's `Write` does not imply `Read`.
pub fn may_read(config: &Config, org: &OrgId) -> bool {
    *org == config.owner || config.readers.contains(org)
}

/// Whether an organisation may write batches to this ledger: the owner and the writers.
pub fn may_write(config: &Config, org: &OrgId) -> bool {
    *org == config.owner || config.writers.contains(org)
}

/// Whether a configuration is bounded and means one thing only.
pub(super) fn well_formed(config: &Config) -> bool {
    config.readers.len() <= ORGANISATIONS_MAX
        && config.writers.len() <= ORGANISATIONS_MAX
        && config.origins.len() <= ORIGINS_MAX
        && config.origins.iter().map(|member| member.node).collect::<BTreeSet<_>>().len() == config.origins.len()
}

/// What stands for a configuration in a contract's state.
pub(super) fn config_digest(config: &Config) -> Digest {
    Hasher::digest(b"waybill-config-v1", &config.to_bytes())
}

/// What one origin may do, looked up once per transaction instead of searched in the configuration's lists.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    pub org: OrgId,
    pub reads: bool,
    pub writes: bool,
}

/// The rights of every origin of a configuration.
pub(super) fn rights_of(config: &Config) -> BTreeMap<NodeId, Rights> {
    let rights =
        |org: &OrgId| Rights { org: org.clone(), reads: may_read(config, org), writes: may_write(config, org) };
    config.origins.iter().map(|member| (member.node, rights(&member.org))).collect()
}
