//! Which queues of a topic each consumer of a group asks, by the group's strategy. Pure: every node that knows the same consumers
//! comes to the same result, so none has to remember anything.

use std::ops::Range;

use duolog_types::AssignmentStrategy;

/// Places of a consumer on the ring of hashes.
const RING_PLACES: u32 = 16;

/// The numbers of the queues, of `queues` in all, that `consumer` asks. `consumers` are ordered and each there once.
///
/// `Shared` gives all.
pub(crate) fn assigned(
    strategy: AssignmentStrategy,
    queues: usize,
    consumers: &[String],
    consumer: &str,
) -> Vec<usize> {
    let Some(own) = consumers.iter().position(|other| other == consumer) else { return Vec::new() };
    let is_own: Box<dyn FnMut(&usize) -> bool> = match strategy {
        AssignmentStrategy::Shared => Box::new(|_| true),
        // Without rooms everything lies in the same one.
        AssignmentStrategy::Averaging | AssignmentStrategy::MachineRoom => {
            let part = part(queues, consumers.len(), own);
            Box::new(move |queue| part.contains(queue))
        }
        AssignmentStrategy::AveragingByCircle => Box::new(move |queue| queue % consumers.len() == own),
        AssignmentStrategy::ConsistentHashing => {
            let ring = Ring::new(consumers);
            Box::new(move |queue| ring.owner(*queue) == own)
        }
        AssignmentStrategy::Sticky => {
            let owners = sticky(queues, consumers);
            Box::new(move |queue| owners[*queue] == own)
        }
    };
    (0..queues).filter(is_own).collect()
}

/// The part of `count` that belongs to the consumer `own` of `consumers`: neighbours, as many for each, give or take one.
fn part(count: usize, consumers: usize, own: usize) -> Range<usize> {
    let (each, more) = (count / consumers, count % consumers);
    let first = own * each + own.min(more);
    first..first + each + usize::from(own < more)
}

/// The numbers of the queues that the consumer `own` asks when each lies in a machine room, or in none: those of its own room, shared with
/// the others there, and its share of those in whose room no consumer is. `rooms` are those of the queues' leaders, `consumers` those of the
/// consumers.
pub(crate) fn nearby(rooms: &[Option<usize>], consumers: &[Option<usize>], own: usize) -> Vec<usize> {
    let is_manned = |room: &Option<usize>| room.is_some() && consumers.contains(room);
    let own_room = consumers[own].filter(|room| rooms.contains(&Some(*room)));
    let in_room = |room: &Option<usize>| own_room.is_some() && *room == own_room;
    let queues = |is_it: &dyn Fn(&Option<usize>) -> bool| -> Vec<usize> {
        rooms.iter().enumerate().filter(|(_, room)| is_it(room)).map(|(queue, _)| queue).collect()
    };
    let (near, others) = (queues(&in_room), queues(&|room| !is_manned(room)));
    let neighbours = consumers.iter().filter(|room| in_room(room)).count().max(1);
    let place = consumers[..own].iter().filter(|room| in_room(room)).count();
    let near = &near[part(near.len(), neighbours, place)];
    let far = &others[part(others.len(), consumers.len(), own)];
    near.iter().chain(far).copied().collect()
}

/// A ring on which each consumer has some places, and a queue belongs to the next one.
struct Ring(Vec<(u64, usize)>);

impl Ring {
    fn new(consumers: &[String]) -> Self {
        let place = |own: usize, number: u32| (hash(consumers[own].as_bytes(), u64::from(number)), own);
        let mut ring: Vec<_> =
            (0..consumers.len()).flat_map(|own| (0..RING_PLACES).map(move |number| place(own, number))).collect();
        ring.sort_unstable();
        Self(ring)
    }

    fn owner(&self, queue: usize) -> usize {
        let at = (hash(b"queue", queue as u64), 0);
        let next = self.0.partition_point(|place| *place < at);
        self.0[next % self.0.len()].1
    }
}

/// The owner of each queue: the consumer that ranks highest for it and has room. Each has as many as the others, give or take one, and
/// when a consumer comes or goes few queues move that need not.
fn sticky(queues: usize, consumers: &[String]) -> Vec<usize> {
    let mut ranked: Vec<(u64, usize, usize)> = (0..queues)
        .flat_map(|queue| {
            (0..consumers.len()).map(move |own| (hash(consumers[own].as_bytes(), queue as u64), queue, own))
        })
        .collect();
    ranked.sort_unstable_by(|one, other| other.cmp(one));
    let (each, mut more) = (queues / consumers.len(), queues % consumers.len());
    let mut counts = vec![0; consumers.len()];
    let mut owners = vec![None; queues];
    for (_, queue, own) in ranked {
        let has_room = counts[own] < each || (counts[own] == each && more > 0);
        if owners[queue].is_none() && has_room {
            more -= usize::from(counts[own] == each);
            counts[own] += 1;
            owners[queue] = Some(own);
        }
    }
    owners.into_iter().map(|owner| owner.expect("there is room for every queue")).collect()
}

