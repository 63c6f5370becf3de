//! A machine that counts, links with faults, members that can be stopped and started.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use waybill_ledger::journal::{self, Journal, OpenError, StreamId};

use super::super::network::{Transport, Unreachable};
use super::super::snapshot::Applied;
use super::super::wire::Wire;
use super::super::{Group, GroupId, LogRecovery, LogStore, Machine, Options, Setup, Status};

pub const GROUP: GroupId = GroupId(*b"test-group\0\0\0\0\0\0");
pub const STREAM: StreamId = StreamId(GROUP.0);

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, and fails the test if it takes too long.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen")
}

/// A machine in memory: the commands in their order. An answer is the number of commands before, and the command.
pub struct Tally {
    state: Mutex<(Option<Bytes>, Vec<Bytes>)>,
    length: watch::Sender<usize>,
    pub installs: AtomicU64,
    refuses_snapshots: bool,
    fails_to_install: bool,
    /// Apply fails at this command once.
    pub fails_at: Mutex<Option<usize>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            length: watch::channel(0).0,
            installs: AtomicU64::new(0),
            refuses_snapshots: false,
            fails_to_install: false,
            fails_at: Mutex::new(None),
        }
    }
}

impl Tally {
    /// One that takes no snapshot of others.
    pub fn distrustful() -> Self {
        Self { refuses_snapshots: true, ..Self::default() }
    }

    /// One whose storage fails when a snapshot is installed.
    pub fn that_fails_to_install() -> Self {
        Self { fails_to_install: true, ..Self::default() }
    }

    pub fn commands(&self) -> Vec<Bytes> {
        self.state.lock().1.clone()
    }

    pub async fn reaches(&self, length: usize) {
        soon(self.length.subscribe().wait_for(|now| *now >= length)).await.unwrap();
    }
}

impl Machine for Tally {
    fn applied(&self) -> Option<Bytes> {
        self.state.lock().0.clone()
    }

    fn apply(&self, meta: Bytes, command: Option<&Bytes>) -> io::Result<Bytes> {
        let mut state = self.state.lock();
        let before = state.1.len();
        if command.is_some() && self.fails_at.lock().take_if(|at| *at == before).is_some() {
            return Err(io::Error::other("the storage is gone"));
        }
        state.0 = Some(meta);
        state.1.extend(command.cloned());
        self.length.send_replace(state.1.len());
        Ok([before.to_string().as_bytes(), b":", command.map_or(&b""[..], |command| &command[..])].concat().into())
    }

    fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<Bytes> {
        let (meta, commands) = self.state.lock().clone();
        for command in &commands {
            out.write_all(&(command.len() as u32).to_be_bytes())?;
            out.write_all(command)?;
        }
        // openraft's suite has an empty machine make a snapshot.
        Ok(meta.unwrap_or_else(|| Applied::default().to_wire()))
    }

    fn verify_snapshot(&self, _meta: &Bytes, input: &mut dyn Read) -> io::Result<()> {
        if self.refuses_snapshots { Err(io::Error::other("it proves nothing")) } else { decode(input).map(drop) }
    }

    fn install_snapshot(&self, meta: Bytes, input: &mut dyn Read) -> io::Result<()> {
        if self.fails_to_install {
            return Err(io::Error::other("the storage is gone"));
        }
        let commands = decode(input)?;
        self.length.send_replace(commands.len());
        *self.state.lock() = (Some(meta), commands);
        self.installs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn decode(input: &mut dyn Read) -> io::Result<Vec<Bytes>> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let mut rest = Bytes::from(bytes);
    let mut commands = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest.split_to(4).as_ref().try_into().map_err(io::Error::other)?);
        commands.push(rest.split_to(length as usize));
    }
    Ok(commands)
}

