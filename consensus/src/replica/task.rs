//! The task that owns one partition.

use super::records::{self, JournalBodies, Recovered};
use super::waiters::Waiters;
use super::{Event, Executed, Progress, ReplicaHandle, Submission};
use crate::catch_up::{self, Fetched};
use crate::clock::Clock;
use crate::peers::Peers;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use waybill_ledger::identity::Identity;
use waybill_ledger::journal::{Journal, Position, StreamId};
use waybill_ledger::partition::{self, Applied, OpenError, Partition};
use waybill_pbft::{self as pbft, Input, Output, PersistId, Replica, ReplicaIndex, Restored, To};
use waybill_types::{Certificate, Digest, Height, LedgerId, PublicKey, Signature};

/// Messages of peers that wait for the task; beyond it their links wait.
const EVENTS_MAX: usize = 4096;
/// Transactions that wait to be put into an envelope; beyond it submitters are refused.
const SUBMISSIONS_MAX: usize = 16 << 10;
/// The most transactions in one envelope.
const ENVELOPE_TRANSACTIONS_MAX: usize = 1024;
/// So many envelopes of ours leave as soon as there is something to put in. Each costs every replica its signatures and
/// syncs, so that groups must grow with the load...
const ENVELOPES_AT_ONCE: usize = 2;
/// ... but one does not wait for others longer than this...
const ENVELOPE_INTERVAL: Duration = Duration::from_millis(3);
/// ... unless so many are on their way.
const ENVELOPES_OUTSTANDING_MAX: usize = 8;
/// Derived state goes to sled when this much of it has gathered.
const FLUSH_BYTES: usize = 4 << 20;
/// How many events are taken before outputs are performed.
const INPUTS_PER_TURN: usize = 64;

/// Everything a replica starts from.
pub(crate) struct ReplicaParts {
    pub(crate) config: pbft::Config,
    pub(crate) recovered: Recovered,
    pub(crate) identity: Arc<Identity>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) tree: sled::Tree,
    pub(crate) peers: Peers,
    pub(crate) clock: Clock,
    /// Told after each stable checkpoint.
    pub(crate) stable: mpsc::UnboundedSender<LedgerId>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Why a replica cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be opened or replayed.
    #[error("ledger {ledger}: {reason}")]
    Ledger {
        /// Which.
        ledger: LedgerId,
        /// Why.
        reason: String,
    },
    /// The core refuses its configuration or what the journal holds.
    #[error("ledger {ledger}: the replica cannot start: {reason}")]
    Core {
        /// Which.
        ledger: LedgerId,
        /// Why.
        reason: String,
    },
}

