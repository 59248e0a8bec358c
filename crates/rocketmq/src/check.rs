//! What of a message is the client's fault, with the protocol's codes.

use duolog_types::MessageType;

use crate::digest;
use crate::errors::Refusal;
use crate::mapping::is_reserved;
use crate::proto::{self, Code, Message, SystemProperties};

/// Largest body, as clients are told in their settings.
pub(crate) const BODY_BYTES_MAX: usize = 4 << 20;
/// User properties of a message, names and values together.
const PROPERTIES_BYTES_MAX: usize = 16 << 10;
const PROPERTIES_MAX: usize = 128;
const MESSAGE_ID_BYTES_MAX: usize = 255;
const MESSAGE_GROUP_BYTES_MAX: usize = 64;

/// A message's kind as the protocol has it.
pub(crate) type Kind = proto::MessageType;

/// Kinds that a topic takes.
pub(crate) fn accepted(topic: MessageType) -> &'static [Kind] {
    match topic {
        MessageType::Normal => &[Kind::Normal],
        MessageType::Fifo => &[Kind::Fifo],
        MessageType::Delay => &[Kind::Delay],
        MessageType::Transaction => &[Kind::Transaction],
        MessageType::Priority => &[Kind::Priority],
        MessageType::Mixed => &[Kind::Normal, Kind::Fifo, Kind::Delay, Kind::Transaction],
    }
}

/// Checks a message for a topic of this type, and gives its kind.
pub(crate) fn message(message: &Message, topic: MessageType) -> Result<Kind, Refusal> {
    let system = message.system_properties.as_ref();
    let system = system.ok_or_else(|| Refusal::new(Code::BadRequest, "the message has no system properties"))?;
    body(message, system)?;
    names(system)?;
    properties(message)?;
    kind(system, topic)
}

fn body(message: &Message, system: &SystemProperties) -> Result<(), Refusal> {
    let found = message.body.len();
    if found == 0 {
        return Err(Refusal::new(Code::MessageBodyEmpty, "the message has no body"));
    }
    if found > BODY_BYTES_MAX {
        let sentence = format!("the body has {found} bytes: expected at most {BODY_BYTES_MAX}");
        return Err(Refusal::new(Code::MessageBodyTooLarge, sentence));
    }
    digest::check(&message.body, system.body_digest.as_ref())
}

