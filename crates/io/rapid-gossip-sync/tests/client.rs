//! Fetching: servers that answer, that don't, and that want to harm; folders; and following one.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bitcoin::constants::ChainHash;
use fulmen_gossip::{GraphWriter, UnsignedApplied, UnsignedGraph};
use fulmen_rapid_gossip_sync::{
    FetchError, FetchLimits, FollowConfig, Problem, Source, SyncError, Target, fetch, follow,
};
use fulmen_types::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const NOW: u64 = 1_800_100_000;

/// A server that gives each request's path to `answer`, which gives all bytes of the response.
async fn server(
    answer: impl Fn(&str) -> Vec<u8> + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let response = answer(&path);
            log.lock().unwrap().push(path);
            if response.is_empty() {
                // Held open, silent.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    drop(socket);
                });
                continue;
            }
            let _ = socket.write_all(&response).await;
        }
    });
    (format!("http://{address}/v2/snapshot"), asked)
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut response =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

fn not_found() -> Vec<u8> {
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()
}

fn full() -> Vec<u8> {
    common::vector(include_str!("../vectors/v2-full.txt")).0
}

fn changes() -> Vec<u8> {
    common::vector(include_str!("../vectors/v2-incremental.txt")).0
}

fn limits() -> FetchLimits {
    FetchLimits {
        max_bytes: 10_000,
        timeout: Duration::from_secs(5),
    }
}

async fn get(address: &str, since: u32) -> Result<Vec<u8>, FetchError> {
    let source: Source = address.parse().unwrap();
    source.fetch(since, &limits()).await
}

#[tokio::test]
async fn a_server_is_asked_for_changes_and_else_for_everything() {
    let (address, asked) = server(|path| match path {
        "/v2/snapshot/0" => ok(&full()),
        "/v2/snapshot/1800000000" => ok(&changes()),
        _ => not_found(),
    })
    .await;
    assert_eq!(get(&address, 0).await.unwrap(), full());
    assert_eq!(get(&address, 1_800_000_000).await.unwrap(), changes());
    assert_eq!(get(&address, 7).await.unwrap(), full());
    let asked = asked.lock().unwrap().clone();
    let paths = ["0", "1800000000", "7", "0"].map(|since| format!("/v2/snapshot/{since}"));
    assert_eq!(asked, paths);
}

#[tokio::test]
async fn bodies_in_chunks_and_to_the_end_of_the_connection() {
    let (address, _) = server(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            .to_vec()
    })
    .await;
    assert_eq!(get(&address, 0).await.unwrap(), b"abcde");
    let (address, _) =
        server(|_| b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc".to_vec()).await;
    assert_eq!(get(&address, 0).await.unwrap(), b"abc");
}

#[tokio::test]
async fn servers_that_are_not_there_wrong_endless_or_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(
        get(&nobody, 0).await,
        Err(FetchError::Connection(_))
    ));

    let (address, _) = server(|_| not_found()).await;
    assert!(matches!(
        get(&address, 5).await,
        Err(FetchError::Status(404))
    ));
    let (address, asked) =
        server(|_| b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    assert!(matches!(
        get(&address, 5).await,
        Err(FetchError::Status(500))
    ));
    assert_eq!(asked.lock().unwrap().len(), 1);

    let (address, _) = server(|_| b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()).await;
    assert!(matches!(get(&address, 0).await, Err(FetchError::Http(_))));
    // Announced too long, and too long without a word.
    for head in ["Content-Length: 10001", "Connection: close"] {
        let (address, _) = server(move |_| {
            let mut bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").into_bytes();
            bytes.resize(bytes.len() + 10_001, 0);
            bytes
        })
        .await;
        let got = get(&address, 0).await;
        assert!(
            matches!(got, Err(FetchError::TooLong(10_000))),
            "{head}: {got:?}"
        );
    }
    let (address, _) = server(|_| ok(&full())[..100].to_vec()).await;
    assert!(get(&address, 0).await.is_err());
    let (address, _) = server(|_| Vec::new()).await;
    let source: Source = address.parse().unwrap();
    let patience = FetchLimits {
        timeout: Duration::from_millis(200),
        ..limits()
    };
    let got = source.fetch(0, &patience).await;
    assert!(matches!(got, Err(FetchError::Timeout(_))));
}

