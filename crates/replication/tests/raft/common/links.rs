//! One proxy for each pair of nodes, so that a call of one node to another can be cut off without the reverse.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A link of `from` to `to`.
struct Link {
    port: u16,
    is_cut: watch::Sender<bool>,
    is_silent: watch::Sender<bool>,
    /// Attempts to connect while it was cut.
    refused: watch::Sender<u64>,
    /// Connections that are open; each holds one.
    open: Arc<()>,
}

/// All links, by (from, to).
#[derive(Clone)]
pub struct Links(Arc<BTreeMap<(u64, u64), Link>>);

impl Links {
    /// Opens links between all nodes that listen at `ports`.
    pub fn open(runtime: &Runtime, ports: &BTreeMap<u64, u16>) -> Self {
        let mut links = BTreeMap::new();
        for from in ports.keys() {
            for (to, target) in ports {
                let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
                let link = Link {
                    port: listener.local_addr().unwrap().port(),
                    is_cut: watch::channel(false).0,
                    is_silent: watch::channel(false).0,
                    refused: watch::channel(0).0,
                    open: Arc::new(()),
                };
                let target = SocketAddr::from(([127, 0, 0, 1], *target));
                runtime.spawn(serve(
                    listener,
                    target,
                    (link.is_cut.subscribe(), link.is_silent.subscribe()),
                    link.refused.clone(),
                    Arc::downgrade(&link.open),
                ));
                links.insert((*from, *to), link);
            }
        }
        Self(Arc::new(links))
    }

    pub fn port(&self, from: u64, to: u64) -> u16 {
        self.0[&(from, to)].port
    }

    /// `from` cannot call `to` any more; calls under way are broken when this returns.
    pub fn cut(&self, from: u64, to: u64) {
        let link = &self.0[&(from, to)];
        link.is_cut.send_replace(true);
        while Arc::weak_count(&link.open) > 1 {
            std::thread::yield_now();
        }
    }

    /// Nothing comes through the connections that `from` makes to `to` from now on, and nothing says so.
    pub fn silence(&self, from: u64, to: u64) {
        self.0[&(from, to)].is_silent.send_replace(true);
    }

    pub fn mend(&self, from: u64, to: u64) {
        self.0[&(from, to)].is_cut.send_replace(false);
    }

    /// Neither calls nor is called.
    pub fn isolate(&self, node: u64) {
        self.each_link_of(node, Self::cut);
    }

    pub fn rejoin(&self, node: u64) {
        self.each_link_of(node, Self::mend);
    }

    fn each_link_of(&self, node: u64, change: fn(&Self, u64, u64)) {
        let pairs = self.0.keys().filter(|(from, to)| from != to && (*from == node || *to == node));
        pairs.for_each(|(from, to)| change(self, *from, *to));
    }

    /// Attempts of `from` to connect to `to` while the link was cut.
    pub fn refused(&self, from: u64, to: u64) -> watch::Receiver<u64> {
        self.0[&(from, to)].refused.subscribe()
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    (is_cut, is_silent): (watch::Receiver<bool>, watch::Receiver<bool>),
    refused: watch::Sender<u64>,
    open: Weak<()>,
) {
    loop {
        let Ok((mut near, _)) = listener.accept().await else { return };
        // Held before the look, so that whoever cuts the link sees it.
        let held = open.clone();
        if *is_cut.borrow() {
            refused.send_modify(|count| *count += 1);
            continue;
        }
        let mut is_cut = is_cut.clone();
        let is_silent = *is_silent.borrow();
        tokio::spawn(async move {
            let _held = held;
            if is_silent {
                // The connection stays open until the link is cut, or the test ends.
                let _ = is_cut.wait_for(|is_cut| *is_cut).await;
                return drop(near);
            }
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = is_cut.wait_for(|is_cut| *is_cut) => {}
            }
        });
    }
}
