//! Fetch sessions (KIP-227): a client that asks for the same partitions again and again sends and gets differences only.
//!
//! ```text
//! client                                      server
//! id 0, epoch 0, all partitions      ─▶       remembers them;   all partitions ◀─ id n   (0: no room, keep to full ones)
//! id n, epoch 1, changed, forgotten  ─▶       updates them;     partitions with news ◀─ id n
//! id n, epoch 2, …                   ─▶       …                 after i32::MAX comes 1
//! id n, epoch −1 or 0                ─▶       forgets n; then as a full request, −1 without a new session
//! ```
//!
//! News are records, an error, a diverging epoch, another high watermark, last stable offset or log start offset. A
//! partition whose records were given goes to the end of the order in which partitions are filled, so that none starves.
//!
//! Room is bounded in sessions and in partitions of all sessions together. When there is none, the session that was used
//! the longest ago is evicted if that was [`EVICT_AFTER`] ago, else the new client gets none. Kafka also lets larger
//! sessions and those of followers evict others; here there are no followers that fetch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_broker::api::{FetchPartition, Fetched, ItemResult, TopicRef};
use duolog_types::Offset;
use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use crate::metrics::KafkaMetrics;

/// A session that was used more recently is not evicted.
const EVICT_AFTER: Duration = Duration::from_secs(120);
/// Partitions of all sessions together; about 200 bytes each.
const PARTITIONS_MAX: usize = 1 << 18;

/// No session.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch of a full request that asks for a session.
const EPOCH_FIRST: i32 = 0;
/// The epoch of a full request that wants none.
const EPOCH_NONE: i32 = -1;

/// What a Fetch request says of sessions.
#[derive(Debug, Clone)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Whether its version names topics by id; a session must keep to one way.
    pub(crate) uses_topic_ids: bool,
    /// All partitions, or those that are new or changed.
    pub(crate) partitions: Vec<FetchPartition>,
    /// Partitions that leave the session.
    pub(crate) forgotten: Vec<(TopicRef, i32)>,
}

/// A request that may be carried out.
#[derive(Debug)]
pub(crate) struct Turn {
    /// What is to be fetched, in this order.
    pub(crate) partitions: Vec<FetchPartition>,
    /// To be given back with the results.
    pub(crate) kind: Kind,
}

/// What a request is to the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sessionless,
    Opening { uses_topic_ids: bool },
    Going { id: i32, epoch: i32 },
}

/// What the answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) session_id: i32,
    /// Which of the turn's partitions are in the answer.
    pub(crate) partitions: Vec<bool>,
}

/// The sessions of all connections.
pub(crate) struct FetchSessions {
    sessions_max: usize,
    partitions_max: usize,
    metrics: Arc<KafkaMetrics>,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    sessions: HashMap<i32, Session>,
    /// Partitions of all of them.
    partitions: usize,
}

struct Session {
    uses_topic_ids: bool,
    /// The epoch that the next request must have.
    epoch: i32,
    used: Instant,
    next_place: u64,
    order: BTreeMap<u64, Key>,
    partitions: HashMap<Key, Cached>,
}

type Key = (TopicRef, i32);

struct Cached {
    place: u64,
    fetch: FetchPartition,
    told: Option<Offsets>,
}

/// What was told of a partition; `None` in its place when it was an error, so that what comes next is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offsets {
    high_watermark: Offset,
    last_stable: Offset,
    log_start: Offset,
}