/// FNV-1a, and then mixed: names that differ in their last letter must not lie side by side.
fn hash(name: &[u8], number: u64) -> u64 {
    let bytes = name.iter().chain(number.to_le_bytes().iter()).copied().collect::<Vec<u8>>();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AssignmentStrategy; 4] = [
        AssignmentStrategy::Averaging,
        AssignmentStrategy::AveragingByCircle,
        AssignmentStrategy::ConsistentHashing,
        AssignmentStrategy::Sticky,
    ];

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("host-{number}@1@x")).collect()
    }

    fn owners(strategy: AssignmentStrategy, queues: usize, consumers: &[String]) -> Vec<String> {
        let mut owners = vec![None; queues];
        for consumer in consumers {
            for queue in assigned(strategy, queues, consumers, consumer) {
                assert_eq!(owners[queue].replace(consumer.clone()), None, "{strategy:?}: queue {queue} twice");
            }
        }
        owners.into_iter().map(|owner| owner.expect("every queue has a consumer")).collect()
    }

    #[test]
    fn every_queue_has_exactly_one_consumer() {
        for strategy in ALL {
            for (queues, consumers) in [(1, 1), (8, 3), (3, 8), (16, 4), (100, 7), (0, 2)] {
                assert_eq!(owners(strategy, queues, &names(consumers)).len(), queues);
            }
        }
    }

    #[test]
    fn rocketmqs_averaging_and_circle() {
        let consumers = names(3);
        let of = |strategy, at: usize| assigned(strategy, 8, &consumers, &consumers[at]);
        assert_eq!(of(AssignmentStrategy::Averaging, 0), [0, 1, 2]);
        assert_eq!(of(AssignmentStrategy::Averaging, 2), [6, 7]);
        assert_eq!(of(AssignmentStrategy::AveragingByCircle, 1), [1, 4, 7]);
    }

    #[test]
    fn all_but_consistent_hashing_are_even() {
        for strategy in [ALL[0], ALL[1], ALL[3]] {
            let consumers = names(5);
            let counts = consumers.iter().map(|name| assigned(strategy, 52, &consumers, name).len());
            assert!(counts.clone().all(|count| count == 10 || count == 11), "{strategy:?}: {counts:?}");
        }
    }

    #[test]
    fn few_queues_move_when_a_consumer_leaves() {
        let (before, mut after) = (names(5), names(5));
        let gone = after.remove(2);
        for (strategy, moves_max) in [(AssignmentStrategy::Sticky, 12), (AssignmentStrategy::ConsistentHashing, 0)] {
            let (old, new) = (owners(strategy, 100, &before), owners(strategy, 100, &after));
            let moved = old.iter().zip(&new).filter(|(old, new)| **old != gone && old != new).count();
            assert!(moved <= moves_max, "{strategy:?}: {moved} queues moved that need not");
        }
    }

    #[test]
    fn queues_stay_in_their_machine_room_where_there_is_a_consumer() {
        let (east, west, south) = (Some(0), Some(1), Some(2));
        let queues = [east, west, east, south, west, None, east, south];
        let of = |consumers: &[Option<usize>]| -> Vec<Vec<usize>> {
            (0..consumers.len()).map(|own| nearby(&queues, consumers, own)).collect()
        };
        // Nobody is in the south, and one queue is nowhere: these are for all.
        assert_eq!(of(&[east, west, east]), [vec![0, 2, 3], vec![1, 4, 5], vec![6, 7]]);
        assert_eq!(of(&[None, west]), [vec![0, 2, 3], vec![1, 4, 5, 6, 7]]);
        assert_eq!(of(&[None]), [(0..8).collect::<Vec<_>>()]);
        for consumers in [&[east][..], &[east, west, south], &[None, None, south, south, east], &[west; 9]] {
            let mut all = of(consumers).concat();
            all.sort_unstable();
            assert_eq!(all, (0..8).collect::<Vec<_>>(), "{consumers:?}");
        }
    }

    #[test]
    fn a_stranger_gets_nothing() {
        assert!(assigned(AssignmentStrategy::Averaging, 8, &names(2), "nobody").is_empty());
    }
}
