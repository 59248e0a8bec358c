//! One request frame off the socket.
//!
//! ```text
//! 0        4                      4 + length
//! ┌────────┬──────────────────────┐
//! │ length │ head, then body      │   length: i32, big endian, of what follows it
//! └────────┴──────────────────────┘
//! ```
//!
//! A frame takes its share of the budget when its first bytes are there, all of them if it is small: whoever announces much
//! and sends nothing holds nothing that others wait for.
//!
//! The frame's bytes lie in one allocation of their own; everything decoded from it is a slice of that allocation.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use duolog_broker::{Admission, RequestBudget};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Bytes of the shortest head: API key, version, correlation id.
pub(crate) const HEAD_BYTES_MIN: usize = 8;

/// Bytes of a frame that are read before it takes its share of the budget: the bound of what a connection holds beside it.
const UNADMITTED_BYTES_MAX: usize = 32 << 10;
/// Bytes that are reserved for a frame before it takes its share.
const RESERVED_BYTES_MAX: usize = 1 << 20;
/// A frame that holds a share and of which nothing arrives for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(5);

/// A whole frame and its share of the budget.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Head and body, without the length.
    pub(crate) bytes: Bytes,
    /// The share, to be held until the answer is computed, or until the request waits for others and needs its frame no more.
    pub(crate) admission: Admission,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The length is negative, or too small for a head.
    #[error("frame length {0} is not possible: at least {HEAD_BYTES_MIN} bytes were expected")]
    Impossible(i32),
    /// The length exceeds the limit.
    #[error("frame of {found} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The client closed the connection within a frame.
    #[error("connection closed within a frame")]
    HalfFrame,
    /// Others may wait for the share of the budget that the frame holds.
    #[error("nothing of a frame arrived for {} s", STALL_MAX.as_secs())]
    Stalled,
    /// The frame did not arrive in time.
    #[error("frame did not arrive whole within {0} ms")]
    TimedOut(u64),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
}

/// Waits for the first byte of a frame; `false` when the client closed the connection between frames.
///
/// # Cancel safety
/// Nothing is consumed.
pub(crate) async fn next_begins<R: AsyncBufRead + Unpin>(reader: &mut R) -> io::Result<bool> {
    Ok(!reader.fill_buf().await?.is_empty())
}

/// Reads a frame whose first byte is there.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    budget: &RequestBudget,
    frame_bytes_max: usize,
    timeout_ms: u64,
) -> Result<Frame, FrameError> {
    let limit = Duration::from_millis(timeout_ms);
    let length =
        timeout(limit, reader.read_i32()).await.map_err(|_| FrameError::TimedOut(timeout_ms))?.map_err(half_frame)?;
    let frame_bytes = usize::try_from(length).map_err(|_| FrameError::Impossible(length))?;
    if frame_bytes < HEAD_BYTES_MIN {
        return Err(FrameError::Impossible(length));
    }
    if frame_bytes > frame_bytes_max {
        return Err(FrameError::TooLarge { found: frame_bytes, limit: frame_bytes_max });
    }
    // What is reserved and not filled costs no memory, and what a usual frame needs is never copied.
    let mut body = BytesMut::with_capacity(frame_bytes.min(RESERVED_BYTES_MAX));
    timeout(limit, fill(reader, &mut body, frame_bytes.min(UNADMITTED_BYTES_MAX), 2 * limit))
        .await
        .map_err(|_| FrameError::TimedOut(timeout_ms))??;
    let admission = budget.admit(frame_bytes).await;
    timeout(limit, fill(reader, &mut body, frame_bytes, STALL_MAX))
        .await
        .map_err(|_| FrameError::TimedOut(timeout_ms))??;
    Ok(Frame { bytes: body.freeze(), admission })
}

/// Reads until the body has so many bytes, some of them within every `stall_max`.
async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    body: &mut BytesMut,
    bytes: usize,
    stall_max: Duration,
) -> Result<(), FrameError> {
    body.reserve(bytes.saturating_sub(body.len()));
    while body.len() < bytes {
        let missing = bytes - body.len();
        let mut room = (&mut *body).limit(missing);
        let read = timeout(stall_max, reader.read_buf(&mut room)).await.map_err(|_| FrameError::Stalled)?;
        if read.map_err(half_frame)? == 0 {
            return Err(FrameError::HalfFrame);
        }
    }
    Ok(())
}

fn half_frame(error: io::Error) -> FrameError {
    if error.kind() == io::ErrorKind::UnexpectedEof { FrameError::HalfFrame } else { FrameError::Socket(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Bytes, String> {
        let mut reader = bytes;
        read_frame(&mut reader, &RequestBudget::new(1_000), 20, 1_000).await.map(|f| f.bytes).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn whole_frames_pass_and_everything_else_says_why() {
        assert_eq!(read(b"\0\0\0\x08abcdefgh").await, Ok(Bytes::from_static(b"abcdefgh")));
        for (bytes, expected) in [
            (&b"\xff\xff\xff\xff"[..], "frame length -1 is not possible: at least 8 bytes were expected"),
            (b"\0\0\0\x07abcdefg", "frame length 7 is not possible: at least 8 bytes were expected"),
            (b"\0\0\0\x15", "frame of 21 bytes is larger than the limit of 20 bytes"),
            (b"\0\0", "connection closed within a frame"),
            (b"\0\0\0\x08abc", "connection closed within a frame"),
        ] {
            assert_eq!(read(bytes).await, Err(expected.to_owned()), "{bytes:?}");
        }
    }
}
