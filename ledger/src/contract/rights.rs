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
        && i32::try_from(config.batch_bytes_limit).is_ok()
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
    // As `may_read` and `may_write` have it, but not by searching long lists for each of many origins.
    let (readers, writers): (BTreeSet<_>, BTreeSet<_>) =
        (config.readers.iter().collect(), config.writers.iter().collect());
    let rights = |org: &OrgId| {
        let owns = *org == config.owner;
        Rights { org: org.clone(), reads: owns || readers.contains(org), writes: owns || writers.contains(org) }
    };
    config.origins.iter().map(|member| (member.node, rights(&member.org))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn rights_are_those_of_the_lists() {
        let config = config();
        let rights = rights_of(&config);
        assert_eq!(rights.len(), config.origins.len());
        for member in &config.origins {
            let found = &rights[&member.node];
            assert_eq!((&found.org, found.reads), (&member.org, may_read(&config, &member.org)));
            assert_eq!(found.writes, may_write(&config, &member.org));
        }
    }
}
