//! A refusal is worth one line on the ledger, not one for each time that somebody tries again.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use waybill_types::{LedgerId, OrgId};

/// The same refusal is reported again after this long.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// Refusals remembered; above it, all are forgotten and reported once more.
const REMEMBERED_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct RecentRefusals {
    reported: HashMap<(LedgerId, OrgId, u16), Instant>,
}

impl RecentRefusals {
    /// Whether this refusal was not reported lately; if so, it is now.
    pub fn is_news(&mut self, ledger: LedgerId, to: &OrgId, reason: u16, now: Instant) -> bool {
        if self.reported.len() >= REMEMBERED_MAX {
            self.reported.clear();
        }
        let key = (ledger, to.clone(), reason);
        let news = self.reported.get(&key).is_none_or(|last| now.duration_since(*last) >= REPEATED_AFTER);
        if news {
            self.reported.insert(key, now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_reported_once_a_minute() {
        let mut recent = RecentRefusals::default();
        let (org, now) = (OrgId::new("globex").unwrap(), Instant::now());
        assert!(recent.is_news(LedgerId::SYSTEM, &org, 1, now));
        assert!(!recent.is_news(LedgerId::SYSTEM, &org, 1, now + REPEATED_AFTER / 2));
        assert!(recent.is_news(LedgerId::SYSTEM, &org, 2, now), "another reason");
        assert!(recent.is_news(LedgerId::SYSTEM, &org, 1, now + REPEATED_AFTER));
    }
}
