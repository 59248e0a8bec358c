//! The network between the nodes.

use std::io;
use std::net::SocketAddr;

use duolog_replication::{Connection, Incoming, Net};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use turmoil::net::{TcpListener, TcpStream};

/// TCP over simulated links.
pub struct SimNet;

impl Net for SimNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Incoming>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let accepted = futures_util::stream::unfold(listener, |listener| async move {
                let stream = listener.accept().await.map(|(stream, _)| Connection(Box::new(stream)));
                Some((stream, listener))
            });
            Ok(accepted.boxed())
        })
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Connection(Box::new(stream)))
        })
    }
}
