//! When to act without being asked (4.4 for view changes; liveness, 4.5.2).
//!
//! Idle costs nothing: each timer runs only while its condition holds. Progress stops it, and it starts anew if its
//! condition still holds then.

use crate::io::{Output, Reason, Signatures};
use crate::replica::Replica;
use alloc::vec::Vec;

/// Deadlines, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// A proposal of this view must be executed by then.
    pub execution: Option<u64>,
    /// What we have executed must be under a stable checkpoint by then.
    pub coverage: Option<u64>,
    /// The view that we have asked for, as a quorum wished, must begin by then.
    pub new_view: Option<u64>,
    /// We tell the others what we have.
    pub status: Option<u64>,
    /// We ask the next peer for bodies.
    pub fetch: Option<u64>,
    /// We ask the shell to fetch blocks.
    pub sync: Option<u64>,
    /// As primary we cover what was executed by a checkpoint.
    pub idle: Option<u64>,
    /// When we last proposed.
    pub proposed_at: u64,
    /// When we last asked for a checkpoint in a body.
    pub flagged_at: Option<u64>,
    /// When the oldest executed block without a stable checkpoint was executed.
    pub uncovered_since: Option<u64>,
    /// How often we have told the others since the last progress.
    pub statuses: u32,
    /// We know of a view, proposal or checkpoint beyond what we have.
    pub behind: bool,
}

impl Timers {
    pub(crate) fn next(&self) -> Option<u64> {
        let all = [self.execution, self.coverage, self.new_view, self.status, self.fetch, self.sync, self.idle];
        all.into_iter().flatten().min()
    }
}

/// Starts a timer whose condition holds and that is not running; stops one whose condition does not hold.
fn arm(timer: &mut Option<u64>, condition: bool, at: u64) {
    match (condition, &timer) {
        (true, None) => *timer = Some(at),
        (false, Some(_)) => *timer = None,
        _ => {}
    }
}

/// Whether a timer has run out; it is stopped then.
fn expired(timer: &mut Option<u64>, now: u64) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}

impl<S: Signatures> Replica<S> {
    /// How long a view may take without progress. Doubles with each failed view and saturates.
    pub(crate) fn view_timeout(&self) -> u64 {
        let doublings = self.failed_views.saturating_sub(1).min(self.config.timing.view_timeout_doublings_max).min(32);
        self.config.timing.view_timeout_ms.saturating_mul(1 << doublings)
    }

    /// Something was executed or has become stable.
    pub(crate) fn on_progress(&mut self) {
        self.timers.execution = None;
        self.timers.status = None;
        self.timers.sync = None;
        self.timers.statuses = 0;
    }

    /// A view has begun: everything gets its full time again.
    pub(crate) fn restart_view_timers(&mut self) {
        self.timers.execution = None;
        self.timers.coverage = None;
        self.timers.new_view = None;
        self.timers.status = None;
        self.timers.statuses = 0;
        let complain_at = self.now + self.config.timing.complaint_timeout_ms;
        for (_, queue) in self.submissions.queues_mut() {
            queue.expire_at = None;
            queue.complain_at = queue.complain_at.map(|_| complain_at);
        }
    }

    /// Starts and stops timers by their conditions.
    pub(crate) fn rearm(&mut self) {
        let now = self.now;
        let timing = self.config.timing;
        let timeout = self.view_timeout();
        // Alone there is nobody to change to.
        let votes = self.is_voting() && self.config.n() > 1;
        let awaits_execution = self.awaits_execution();
        let uncovered = self.executed > self.log.low();
        if !uncovered {
            self.timers.uncovered_since = None;
        } else if self.timers.uncovered_since.is_none() {
            self.timers.uncovered_since = Some(now);
        }
        let awaits_others = awaits_execution
            || uncovered
            || self.changing
            || self.checkpoints.ahead.is_some()
            || !self.wanted.is_empty()
            || self.timers.behind;
        let idle_at = self.idle_checkpoint_at();
        let status_at = now + (timing.status_interval_ms << self.timers.statuses.min(4));
        let has_ahead = self.checkpoints.ahead.is_some();
        let wants = !self.wanted.is_empty();
        let timers = &mut self.timers;
        arm(&mut timers.execution, votes && awaits_execution, now + timeout);
        arm(&mut timers.coverage, votes && uncovered, now + 2 * timeout);
        arm(&mut timers.new_view, self.changing, now + timeout);
        arm(&mut timers.status, awaits_others && self.config.n() > 1, status_at);
        arm(&mut timers.fetch, wants, now + timing.fetch_retry_ms);
        arm(&mut timers.sync, has_ahead, now + timing.sync_delay_ms);
        timers.idle = idle_at;
        self.rearm_submissions(timeout, votes);
    }