/// Opens the journal in `dir`, waiting while its last users let go of it, and recovers the test group's log.
pub async fn open_log(dir: &Path, segment_bytes: u64, options: &Options) -> (Arc<Journal>, LogStore) {
    let mut journal_options = journal::Options::new("test");
    journal_options.segment_bytes = segment_bytes;
    let opened = soon(async {
        loop {
            let mut recovery = LogRecovery::default();
            let journal = Journal::open(dir, journal_options.clone(), &mut |mut record| {
                if record.stream == STREAM {
                    recovery.visit(&mut record)?;
                }
                Ok(())
            });
            match journal {
                Ok(journal) => return (journal, recovery),
                Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let (journal, recovery) = opened.await;
    let journal = Arc::new(journal);
    let log = recovery.finish(Arc::clone(&journal), STREAM, options).unwrap();
    (journal, log)
}

/// Copies a directory of files as a crash would leave it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The links between members.
#[derive(Default)]
pub struct Net {
    groups: Mutex<BTreeMap<u64, Group>>,
    cut: Mutex<HashSet<(u64, u64)>>,
    /// Of so many messages one is lost; none if 0.
    pub lose_one_of: AtomicU64,
    /// Requests with more bytes than this...
    pub large_bytes: AtomicU64,
    /// ... take so long...
    pub large_delay_ms: AtomicU64,
    /// ... and are counted.
    pub large_requests: AtomicU64,
    messages: AtomicU64,
}

impl Net {
    /// Cuts or mends all links between `member` and the others.
    pub fn set_cut_off(&self, member: u64, members: &BTreeSet<u64>, is_cut: bool) {
        let mut cut = self.cut.lock();
        for other in members.iter().filter(|other| **other != member) {
            for link in [(member, *other), (*other, member)] {
                if is_cut {
                    cut.insert(link)
                } else {
                    cut.remove(&link)
                };
            }
        }
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        let lose_one_of = self.lose_one_of.load(Ordering::Relaxed);
        // Scrambled (Knuth's multiplicative hash), so that losses do not fall on the same kind of message each time.
        let number = self.messages.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        !self.cut.lock().contains(&(from, to)) && (lose_one_of == 0 || !number.is_multiple_of(lose_one_of))
    }
}

/// One member's end of the links.
#[derive(Clone)]
pub struct End {
    pub net: Arc<Net>,
    pub from: u64,
}

impl Transport for End {
    async fn call(&self, to: u64, group: GroupId, request: Bytes, _: Duration) -> Result<Bytes, Unreachable> {
        assert_eq!(group, GROUP);
        let lost = |why: &str| Unreachable { to, why: why.to_owned() };
        if !self.net.passes(self.from, to) {
            return Err(lost("the request is lost"));
        }
        if request.len() as u64 > self.net.large_bytes.load(Ordering::Relaxed) {
            self.net.large_requests.fetch_add(1, Ordering::Relaxed);
            let delay = self.net.large_delay_ms.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let group = self.net.groups.lock().get(&to).cloned().ok_or_else(|| lost("it is off"))?;
        let answer = group.handle(self.from, request).await;
        if self.net.passes(to, self.from) { Ok(answer) } else { Err(lost("the answer is lost")) }
    }
}

pub struct Member {
    pub group: Group,
    pub machine: Arc<Tally>,
    pub journal: Arc<Journal>,
}

/// A group in one process.
pub struct Cluster {
    pub ids: BTreeSet<u64>,
    pub net: Arc<Net>,
    pub running: BTreeMap<u64, Member>,
    pub options: Options,
    pub segment_bytes: u64,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(size: u64) -> Self {
        let mut cluster = Self::off(size);
        cluster.start_all().await;
        cluster
    }

    /// A cluster none of whose members run yet.
    pub fn off(size: u64) -> Self {
        let mut options = Options::new("test");
        options.heartbeat = Duration::from_millis(60);
        options.election_min = Duration::from_millis(300);
        options.election_max = Duration::from_millis(600);
        options.snapshot_timeout = Duration::from_secs(5);
        let dir = tempfile::tempdir().unwrap();
        let net = Net { large_bytes: AtomicU64::new(u64::MAX), ..Net::default() };
        let (net, running) = (Arc::new(net), BTreeMap::new());
        Self { ids: (1..=size).collect(), net, running, options, segment_bytes: 1 << 20, dir }
    }

    pub async fn start_all(&mut self) {
        for id in self.ids.clone() {
            self.start_member(id).await;
        }
    }

    pub async fn start_member(&mut self, id: u64) {
        self.start_member_with(id, Tally::default()).await;
    }

    pub async fn start_member_with(&mut self, id: u64, machine: Tally) {
        let machine = Arc::new(machine);
        let (journal, log) = open_log(&self.journal_dir(id), self.segment_bytes, &self.options).await;
        let setup = Setup {
            id,
            group: GROUP,
            members: self.ids.clone(),
            log,
            machine: Arc::clone(&machine) as Arc<dyn Machine>,
            snapshots: self.snapshot_dir(id),
            transport: End { net: Arc::clone(&self.net), from: id },
            options: self.options.clone(),
        };
        let group = Group::start(setup).await.unwrap();
        self.net.groups.lock().insert(id, group.clone());
        self.running.insert(id, Member { group, machine, journal });
    }

    pub async fn stop_member(&mut self, id: u64) {
        self.net.groups.lock().remove(&id);
        let member = self.running.remove(&id).unwrap();
        soon(member.group.shutdown()).await;
        member.journal.close();
    }

    pub async fn stop_all(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop_member(id).await;
        }
    }

    pub fn journal_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("{id}/journal"))
    }

    pub fn snapshot_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("{id}/snapshots"))
    }

    pub fn group(&self, id: u64) -> &Group {
        &self.running[&id].group
    }

    /// Waits until a member of `among` leads, and all of `among` know it.
    pub async fn leader_among(&self, among: &[u64]) -> u64 {
        soon(async {
            loop {
                let leaders: HashSet<_> = among.iter().map(|id| self.group(*id).leader()).collect();
                match leaders.into_iter().collect::<Vec<_>>()[..] {
                    [Some(leader)] if among.contains(&leader) => return leader,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }

    pub async fn leader(&self) -> u64 {
        self.leader_among(&self.running.keys().copied().collect::<Vec<_>>()).await
    }

    pub fn followers(&self, leader: u64) -> Vec<u64> {
        self.running.keys().copied().filter(|id| *id != leader).collect()
    }

    /// Writes at a member and returns the answer.
    pub async fn write(&self, at: u64, command: &str) -> String {
        let answer = self.group(at).write(Bytes::copy_from_slice(command.as_bytes()), PATIENCE).await.unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    }

    pub async fn write_many(&self, at: u64, name: &str, count: usize) {
        for number in 0..count {
            let answer = self.write(at, &format!("{name}{number}")).await;
            assert!(answer.ends_with(&format!(":{name}{number}")), "{answer}");
        }
    }

    pub async fn status_of(&self, id: u64, wanted: impl FnMut(&Status) -> bool) -> Status {
        soon(self.group(id).watch().wait_for(wanted)).await.unwrap()
    }

    /// Waits until all running members have applied `length` commands, and shows that they are the same.
    pub async fn converges(&self, length: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        for member in self.running.values() {
            member.machine.reaches(length).await;
            all.push(member.machine.commands());
        }
        let first = all.pop().unwrap();
        all.iter().for_each(|commands| assert_eq!(*commands, first));
        first
    }
}
