//! One record batch that owns its bytes.
//!
//! Invariant: at least a header, magic 2, and exactly as many bytes as the length field says. Nothing else is
//! promised: the CRC and the records are judged by [`crate::split_batches`] and [`crate::validate_records`].

use bytes::Bytes;
use duolog_types::Offset;

use crate::header::{ATTRIBUTES_AT, LENGTH_AT, LENGTH_OVERHEAD_BYTES, MAGIC, MAGIC_AT};
use crate::{BATCH_HEADER_BYTES, BatchError, BatchView};

/// A record batch v2. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBatch(Bytes);

impl RecordBatch {
    /// Takes exactly one batch.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::TrailingBytes`], [`BatchError::Length`] or
    /// [`BatchError::UnsupportedMagic`].
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let size = framed_size(&bytes)?;
        if bytes.len() > size {
            return Err(BatchError::TrailingBytes { excess: bytes.len() - size });
        }
        Ok(Self(bytes))
    }

    /// The header.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        BatchView::parse(&self.0).expect("a record batch has a header")
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The whole batch, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Size of the whole batch in bytes: what `max.message.bytes` limits.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// The records as they lie in the batch, compressed or not.
    #[must_use]
    pub fn record_bytes(&self) -> Bytes {
        self.0.slice(BATCH_HEADER_BYTES..)
    }

    /// The offset after the last record, by the header's last offset delta.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        let view = self.view();
        Offset(view.base_offset().0.saturating_add(i64::from(view.last_offset_delta()).saturating_add(1)))
    }

    /// Computes the CRC-32C and compares it.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (expected, found) = (self.view().crc(), crc32c::crc32c(&self.0[ATTRIBUTES_AT..]));
        if expected == found { Ok(()) } else { Err(BatchError::Crc { expected, found }) }
    }
}

impl std::fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

/// Size of the batch at the start of `bytes`, once its magic is 2 and all of it is there.
///
/// The magic is judged before the length: formats 0 and 1 have shorter headers.
pub(crate) fn framed_size(bytes: &[u8]) -> Result<usize, BatchError> {
    let Some(magic) = bytes.get(MAGIC_AT) else {
        return Err(BatchError::Truncated { expected: BATCH_HEADER_BYTES, found: bytes.len() });
    };
    let magic = i8::from_be_bytes([*magic]);
    if magic != MAGIC {
        return Err(BatchError::UnsupportedMagic { found: magic });
    }
    let length = i32::from_be_bytes(bytes[LENGTH_AT..LENGTH_AT + 4].try_into().expect("four bytes"));
    let size = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(LENGTH_OVERHEAD_BYTES))
        .filter(|size| *size >= BATCH_HEADER_BYTES)
        .ok_or(BatchError::Length { length })?;
    if bytes.len() < size {
        return Err(BatchError::Truncated { expected: size, found: bytes.len() });
    }
    Ok(size)
}
