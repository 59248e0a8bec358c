//! Printing records, up to a number of them.

use duolog_record::RecordBatch;

use super::format::Format;
use super::reader::Sink;
use crate::output::Out;

/// What one batch of a fetch may grow to.
pub(crate) const RECORDS_BYTES_MAX: usize = 128 << 20;

/// Prints records of one topic.
pub(super) struct Printer {
    out: Out,
    topic: String,
    format: Format,
    /// How many may still come; `None` means any number.
    left: Option<u64>,
}

impl Printer {
    pub(super) fn new(topic: &str, format: Format, max_records: Option<u64>) -> Self {
        Self { out: Out::default(), topic: topic.to_owned(), format, left: max_records }
    }
}

impl Sink for Printer {
    /// Whether all that may be printed is.
    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Prints the records of a batch from `position` on; gives the position behind the last one.
    fn take(&mut self, partition: i32, batch: &RecordBatch, position: i64) -> anyhow::Result<i64> {
        // Markers of transactions are not for consumers.
        if batch.view().is_control() {
            return Ok(position.max(batch.end_offset().0));
        }
        for record in batch.records(RECORDS_BYTES_MAX)? {
            let record = record?;
            if record.offset.0 < position {
                continue;
            }
            if self.is_done() {
                return Ok(position.max(record.offset.0));
            }
            self.out.write(&self.format.render(&self.topic, partition, &record))?;
            self.left = self.left.map(|left| left - 1);
            if self.is_done() {
                return Ok(record.offset.0 + 1);
            }
        }
        Ok(position.max(batch.end_offset().0))
    }

    /// Makes what was printed seen. Fails when nobody reads any more, also if there was nothing to print.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        self.out.check_open()
    }
}
