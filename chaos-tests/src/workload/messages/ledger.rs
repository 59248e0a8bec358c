//! What the broker still owes to the clients, so that a run knows when it may end. It judges nothing: checkers have the history.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::history::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Debt {
    /// A message was promised, and nobody has acknowledged it.
    Message,
    /// A half message was promised, and its transaction has no end.
    End,
    /// A message that nobody acknowledges was promised, and is no dead letter.
    Letter,
    /// A message was promised, and this member of the broadcasting group has not acknowledged it.
    Copy(u32),
}

pub struct Ledger(Mutex<Inner>);

struct Inner {
    owed: BTreeSet<(Debt, Value)>,
    /// Also those that were paid before they were owed: a consumer may be faster than the producer's answer.
    paid: BTreeSet<(Debt, Value)>,
    delivered_at: Instant,
    paid_at: Instant,
}

impl Ledger {
    pub fn new() -> Ledger {
        let inner = Inner {
            owed: BTreeSet::new(),
            paid: BTreeSet::new(),
            delivered_at: Instant::now(),
            paid_at: Instant::now(),
        };
        Ledger(Mutex::new(inner))
    }

    pub fn owe(&self, debt: Debt, value: Value) {
        let mut inner = self.lock();
        if !inner.paid.contains(&(debt, value)) {
            inner.owed.insert((debt, value));
        }
    }

    pub fn pay(&self, debt: Debt, value: Value) {
        let mut inner = self.lock();
        if inner.owed.remove(&(debt, value)) {
            inner.paid_at = Instant::now();
        }
        inner.paid.insert((debt, value));
    }

    /// A consumer was given something.
    pub fn delivered(&self) {
        self.lock().delivered_at = Instant::now();
    }

    /// How long consumers were given nothing.
    pub fn silence(&self) -> Duration {
        self.lock().delivered_at.elapsed()
    }

    /// How long nothing that was owed was paid.
    pub fn stands_still(&self) -> Duration {
        self.lock().paid_at.elapsed()
    }

    pub fn owed(&self) -> u64 {
        self.lock().owed.len() as u64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger::new()
    }
}
