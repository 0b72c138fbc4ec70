//! The answers of Bitcoin Core: the client of `fulmen-block-sync` asks a server on this machine that says what the
//! input says, by RPC and REST, whole or cut off.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bitcoin::{BlockHash, Transaction, absolute::LockTime, hashes::Hash, transaction::Version};
use fulmen_block_sync::{
    Auth, Bitcoind, BitcoindConfig, BlockRef, ChainUpdate, Error, FeeFallback, Follower, Utxo,
};
use fulmen_types::{FeeratePerKw, ShortChannelId};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

use crate::choice;

/// Longer than the engine lets an input take: who waits for more than is said hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

struct Place {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place::new());
}

impl Place {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs a poll and no more");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        Self {
            runtime,
            listener,
            address,
        }
    }
}

/// What the server says to one question.
struct Answer<'a> {
    how: u8,
    bytes: &'a [u8],
}

/// The first byte chooses the question and whether blocks are asked for by REST; then the answers, each a byte that
/// says how it is given, its length in 16 bits, and what is said.
pub(crate) fn chain_source(data: &[u8]) {
    let Some((which, mut data)) = choice(data) else {
        return;
    };
    let mut answers = Vec::new();
    while let [how, high, low, rest @ ..] = data {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (bytes, rest) = rest.split_at(len.min(rest.len()));
        answers.push(Answer { how: *how, bytes });
        data = rest;
    }
    PLACE.with_borrow(|place| {
        let auth = Auth::UserPassword {
            user: "ada".into(),
            password: "secret".into(),
        };
        let bitcoind = Bitcoind::new(BitcoindConfig {
            timeout: TIMEOUT,
            rest: which & 0x80 != 0,
            ..BitcoindConfig::new(place.address.to_string(), auth)
        });
        place.runtime.block_on(async {
            let mut server = pin!(serve(&place.listener, &answers));
            let mut asking = pin!(ask(which & 0x7f, bitcoind, &answers));
            std::future::poll_fn(|cx| {
                if asking.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                server.as_mut().poll(cx)
            })
            .await;
        });
    });
}

/// Takes requests and gives the answers in their order; a request too many ends its connection.
async fn serve(listener: &TcpListener, answers: &[Answer<'_>]) {
    let mut answers = answers.iter();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let mut socket = BufReader::new(socket);
        while let Some(id) = read_request(&mut socket).await {
            let Some(answer) = answers.next() else { break };
            let written = socket.write_all(&answer.write(&id)).await;
            if written.is_err() || answer.closes() {
                break;
            }
        }
    }
}

impl Answer<'_> {
    const fn is_raw(&self) -> bool {
        self.how % 5 == 4
    }

    const fn closes(&self) -> bool {
        self.is_raw() || self.how & 0x80 != 0
    }

    fn write(&self, id: &Value) -> Vec<u8> {
        let json = |result: &[u8], error: &[u8]| {
            let id = format!(",\"id\":{id}}}");
            [
                b"{\"result\":",
                result,
                b",\"error\":",
                error,
                id.as_bytes(),
            ]
            .concat()
        };
        match self.how % 5 {
            0 => http(200, &json(self.bytes, b"null")),
            1 => http(500, &json(b"null", self.bytes)),
            2 => http(200, self.bytes),
            3 => {
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                let mut out = head;
                for chunk in self.bytes.chunks(100) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
                out
            }
            _ => self.bytes.to_vec(),
        }
    }
}

fn http(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads a request; the id of its question, if it is one of RPC.
async fn read_request(socket: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().expect("the client's own length");
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    Some(request.get("id").cloned().unwrap_or_default())
}

/// Asks, and holds the answer against what was asked.
async fn ask(which: u8, bitcoind: Bitcoind, answers: &[Answer<'_>]) {
    // The block that the first answer with one has, if there is one.
    let wanted = answers
        .iter()
        .find_map(|answer| answer.bytes.first_chunk::<80>())
        .map_or(BlockHash::all_zeros(), |header| BlockHash::hash(header));
    match which % 8 {
        0 => drop(told(bitcoind.chain_info().await)),
        1 => drop(told(bitcoind.best_block_hash().await)),
        2 => drop(told(bitcoind.block_hash(7).await)),
        3 => {
            if let Some(block) = told(bitcoind.block(wanted).await) {
                assert_eq!(block.block_hash(), wanted);
                assert!(block.check_merkle_root());
            }
        }
        4 => {
            let scid = ShortChannelId::from_parts(7, 0, 0).expect("small numbers");
            if let Some(Utxo::Unspent {
                outpoint, height, ..
            }) = told(bitcoind.utxo(scid).await)
            {
                assert_eq!((height, outpoint.vout), (7, 0));
            }
        }
        5 => {
            let tx = Transaction {
                version: Version::TWO,
                lock_time: LockTime::ZERO,
                input: vec![],
                output: vec![],
            };
            let package = vec![tx; usize::from(which / 8 % 3)];
            drop(told(bitcoind.broadcast(&package).await));
        }
        6 => {
            if let Some(fees) = told(bitcoind.estimates(FeeFallback::default()).await) {
                assert!(fees.floor >= FeeratePerKw::FLOOR);
                assert!(fees.floor <= fees.background && fees.background <= fees.normal);
                assert!(fees.normal <= fees.urgent);
            }
        }
        _ => follow(bitcoind, which / 8 % 4).await,
    }
}

/// What was told; an error says something.
fn told<T>(answer: Result<T, Error>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!matches!(error, Error::Timeout), "everything was said");
            None
        }
    }
}

