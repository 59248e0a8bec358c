//! A node that was held up finds calls that their callers have given up: it must not end their connection for that, as HTTP/2 servers do
//! with strangers, because everything else that is under way there would go with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::common::Nodes;

/// More than servers of HTTP/2 take by default, which is 20.
const CALLS: usize = 200;
const GIVEN_UP_AFTER: Duration = Duration::from_millis(20);

/// Passes connections on to a node; what callers send waits while it is held up.
struct Door {
    port: u16,
    is_held: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
}

impl Door {
    async fn open(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Self {
            port: listener.local_addr().unwrap().port(),
            is_held: watch::channel(false).0,
            connections: Arc::default(),
        };
        let (is_held, connections) = (door.is_held.subscribe(), door.connections.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(near, target.clone(), is_held.clone()));
            }
        });
        door
    }
}

async fn pass(near: TcpStream, target: String, mut is_held: watch::Receiver<bool>) {
    let far = TcpStream::connect(target).await.unwrap();
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    tokio::spawn(async move { copy(&mut far_in, &mut near_out).await });
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = near_in.read(&mut bytes).await {
        is_held.wait_for(|is_held| !is_held).await.unwrap();
        far_out.write_all(&bytes[..count]).await.unwrap();
    }
}

/// A call that no node knows; the answer says that the connection works.
async fn call(channel: &Channel) -> Code {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/duolog.test.Nothing/Nothing");
    let answer = grpc.unary(tonic::Request::new(()), path, ProstCodec::<(), ()>::default()).await;
    answer.expect_err("nobody knows this call").code()
}

#[test]
fn a_node_that_was_held_up_takes_many_calls_that_were_given_up() {
    let nodes = Nodes::start();
    nodes.runtime.block_on(async {
        let door = Door::open(nodes.address(1)).await;
        let channel =
            Endpoint::from_shared(format!("http://127.0.0.1:{}", door.port)).unwrap().connect().await.unwrap();
        assert_eq!(call(&channel).await, Code::Unimplemented);
        door.is_held.send_replace(true);
        let given_up = (0..CALLS).map(|_| tokio::time::timeout(GIVEN_UP_AFTER, call(&channel)));
        let answers = futures_util::future::join_all(given_up).await;
        assert!(answers.iter().all(Result::is_err), "the node is held up");
        door.is_held.send_replace(false);
        assert_eq!(call(&channel).await, Code::Unimplemented);
        assert_eq!(door.connections.load(Ordering::Relaxed), 1, "the connection was ended");
    });
}