impl FetchSessions {
    pub(crate) fn new(sessions_max: usize, metrics: Arc<KafkaMetrics>) -> Self {
        Self { sessions_max, partitions_max: PARTITIONS_MAX, metrics, slots: Mutex::default() }
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// `FetchSessionIdNotFound`, `InvalidFetchSessionEpoch`, `FetchSessionTopicIdError`: the client sends a full request
    /// then.
    pub(crate) fn begin(&self, request: SessionRequest, now: Instant) -> Result<Turn, ResponseError> {
        let mut slots = self.slots.lock();
        let turn = match request.epoch {
            EPOCH_FIRST | EPOCH_NONE => {
                slots.remove(request.id);
                let kind = match request.epoch {
                    EPOCH_FIRST => Kind::Opening { uses_topic_ids: request.uses_topic_ids },
                    _ => Kind::Sessionless,
                };
                Ok(Turn { partitions: request.partitions, kind })
            }
            _ => slots.go_on(request, now, self.partitions_max),
        };
        self.show(&slots);
        turn
    }

    /// Decides what the answer tells; `partitions` are the turn's, `results` in their order.
    ///
    /// # Errors
    /// As [`FetchSessions::begin`], when the session was evicted or used by another request meanwhile.
    pub(crate) fn end(
        &self,
        kind: Kind,
        partitions: &[FetchPartition],
        results: &[Option<ItemResult<Fetched>>],
        now: Instant,
    ) -> Result<Told, ResponseError> {
        let everything = |session_id| Told { session_id, partitions: vec![true; results.len()] };
        let (id, epoch) = match kind {
            Kind::Sessionless => return Ok(everything(NO_SESSION)),
            Kind::Opening { uses_topic_ids } => {
                let session = Session::open(uses_topic_ids, partitions, results, now);
                return Ok(everything(self.insert(session, now)));
            }
            Kind::Going { id, epoch } => (id, epoch),
        };
        let mut slots = self.slots.lock();
        let session = slots.sessions.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        session.used = now;
        let told = partitions.iter().zip(results).map(|(partition, result)| session.tell(partition, result));
        Ok(Told { session_id: id, partitions: told.collect() })
    }

    /// The new session's id; [`NO_SESSION`] when there is no room.
    fn insert(&self, session: Session, now: Instant) -> i32 {
        let mut slots = self.slots.lock();
        let size = session.partitions.len();
        let has_room =
            |slots: &Slots| slots.sessions.len() < self.sessions_max && slots.partitions + size <= self.partitions_max;
        while !has_room(&slots) {
            if !slots.evict(now) {
                return NO_SESSION;
            }
            self.metrics.fetch_session_evicted();
        }
        let id = slots.free_id();
        slots.partitions += size;
        slots.sessions.insert(id, session);
        self.show(&slots);
        id
    }

    fn show(&self, slots: &Slots) {
        self.metrics.show_fetch_sessions(slots.sessions.len(), slots.partitions);
    }
}

impl Slots {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    fn go_on(&mut self, request: SessionRequest, now: Instant, partitions_max: usize) -> Result<Turn, ResponseError> {
        let session = self.sessions.get_mut(&request.id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != request.epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        let before = session.partitions.len();
        session.update(request.partitions, &request.forgotten);
        session.epoch = next_epoch(session.epoch);
        session.used = now;
        let (epoch, size) = (session.epoch, session.partitions.len());
        let partitions = session.wanted();
        self.partitions = self.partitions - before + size;
        if size == 0 {
            self.remove(request.id);
            return Ok(Turn { partitions, kind: Kind::Sessionless });
        }
        if self.partitions > partitions_max {
            self.remove(request.id);
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        Ok(Turn { partitions, kind: Kind::Going { id: request.id, epoch } })
    }

    /// Evicts the session that was used the longest ago, if that is long enough.
    fn evict(&mut self, now: Instant) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
        let oldest = oldest.filter(|(_, session)| now.duration_since(session.used) >= EVICT_AFTER).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.remove(id);
        }
        oldest.is_some()
    }

    /// A random id, so that a client of before a restart does not meet another one's session.
    fn free_id(&self) -> i32 {
        loop {
            let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
            let id = i32::from_be_bytes([a & 0x7f, b, c, d]);
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    fn open(
        uses_topic_ids: bool,
        partitions: &[FetchPartition],
        results: &[Option<ItemResult<Fetched>>],
        now: Instant,
    ) -> Self {
        let mut session = Self {
            uses_topic_ids,
            epoch: next_epoch(EPOCH_FIRST),
            used: now,
            next_place: 0,
            order: BTreeMap::new(),
            partitions: HashMap::new(),
        };
        session.update(partitions.to_vec(), &[]);
        for (partition, result) in partitions.iter().zip(results) {
            session.tell(partition, result);
        }
        session
    }

    fn update(&mut self, changed: Vec<FetchPartition>, forgotten: &[Key]) {
        for fetch in changed {
            let key = (fetch.topic.clone(), fetch.partition);
            match self.partitions.get_mut(&key) {
                Some(cached) => cached.fetch = fetch,
                None => {
                    let place = self.take_place(key.clone());
                    self.partitions.insert(key, Cached { place, fetch, told: None });
                }
            }
        }
        for key in forgotten {
            if let Some(gone) = self.partitions.remove(key) {
                self.order.remove(&gone.place);
            }
        }
    }

    /// The last place in the order.
    fn take_place(&mut self, key: Key) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, key);
        place
    }

    fn wanted(&self) -> Vec<FetchPartition> {
        self.order.values().map(|key| self.partitions[key].fetch.clone()).collect()
    }

