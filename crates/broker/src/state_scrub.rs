//! Verifies a replica's tables, slowly, and ends a node whose tables are damaged: started again, it copies them from another node.
//!
//! Reads of tables verify what they read as well. Whoever finds damage, the node ends: another one leads, and nothing is served
//! from what may be wrong.

use std::sync::Arc;
use std::time::Duration;

use duolog_replication::ScrubOptions;
use duolog_state::{StateError, TableId};
use tokio::time::sleep;

use crate::runtime::GroupRuntime;

/// What is verified in one go.
const CHUNK_BYTES: usize = 64 << 10;
/// How often it is asked whether a reader has found damage.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Verifies all tables again and again, as long as the replica lives.
pub(crate) async fn verify(runtime: Arc<GroupRuntime>) {
    let options = runtime.group().scrub_options();
    if options.bytes_per_second == 0 {
        return;
    }
    sleep(options.first_pass()).await;
    loop {
        if let Err(error) = pass(&runtime, options).await {
            let broker_group = runtime.id();
            tracing::warn!(%broker_group, %error, "cannot verify the state; the next pass tries again");
        }
        sleep(options.interval()).await;
    }
}

async fn pass(runtime: &GroupRuntime, options: ScrubOptions) -> Result<(), StateError> {
    for table in TableId::ALL {
        let mut from = Some(Vec::new());
        while let Some(row) = from {
            // A snapshot may have replaced the tables: then it is others that are verified from here on.
            let (bytes, next) = runtime.tables().verify(table, &row, CHUNK_BYTES)?;
            from = next;
            sleep(Duration::from_secs_f64(bytes as f64 / options.bytes_per_second as f64)).await;
        }
    }
    Ok(())
}

/// Ends the node when its tables were found damaged.
pub(crate) async fn watch(runtime: Arc<GroupRuntime>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        if let Some(damage) = runtime.tables().damage() {
            let broker_group = runtime.id();
            return runtime.fail(format!(
                "the state of broker group {broker_group} is damaged: {damage}. Start the node again: it copies the state from another one"
            ));
        }
    }
}
