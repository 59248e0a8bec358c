//! `duolog-sim`: a whole cluster in one thread, under virtual time, with faults, from one seed.
//!
//! ```text
//!  workload ─▶ Broker ×3 ─▶ sequencer, openraft, apply, commit log ─▶ SimDisk      every clock and every dice: interpose.rs
//!                 └────────── gRPC over simulated links (turmoil) ──────┘          verdict: the checkers of the chaos tests
//! ```

mod cluster;
mod faults;
mod interpose;
mod log_driver;
mod machine;
mod net;
mod node;
mod operator;
mod plant;
mod process;
mod random;
mod store;
mod workload;
mod world;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use duolog_chaos::check::Findings;
use duolog_chaos::check::messages::MessageCounts;
use duolog_chaos::history::messages::{self, MessageEvent};
use duolog_chaos::history::{Event, History, fnv1a};
use parking_lot::Mutex;

use crate::plant::Plant;
use crate::world::{Outcome, Plan};

/// Without a step of the simulation in this time, nothing will come any more.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Simulates clusters, one per seed, and says which seeds broke a promise.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// How many seeds, from the first one on. Default: 100, or one when a seed is given. Without a first seed those of `seeds.txt` run, too.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; a seed repeats its run, bit for bit. Default: by the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Simulated seconds with load and faults.
    #[arg(long, default_value_t = 20)]
    load_s: u64,
    /// The history of a seed that failed is written into this directory.
    #[arg(long)]
    histories: Option<PathBuf>,
    /// Plants a bug, and stops at the first seed that finds it.
    #[arg(long)]
    plant: Option<Plant>,
    /// Seeds that run at the same time. Default: one per processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// Shows what the nodes log.
    #[arg(long)]
    logs: bool,
    /// This process is the simulation of one seed: nothing of another one is in it.
    #[arg(long, hide = true)]
    alone: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.alone { simulate(&arguments) } else { run(&arguments) }
}

