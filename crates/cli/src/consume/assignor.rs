//! Kafka's range strategy: per topic, members in the order of their ids get neighbouring partitions, the first ones one more.

use std::collections::BTreeMap;

/// Who gets what: member id → topic → partitions. Every member has a place, also with nothing.
///
/// `subscriptions` are the topics of each member, `partition_counts` those topics that exist.
pub(super) fn range(
    subscriptions: &BTreeMap<String, Vec<String>>,
    partition_counts: &BTreeMap<String, usize>,
) -> BTreeMap<String, BTreeMap<String, Vec<i32>>> {
    let mut assigned: BTreeMap<String, BTreeMap<String, Vec<i32>>> =
        subscriptions.keys().map(|member| (member.clone(), BTreeMap::new())).collect();
    for (topic, partition_count) in partition_counts {
        let members: Vec<&String> =
            subscriptions.iter().filter(|(_, topics)| topics.contains(topic)).map(|(member, _)| member).collect();
        if members.is_empty() {
            continue;
        }
        let (share, rest) = (partition_count / members.len(), partition_count % members.len());
        let mut next = 0;
        for (i, member) in members.into_iter().enumerate() {
            let end = next + share + usize::from(i < rest);
            let partitions: Vec<i32> = (next..end).filter_map(|partition| i32::try_from(partition).ok()).collect();
            next = end;
            if !partitions.is_empty()
                && let Some(topics) = assigned.get_mut(member)
            {
                topics.insert(topic.clone(), partitions);
            }
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(members: &[(&str, &[&str])], topics: &[(&str, usize)]) -> String {
        let subscriptions = members
            .iter()
            .map(|(member, topics)| ((*member).to_owned(), topics.iter().map(|t| (*t).to_owned()).collect()))
            .collect();
        let counts = topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect();
        let shown = |(member, topics): (String, BTreeMap<String, Vec<i32>>)| {
            let topics: Vec<String> = topics.into_iter().map(|(topic, p)| format!("{topic}{p:?}")).collect();
            format!("{member}: {}", topics.join(" "))
        };
        range(&subscriptions, &counts).into_iter().map(shown).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn neighbours_go_together_and_the_first_get_more() {
        for (members, topics, expected) in [
            (&[("m", &["t"][..])][..], &[("t", 3)][..], "m: t[0, 1, 2]"),
            (&[("b", &["t"]), ("a", &["t"])], &[("t", 5)], "a: t[0, 1, 2]; b: t[3, 4]"),
            (&[("a", &["t"]), ("b", &["t"]), ("c", &["t"])], &[("t", 2)], "a: t[0]; b: t[1]; c: "),
            (&[("a", &["t", "u"]), ("b", &["u"])], &[("t", 1), ("u", 2)], "a: t[0] u[0]; b: u[1]"),
            (&[("a", &["gone"])], &[], "a: "),
            (&[("a", &["t"])], &[("t", 0)], "a: "),
        ] {
            assert_eq!(assigned(members, topics), expected, "{members:?} {topics:?}");
        }
    }
}
