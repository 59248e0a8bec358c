//! CPU and memory of processes, and what the disk's flush costs now.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// What processes have used so far.
pub struct Sample {
    at: Instant,
    brokers_cpu_s: f64,
    tools_cpu_s: f64,
    machine_cpu_s: f64,
    rss_mib: f64,
    rss_anon_mib: f64,
}

/// What was used between two samples.
pub struct Used {
    pub broker_cpu_s: f64,
    /// Of all brokers, at the end.
    pub rss_mib: f64,
    /// The same without mapped files: some brokers map their logs.
    pub rss_anon_mib: f64,
    /// Cores that neither the brokers nor the load tool used: a quiet machine has nearly none.
    pub other_cores: f64,
}

impl Sample {
    pub fn take(pids: &[u32]) -> Sample {
        Sample {
            at: Instant::now(),
            brokers_cpu_s: pids.iter().map(|pid| cpu_s(*pid)).sum(),
            tools_cpu_s: children_cpu_s(),
            machine_cpu_s: machine_cpu_s(),
            rss_mib: pids.iter().map(|pid| memory_mib(*pid, "VmRSS:")).sum(),
            rss_anon_mib: pids.iter().map(|pid| memory_mib(*pid, "RssAnon:")).sum(),
        }
    }

    pub fn since(&self, before: &Sample) -> Used {
        let seconds = (self.at - before.at).as_secs_f64();
        let broker_cpu_s = self.brokers_cpu_s - before.brokers_cpu_s;
        let tools_cpu_s = self.tools_cpu_s - before.tools_cpu_s;
        let other_cpu_s = self.machine_cpu_s - before.machine_cpu_s - broker_cpu_s - tools_cpu_s;
        let other_cores = (other_cpu_s / seconds).max(0.0);
        Used { broker_cpu_s, rss_mib: self.rss_mib, rss_anon_mib: self.rss_anon_mib, other_cores }
    }
}

/// Latency of append and fdatasync, in milliseconds.
pub struct FsyncProbe {
    pub p50_4k_ms: f64,
    pub p99_4k_ms: f64,
    pub p50_1m_ms: f64,
    pub p99_1m_ms: f64,
}

/// In `dir`, which should lie on the disk that the brokers use.
pub fn fsync_probe(dir: &Path) -> Result<FsyncProbe> {
    fs::create_dir_all(dir)?;
    let (p50_4k_ms, p99_4k_ms) = probe(dir, 4 << 10, 300)?;
    let (p50_1m_ms, p99_1m_ms) = probe(dir, 1 << 20, 100)?;
    Ok(FsyncProbe { p50_4k_ms, p99_4k_ms, p50_1m_ms, p99_1m_ms })
}

fn probe(dir: &Path, append_bytes: usize, count: usize) -> Result<(f64, f64)> {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path)?;
    let buffer = vec![0x5a; append_bytes];
    let mut times_ms = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        file.write_all(&buffer)?;
        file.sync_data()?;
        times_ms.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(&path)?;
    times_ms.sort_by(f64::total_cmp);
    Ok((times_ms[count / 2], times_ms[count * 99 / 100]))
}

/// User and system time of a process; 0 when it is gone.
fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name, in brackets, may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / ticks_per_second()
}

fn machine_cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system; irq, softirq
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum::<f64>();
    busy / ticks_per_second()
}

/// Of children that ended, and of theirs.
fn children_cpu_s() -> f64 {
    // SAFETY: an all-zero rusage is valid, and getrusage only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A line of the process's status that gives KiB; 0 when it is gone.
fn memory_mib(pid: u32, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kib: f64 = value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf has no preconditions.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}
