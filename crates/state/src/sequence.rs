//! Arithmetic of Kafka's producer sequence numbers: 0 ..= i32::MAX, then 0 again.

/// The sequence `count` records further (`DefaultRecordBatch.incrementSequence`).
#[must_use]
pub fn advance(sequence: i32, count: u32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(count)) % MODULUS;
    i32::try_from(sum).expect("a remainder of 2^31 fits i32")
}

/// Sequence of the last record of a batch.
#[must_use]
pub fn last_of(base_sequence: i32, record_count: u32) -> i32 {
    advance(base_sequence, record_count.saturating_sub(1))
}

/// How many steps forward lead from `from` to `to`, going through the wrap-around: 0 ..= 2^31 − 1.
#[must_use]
pub fn distance(from: i32, to: i32) -> u32 {
    let steps = (i64::from(to) - i64::from(from)).rem_euclid(MODULUS);
    u32::try_from(steps).expect("a remainder of 2^31 fits u32")
}

/// Whether `sequence` lies before `reference`: closer going backwards than forwards.
#[must_use]
pub fn is_before(sequence: i32, reference: i32) -> bool {
    sequence != reference && distance(sequence, reference) < distance(reference, sequence)
}

const MODULUS: i64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_after_the_greatest_i32() {
        for (sequence, count, expected) in
            [(0, 1, 1), (i32::MAX, 1, 0), (i32::MAX - 1, 3, 1), (5, 0, 5), (i32::MAX, 0, i32::MAX)]
        {
            assert_eq!(advance(sequence, count), expected, "{sequence} + {count}");
        }
        assert_eq!(last_of(i32::MAX, 2), 0);
        assert_eq!(last_of(7, 1), 7);
    }

    #[test]
    fn before_and_after_see_through_the_wrap() {
        assert!(is_before(i32::MAX, 0));
        assert!(is_before(3, 4));
        assert!(!is_before(4, 4));
        assert!(!is_before(0, i32::MAX));
        assert_eq!(distance(i32::MAX, 1), 2);
    }
}
