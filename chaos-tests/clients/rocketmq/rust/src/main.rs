//! rocketmq, the Rust client. The verbs and what they print are in ../README.md.

mod receive;
mod send;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::conf::ClientOption;
use tokio::signal::unix::{signal, SignalKind};

type Options = HashMap<String, String>;

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let verb = words.next().expect("a verb");
    let words: Vec<String> = words.collect();
    let options: Options = words.chunks_exact(2).map(|pair| (pair[0][2..].to_owned(), pair[1].clone())).collect();
    match verb.as_str() {
        "send" => send::run(options).await,
        "receive" => receive::run(options).await,
        other => panic!("there is no verb {other}"),
    }
}

fn client_option(options: &Options) -> ClientOption {
    let mut client = ClientOption::default();
    client.set_access_url(options["endpoints"].clone());
    client.set_enable_tls(false);
    client
}

async fn until_asked() {
    signal(SignalKind::terminate()).expect("a signal").recv().await;
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn now_ms() -> u128 {
    now().as_millis()
}
