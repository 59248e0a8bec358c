//! Names of topics and consumer groups as requests give them.

use duolog_broker::message_api::Consumer;
use duolog_record::group::GroupId;
use duolog_types::limits;

use crate::caller::Caller;
use crate::errors::Refusal;
use crate::proto::{Code, Resource};

/// Longest name of a consumer group: with a prefix it names the topic of the group's dead letters.
const GROUP_NAME_BYTES_MAX: usize = limits::TOPIC_NAME_BYTES_MAX - limits::DEAD_LETTER_TOPIC_PREFIX.len();

/// The topic's name; in a namespace it is `NAMESPACE%NAME`, as in RocketMQ.
pub(crate) fn topic(resource: Option<&Resource>) -> Result<String, Refusal> {
    name(resource, "topic", limits::TOPIC_NAME_BYTES_MAX).map_err(|why| Refusal::new(Code::IllegalTopic, why))
}

/// The consumer group. One whose dead letters could have no topic is refused at once, not when the first of them is to be stored.
pub(crate) fn group(resource: Option<&Resource>) -> Result<GroupId, Refusal> {
    let illegal = |why: String| Refusal::new(Code::IllegalConsumerGroup, why);
    let name = name(resource, "consumer group", GROUP_NAME_BYTES_MAX).map_err(illegal)?;
    if name.contains(['%', '|']) || name == "." || name == ".." {
        return Err(illegal(format!(
            "consumer group {name:?} could have no topic for dead letters: expected letters, digits, '_', '-' and '.', not only one \
             or two dots, and no namespace"
        )));
    }
    Ok(GroupId(name))
}

/// The consumer that makes a call.
pub(crate) fn consumer(group: Option<&Resource>, caller: &Caller) -> Result<Consumer, Refusal> {
    Ok(Consumer { group: self::group(group)?, client_id: caller.client_id.clone() })
}

fn name(resource: Option<&Resource>, what: &str, bytes_max: usize) -> Result<String, String> {
    let name = match resource {
        Some(resource) if resource.resource_namespace.is_empty() => resource.name.clone(),
        Some(resource) => format!("{}%{}", resource.resource_namespace, resource.name),
        None => String::new(),
    };
    if resource.is_none_or(|resource| resource.name.is_empty()) {
        return Err(format!("the {what} has no name"));
    }
    if name.len() > bytes_max {
        return Err(format!("the name of the {what} has {} bytes: expected at most {bytes_max}", name.len()));
    }
    match name.chars().find(|character| !is_legal(*character)) {
        Some(found) => Err(format!(
            "the name of the {what} contains {found:?}: expected letters, digits, '%', '|', '_', '-' and '.'"
        )),
        None => Ok(name),
    }
}

fn is_legal(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '%' | '|' | '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use duolog_broker::message_api::dead_letter_topic;

    use super::*;

    fn resource(namespace: &str, name: &str) -> Resource {
        Resource { resource_namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn names_with_percent_signs_and_namespaces() {
        assert_eq!(topic(Some(&resource("", "%DLQ%g"))).unwrap(), "%DLQ%g");
        assert_eq!(topic(Some(&resource("ns", "t"))).unwrap(), "ns%t");
        assert_eq!(topic(Some(&resource("", "a.b-c_d|e"))).unwrap(), "a.b-c_d|e");
    }

    #[test]
    fn a_group_whose_dead_letters_could_have_no_topic_is_refused() {
        for good in ["g", "a.b-c_D9", "...", &"x".repeat(244)] {
            let name = group(Some(&resource("", good))).unwrap();
            let letters = Resource { name: dead_letter_topic(&name), ..Resource::default() };
            assert_eq!((name.0.as_str(), topic(Some(&letters)).unwrap()), (good, format!("%DLQ%{good}")));
        }
        for bad in ["a|b", "a%b", "%DLQ%g", ".", "..", &"x".repeat(245)] {
            let refusal = group(Some(&resource("", bad))).unwrap_err();
            assert_eq!(refusal.code(), Code::IllegalConsumerGroup, "{bad:?}");
            assert!(refusal.status().message.contains("expected"), "{refusal:?}");
        }
        assert_eq!(group(Some(&resource("ns", "g"))).unwrap_err().code(), Code::IllegalConsumerGroup);
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_own_code() {
        for bad in ["", "a b", "a/b", "é", "a\n", &"x".repeat(250)] {
            assert_eq!(topic(Some(&resource("", bad))).unwrap_err().code(), Code::IllegalTopic, "{bad:?}");
        }
        assert_eq!(topic(Some(&resource("ns", ""))).unwrap_err().code(), Code::IllegalTopic);
        assert_eq!(topic(None).unwrap_err().code(), Code::IllegalTopic);
        assert_eq!(group(None).unwrap_err().code(), Code::IllegalConsumerGroup);
    }
}
