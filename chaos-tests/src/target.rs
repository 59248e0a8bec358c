//! The workload and the checkers against a cluster that runs already, without faults: `--target`.
//!
//! It makes topics and groups of its own, with a prefix that says so, and removes them again. It asks nothing else of the cluster, so that
//! replicas are not compared and nodes' logs are not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::check;
use crate::client;
use crate::history::{History, Run};
use crate::observe;
use crate::recorder::Recorder;
use crate::report::Remarks;
use crate::run::{self, Outcome};
use crate::workload::topics::{self, ConfigNames};
use crate::workload::{Shared, Threads, group};

const ADMIN_LIMIT: Duration = Duration::from_secs(30);

pub struct Settings {
    /// `HOST:PORT[,HOST:PORT…]` for Kafka clients.
    pub bootstrap: String,
    pub duration: Duration,
    /// Names the topics.
    pub seed: u64,
    pub with_groups: bool,
    pub config_names: ConfigNames,
    pub modes: Vec<String>,
    pub records_per_second: u32,
}

/// `progress` is told what happens. Ctrl-C ends the load early; topics and groups are removed all the same.
pub fn run(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Outcome> {
    let prefix = format!("duolog-chaos-{}", settings.seed);
    let mut topics = topics::of_modes(&settings.modes, settings.with_groups);
    topics.iter_mut().for_each(|topic| topic.name = format!("{prefix}-{}", topic.name));
    let shared = Arc::new(Shared {
        bootstrap: settings.bootstrap.clone(),
        topics,
        message_topics: Vec::new(),
        recorder: Recorder::start(),
    });
    progress(&format!("creating topics {prefix}-… at {}", settings.bootstrap));
    topics::create(&shared.bootstrap, &shared.topics, settings.config_names, &[]).with_context(|| {
        format!(
            "--target: expected the Kafka port of a running cluster, where topics may be created, at {}",
            settings.bootstrap
        )
    })?;
    let outcome = under_load(settings, &shared, progress);
    progress("removing topics and groups");
    let removed = remove(&shared, settings.with_groups);
    let mut outcome = outcome?;
    if let Err(error) = removed {
        outcome.remarks.notes.push(format!("topics and groups {prefix}-… are not all removed: {error:#}"));
    }
    Ok(outcome)
}

fn under_load(settings: &Settings, shared: &Arc<Shared>, progress: &dyn Fn(&str)) -> Result<Outcome> {
    progress(&format!("load for {:?}; Ctrl-C ends it early", settings.duration));
    let readers = run::start_readers(shared)?;
    let mut observers = Threads::default();
    let of_watermarks = Arc::clone(shared);
    observers.spawn("watermark observer".into(), move |stop| observe::follow_watermarks(&of_watermarks, stop));
    let producers = run::start_producers(shared, settings.records_per_second);
    let load_begin_ms = shared.recorder.now_ms();
    let end = Instant::now() + settings.duration;
    interrupt::listen();
    while Instant::now() < end && !interrupt::is_wanted() {
        sleep(Duration::from_millis(50));
    }
    let load_end_ms = shared.recorder.now_ms();
    let settled = run::settle(shared, producers);
    readers.join()?;
    observers.join()?;
    settled?;
    progress("reading everything back");
    let mut remarks = Remarks::default();
    run::read_back(shared, settings.with_groups, &mut remarks);
    let run = Run {
        seed: settings.seed,
        node_count: 0,
        faults: Vec::new(),
        without_faults: true,
        load_begin_ms,
        load_end_ms,
    };
    let topics = shared.topics.clone();
    let history = History { run, topics, message_topics: Vec::new(), events: shared.recorder.take() };
    let findings = check::check(&history);
    Ok(Outcome { history, findings, remarks })
}

fn remove(shared: &Shared, with_groups: bool) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client::base(&shared.bootstrap).create()?;
    let options = AdminOptions::new().request_timeout(Some(ADMIN_LIMIT)).operation_timeout(Some(ADMIN_LIMIT));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let names: Vec<&str> = shared.topics.iter().map(|topic| topic.name.as_str()).collect();
    let groups: Vec<String> =
        (0..shared.topics.len() as u16).filter(|_| with_groups).map(|topic| group::group_name(shared, topic)).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    runtime.block_on(async {
        if !groups.is_empty() {
            for result in tokio::time::timeout(2 * ADMIN_LIMIT, admin.delete_groups(&groups, &options)).await?? {
                result.map_err(|(group, error)| anyhow::anyhow!("group {group}: {error}"))?;
            }
        }
        for result in tokio::time::timeout(2 * ADMIN_LIMIT, admin.delete_topics(&names, &options)).await?? {
            result.map_err(|(topic, error)| anyhow::anyhow!("topic {topic}: {error}"))?;
        }
        Ok(())
    })
}

/// Ctrl-C, once; the second one ends the program.
mod interrupt {
    use super::{AtomicBool, Ordering};

    static WANTED: AtomicBool = AtomicBool::new(false);

    extern "C" fn note(_: libc::c_int) {
        WANTED.store(true, Ordering::Relaxed);
    }

    pub fn listen() {
        // SAFETY: the handler only sets a flag; SA_RESETHAND is what the second Ctrl-C needs.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
        }
    }

    pub fn is_wanted() -> bool {
        WANTED.load(Ordering::Relaxed)
    }
}
