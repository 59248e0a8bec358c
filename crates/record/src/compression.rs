//! The codecs of record batches, with a bound on what comes out.
//!
//! Output grows as it is produced, so a small batch that claims to be huge costs nothing. zstd reserves its window
//! (up to 128 MiB, what Java's highest level asks for) as address space, and touches only what it fills.

use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;

use crate::BatchError;

/// The codec of a batch's records; the number is Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// As they are.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of snappy-java ("xerial"), or one raw block as librdkafka sends.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

/// The first eight bytes of snappy-java's stream; version and compatible version follow, four bytes each.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// What snappy-java cuts a stream into.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy element of 3 bytes yields at most 64: no block grows more than this.
const SNAPPY_RATIO_MAX: usize = 22;

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with Kafka's number `id`.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// Kafka's number.
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Decompresses into at most `limit` bytes. Uncompressed records are not copied.
    pub(crate) fn decompress(self, records: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
        let what = |error: std::io::Error| BatchError::Decompress { compression: self, what: error.to_string() };
        match self {
            Self::None if records.len() > limit => Err(BatchError::OutputTooLarge { limit }),
            Self::None => Ok(records.clone()),
            Self::Gzip => read_bounded(&mut flate2::bufread::MultiGzDecoder::new(&records[..]), limit, what),
            Self::Snappy => unsnap(records, limit),
            Self::Lz4 => {
                let mut decoder = lz4::Decoder::new(&records[..]).map_err(what)?;
                let out = read_bounded(&mut decoder, limit, what)?;
                // The decoder takes the end of its input for the end of the stream; only finish() tells them apart.
                decoder.finish().1.map_err(what)?;
                Ok(out)
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&records[..]).map_err(what)?;
                read_bounded(&mut decoder, limit, what)
            }
        }
    }

    /// Compresses records as a Java client does.
    pub(crate) fn compress(self, records: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(records.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(records)?;
                encoder.finish()
            }
            Self::Snappy => snap_xerial(records),
            Self::Lz4 => {
                let mut encoder =
                    lz4::EncoderBuilder::new().block_mode(lz4::BlockMode::Independent).build(Vec::new())?;
                encoder.write_all(records)?;
                let (out, finished) = encoder.finish();
                finished.map(|()| out)
            }
            Self::Zstd => zstd::stream::encode_all(records, zstd::DEFAULT_COMPRESSION_LEVEL),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

fn read_bounded(
    decoder: &mut impl Read,
    limit: usize,
    what: impl Fn(std::io::Error) -> BatchError,
) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    let one_more = (limit as u64).saturating_add(1);
    decoder.by_ref().take(one_more).read_to_end(&mut out).map_err(what)?;
    if out.len() > limit {
        return Err(BatchError::OutputTooLarge { limit });
    }
    Ok(out.into())
}

/// A xerial stream of blocks, or one raw block.
fn unsnap(records: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    if !records.starts_with(XERIAL_MAGIC) {
        unsnap_block(records, limit, &mut out)?;
        return Ok(out.into());
    }
    let mut rest = records;
    while !rest.is_empty() {
        // Streams may be concatenated, headers and all.
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or_else(|| snappy("truncated stream header"))?;
            continue;
        }
        let (length, after) = rest.split_first_chunk().ok_or_else(|| snappy("truncated block length"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = after.split_at_checked(length).ok_or_else(|| snappy("truncated block"))?;
        unsnap_block(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out.into())
}

fn unsnap_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let length = snap::raw::decompress_len(block).map_err(|error| snappy(&error.to_string()))?;
    let start = out.len();
    if length > limit - start {
        return Err(BatchError::OutputTooLarge { limit });
    }
    if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(snappy("block claims more bytes than it can hold"));
    }
    out.resize(start + length, 0);
    let written =
        snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|error| snappy(&error.to_string()))?;
    out.truncate(start + written);
    Ok(())
}

fn snappy(what: &str) -> BatchError {
    BatchError::Decompress { compression: Compression::Snappy, what: what.to_owned() }
}

fn snap_xerial(records: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend(1u32.to_be_bytes());
    out.extend(1u32.to_be_bytes());
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let block = snap::raw::Encoder::new().compress_vec(block).map_err(std::io::Error::other)?;
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn compressed(codec: Compression, records: &[u8]) -> Bytes {
        codec.compress(records).expect("memory does not fail").into()
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        for codec in Compression::ALL {
            let bomb = compressed(codec, &zeros);
            assert_eq!(codec.decompress(&bomb, LIMIT).unwrap(), zeros, "{codec}");
            assert_eq!(
                codec.decompress(&bomb, LIMIT - 1),
                Err(BatchError::OutputTooLarge { limit: LIMIT - 1 }),
                "{codec}"
            );
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_no_complete_stream() {
        let records: Vec<u8> = (0..2000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let whole = compressed(codec, &records);
            for end in 0..whole.len() {
                let out = codec.decompress(&whole.slice(..end), LIMIT);
                assert!(out.as_ref() != Ok(&Bytes::from(records.clone())), "{codec} cut at {end}");
            }
        }
    }

    #[test]
    fn snappy_is_read_raw_and_concatenated() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(Compression::Snappy.decompress(&raw.into(), LIMIT).unwrap(), &b"hello hello hello"[..]);
        let twice = [compressed(Compression::Snappy, b"one "), compressed(Compression::Snappy, b"two")].concat();
        assert_eq!(Compression::Snappy.decompress(&twice.into(), LIMIT).unwrap(), &b"one two"[..]);
    }

    #[test]
    fn a_snappy_block_may_not_claim_what_it_cannot_hold() {
        let claims_a_megabyte = Bytes::from_static(&[0x80, 0x80, 0x40, 0x00, 0x61]);
        assert!(matches!(
            Compression::Snappy.decompress(&claims_a_megabyte, LIMIT),
            Err(BatchError::Decompress { .. })
        ));
    }

    proptest! {
        #[test]
        fn round_trip(records in proptest::collection::vec(any::<u8>(), 0..100_000)) {
            for codec in Compression::ALL {
                prop_assert_eq!(&codec.decompress(&compressed(codec, &records), LIMIT).unwrap()[..], &records[..]);
            }
        }

        #[test]
        fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..300), xerial: bool) {
            let mut bytes = if xerial { XERIAL_MAGIC.to_vec() } else { Vec::new() };
            bytes.extend(garbage);
            let bytes = Bytes::from(bytes);
            for codec in Compression::ALL {
                let _ = codec.decompress(&bytes, 10_000);
            }
        }
    }
}
