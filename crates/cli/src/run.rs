//! Running a command's future: the runtime, Ctrl-C, questions.

use std::future::Future;
use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;

/// Runs a future to its end on a small runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(future);
    // A thread that still reads standard input must not hold the end up.
    runtime.shutdown_background();
    result
}

/// Ready when the user wants to stop: SIGINT or SIGTERM.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match (interrupt, terminate) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}

/// Asks on the terminal and wants `word` as the answer; `--yes` is the way for scripts.
pub(crate) fn confirm(question: &str, word: &str) -> anyhow::Result<()> {
    let stdin = io::stdin();
    eprint!("{question}\ntype {word:?} to go on: ");
    io::stderr().flush().ok();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("cannot read the answer")?;
    if answer.trim() == word {
        return Ok(());
    }
    let hint = if stdin.is_terminal() { "" } else { "; scripts say --yes" };
    anyhow::bail!("nothing was changed: expected {word:?}, found {:?}{hint}", answer.trim())
}