    /// Whether the client must be told of a result; notes that it is.
    fn tell(&mut self, partition: &FetchPartition, result: &Option<ItemResult<Fetched>>) -> bool {
        let key = (partition.topic.clone(), partition.partition);
        let Some(cached) = self.partitions.get_mut(&key) else { return true };
        let told = match result {
            Some(Ok(fetched)) if fetched.diverging.is_none() => Some(Offsets {
                high_watermark: fetched.high_watermark,
                last_stable: fetched.last_stable_offset,
                log_start: fetched.log_start_offset,
            }),
            Some(Ok(_) | Err(_)) | None => None,
        };
        let has_records = matches!(result, Some(Ok(fetched)) if fetched.records.iter().any(|piece| !piece.is_empty()));
        let is_news = has_records || told.is_none() || cached.told != told;
        cached.told = told;
        if has_records {
            let place = cached.place;
            self.order.remove(&place);
            let place = self.take_place(key.clone());
            self.partitions.get_mut(&key).expect("it was found above").place = place;
        }
        is_news
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duolog_broker::BrokerError;
    use duolog_broker::api::{EpochCheck, EpochEnd};
    use duolog_types::LeaderEpoch;

    use super::*;

    fn partition(number: i32, offset: i64) -> FetchPartition {
        FetchPartition {
            topic: TopicRef::Name("t".to_owned()),
            partition: number,
            fetch_offset: Offset(offset),
            bytes_max: 1,
            epoch: EpochCheck::default(),
            last_fetched_epoch: None,
        }
    }

    fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> SessionRequest {
        let partitions = partitions.iter().map(|(number, offset)| partition(*number, *offset)).collect();
        SessionRequest { id, epoch, uses_topic_ids: false, partitions, forgotten: Vec::new() }
    }

    /// A high watermark, and whether there are records.
    fn fetched(high_watermark: i64, has_records: bool) -> Option<ItemResult<Fetched>> {
        Some(Ok(Fetched {
            high_watermark: Offset(high_watermark),
            records: if has_records { vec![Bytes::from_static(b"r")] } else { Vec::new() },
            ..Fetched::default()
        }))
    }

    struct World {
        sessions: FetchSessions,
        now: Instant,
    }

    impl World {
        fn new(sessions_max: usize) -> Self {
            Self { sessions: FetchSessions::new(sessions_max, Arc::default()), now: Instant::now() }
        }

        fn turn(
            &self,
            request: SessionRequest,
            result: impl Fn(i32) -> Option<ItemResult<Fetched>>,
        ) -> Result<(i32, Vec<(i32, bool)>), ResponseError> {
            let turn = self.sessions.begin(request, self.now)?;
            let numbers: Vec<i32> = turn.partitions.iter().map(|p| p.partition).collect();
            let results: Vec<_> = numbers.iter().map(|number| result(*number)).collect();
            let told = self.sessions.end(turn.kind, &turn.partitions, &results, self.now)?;
            Ok((told.session_id, numbers.into_iter().zip(told.partitions).collect()))
        }

        fn open(&self, partitions: &[(i32, i64)]) -> i32 {
            self.turn(request(0, 0, partitions), |_| fetched(5, false)).unwrap().0
        }
    }

    #[test]
    fn an_incremental_answer_tells_only_news() {
        let w = World::new(10);
        let (id, told) = w.turn(request(0, 0, &[(0, 1), (1, 1), (2, 1)]), |_| fetched(5, false)).unwrap();
        assert!(id > 0);
        assert_eq!(told, [(0, true), (1, true), (2, true)], "a full answer tells everything");
        let quiet = w.turn(request(id, 1, &[]), |_| fetched(5, false)).unwrap();
        assert_eq!(quiet, (id, vec![(0, false), (1, false), (2, false)]));
        let moved = w.turn(request(id, 2, &[]), |number| fetched(5 + i64::from(number == 1), false)).unwrap();
        assert_eq!(moved.1, [(0, false), (1, true), (2, false)]);
        let records = w.turn(request(id, 3, &[]), |number| fetched(5 + i64::from(number == 1), number == 0)).unwrap();
        assert_eq!(records.1, [(0, true), (1, false), (2, false)]);
        let after = w.turn(request(id, 4, &[(0, 2)]), |number| fetched(5 + i64::from(number == 1), false)).unwrap();
        assert_eq!(after.1, [(1, false), (2, false), (0, false)], "who got records goes behind the others");
    }

    #[test]
    fn errors_and_divergence_are_always_told_and_so_is_what_follows() {
        let w = World::new(10);
        let id = w.open(&[(0, 1)]);
        let failed = |_| Some(Err(BrokerError::LeaderNotAvailable));
        let diverging = |_| {
            let end = EpochEnd { epoch: LeaderEpoch(1), end_offset: Offset(1) };
            Some(Ok(Fetched { high_watermark: Offset(5), diverging: Some(end), ..Fetched::default() }))
        };
        for epoch in [1, 2] {
            assert_eq!(w.turn(request(id, epoch, &[]), failed).unwrap().1, [(0, true)]);
        }
        assert_eq!(w.turn(request(id, 3, &[]), diverging).unwrap().1, [(0, true)]);
        assert_eq!(w.turn(request(id, 4, &[]), |_| fetched(5, false)).unwrap().1, [(0, true)]);
        assert_eq!(w.turn(request(id, 5, &[]), |_| fetched(5, false)).unwrap().1, [(0, false)]);
    }

    #[test]
    fn partitions_come_change_and_go() {
        let w = World::new(10);
        let id = w.open(&[(0, 1), (1, 1)]);
        let mut changes = request(id, 1, &[(1, 7), (2, 9)]);
        changes.forgotten = vec![(TopicRef::Name("t".to_owned()), 0), (TopicRef::Name("other".to_owned()), 0)];
        let turn = w.sessions.begin(changes, w.now).unwrap();
        let wanted: Vec<_> = turn.partitions.iter().map(|p| (p.partition, p.fetch_offset.0)).collect();
        assert_eq!(wanted, [(1, 7), (2, 9)]);
        let results = [fetched(5, false), fetched(5, false)];
        let told = w.sessions.end(turn.kind, &turn.partitions, &results, w.now).unwrap();
        assert_eq!(told.partitions, [false, true], "a new partition is news");
        let mut last = request(id, 2, &[]);
        last.forgotten = vec![(TopicRef::Name("t".to_owned()), 1), (TopicRef::Name("t".to_owned()), 2)];
        assert_eq!(w.turn(last, |_| None), Ok((NO_SESSION, Vec::new())), "an empty session ends");
        assert_eq!(w.turn(request(id, 3, &[]), |_| None), Err(ResponseError::FetchSessionIdNotFound));
    }

    #[test]
    fn what_does_not_fit_the_session_is_refused() {
        let w = World::new(10);
        let id = w.open(&[(0, 1)]);
        let ask = |request| w.turn(request, |_| fetched(5, false)).unwrap_err();
        assert_eq!(ask(request(id ^ 1, 1, &[])), ResponseError::FetchSessionIdNotFound);
        for epoch in [2, -2, i32::MAX] {
            assert_eq!(ask(request(id, epoch, &[])), ResponseError::InvalidFetchSessionEpoch, "{epoch}");
        }
        let by_id = SessionRequest { uses_topic_ids: true, ..request(id, 1, &[]) };
        assert_eq!(ask(by_id), ResponseError::FetchSessionTopicIdError);
        w.turn(request(id, 1, &[]), |_| fetched(5, false)).unwrap();
        let late = w.sessions.begin(request(id, 2, &[]), w.now).unwrap();
        w.turn(request(id, 3, &[]), |_| fetched(5, false)).unwrap();
        let answer = w.sessions.end(late.kind, &late.partitions, &[fetched(5, false)], w.now);
        assert_eq!(answer, Err(ResponseError::InvalidFetchSessionEpoch), "another request has overtaken it");
    }

    #[test]
    fn a_full_request_ends_the_session_that_it_names() {
        let w = World::new(10);
        for (epoch, gets_one) in [(-1, false), (0, true)] {
            let id = w.open(&[(0, 1)]);
            let (next, told) = w.turn(request(id, epoch, &[(0, 1)]), |_| fetched(5, false)).unwrap();
            assert_eq!((next != NO_SESSION, told), (gets_one, vec![(0, true)]));
            assert_eq!(w.turn(request(id, 1, &[]), |_| None), Err(ResponseError::FetchSessionIdNotFound));
        }
        assert_eq!(w.sessions.slots.lock().partitions, 1, "only the session of the second round is left");
    }

    #[test]
    fn room_is_bounded_and_only_the_idle_are_evicted() {
        let mut w = World::new(2);
        w.sessions.partitions_max = 3;
        let first = w.open(&[(0, 1)]);
        w.now += Duration::from_secs(1);
        let second = w.open(&[(0, 1)]);
        assert_eq!(w.open(&[(0, 1)]), NO_SESSION, "both are in use");
        w.now += EVICT_AFTER - Duration::from_secs(1);
        let third = w.open(&[(0, 1), (1, 1)]);
        assert_ne!(third, NO_SESSION);
        assert_eq!(w.turn(request(first, 1, &[]), |_| None), Err(ResponseError::FetchSessionIdNotFound));
        let grown = request(second, 1, &[(1, 1)]);
        assert_eq!(w.turn(grown, |_| None), Err(ResponseError::FetchSessionIdNotFound), "no room to grow");
        assert_eq!(w.turn(request(third, 1, &[]), |_| fetched(5, false)).map(|(id, _)| id), Ok(third));
        assert_eq!(w.sessions.slots.lock().partitions, 2);
    }

    #[test]
    fn epochs_go_round() {
        assert_eq!((next_epoch(0), next_epoch(i32::MAX)), (1, 1));
    }
}
