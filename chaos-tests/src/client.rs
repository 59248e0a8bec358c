//! Settings of the Kafka clients (librdkafka), each with its reason.

use std::time::Duration;

use rdkafka::ClientConfig;

/// Longest time that a single question to the cluster may take.
pub const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What every client of a run uses.
pub fn base(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("broker.address.family", "v4")
        // Nodes come back within a second or two: the default of 10 s would hide that from the client.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        // A leader that is paused says nothing: the client must look for the new one by itself.
        .set("topic.metadata.refresh.interval.ms", "1000")
        // A paused node's kernel still accepts connections: give up on the silence behind them (lowest allowed value).
        .set("socket.connection.setup.timeout.ms", "1000")
        // Requests in flight to a paused node are given up and repeated at the new leader.
        .set("socket.timeout.ms", "3000")
        .set("retry.backoff.ms", "50")
        // Killed connections are the point of the exercise.
        .set("log.connection.close", "false");
    config
}

pub fn producer(bootstrap: &str) -> ClientConfig {
    let mut config = base(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Longer than any fault: a record is given up only when the cluster does not come back.
        .set("message.timeout.ms", "60000")
        // How long the broker may hold a produce request.
        .set("request.timeout.ms", "5000")
        // Small batches, soon sent: the ack's time is then nearly the record's own.
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "20000");
    config
}

/// A reader that is told of a lost position instead of silently moving.
pub fn reader(bootstrap: &str) -> ClientConfig {
    let mut config = base(bootstrap);
    config
        .set("group.id", "chaos-unused")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "50")
        // A damaged batch is the broker's fault: it must be noticed, not passed on.
        .set("check.crcs", "true");
    config
}

pub fn member(bootstrap: &str, group: &str) -> ClientConfig {
    let mut config = reader(bootstrap);
    config
        .set("group.id", group)
        // A new group has no offsets. That existing ones vanish is found by asking for them.
        .set("auto.offset.reset", "earliest")
        // The members live: short time-outs would only add rebalances while coordinators fail over.
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "1000")
        .set("max.poll.interval.ms", "30000");
    config
}
