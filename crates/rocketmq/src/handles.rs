//! Receipts and names of hidden messages as text that clients give back. Opaque for them, URL-safe base64 of
//!
//! ```text
//! receipt: 'R' │ topic id 16 │ partition u32 │ offset i64 │ delivery u128
//! hidden:  'H' │ topic id 16 │ partition u32 │ index u64  │ slot u32 │ term u64 │ message id, UTF-8, to the end
//! ```
//!
//! Numbers are big-endian. The first byte is also the version: a new form gets a new letter.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut};
use duolog_broker::message_api::{DeliveryId, HiddenHandle, Receipt};
use duolog_types::{LogIndex, Offset, Term, TopicId, TopicPartition};

use crate::errors::Refusal;
use crate::proto::Code;

const RECEIPT: u8 = b'R';
const RECEIPT_BYTES: usize = 1 + 20 + 8 + 16;
const HIDDEN: u8 = b'H';
const HIDDEN_BYTES_MIN: usize = 1 + 20 + 8 + 4 + 8;
/// Longer texts are not looked at.
const TEXT_BYTES_MAX: usize = 1_024;

pub(crate) fn write_receipt(receipt: &Receipt) -> String {
    let mut bytes = Vec::with_capacity(RECEIPT_BYTES);
    bytes.put_u8(RECEIPT);
    put_partition(&mut bytes, receipt.partition);
    bytes.put_i64(receipt.offset.0);
    bytes.put_u128(receipt.delivery.0);
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn read_receipt(text: &str) -> Result<Receipt, Refusal> {
    let bytes = decode(text).filter(|bytes| bytes.len() == RECEIPT_BYTES && bytes[0] == RECEIPT);
    let bytes = bytes.ok_or_else(|| no_handle(text))?;
    let mut rest = &bytes[1..];
    let partition = get_partition(&mut rest);
    Ok(Receipt { partition, offset: Offset(rest.get_i64()), delivery: DeliveryId(rest.get_u128()) })
}

/// The handle of a half or delayed message, with the message's id.
pub(crate) fn write_hidden(handle: &HiddenHandle, message_id: &str) -> String {
    let mut bytes = Vec::with_capacity(HIDDEN_BYTES_MIN + message_id.len());
    bytes.put_u8(HIDDEN);
    put_partition(&mut bytes, handle.partition);
    bytes.put_u64(handle.index.0);
    bytes.put_u32(handle.slot);
    bytes.put_u64(handle.term.0);
    bytes.put_slice(message_id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn read_hidden(text: &str) -> Result<(HiddenHandle, String), Refusal> {
    let bytes = decode(text).filter(|bytes| bytes.len() >= HIDDEN_BYTES_MIN && bytes[0] == HIDDEN);
    let bytes = bytes.ok_or_else(|| no_handle(text))?;
    let mut rest = &bytes[1..];
    let partition = get_partition(&mut rest);
    let (index, slot, term) = (LogIndex(rest.get_u64()), rest.get_u32(), Term(rest.get_u64()));
    let handle = HiddenHandle { partition, index, slot, term };
    let message_id = String::from_utf8(rest.to_vec()).map_err(|_| no_handle(text))?;
    Ok((handle, message_id))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn no_handle(text: &str) -> Refusal {
    let shown: String = text.chars().take(80).collect();
    Refusal::new(Code::InvalidReceiptHandle, format!("{shown:?} is no handle of this broker"))
}

fn put_partition(bytes: &mut Vec<u8>, partition: TopicPartition) {
    bytes.put_slice(&partition.topic.0);
    bytes.put_u32(partition.partition);
}

fn get_partition(bytes: &mut &[u8]) -> TopicPartition {
    let mut topic = [0; 16];
    bytes.copy_to_slice(&mut topic);
    TopicPartition { topic: TopicId(topic), partition: bytes.get_u32() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTITION: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 3 };

    proptest! {
        #[test]
        fn what_is_written_is_read(offset in any::<i64>(), delivery in any::<u128>(), slot in any::<u32>(), id in ".{0,40}") {
            let receipt = Receipt { partition: PARTITION, offset: Offset(offset), delivery: DeliveryId(delivery) };
            prop_assert_eq!(read_receipt(&write_receipt(&receipt)).unwrap(), receipt);
            let handle = HiddenHandle { partition: PARTITION, index: LogIndex(offset as u64), slot, term: Term(offset as u64) };
            prop_assert_eq!(read_hidden(&write_hidden(&handle, &id)).unwrap(), (handle, id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,100}") {
            let _ = read_receipt(&text);
            let _ = read_hidden(&text);
        }
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let receipt = Receipt { partition: PARTITION, offset: Offset(1), delivery: DeliveryId(2) };
        let receipt = write_receipt(&receipt);
        let hidden =
            write_hidden(&HiddenHandle { partition: PARTITION, index: LogIndex(1), slot: 0, term: Term(1) }, "");
        for bad in ["", "nonsense", &receipt[1..], &receipt[..20], &format!("{receipt}AA"), hidden.as_str()] {
            assert_eq!(read_receipt(bad).unwrap_err().code(), Code::InvalidReceiptHandle, "{bad}");
        }
        for bad in ["", "nonsense", &hidden[..30], receipt.as_str(), &"A".repeat(2_000)] {
            assert_eq!(read_hidden(bad).unwrap_err().code(), Code::InvalidReceiptHandle, "{bad}");
        }
    }
}
