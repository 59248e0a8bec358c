//! Forgets hidden messages that never became visible, when the time is over for which they are remembered.

use std::sync::Arc;
use std::time::Duration;

use duolog_replication::CommandResponse;
use duolog_state::command::{Command, HiddenCommand};
use duolog_state::keys::TimerKind;
use duolog_state::{Response, StateError, reader};
use duolog_types::{FlushWish, TimestampMs};

use crate::produce::now;
use crate::runtime::GroupRuntime;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Runs as long as the broker group does.
pub(crate) async fn forget(runtime: Arc<GroupRuntime>) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // One command does not forget all at once.
        while runtime.subscribe_serving().borrow().is_some() {
            let now = now();
            match is_any_over(&runtime, now) {
                Ok(true) if propose(&runtime, now).await => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(broker_group = %runtime.id(), %error, "cannot look for what may be forgotten");
                    break;
                }
            }
        }
    }
}

fn is_any_over(runtime: &GroupRuntime, now: TimestampMs) -> Result<bool, StateError> {
    let first = reader::timers(&*runtime.tables(), TimerKind::Expiry, TimestampMs(i64::MIN), 1)?;
    Ok(first.first().is_some_and(|timer| timer.time <= now))
}

/// Whether something was forgotten.
async fn propose(runtime: &GroupRuntime, now: TimestampMs) -> bool {
    let command = Command::Hidden(HiddenCommand::Forget { now });
    match runtime.group().propose_command(command.encode(), FlushWish::Now).await {
        Ok((_, CommandResponse(response))) => response == Response::Ok,
        Err(error) => {
            tracing::debug!(broker_group = %runtime.id(), %error, "cannot forget hidden messages now");
            false
        }
    }
}