/// All seeds, each in a process of its own: libraries count in static variables.
fn run(arguments: &Arguments) -> Result<ExitCode> {
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() << 20);
    let first = arguments.seed.unwrap_or_else(by_clock);
    let count = arguments.seeds.unwrap_or(if arguments.seed.is_some() { 1 } else { 100 });
    let mut seeds = if arguments.seed.is_none() { known_seeds()? } else { Vec::new() };
    seeds.extend(first..first + count);
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let begun = Instant::now();
    let (next, is_found) = (AtomicU64::new(0), AtomicBool::new(false));
    let sums: Mutex<Vec<(String, u64)>> = Mutex::default();
    let worker = || -> Result<Vec<u64>> {
        let mut failed = Vec::new();
        loop {
            let seed = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize);
            let Some(seed) = seed.copied().filter(|_| !is_found.load(Ordering::Relaxed)) else { return Ok(failed) };
            let (has_passed, text) = in_a_process(arguments, seed)?;
            add(&mut sums.lock(), counted(&text));
            if !has_passed {
                failed.push(seed);
                is_found.fetch_or(arguments.plant.is_some(), Ordering::Relaxed);
            }
            if !has_passed && arguments.plant.is_none() {
                print!("{}", shortest(arguments, seed, text)?);
            } else if !has_passed || seeds.len() == 1 {
                print!("{text}");
            }
        }
    };
    let failed: Result<Vec<Vec<u64>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?).collect()
    });
    let mut failed: Vec<u64> = failed?.into_iter().flatten().collect();
    failed.sort_unstable();
    if let Some(plant) = arguments.plant {
        match failed.first() {
            Some(seed) => println!("{plant:?} was found with seed {seed}, the {}. that was tried", seed - first + 1),
            None => println!("{plant:?} was not found by {count} seeds from {first}"),
        }
        return Ok(if failed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let known = seeds.len() as u64 - count;
    println!(
        "{count} seeds from {first} and {known} known ones, {} failed {failed:?}; {:.0?} of real time",
        failed.len(),
        begun.elapsed()
    );
    for (what, count) in sums.into_inner() {
        println!("{COUNTED}{what}: {count}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Seeds that failed once.
fn known_seeds() -> Result<Vec<u64>> {
    let lines = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.split(' ').next().unwrap_or_default().parse().with_context(|| format!("seeds.txt: {line}")))
        .collect()
}

/// The order of what is counted stays.
fn add<'a>(sums: &mut Vec<(String, u64)>, counted: impl Iterator<Item = (&'a str, u64)>) {
    for (what, count) in counted {
        match sums.iter_mut().find(|(known, _)| known == what) {
            Some((_, sum)) => *sum += count,
            None => sums.push((what.to_owned(), count)),
        }
    }
}

/// Whether a seed passed, and what its process printed.
fn in_a_process(arguments: &Arguments, seed: u64) -> Result<(bool, String)> {
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.args(["--alone", "--seed", &seed.to_string(), "--load-s", &arguments.load_s.to_string()]);
    if let Some(directory) = &arguments.histories {
        command.arg("--histories").arg(directory);
    }
    if let Some(plant) = arguments.plant.as_ref().and_then(clap::ValueEnum::to_possible_value) {
        command.args(["--plant", plant.get_name()]);
    }
    if arguments.logs {
        command.arg("--logs");
    }
    command.stderr(if arguments.logs { std::process::Stdio::inherit() } else { std::process::Stdio::piped() });
    let output = command.output().context("a process for a seed")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !matches!(output.status.code(), Some(0 | 1)) {
        text += &format!("seed {seed}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok((output.status.success(), text))
}

/// What a failed seed printed with the shortest load with which it fails, found by halving: what happens under load is the same, however
/// long that lasts.
fn shortest(arguments: &Arguments, seed: u64, mut text: String) -> Result<String> {
    let (mut passes_s, mut fails_s) = (0, arguments.load_s);
    while fails_s - passes_s > 1 {
        let load_s = passes_s.midpoint(fails_s);
        match in_a_process(&Arguments { load_s, ..arguments.clone() }, seed)? {
            (true, _) => passes_s = load_s,
            (false, of_shorter) => (fails_s, text) = (load_s, of_shorter),
        }
    }
    Ok(format!("{text}  shortest: --load-s {fails_s} --seed {seed}\n"))
}

const COUNTED: &str = "  - ";

/// What a seed's process has counted.
fn counted(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (what, count) = line.strip_prefix(COUNTED)?.rsplit_once(": ")?;
        Some((what, count.parse().ok()?))
    })
}

/// What happened, so that a run in which nothing did is noticed.
fn counts(outcome: &Outcome) -> Vec<(&'static str, u64)> {
    let Findings { topics, messages: of_messages, kills, .. } = &outcome.findings;
    let of = |count: fn(&MessageCounts) -> u64| of_messages.iter().map(count).sum::<u64>();
    let events = |is_wanted: fn(&Event) -> bool| outcome.history.events.iter().filter(|event| is_wanted(event)).count();
    let faults = outcome.faults.iter().map(|(what, count)| (*what, *count));
    let mut counts = vec![
        ("rounds with kills", *kills),
        ("records acknowledged", topics.iter().map(|counts| counts.acked).sum()),
        ("records lost as allowed", topics.iter().map(|counts| counts.lost_allowed).sum()),
        ("assignments", events(|event| matches!(event, Event::Assigned { .. })) as u64),
        ("commits of offsets", events(|event| matches!(event, Event::CommitAcked { .. })) as u64),
        ("commits with unknown fate", events(|event| matches!(event, Event::CommitUnknown { .. })) as u64),
        ("committed offsets read", events(|event| matches!(event, Event::CommittedRead { .. })) as u64),
        ("messages acknowledged", of(|counts| counts.acked)),
        ("messages with unknown fate", of(|counts| counts.open)),
        ("messages delivered", of(|counts| counts.delivered)),
        ("deliveries again", of(|counts| counts.redelivered)),
        (
            "changed invisible times",
            events(|event| matches!(event, Event::Message(MessageEvent::Moved { outcome: messages::Outcome::Ok, .. })))
                as u64,
        ),
        ("messages settled", of(|counts| counts.settled)),
        ("transactions committed", of(|counts| counts.committed)),
        ("transactions rolled back", of(|counts| counts.rolled_back)),
        ("of these after a question", of(|counts| counts.asked)),
        ("delayed messages", of(|counts| counts.delayed)),
        ("recalls", of(|counts| counts.recalled)),
        ("late recalls", of(|counts| counts.recalled_late)),
        ("dead letters", of(|counts| counts.dead_letters)),
    ];
    counts.extend(faults);
    counts
}

/// One seed, in this process.
fn simulate(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.logs {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let seed = arguments.seed.context("--alone goes with a seed")?;
    let plan = Plan { seed, load: Duration::from_secs(arguments.load_s), plant: arguments.plant };
    let home = tempfile::Builder::new().prefix("duolog-sim-").tempdir_in(scratch()).context("a directory in memory")?;
    let path = home.path().to_owned();
    // Only this thread gets the simulation's clock and chance.
    let (sender, ended) = mpsc::channel();
    let simulation = move || {
        // Nobody waits any more for one that stood still.
        let _ = sender.send(world::run(plan, &path));
    };
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).spawn(simulation);
    let thread = thread.context("a thread for a seed")?;
    let Some(outcome) = await_outcome(&ended) else {
        if !thread.is_finished() {
            println!("seed {seed} FAILED: time stands still after {} ms: a task never waits", world::steps());
            // The thread goes on for ever.
            std::process::exit(1);
        }
        anyhow::bail!("seed {seed} panicked");
    };
    let has_passed = outcome.findings.violations.is_empty() && outcome.errors.is_empty();
    tell(&outcome, has_passed);
    if let Some(directory) = arguments.histories.as_ref().filter(|_| !has_passed) {
        keep(directory, &outcome.history)?;
    }
    Ok(if has_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The outcome of a simulation that makes progress; `None` for one that does not, or has panicked.
fn await_outcome(ended: &mpsc::Receiver<Outcome>) -> Option<Outcome> {
    let mut steps = world::steps();
    loop {
        match ended.recv_timeout(STANDSTILL) {
            Ok(outcome) => return Some(outcome),
            Err(mpsc::RecvTimeoutError::Timeout) if world::steps() != steps => steps = world::steps(),
            Err(_) => return None,
        }
    }
}

/// Small files of nodes lie in memory.
fn scratch() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

fn tell(outcome: &Outcome, has_passed: bool) {
    let Outcome { history, findings, errors, told, .. } = outcome;
    println!(
        "seed {} {}: {} events with digest {:016x}",
        history.run.seed,
        if has_passed { "passed" } else { "FAILED" },
        history.events.len(),
        digest(history),
    );
    for (what, count) in counts(outcome) {
        println!("{COUNTED}{what}: {count}");
    }
    for text in told.iter().filter(|_| !has_passed) {
        println!("  {text}");
    }
    for violation in findings.violations.iter().take(20) {
        println!("  {} (topic {:?}): {}", violation.property, violation.topic, violation.text);
    }
    for error in errors.iter().take(20) {
        println!("  simulation: {error}");
    }
}

/// Two runs of a seed have the same.
fn digest(history: &History) -> u64 {
    let mut bytes = Vec::new();
    history.write(&mut bytes).expect("writing to memory");
    fnv1a(&bytes)
}

fn keep(directory: &Path, history: &History) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(format!("seed-{}.jsonl", history.run.seed));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    history.write(&mut file)?;
    file.flush()?;
    println!("  its history: {}", path.display());
    Ok(())
}