    fn rearm_submissions(&mut self, timeout: u64, votes: bool) {
        let complain_at = self.now + self.config.timing.complaint_timeout_ms;
        let expire_at = self.now + timeout;
        let done = &self.delivered.origins;
        let several = self.config.n() > 1;
        for (origin, queue) in self.submissions.queues_mut() {
            let ours = several && queue.ours().next().is_some();
            let complained = votes && queue.is_complained(origin, done);
            arm(&mut queue.complain_at, ours, complain_at);
            arm(&mut queue.expire_at, complained, expire_at);
        }
    }

    /// Acts on what has run out.
    pub(crate) fn fire_timers(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        if expired(&mut self.timers.fetch, now) {
            self.fetch_again(out);
        }
        if expired(&mut self.timers.sync, now) {
            self.request_sync(out);
        }
        if expired(&mut self.timers.status, now) {
            self.timers.statuses += 1;
            self.timers.behind = false;
            self.tell_status(out);
        }
        self.fire_complaints(out);
        let reason = self.expired_reason();
        if let Some(reason) = reason {
            self.wish_next(reason, out);
        }
    }

    fn expired_reason(&mut self) -> Option<Reason> {
        let now = self.now;
        let submission = self.submissions.queues_mut().any(|(_, queue)| expired(&mut queue.expire_at, now));
        let timers = &mut self.timers;
        let reasons = [
            (expired(&mut timers.execution, now), Reason::Execution),
            (expired(&mut timers.coverage, now), Reason::Coverage),
            (submission, Reason::Submission),
            (expired(&mut timers.new_view, now), Reason::NewView),
        ];
        reasons.into_iter().find(|(expired, _)| *expired).map(|(_, reason)| reason)
    }

    /// Whether this view's primary has proposed something that is not executed, or owes the first body.
    fn awaits_execution(&self) -> bool {
        let view = self.view;
        let beyond = self.log.after(self.tip.sequence.max(self.executed));
        (self.executed == 0 && self.config.base == 0)
            || self.tip.sequence > self.executed
            || beyond.into_iter().any(|(_, slot)| slot.proposal(view).is_some())
    }

    /// As primary: when to propose an empty body so that what was executed gets covered.
    fn idle_checkpoint_at(&self) -> Option<u64> {
        let tip = &self.tip;
        let idle = self.can_propose() && tip.sequence == self.executed && tip.sequence > self.log.low();
        if !idle {
            return None;
        }
        let timing = &self.config.timing;
        let covered = tip.checkpoint == tip.sequence;
        // One that should be under way and does not come can have died with its voters: ask for another.
        let wait = if covered { timing.view_timeout_ms / 2 } else { timing.checkpoint_idle_ms };
        Some(self.timers.proposed_at + wait)
    }

    pub(crate) fn idle_checkpoint_due(&self) -> bool {
        self.idle_checkpoint_at().is_some_and(|at| self.now >= at)
    }

    /// Whether the backups begin to wait for a checkpoint, so that it comes even if the queue never runs empty.
    pub(crate) fn covering_is_late(&self) -> bool {
        let limit = self.config.timing.view_timeout_ms / 4;
        let long = |since: u64| self.now >= since + limit;
        let flagged_long_ago = self.timers.flagged_at.is_none_or(long);
        self.timers.uncovered_since.is_some_and(long) && flagged_long_ago
    }
}
