//! An answer as pieces that are written one after the other, so that record payload is never copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::head::Head;

/// Pieces that one system call takes at most.
const PIECES_PER_WRITE_MAX: usize = 64;

/// What follows from a request.
pub(crate) enum Answer {
    /// These pieces, a whole frame.
    Frame(Pieces),
    /// What it says is decided in the moment in which it is written, when every earlier answer is.
    Late(Box<dyn FnOnce() -> Result<Answer, CloseReason> + Send>),
    /// Nothing: Produce with acks = 0.
    Silence,
}

impl Answer {
    /// The frame to write now, if any.
    pub(crate) fn now(self) -> Result<Option<Pieces>, CloseReason> {
        match self {
            Self::Frame(pieces) => Ok(Some(pieces)),
            Self::Late(decide) => decide()?.now(),
            Self::Silence => Ok(None),
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CloseReason(pub(crate) String);

/// A frame in pieces, its length first.
#[derive(Debug, Default)]
pub(crate) struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// Sets the length in the first four bytes of the first piece and takes the pieces.
    pub(crate) fn framed(mut first: BytesMut, rest: impl IntoIterator<Item = Bytes>) -> Result<Self, CloseReason> {
        let rest: Vec<Bytes> = rest.into_iter().filter(|piece| !piece.is_empty()).collect();
        let bytes = first.len() - 4 + rest.iter().map(Bytes::len).sum::<usize>();
        let length =
            i32::try_from(bytes).map_err(|_| CloseReason(format!("answer of {bytes} bytes does not fit a frame")))?;
        first[..4].copy_from_slice(&length.to_be_bytes());
        let mut pieces = VecDeque::with_capacity(1 + rest.len());
        pieces.push_back(first.freeze());
        pieces.extend(rest);
        Ok(Self(pieces))
    }

    /// Bytes that are left to write.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Writes everything.
    ///
    /// # Errors
    /// Of the socket; `TimedOut` when the client reads nothing for `stall_ms_max`.
    pub(crate) async fn write_to<W: AsyncWrite + Unpin>(mut self, writer: &mut W, stall_ms_max: u64) -> io::Result<()> {
        while !self.0.is_empty() {
            let written = {
                let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE_MAX];
                let count = self.0.len().min(PIECES_PER_WRITE_MAX);
                for (slice, piece) in slices.iter_mut().zip(&self.0) {
                    *slice = IoSlice::new(piece);
                }
                let write = writer.write_vectored(&slices[..count]);
                timeout(Duration::from_millis(stall_ms_max), write).await.map_err(|_| io::ErrorKind::TimedOut)??
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        Ok(())
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let piece = self.0.front_mut().expect("no more was written than there was");
            if bytes < piece.len() {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.0.pop_front();
        }
    }
}

/// Room for the length, then the response head.
pub(crate) fn begin(head: Head, header_version: i16) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(256);
    buffer.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(head.correlation_id);
    header.encode(&mut buffer, header_version).expect("a response head without tagged fields always encodes");
    buffer
}

/// Encodes a message of kafka-protocol in a version.
pub(crate) fn encode<M: Encodable + HeaderVersion>(
    head: Head,
    version: i16,
    message: &M,
) -> Result<Answer, CloseReason> {
    let mut buffer = begin(head, M::header_version(version));
    message.encode(&mut buffer, version).map_err(|error| {
        let api = ApiKey::try_from(head.api_key);
        CloseReason(format!("cannot encode the answer to {api:?} version {version}: {error}"))
    })?;
    Ok(Answer::Frame(Pieces::framed(buffer, [])?))
}
