//! One connection to a node: ApiVersions first, then one request at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Address, Api, ClientError};

/// An answer that claims more is none.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const API_VERSIONS_VERSION: i16 = 0;
const CLIENT_ID: &str = "duolog-cli";

#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    stream: TcpStream,
    next_correlation_id: i32,
    /// Lowest and highest version of each API that the node offers, by key.
    offered: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    pub(super) async fn open(address: &Address, limit: Duration) -> Result<Self, ClientError> {
        let reason = |reason: String| ClientError::Connect { address: address.clone(), reason };
        let connecting = tokio::time::timeout(limit, TcpStream::connect((address.host.as_str(), address.port)));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(reason(error.to_string())),
            Err(_) => return Err(reason(format!("not connected within {} ms", limit.as_millis()))),
        };
        stream.set_nodelay(true).map_err(|error| reason(error.to_string()))?;
        let mut connection =
            Self { address: address.clone(), stream, next_correlation_id: 0, offered: BTreeMap::new() };
        let request = ApiVersionsRequest::default();
        let answer = connection.exchange("ApiVersions", API_VERSIONS_VERSION, &request, limit).await;
        let answer = answer.map_err(|error| reason(error.to_string()))?;
        connection.offered =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(connection)
    }

    /// The highest version that both sides speak.
    pub(super) fn version<R: Request>(&self, api: Api) -> Result<i16, ClientError> {
        let (min, max) = (R::VERSIONS.min.max(api.version_min), R::VERSIONS.max.min(api.version_max_inclusive));
        let not_offered = |found| ClientError::NotOffered { address: self.address.clone(), api: api.name, found };
        let (low, high) = *self.offered.get(&R::KEY).ok_or_else(|| not_offered(String::new()))?;
        let version = max.min(high);
        if version < min.max(low) {
            return Err(not_offered(format!(" in versions {min} to {max}, only {low} to {high}")));
        }
        Ok(version)
    }

    /// Sends a request and reads its answer. After an error, or when it is dropped, the connection must not be used again.
    pub(super) async fn exchange<R: Request>(
        &mut self,
        api: &'static str,
        version: i16,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, ClientError> {
        let frame = self.frame(version, request).map_err(|reason| ClientError::Request {
            address: self.address.clone(),
            api,
            reason,
        })?;
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1);
        match tokio::time::timeout(limit, self.round_trip::<R>(id, version, &frame)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(reason)) => Err(ClientError::Broken { address: self.address.clone(), api, reason }),
            Err(_) => Err(ClientError::TimedOut { address: self.address.clone(), api, limit_ms: limit.as_millis() }),
        }
    }

    fn frame<R: Request>(&self, version: i16, request: &R) -> Result<BytesMut, String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next_correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(|error| error.to_string())?;
        request.encode(&mut frame, version).map_err(|error| error.to_string())?;
        let length = u32::try_from(frame.len() - 4).map_err(|_| "it is longer than 4 GiB".to_owned())?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame)
    }

    async fn round_trip<R: Request>(&mut self, id: i32, version: i16, frame: &[u8]) -> Result<R::Response, String> {
        let io = |error: std::io::Error| format!("the connection ended ({error})");
        self.stream.write_all(frame).await.map_err(io)?;
        let length = self.stream.read_u32().await.map_err(io)? as usize;
        if length > ANSWER_BYTES_MAX {
            return Err(format!("the answer claims {length} bytes, at most {ANSWER_BYTES_MAX} were expected"));
        }
        // Grows with what arrives, not with what is claimed.
        let mut answer = Vec::new();
        let read = (&mut self.stream).take(length as u64).read_to_end(&mut answer).await.map_err(io)?;
        if read < length {
            return Err(format!("the connection ended after {read} of {length} bytes"));
        }
        decode::<R>(id, version, answer.into())
    }
}

fn decode<R: Request>(id: i32, version: i16, mut answer: Bytes) -> Result<R::Response, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the answer is not understood: {error}");
    let header_version = R::Response::header_version(version);
    let header = ResponseHeader::decode(&mut answer, header_version).map_err(|error| wrong(&error))?;
    if header.correlation_id != id {
        return Err(format!("expected the answer to request {id}, found one to {}", header.correlation_id));
    }
    let response = R::Response::decode(&mut answer, version).map_err(|error| wrong(&error))?;
    if answer.has_remaining() {
        return Err(wrong(&format!("{} bytes are left over", answer.remaining())));
    }
    Ok(response)
}