fn names(system: &SystemProperties) -> Result<(), Refusal> {
    let id = &system.message_id;
    if is_blank(id) || id.len() > MESSAGE_ID_BYTES_MAX {
        return Err(Refusal::new(
            Code::IllegalMessageId,
            format!("message id {id:?}: expected 1 to {MESSAGE_ID_BYTES_MAX} bytes"),
        ));
    }
    if let Some(tag) = system.tag.as_ref().filter(|tag| is_blank(tag) || tag.contains('|')) {
        let sentence = format!("tag {tag:?}: expected a word without '|' and without control characters");
        return Err(Refusal::new(Code::IllegalMessageTag, sentence));
    }
    if let Some(key) = system.keys.iter().find(|key| is_blank(key)) {
        let sentence = format!("key {key:?}: expected a word without control characters");
        return Err(Refusal::new(Code::IllegalMessageKey, sentence));
    }
    let group = system.message_group.as_ref();
    if let Some(group) = group.filter(|group| is_blank(group) || group.len() > MESSAGE_GROUP_BYTES_MAX) {
        let sentence = format!("message group {group:?}: expected 1 to {MESSAGE_GROUP_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::IllegalMessageGroup, sentence));
    }
    Ok(())
}

fn properties(message: &Message) -> Result<(), Refusal> {
    let properties = &message.user_properties;
    let bytes: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > PROPERTIES_BYTES_MAX || properties.len() > PROPERTIES_MAX {
        let sentence = format!(
            "the message has {} properties of {bytes} bytes: expected at most {PROPERTIES_MAX} of {PROPERTIES_BYTES_MAX} bytes",
            properties.len()
        );
        return Err(Refusal::new(Code::MessagePropertiesTooLarge, sentence));
    }
    let illegal = |sentence| Err(Refusal::new(Code::IllegalMessagePropertyKey, sentence));
    if let Some(name) = properties.keys().find(|name| is_blank(name) || is_reserved(name)) {
        return illegal(format!(
            "property {name:?}: the name is empty, has control characters, or is the broker's own"
        ));
    }
    // RocketMQ has no code of its own for values.
    if let Some((name, _)) = properties.iter().find(|(_, value)| value.chars().any(char::is_control)) {
        return illegal(format!("property {name:?}: its value has control characters"));
    }
    Ok(())
}

fn kind(system: &SystemProperties, topic: MessageType) -> Result<Kind, Refusal> {
    let conflict = |what: String| Refusal::new(Code::MessagePropertyConflictWithType, what);
    let has = (system.message_group.is_some(), system.delivery_timestamp.is_some(), system.priority.is_some());
    let kind = match (system.message_type(), has) {
        // Older clients leave it to the properties.
        (Kind::Unspecified | Kind::Fifo, (true, false, false)) => Kind::Fifo,
        (Kind::Unspecified | Kind::Delay, (false, true, false)) => Kind::Delay,
        (Kind::Unspecified | Kind::Priority, (false, false, true)) => Kind::Priority,
        (Kind::Unspecified | Kind::Normal, (false, false, false)) => Kind::Normal,
        (Kind::Transaction, (false, false, false)) => Kind::Transaction,
        (kind, (has_group, has_time, has_priority)) => {
            let with = |has: bool| if has { "a" } else { "no" };
            return Err(conflict(format!(
                "a message of type {} with {} message group, {} delivery timestamp and {} priority: FIFO goes with a message group, \
                 DELAY with a delivery timestamp, PRIORITY with a priority, NORMAL and TRANSACTION with none of them; other types are \
                 not supported",
                kind.as_str_name(),
                with(has_group),
                with(has_time),
                with(has_priority),
            )));
        }
    };
    if let Some(priority) = system.priority.filter(|priority| *priority < 0) {
        return Err(Refusal::new(Code::BadRequest, format!("priority {priority}: expected a number from 0 on")));
    }
    if accepted(topic).contains(&kind) {
        return Ok(kind);
    }
    let names: Vec<&str> = accepted(topic).iter().map(Kind::as_str_name).collect();
    Err(conflict(format!("a message of type {}: the topic takes {}", kind.as_str_name(), names.join(", "))))
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty() || text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn good() -> Message {
        Message {
            system_properties: Some(SystemProperties { message_id: "01A".to_owned(), ..SystemProperties::default() }),
            body: "body".into(),
            ..Message::default()
        }
    }

    fn with(change: impl FnOnce(&mut Message, &mut SystemProperties)) -> Message {
        let mut message = good();
        let mut system = message.system_properties.take().unwrap();
        change(&mut message, &mut system);
        message.system_properties = Some(system);
        message
    }

    #[test]
    fn each_fault_has_its_code() {
        for (bad, code) in [
            (Message { system_properties: None, ..good() }, Code::BadRequest),
            (with(|m, _| m.body.clear()), Code::MessageBodyEmpty),
            (with(|m, _| m.body = vec![0; BODY_BYTES_MAX + 1].into()), Code::MessageBodyTooLarge),
            (with(|_, s| s.message_id.clear()), Code::IllegalMessageId),
            (with(|_, s| s.tag = Some("a|b".to_owned())), Code::IllegalMessageTag),
            (with(|_, s| s.keys.push(" ".to_owned())), Code::IllegalMessageKey),
            (with(|_, s| s.message_group = Some("g".repeat(65))), Code::IllegalMessageGroup),
            (with(|m, _| m.user_properties = [("TAGS".into(), "x".into())].into()), Code::IllegalMessagePropertyKey),
            (with(|m, _| m.user_properties = [("a".into(), "x\ty".into())].into()), Code::IllegalMessagePropertyKey),
            (
                with(|m, _| m.user_properties = [("a".into(), "x".repeat(17_000))].into()),
                Code::MessagePropertiesTooLarge,
            ),
        ] {
            assert_eq!(message(&bad, MessageType::Normal).unwrap_err().code(), code);
        }
    }

    #[test]
    fn the_kind_must_fit_the_properties_and_the_topic() {
        let at = Some(Timestamp { seconds: 1, nanos: 0 });
        let fifo = |kind: Kind| {
            with(|_, s| {
                s.message_group = Some("g".to_owned());
                s.set_message_type(kind);
            })
        };
        let delay = with(|_, s| s.delivery_timestamp = at);
        let half = with(|_, s| s.set_message_type(Kind::Transaction));
        assert_eq!(message(&good(), MessageType::Normal).unwrap(), Kind::Normal);
        assert_eq!(message(&fifo(Kind::Unspecified), MessageType::Fifo).unwrap(), Kind::Fifo);
        assert_eq!(message(&delay, MessageType::Delay).unwrap(), Kind::Delay);
        assert_eq!(message(&half, MessageType::Transaction).unwrap(), Kind::Transaction);
        assert_eq!(message(&fifo(Kind::Fifo), MessageType::Mixed).unwrap(), Kind::Fifo);
        let urgent = |kind: Kind, priority| {
            with(|_, s| {
                s.priority = Some(priority);
                s.set_message_type(kind);
            })
        };
        for kind in [Kind::Unspecified, Kind::Priority] {
            assert_eq!(message(&urgent(kind, 0), MessageType::Priority).unwrap(), Kind::Priority);
        }
        let negative = message(&urgent(Kind::Priority, -1), MessageType::Priority).unwrap_err();
        assert_eq!(negative.code(), Code::BadRequest);
        for (bad, topic) in [
            (fifo(Kind::Fifo), MessageType::Normal),
            (fifo(Kind::Normal), MessageType::Mixed),
            (good(), MessageType::Fifo),
            (delay, MessageType::Normal),
            (half, MessageType::Normal),
            (with(|_, s| s.set_message_type(Kind::Lite)), MessageType::Mixed),
            (with(|_, s| s.set_message_type(Kind::Fifo)), MessageType::Fifo),
            (good(), MessageType::Priority),
            (with(|_, s| s.set_message_type(Kind::Priority)), MessageType::Priority),
            (urgent(Kind::Normal, 1), MessageType::Normal),
            (urgent(Kind::Priority, 1), MessageType::Normal),
            (urgent(Kind::Priority, 1), MessageType::Mixed),
        ] {
            let code = message(&bad, topic).unwrap_err().code();
            assert_eq!(code, Code::MessagePropertyConflictWithType, "{topic:?}");
        }
    }
}
