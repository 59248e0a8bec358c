//! Telemetry: a client describes itself and is told how to behave; the node may ask it something later.

use std::sync::Arc;
use std::time::Duration;

use duolog_broker::api::TopicRef;
use duolog_broker::message_api::MessageApi;
use duolog_record::group::GroupId;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::access::{Guarded, authenticate, authorize, identify};
use crate::caller::Caller;
use crate::clients::Commands;
use crate::context::Context;
use crate::errors::{Refusal, ok};
use crate::names;
use crate::proto::settings::PubSub;
use crate::proto::telemetry_command::Command;
use crate::proto::{Code, Settings, TelemetryCommand};
use crate::settings;

/// Commands that wait for a client to read them; then it is not told any more.
const COMMANDS_MAX: usize = 64;
/// A client that does not read its answer for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The stream to the client. It ends when the client's own ends, or when the front end stops.
pub(crate) fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    commands: Streaming<TelemetryCommand>,
) -> ReceiverStream<Result<TelemetryCommand, Status>> {
    let (sender, answers) = mpsc::channel(COMMANDS_MAX);
    let caller = Arc::new(caller);
    tokio::spawn(async move {
        let stop = context.stop.clone();
        let admitted = caller.check().and_then(|()| authenticate(&context, &caller));
        let attached = admitted.and_then(|()| context.clients.attach(&caller, sender.clone()));
        match attached {
            Ok(stream) => {
                tokio::select! {
                    () = listen(&context, &caller, commands, &sender) => {}
                    () = stop.cancelled() => {}
                    () = sender.closed() => {}
                }
                context.clients.detach(&caller.client_id, stream);
            }
            Err(refusal) => {
                let _ = sender.send(Ok(refused(&context, &refusal))).await;
            }
        }
    });
    ReceiverStream::new(answers)
}

async fn listen<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    mut commands: Streaming<TelemetryCommand>,
    sender: &Commands,
) {
    let mut needs = Vec::new();
    loop {
        let command = tokio::select! {
            command = commands.message() => command,
            () = sleep(context.config.access.stream_check_interval()) => {
                // The stream lives long, and half messages go to it: users and rights may have changed.
                let still = identify(context, caller).and_then(|()| authorize(context, caller, || Ok(needs.clone())));
                match still {
                    Err(refusal) if !refusal.is_transient() => {
                        let _ = timeout(WRITE_TIMEOUT, sender.send(Ok(refused(context, &refusal)))).await;
                        return;
                    }
                    _ => continue,
                }
            }
        };
        let command = match command {
            Ok(Some(TelemetryCommand { command, .. })) => command,
            Ok(None) => return,
            // A broken stream ends as a closed one does: the client opens another. What was refused is told to who is still there.
            Err(status) => {
                let _ = sender.try_send(Err(status));
                return;
            }
        };
        let Some(Command::Settings(told)) = command else {
            // Answers to questions that this version does not ask.
            continue;
        };
        let allowed = identify(context, caller).and_then(|()| {
            needs = told.needs(context)?;
            authorize(context, caller, || Ok(needs.clone()))
        });
        let answer = match allowed.and_then(|()| describe(context, caller, told)) {
            Ok(answer) => {
                context.metrics.count_answer(Code::Ok);
                TelemetryCommand { status: Some(ok()), command: Some(Command::Settings(answer)) }
            }
            Err(refusal) => refused(context, &refusal),
        };
        if !matches!(timeout(WRITE_TIMEOUT, sender.send(Ok(answer))).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn refused<B: MessageApi>(context: &Context<B>, refusal: &Refusal) -> TelemetryCommand {
    context.metrics.count_answer(refusal.code());
    TelemetryCommand { status: Some(refusal.status()), command: None }
}

/// Notes a client's settings and gives those that it is answered.
fn describe<B: MessageApi>(context: &Context<B>, caller: &Caller, told: Settings) -> Result<Settings, Refusal> {
    let mut group = None;
    let (topics, is_fifo) = match &told.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            let topics: Result<Vec<String>, Refusal> =
                publishing.topics.iter().map(|topic| names::topic(Some(topic))).collect();
            (topics?, false)
        }
        Some(PubSub::Subscription(subscription)) => {
            let topics: Result<Vec<String>, Refusal> =
                subscription.subscriptions.iter().map(|entry| names::topic(entry.topic.as_ref())).collect();
            let topics = topics?;
            let name = subscription.group.as_ref().map(|group| names::group(Some(group))).transpose()?;
            let is_fifo = !topics.is_empty() && topics.iter().all(|topic| is_fifo(context, name.as_ref(), topic));
            group = name;
            (topics, is_fifo)
        }
        None => {
            let sentence = "the settings have neither `publishing` nor `subscription`";
            return Err(Refusal::new(Code::BadRequest, sentence));
        }
    };
    let config = group.as_ref().map(|group| context.broker.group_config(group)).unwrap_or_default();
    context.clients.described(&caller.client_id, &told, topics, group)?;
    Ok(settings::answer(told, is_fifo, &config))
}

fn is_fifo<B: MessageApi>(context: &Context<B>, group: Option<&GroupId>, topic: &str) -> bool {
    let config = group.map(|group| context.broker.group_config(group)).unwrap_or_default();
    let view = context.broker.topic(&TopicRef::Name(topic.to_owned()));
    view.is_ok_and(|view| settings::is_in_order(&config, &view))
}
