//! Which partition a record goes to when its producer does not say, as the clients of either protocol choose it. So a request
//! reaches the node that leads the partition at once.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// The partition of a key, as Kafka's default partitioner chooses it. Of no partitions: 0.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// The partition of a message group, as RocketMQ's clients choose it. Of no partitions: 0.
#[must_use]
pub fn partition_of_message_group(group: &str, partitions: u32) -> u32 {
    // Clients take the hash for a signed number, and the remainder that is not negative.
    let hash = siphash(group.as_bytes()).cast_signed();
    u32::try_from(hash.rem_euclid(i64::from(partitions.max(1)))).unwrap_or(0)
}

/// SipHash-2-4 with the key of its reference tests: bytes 0 to 15.
fn siphash(data: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
    hasher.write(data);
    hasher.finish()
}

/// MurmurHash2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Keys are far shorter than 4 GiB; the hash is defined over the low 32 bits.
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Kafka's own tests expect.
    #[test]
    fn the_hash_of_keys_is_that_of_kafka() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    /// Values of the function's reference tests: of no bytes, of one zero, of bytes 0 to 14.
    #[test]
    fn the_hash_of_message_groups_is_siphash() {
        let bytes: Vec<u8> = (0..15).collect();
        for (length, hash) in [(0, 0x726f_db47_dd0e_0e31), (1, 0x74f8_39c5_93dc_67fd), (15, 0xa129_ca61_49be_45e5_u64)]
        {
            assert_eq!(siphash(&bytes[..length]), hash, "{length}");
        }
    }

    #[test]
    fn everything_has_a_partition() {
        for n in 1..5 {
            assert!((0..100_u32).all(|key| partition_of_key(&key.to_be_bytes(), n) < n));
            assert!((0..100_u32).all(|group| partition_of_message_group(&group.to_string(), n) < n));
        }
        assert_eq!((partition_of_key(b"k", 0), partition_of_message_group("g", 0)), (0, 0));
        let used: std::collections::BTreeSet<u32> =
            (0..64).map(|group| partition_of_message_group(&format!("g{group}"), 8)).collect();
        assert_eq!(used.len(), 8, "groups spread");
    }
}