#[tokio::test]
async fn https_to_who_speaks_none_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}/snapshot", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let plain = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(plain).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let got = get(&address, 0).await;
    assert!(matches!(got, Err(FetchError::Connection(_))), "{got:?}");
}

#[tokio::test]
async fn files_and_folders() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("0");
    let folder = dir.path().display().to_string();
    assert!(matches!(
        get(&folder, 0).await,
        Err(FetchError::File { .. })
    ));
    std::fs::write(&file, full()).unwrap();
    std::fs::write(dir.path().join("1800000000"), changes()).unwrap();
    assert_eq!(get(&folder, 0).await.unwrap(), full());
    assert_eq!(get(&folder, 1_800_000_000).await.unwrap(), changes());
    assert_eq!(get(&folder, 3).await.unwrap(), full());
    let path = file.display().to_string();
    assert_eq!(get(&path, 1_800_000_000).await.unwrap(), full());
    std::fs::write(&file, [0; 10_001]).unwrap();
    assert!(matches!(
        get(&path, 0).await,
        Err(FetchError::TooLong(10_000))
    ));
}

#[tokio::test]
async fn what_is_of_no_use_says_why() {
    let (address, asked) = server(|_| ok(&full())).await;
    let source: Source = address.parse().unwrap();
    let config = FollowConfig::new(source, ChainHash::BITCOIN);
    // Seen so long ago that nobody keeps changes since.
    let got = fetch(&config, 1, Timestamp::from_secs(NOW)).await;
    let Err(SyncError::Decode(error)) = got else {
        unreachable!("it is of another chain");
    };
    assert_eq!(error.problem, Problem::OtherChain);
    assert_eq!(*asked.lock().unwrap(), ["/v2/snapshot/0"]);
}

/// A graph that is gone after so many snapshots.
struct Graph {
    writer: Mutex<GraphWriter>,
    left: AtomicU32,
}

impl Target for &Graph {
    async fn seen_until(&self) -> Option<u32> {
        (self.left.load(Ordering::SeqCst) > 0).then(|| self.writer.lock().unwrap().unsigned_until())
    }

    async fn apply(&self, changes: UnsignedGraph) -> Option<UnsignedApplied> {
        self.left.fetch_sub(1, Ordering::SeqCst);
        Some(common::apply(&mut self.writer.lock().unwrap(), &changes))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(NOW)
    }
}

#[tokio::test]
async fn a_graph_is_kept_in_step_through_failures() {
    let count = AtomicU32::new(0);
    let (address, asked) = server(move |path| {
        match (count.fetch_add(1, Ordering::SeqCst), path) {
            // Twice broken, then well.
            (0, _) => b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
            (1, _) => ok(b"LDK"),
            (_, "/v2/snapshot/0") => ok(&full()),
            (_, "/v2/snapshot/1800000000") => ok(&changes()),
            _ => not_found(),
        }
    })
    .await;
    let graph = Graph {
        writer: Mutex::new(GraphWriter::new(ChainHash::REGTEST)),
        left: AtomicU32::new(2),
    };
    let mut config = FollowConfig::new(address.parse().unwrap(), ChainHash::REGTEST);
    config.interval = Duration::from_millis(20);
    config.retry_first = Duration::from_millis(10);
    tokio::time::timeout(Duration::from_secs(20), follow(config, &graph))
        .await
        .expect("it ends with the graph");
    let seen = graph.writer.lock().unwrap().unsigned_until();
    assert_eq!(seen, 1_800_086_400);
    let asked = asked.lock().unwrap().clone();
    let paths = ["0", "0", "0", "1800000000"].map(|since| format!("/v2/snapshot/{since}"));
    assert_eq!(asked, paths);
}