/// From a tip with so many known ancestors, up to eight steps.
async fn follow(bitcoind: Bitcoind, ancestors: u8) {
    let block = |height: u8| BlockRef {
        hash: BlockHash::from_byte_array([height; 32]),
        height: height.into(),
    };
    // The tip of height 0 is what the block of a chain without a past names as its parent.
    let ancestors: Vec<_> = (0..ancestors).map(block).collect();
    let mut follower = Follower::new(bitcoind, block(ancestors.len() as u8), &ancestors);
    for _ in 0..8 {
        let tip = follower.tip();
        let step = follower.next().await;
        match told(step) {
            Some(Some(ChainUpdate::Connected { at, block })) => {
                assert_eq!(block.header.prev_blockhash, tip.hash);
                assert_eq!((at.height, at.hash), (tip.height + 1, block.block_hash()));
                assert_eq!(follower.tip(), at);
            }
            Some(Some(ChainUpdate::Disconnected(block))) => {
                assert_eq!(block, tip);
                assert_eq!(follower.hash_at(tip.height), None);
            }
            Some(Some(ChainUpdate::BestTip(block))) => assert_eq!(block, tip),
            Some(Some(ChainUpdate::LateMatches { .. })) => panic!("nobody asked for these"),
            Some(None) => assert_eq!(follower.tip(), tip),
            None => return assert_eq!(follower.tip(), tip, "an error changes nothing"),
        }
    }
}

/// The input of a question and its answers.
fn encode_answers(which: u8, answers: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = vec![which];
    for (how, bytes) in answers {
        let len = u16::try_from(bytes.len()).expect("a short answer");
        out.push(*how);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// Inputs: questions with the usual answers, and with refusals.
pub fn usual_answers() -> Vec<Vec<u8>> {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    let bytes = bitcoin::consensus::serialize(&genesis);
    let hash = genesis.block_hash().to_string();
    let quoted = format!("\"{hash}\"");
    let hex = format!(
        "\"{}\"",
        bitcoin::consensus::encode::serialize_hex(&genesis)
    );
    let info = json!({
        "chain": "regtest", "bestblockhash": hash, "blocks": 7, "headers": 7, "initialblockdownload": false,
        "pruned": false, "mempoolminfee": 0.00001, "minrelaytxfee": 0.00001, "feerate": 0.0002, "confirmations": 3,
        "height": 0, "nextblockhash": hash, "package_msg": "success",
    })
    .to_string();
    let last = json!({ "height": 1, "confirmations": 1 }).to_string();
    let (info, quoted, last) = (info.as_bytes(), quoted.as_bytes(), last.as_bytes());
    let refused = br#"{"code":-26,"message":"min relay fee not met, 0 < 110"}"#.as_slice();
    let mut inputs = Vec::new();
    for which in 0..8 {
        inputs.push(encode_answers(
            which,
            &[(0, info), (0, info), (0, info), (0, info)],
        ));
        inputs.push(encode_answers(which, &[(1, refused), (0x80, quoted)]));
    }
    inputs.push(encode_answers(1, &[(0, quoted)]));
    inputs.push(encode_answers(2, &[(0, quoted)]));
    inputs.push(encode_answers(0x83, &[(2, &bytes)]));
    inputs.push(encode_answers(0x83, &[(3, &bytes)]));
    inputs.push(encode_answers(3, &[(0, hex.as_bytes())]));
    inputs.push(encode_answers(0x84, &[(0, quoted), (2, &bytes), (0, info)]));
    inputs.push(encode_answers(
        0x87,
        &[(0, info), (2, &bytes), (0, last), (0, quoted)],
    ));
    inputs.push(encode_answers(
        0x8f,
        &[(0, b"{\"confirmations\":-1}"), (0, info), (2, &bytes)],
    ));
    inputs.push(encode_answers(0x15, &[(0, info)]));
    let raw =
        b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"result\":\"0\",\"error\":1,\"id\":0}";
    inputs.push(encode_answers(1, &[(4, raw)]));
    inputs
}