/// Replays the ledger, starts the core, and spawns the task. Blocks while it replays.
pub(crate) fn start(parts: ReplicaParts) -> Result<ReplicaHandle, StartError> {
    let ReplicaParts { config, recovered, identity, journal, tree, peers, clock, stable, stop } = parts;
    let (ledger, cluster, membership) = (config.ledger, config.cluster, config.membership.clone());
    let bodies = Arc::new(JournalBodies(journal.clone()));
    let failed = |reason: String| StartError::Ledger { ledger, reason };
    let network = config.network;
    let interval = config.checkpoint_interval;
    let opened = Partition::open(tree.clone(), network, ledger, cluster, membership.clone(), interval, bodies.clone());
    let (mut partition, reader) = match opened {
        Ok(opened) => opened,
        Err(OpenError::Corrupt(what)) => {
            // What the journal's scan passed over is needed now: the next start finds nothing here and takes it all.
            partition::forget(&tree, ledger).map_err(|error| failed(error.to_string()))?;
            let advice = "it has been cleared, start the node again to rebuild it from the journal";
            return Err(failed(format!("the derived state was damaged ({what}): {advice}")));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    replay(&mut partition, &recovered, &bodies).map_err(failed)?;
    let executed = partition.executed_height();
    let origins = partition.tip().origins.clone();
    let positions = recovered
        .bodies_after(executed)
        .into_iter()
        .flat_map(|(height, bodies)| bodies.into_iter().map(move |(digest, at)| ((height, digest), Place::At(at))))
        .collect();
    let restored = Restored {
        stable: recovered.certificates().last().cloned(),
        executed,
        origins: origins.clone(),
        records: recovered.into_core_records(),
    };
    let now_ms = clock.now_ms();
    let incarnation = now_ms.max(origins.next_of(identity.node).0 + 1);
    let mut outputs = Vec::new();
    let core = Replica::start(config.clone(), Signer(identity.clone()), restored, now_ms, &mut outputs)
        .map_err(|error| StartError::Core { ledger, reason: error.to_string() })?;

    let (events, events_in) = mpsc::channel(EVENTS_MAX);
    let (submissions, submissions_in) = mpsc::channel(SUBMISSIONS_MAX);
    let (wake, wake_in) = mpsc::unbounded_channel();
    let (progress, progress_out) = watch::channel(Progress::default());
    let task = Task {
        waiters: Waiters::new(cluster, identity.node, incarnation),
        config,
        core,
        partition,
        positions,
        identity,
        journal,
        stream: records::stream_of(ledger),
        peers,
        clock,
        stable,
        progress,
        wake,
        events: events.clone(),
        last_envelope: Instant::now(),
        flushing: false,
        fetching: false,
        inputs: VecDeque::new(),
        outputs,
    };
    tokio::spawn(task.drive(Channels { events: events_in, submissions: submissions_in, wake: wake_in, stop }));
    Ok(ReplicaHandle { ledger, cluster, membership, reader, events, submissions, progress: progress_out })
}

/// Applies what the journal says was executed after what sled holds.
fn replay(partition: &mut Partition, recovered: &Recovered, bodies: &JournalBodies) -> Result<(), String> {
    use waybill_ledger::partition::BodySource;
    let mut certificates = recovered.certificates().iter().peekable();
    while let Some(position) = recovered.executed_body(partition.executed_height() + 1) {
        let body = bodies.body(position).map_err(|error| error.to_string())?;
        let height = partition.executed_height() + 1;
        partition.apply(height, body, position).map_err(|error| error.to_string())?;
        while let Some(certificate) = certificates.next_if(|next| next.checkpoint.height <= height) {
            partition.certified(certificate).map_err(|error| error.to_string())?;
        }
        if partition.overlay_bytes() > FLUSH_BYTES
            && let Some(flush) = partition.take_flush()
        {
            let flushed = flush.write().map_err(|error| error.to_string())?;
            partition.flushed(flushed);
        }
    }
    Ok(())
}

struct Signer(Arc<Identity>);

impl pbft::Signatures for Signer {
    fn sign(&self, preimage: &[u8]) -> Signature {
        self.0.sign(preimage)
    }
    fn verify(&self, key: &PublicKey, preimage: &[u8], signature: &Signature) -> bool {
        key.verifies(preimage, signature)
    }
}

/// What the journal's and the flush's threads tell the task.
enum Wake {
    Persisted(PersistId, Position),
    StableWritten,
    Flushed(Result<waybill_ledger::partition::Flushed, String>),
}

struct Channels {
    events: mpsc::Receiver<Event>,
    submissions: mpsc::Receiver<Submission>,
    wake: mpsc::UnboundedReceiver<Wake>,
    stop: watch::Receiver<bool>,
}

struct Task {
    config: pbft::Config,
    core: Replica<Signer>,
    partition: Partition,
    /// Where the bodies are that may be executed next.
    positions: BTreeMap<(Height, Digest), Place>,
    waiters: Waiters,
    identity: Arc<Identity>,
    journal: Arc<Journal>,
    /// Ours in the journal.
    stream: StreamId,
    peers: Peers,
    clock: Clock,
    stable: mpsc::UnboundedSender<LedgerId>,
    progress: watch::Sender<Progress>,
    wake: mpsc::UnboundedSender<Wake>,
    events: mpsc::Sender<Event>,
    last_envelope: Instant,
    flushing: bool,
    fetching: bool,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
}

impl Task {
    async fn drive(mut self, mut channels: Channels) {
        self.note_progress();
        for output in std::mem::take(&mut self.outputs) {
            self.perform(output);
        }
        for peer in self.config.peers() {
            self.inputs.push_back(Input::Reconnected { peer });
        }
        self.inputs.push_back(Input::Tick);
        self.turn();
        while !self.progress.borrow().halted {
            let deadline = self.core.next_timeout().map(|at_ms| self.clock.instant(at_ms));
            let next_envelope = self.next_envelope();
            tokio::select! {
                Some(wake) = channels.wake.recv() => {
                    self.on_wake(wake);
                    for _ in 1..INPUTS_PER_TURN {
                        let Ok(wake) = channels.wake.try_recv() else { break };
                        self.on_wake(wake);
                    }
                }
                Some(event) = channels.events.recv() => {
                    self.on_event(event);
                    for _ in 1..INPUTS_PER_TURN {
                        let Ok(event) = channels.events.try_recv() else { break };
                        self.on_event(event);
                    }
                }
                Some(first) = channels.submissions.recv(), if self.may_submit() => {
                    self.on_submissions(first, &mut channels.submissions);
                }
                () = sleep_until(next_envelope), if next_envelope.is_some() => {}
                () = sleep_until(deadline) => self.inputs.push_back(Input::Tick),
                _ = channels.stop.wait_for(|stop| *stop) => break,
            }
            self.turn();
        }
        let halted = self.progress.borrow().halted;
        tracing::debug!(ledger = %self.config.ledger, halted, "the replica's task ends");
    }

    fn may_submit(&self) -> bool {
        let outstanding = self.waiters.outstanding();
        let due = outstanding < ENVELOPES_AT_ONCE || self.last_envelope.elapsed() >= ENVELOPE_INTERVAL;
        due && outstanding < ENVELOPES_OUTSTANDING_MAX && self.core.room() > 0
    }

    /// When the next envelope may leave, if only the time keeps it back.
    fn next_envelope(&self) -> Option<Instant> {
        let held_back = ENVELOPES_AT_ONCE..ENVELOPES_OUTSTANDING_MAX;
        let paced = held_back.contains(&self.waiters.outstanding()) && self.core.room() > 0;
        let due = self.last_envelope + ENVELOPE_INTERVAL;
        (paced && Instant::now() < due).then_some(due)
    }

    /// Feeds the core all that is waiting, and performs what it asks, in order.
    fn turn(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let mut outputs = std::mem::take(&mut self.outputs);
            self.core.handle(self.clock.now_ms(), input, &mut outputs);
            for output in outputs.drain(..) {
                self.perform(output);
            }
            self.outputs = outputs;
        }
    }

    fn on_wake(&mut self, wake: Wake) {
        match wake {
            Wake::Persisted(id, position) => {
                if let Some(place) = self.positions.values_mut().find(|place| **place == Place::Pending(id)) {
                    *place = Place::At(position);
                }
                self.inputs.push_back(Input::Persisted(id));
            }
            Wake::StableWritten => self.flush(),
            Wake::Flushed(Ok(flushed)) => {
                self.flushing = false;
                self.partition.flushed(flushed);
                self.flush();
            }
            Wake::Flushed(Err(reason)) => {
                // Nothing is lost: the journal has it all, and the next flush carries it again.
                self.flushing = false;
                tracing::error!(ledger = %self.config.ledger, %reason, "derived state cannot be written");
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Message { from, bytes } => self.inputs.push_back(Input::Message { from, bytes }),
            Event::Connected(node) => {
                if let Some(index) = self.config.membership.index_of(node) {
                    self.inputs.push_back(Input::Reconnected { peer: index as ReplicaIndex });
                }
            }
            Event::Fetched(fetched) => {
                self.fetching = false;
                if let Some(fetched) = fetched {
                    self.apply_fetched(*fetched);
                }
            }
        }
    }

    fn on_submissions(&mut self, first: Submission, more: &mut mpsc::Receiver<Submission>) {
        let mut submissions = vec![first];
        while submissions.len() < ENVELOPE_TRANSACTIONS_MAX {
            let Ok(submission) = more.try_recv() else { break };
            submissions.push(submission);
        }
        let identity = self.identity.clone();
        let envelope = self.waiters.envelope(submissions, |preimage| identity.sign(preimage));
        self.last_envelope = Instant::now();
        self.inputs.push_back(Input::Submit(envelope));
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Persist { id, record } => self.persist(id, record),
            Output::Send { to, message } => self.send(to, message),
            Output::Execute { sequence, body, digest, .. } => self.execute(sequence, body, digest),
            Output::Stable(certificate) => self.on_stable(certificate),
            Output::NeedSync { certificate, candidates, .. } => self.fetch(&certificate, candidates),
            Output::Diverged { .. } => {
                self.halt("what was executed here differs from what a quorum certified");
            }
            Output::Evidence(evidence) => {
                tracing::error!(ledger = %self.config.ledger, ?evidence, "a replica has signed two contents for one place");
                metrics::counter!("waybill_pbft_equivocations_total").increment(1);
            }
            Output::Event(event) => self.report(event),
        }
    }

    fn persist(&mut self, id: PersistId, record: Bytes) {
        if let Some(stored) = pbft::record::accepted(&record) {
            self.positions.entry((stored.sequence, stored.digest)).or_insert(Place::Pending(id));
        }
        let wake = self.wake.clone();
        let done = move |position| {
            // The task may have ended meanwhile.
            let _ = wake.send(Wake::Persisted(id, position));
        };
        if let Err(error) = self.journal.append(self.stream, records::core_record(record), done) {
            self.halt(&format!("the journal takes no records: {error}"));
        }
    }

    fn send(&self, to: To, message: Bytes) {
        let config = &self.config;
        let send = |index: ReplicaIndex| {
            if let Some(member) = config.membership.members.get(usize::from(index)) {
                self.peers.send(member.node, config.cluster, message.clone());
            }
        };
        match to {
            To::All => config.peers().for_each(send),
            To::One(index) => send(index),
        }
    }

    fn execute(&mut self, height: Height, body: Bytes, digest: Digest) {
        // It was fetched meanwhile: the `Synced` that is on its way to the core says so.
        if height <= self.partition.executed_height() {
            return;
        }
        let Some(Place::At(position)) = self.positions.get(&(height, digest)).copied() else {
            return self.halt("a decided body is in no record");
        };
        if let Some(applied) = self.apply(height, body, position) {
            self.inputs.push_back(Input::Executed { sequence: height, checkpoint: applied.checkpoint });
        }
    }

    /// Applies the next body and tells everybody who waits for it.
    fn apply(&mut self, height: Height, body: Bytes, position: Position) -> Option<Applied> {
        let applied = match self.partition.apply(height, body, position) {
            Ok(applied) => applied,
            Err(error) => {
                self.halt(&error.to_string());
                return None;
            }
        };
        for (header, index, outcome) in applied.answers() {
            self.waiters.resolve(header, index, Executed { outcome, time_ms: applied.header.time_ms });
        }
        self.positions = self.positions.split_off(&(height + 1, Digest::ZERO));
        if applied.config_changed
            && let Some(config) = self.partition.config()
        {
            let origins = config.origins.iter().map(|origin| (origin.node, origin.key));
            self.inputs.push_back(Input::SetOrigins(origins.collect()));
        }
        metrics::counter!("waybill_blocks_executed_total").increment(1);
        metrics::counter!("waybill_transactions_executed_total").increment(applied.outcomes.len() as u64);
        let record = records::executed_record(height, applied.header.body);
        if let Err(error) = self.journal.append_lazily(self.stream, record, |_| ()) {
            self.halt(&format!("the journal takes no records: {error}"));
            return None;
        }
        self.note_progress();
        Some(applied)
    }

    fn on_stable(&mut self, certificate: Certificate) {
        let wake = self.wake.clone();
        let done = move |_| {
            // The task may have ended meanwhile.
            let _ = wake.send(Wake::StableWritten);
        };
        if let Err(error) = self.journal.append(self.stream, records::stable_record(&certificate), done) {
            return self.halt(&format!("the journal takes no records: {error}"));
        }
        if let Err(error) = self.partition.certified(&certificate) {
            return self.halt(&error.to_string());
        }
        self.note_progress();
        // The anchor may have ended meanwhile.
        let _ = self.stable.send(self.config.ledger);
    }

    /// Writes derived state that a durable certificate covers, when enough has gathered, off this task.
    fn flush(&mut self) {
        if self.flushing || self.partition.overlay_bytes() < FLUSH_BYTES {
            return;
        }
        let Some(flush) = self.partition.take_flush() else { return };
        self.flushing = true;
        let wake = self.wake.clone();
        tokio::task::spawn_blocking(move || {
            let flushed = flush.write().map_err(|error| error.to_string());
            // The task may have ended meanwhile.
            let _ = wake.send(Wake::Flushed(flushed));
        });
    }

    fn fetch(&mut self, certificate: &Certificate, candidates: Vec<ReplicaIndex>) {
        if std::mem::replace(&mut self.fetching, true) {
            return;
        }
        let config = &self.config;
        let members = &config.membership.members;
        let request = catch_up::Wanted {
            ledger: config.ledger,
            membership: config.membership.clone(),
            tip: self.partition.tip().clone(),
            target: certificate.checkpoint.height,
            candidates: candidates
                .iter()
                .filter_map(|index| members.get(usize::from(*index)))
                .map(|m| m.node)
                .collect(),
        };
        let (peers, journal, events) = (self.peers.clone(), self.journal.clone(), self.events.clone());
        tokio::spawn(async move {
            let fetched = catch_up::fetch(&peers, &journal, request).await;
            // The task may have ended meanwhile.
            let _ = events.send(Event::Fetched(fetched.map(Box::new))).await;
        });
    }

    fn apply_fetched(&mut self, fetched: Fetched) {
        for (block, position) in fetched.blocks {
            let height = block.header.height;
            if height <= self.partition.executed_height() {
                continue;
            }
            match self.apply(height, block.body, position) {
                Some(applied) if applied.header == block.header => {}
                Some(_) => return self.halt("a certified block executes to something else here"),
                None => return,
            }
        }
        let certificate = fetched.certificate;
        if certificate.checkpoint.height <= self.partition.executed_height() {
            self.on_stable(certificate.clone());
            self.inputs.push_back(Input::Synced {
                certificate,
                origins: self.partition.tip().origins.clone(),
                executed: self.partition.executed_height(),
            });
            self.note_progress();
        }
    }

    fn note_progress(&self) {
        let config = &self.config;
        let view = self.core.view();
        let now = Progress {
            executed: self.partition.executed_height(),
            stable: self.partition.stable_height(),
            high_watermark: self.partition.tip().next_offset,
            view,
            primary: config.primary(view) == config.me,
            halted: self.progress.borrow().halted,
        };
        self.progress.send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }

    fn halt(&self, reason: &str) {
        tracing::error!(ledger = %self.config.ledger, reason, "the replica stops");
        metrics::counter!("waybill_replicas_halted_total").increment(1);
        self.progress.send_modify(|progress| progress.halted = true);
    }

    fn report(&self, event: pbft::Event) {
        let ledger = self.config.ledger;
        match event {
            pbft::Event::ViewChangeStarted { view, reason } => {
                tracing::info!(%ledger, view, ?reason, "view change");
                metrics::counter!("waybill_pbft_view_changes_total").increment(1);
            }
            pbft::Event::ViewWished { view, reason } => {
                tracing::debug!(%ledger, view, ?reason, "another view is wished for");
            }
            pbft::Event::ViewEntered { view, primary } => {
                tracing::debug!(%ledger, view, primary, "view entered");
                self.note_progress();
            }
            pbft::Event::PeerMisbehaved { peer, what } => {
                tracing::debug!(%ledger, peer, what, "a peer's message was refused");
                metrics::counter!("waybill_pbft_refused_messages_total", "what" => what).increment(1);
            }
            pbft::Event::ProposalRefused { sequence, why } => {
                tracing::debug!(%ledger, sequence, why, "a proposal was refused");
            }
            pbft::Event::SubmissionDropped { origin, number, why, .. } => {
                tracing::debug!(%ledger, %origin, number, why, "an envelope was dropped");
            }
            pbft::Event::ShellMisbehaved(what) => tracing::error!(%ledger, what, "the core refused an input"),
        }
    }
}

/// Where a body's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is not written yet.
    Pending(PersistId),
    At(Position),
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        // Nothing to wait for: the other branches wake the task.
        None => tokio::time::sleep(Duration::from_secs(3600)).await,
    }
}
