//! A running process seen from outside: signals, memory, processor time.

use std::fs;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Sends SIGTERM, as a service manager does.
pub fn terminate(child: &Child) {
    signal(child, Signal::TERM);
}

/// Sends SIGINT, as Ctrl-C does.
pub fn interrupt(child: &Child) {
    signal(child, Signal::INT);
}

/// Kills whatever is left of a process group that this child was made the leader of.
pub fn kill_group(leader: &Child) {
    // An empty group is what is wanted.
    let _ = kill_process_group(pid_of(leader), Signal::KILL);
}

fn signal(child: &Child, signal: Signal) {
    kill_process(pid_of(child), signal).expect("a child of ours that nobody has waited for");
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a process id")
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux names the resident memory");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of kB");
    kibibytes * 1024
}

/// Processor time that a process has used, user and system.
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The second field is the program's name in parentheses and may hold spaces; the 14th and 15th are times.
    let after_name = stat.rsplit_once(')').expect("proc(5)").1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().expect("ticks")).sum();
    // Linux reports to user space in hundredths of a second on every architecture that we run on.
    Duration::from_millis(ticks * 10)
}
