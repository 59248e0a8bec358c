//! A request's head: what it asks for, and whom to answer.
//!
//! ```text
//! 0          2         4                8
//! ┌──────────┬─────────┬────────────────┬───────────────────────┬──────────────────────────────┐
//! │ API key  │ version │ correlation id │ client id (i16 + UTF8)│ tagged fields (flexible only)│
//! └──────────┴─────────┴────────────────┴───────────────────────┴──────────────────────────────┘
//! ```

use std::net::IpAddr;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::shape::{self, ShapeError};

/// The first eight bytes, which every version of every API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) api_key: i16,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

/// Who sent a request, as consumer groups show it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    peer: IpAddr,
    client_id: Bytes,
}

impl Caller {
    /// The caller of a frame whose head was checked.
    pub(crate) fn read(peer: IpAddr, frame: &Bytes) -> Self {
        let length = frame.get(8..10).map_or(0, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]).max(0) as usize);
        let end = (10 + length).min(frame.len());
        Self { peer, client_id: frame.slice(end.min(10)..end) }
    }

    /// `client.id`; empty when there is none.
    pub(crate) fn client_id(&self) -> String {
        String::from_utf8_lossy(&self.client_id).into_owned()
    }

    /// The address, written as Kafka writes it.
    pub(crate) fn host(&self) -> String {
        format!("/{}", self.peer.to_canonical())
    }
}

impl Head {
    /// Reads the first eight bytes; `None` when there are fewer.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let bytes: [u8; 8] = frame.get(..8)?.try_into().ok()?;
        let [k0, k1, v0, v1, c0, c1, c2, c3] = bytes;
        Some(Self {
            api_key: i16::from_be_bytes([k0, k1]),
            version: i16::from_be_bytes([v0, v1]),
            correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        })
    }

    /// Where the body begins, for an API and version that are supported.
    pub(crate) fn body_position(self, api: ApiKey, frame: &Bytes) -> Result<usize, ShapeError> {
        let client_id = frame.get(8..10).ok_or(ShapeError::Short { position: 8, missing: 2 })?;
        let client_id_bytes = i16::from_be_bytes([client_id[0], client_id[1]]).max(0) as usize;
        let end = 10 + client_id_bytes;
        if end > frame.len() {
            return Err(ShapeError::Short { position: 10, missing: end - frame.len() });
        }
        if api.request_header_version(self.version) >= 2 { shape::skip_tagged_fields(frame, end) } else { Ok(end) }
    }
}
