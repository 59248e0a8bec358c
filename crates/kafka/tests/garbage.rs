//! Random bytes at a connection: the server neither panics nor hangs, and serves the next client.

mod support;

use bytes::{BufMut, BytesMut};
use duolog_kafka::{KafkaConfig, supported_apis};
use kafka_protocol::messages::ApiVersionsRequest;
use proptest::prelude::*;
use support::{FakeBroker, TestServer};
use tokio::io::AsyncWriteExt;

/// Bytes of any kind, or a frame with a head that is plausible and a body that is not.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0..supported_apis().len(), -1_i16..20, prop::collection::vec(any::<u8>(), 0..200)).prop_map(
        |(api, version, body)| {
            let mut frame = BytesMut::new();
            frame.put_i32(12 + body.len() as i32);
            frame.put_i16(supported_apis()[api].key as i16);
            frame.put_i16(version);
            frame.put_i32(1);
            frame.put_slice(b"\0\x01x\0");
            frame.put_slice(&body);
            frame.to_vec()
        },
    );
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), frame]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_client_is_served(writes in prop::collection::vec(garbage(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = KafkaConfig { frame_timeout_ms: 20, shutdown_grace_ms: 50, ..KafkaConfig::default() };
            let server = TestServer::start_with(FakeBroker::new().with_topic("t", 1), config).await;
            let mut client = server.client().await;
            for bytes in writes {
                let _ = client.stream.write_all(&bytes).await;
            }
            let _ = client.stream.shutdown().await;
            server.client().await.call(0, ApiVersionsRequest::default()).await;
            drop(client);
            server.stop().await;
        });
    }
}
