//! Makes the seed corpus from the official vectors and from generated values: `corpus/TARGET/NAME`.
//!
//! What other commands put there (`records`, minimal inputs of bugs) is left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bitcoin::{Amount, constants::ChainHash};
use fulmen_compare::{LdkMessage, Source};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewChannel, NewNodeDetails, Policy};
use fulmen_rapid_gossip_sync::{Since, Version, encode};
use fulmen_router::{Liquidity, Observation};
use fulmen_types::{CltvExpiryDelta, Features, Msat, NodeId, ShortChannelId, Timestamp};

/// The name of an input is its number; at most so many of one file of vectors, and none longer than this.
const PER_FILE: usize = 40;
const LEN_MAX: usize = 1500;

/// Inputs by target.
#[derive(Default)]
struct Corpus(BTreeMap<&'static str, Vec<Vec<u8>>>);

impl Corpus {
    fn put(&mut self, target: &'static str, first: &[u8], rest: &[u8]) {
        let input = [first, rest].concat();
        let inputs = self.0.entry(target).or_default();
        if input.len() <= LEN_MAX && !inputs.contains(&input) {
            inputs.push(input);
        }
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        for (target, inputs) in &self.0 {
            let folder = folder.join(target);
            fs::create_dir_all(&folder)?;
            for (i, input) in inputs.iter().enumerate() {
                fs::write(folder.join(format!("seed-{i:03}")), input)?;
            }
            println!("{target:<16} {:>4} inputs", inputs.len());
        }
        Ok(())
    }
}

/// The values of a file of vectors.
fn values(path: &str) -> io::Result<Vec<String>> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "crates", "formats", path]
        .iter()
        .collect();
    Ok(fs::read_to_string(path)?
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(_, value)| value.to_owned())
        .collect())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() < 8 || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

fn main() -> io::Result<()> {
    let mut corpus = Corpus::default();
    for file in [
        "invoice/vectors/bolt11-valid.txt",
        "invoice/vectors/bolt11-invalid.txt",
    ] {
        for text in values(file)?
            .iter()
            .filter(|value| value.to_lowercase().starts_with("ln"))
        {
            corpus.put("bolt11", &[0], text.as_bytes());
            if let Some(input) = unsigned_bolt11(text) {
                corpus.put("bolt11", &input, &[]);
            }
        }
    }
    for file in [
        "bolt12-offers.txt",
        "bolt12-format-string.txt",
        "bolt12-signature.txt",
    ] {
        for text in values(&format!("offers/vectors/{file}"))? {
            if text.to_lowercase().starts_with("lno") {
                corpus.put("bolt12_offer", &[0], text.as_bytes());
                if let Ok(offer) = text.parse::<fulmen_offers::Offer>() {
                    corpus.put("bolt12_offer", &[1], offer.as_bytes());
                }
            }
            let request = text.parse::<fulmen_offers::InvoiceRequest>();
            let bytes = match request {
                Ok(request) => Some(request.as_bytes().to_vec()),
                Err(_) => from_hex(&text),
            };
            for bytes in bytes.iter().take(PER_FILE) {
                corpus.put("bolt12_request", &[1], bytes);
                corpus.put("bolt12_request", &[2], bytes);
                corpus.put("bolt12_invoice", &[1], bytes);
            }
        }
    }
    for file in [
        "bolt04-onion.txt",
        "bolt04-blinded-payment-onion.txt",
        "bolt04-blinded-onion-message.txt",
        "bolt04-route-blinding.txt",
        "bolt04-onion-error.txt",
        "bolt04-attribution.txt",
    ] {
        let values = values(&format!("onion/vectors/{file}"))?;
        for bytes in values
            .iter()
            .filter_map(|value| from_hex(value))
            .take(PER_FILE)
        {
            onions(&mut corpus, file, &bytes);
        }
    }
    for message in LdkMessage::generate_all(&mut Source::new(1)) {
        let bytes = message.encode();
        corpus.put("messages", &bytes, &[]);
        if let [1, low @ 5..=9, rest @ ..] = bytes.as_slice() {
            corpus.put("queries", &[low - 5], rest);
        }
    }
    for value in values("wire/vectors/bolt07-extended-queries.txt")? {
        if let Some([1, low @ 5..=9, rest @ ..]) = from_hex(&value).as_deref() {
            corpus.put("queries", &[low - 5], rest);
        }
    }
    for which in 0..4 {
        corpus.put(
            "noise",
            &[which],
            &core::array::from_fn::<u8, 100, _>(|i| i as u8),
        );
    }
    for which in 0..8 {
        for text in [
            "node.example.com:9735",
            "[2001:db8::7]:9735",
            "700000x1x0",
            "ada@example.com",
        ] {
            corpus.put("addresses", &[which], text.as_bytes());
        }
        corpus.put("addresses", &[which], &[1, 127, 0, 0, 1, 38, 7]);
        corpus.put("addresses", &[which], &[5, 1, b'a', 38, 7]);
        corpus.put("addresses", &[which], &[0xfd, 0x01, 0x00]);
    }
    corpus.put("records", &[], &[]);
    uris(&mut corpus)?;
    payer_proofs(&mut corpus)?;
    for input in fulmen_fuzz::usual_answers() {
        corpus.put("chain_source", &input, &[]);
    }
    files(&mut corpus);
    snapshots(&mut corpus);
    corpus.write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"))
}

/// URIs with whatever they may have, the same as records of the DNS, and names.
fn uris(corpus: &mut Corpus) -> io::Result<()> {
    let address = "bc1qufgy354j3kmvuch987xe4s40836x3h0lg8f5n2";
    let offers = values("offers/vectors/bolt12-format-string.txt")?;
    let offer = offers.first().map_or("", String::as_str);
    let uris = [
        format!("bitcoin:{address}?amount=0.0003&label=caf%C3%A9&message=thanks"),
        format!("bitcoin:?lno={offer}&sp=sp1qq&pay=pay1qq&future=1&more"),
        format!(
            "BITCOIN:{}?LIGHTNING=LNBC1QQQ&LNO=LNO1QQ",
            address.to_uppercase()
        ),
        format!("bitcoin:?bc={address}&pop=myapp%3a&req-amount=20999999.9769"),
        format!("bitcoin:?lightning=lnbc1&req-pop=other%3Apaid%3f&bc={address}"),
        "bitcoin:1andreas3batLhQa2FawWjeyjCqyBzypd?amount=.5".to_owned(),
        "bitcoin:?lno=lno1&req-colour=blue&label=%".to_owned(),
    ];
    for uri in &uris {
        corpus.put("uris", &[0], uri.as_bytes());
        let len = u8::try_from(uri.len().min(100)).unwrap_or(0);
        let (first, rest) = uri.as_bytes().split_at(usize::from(len));
        let rest_len = u8::try_from(rest.len()).unwrap_or(u8::MAX);
        // One record of two strings, which is one record of the input, behind another.
        let strings = [&[len], first, &[rest_len], rest].concat();
        let whole = u8::try_from(strings.len()).unwrap_or(u8::MAX);
        corpus.put("uris", &[1, 3, 2, b'v', b'1', whole], &strings);
    }
    for name in ["₿ada@example.com", "a.b_c-d@x.y.", "@", "a@b..c"] {
        corpus.put("uris", &[2], name.as_bytes());
    }
    corpus.put("uris", &[3], b"\x03ada\x0bexample.com");
    Ok(())
}

fn payer_proofs(corpus: &mut Corpus) -> io::Result<()> {
    for text in values("offers/vectors/bolt12-payer-proof.txt")? {
        if let Ok(invoice) = text.parse::<fulmen_offers::Invoice>() {
            corpus.put("bolt12_invoice", &[0], invoice.as_bytes());
            corpus.put("bolt12_invoice", &[1], invoice.as_bytes());
        }
        if text.starts_with("lnp") {
            corpus.put("payer_proof", &[0], text.as_bytes());
        }
        if let Some(bytes) = from_hex(&text) {
            corpus.put("payer_proof", &[1], &bytes);
        }
    }
    for shift in 0..8u8 {
        let data: [u8; 90] = core::array::from_fn(|i| (i as u8).wrapping_mul(37) >> (shift % 4));
        corpus.put("payer_proof", &[2, shift.wrapping_mul(31)], &data);
        corpus.put("payer_proof", &[3, shift.wrapping_mul(31)], &data);
    }
    Ok(())
}

/// A small network, and what it was before.
fn networks() -> Vec<Arc<NetworkGraph>> {
    let node = |n| {
        let mut id = [n; 33];
        id[0] = 2;
        NodeId::new(id)
    };
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    let mut networks = vec![writer.snapshot()];
    let policy = Policy {
        htlc_minimum: Msat::new(1),
        htlc_maximum: Msat::from_sat(900_000),
        timestamp: 1_799_990_000,
        fee_base_msat: 1_000,
        fee_proportional_millionths: 100,
        cltv_expiry_delta: CltvExpiryDelta::new(80),
        disabled: false,
    };
    for (n, (node_1, node_2)) in (1u32..).zip([(2, 3), (3, 4), (2, 4)]) {
        let channel = NewChannel {
            short_channel_id: scid(n),
            node_1: node(node_1),
            node_2: node(node_2),
            capacity: (n != 2).then_some(Amount::from_sat(1_000_000)),
            features: Features::empty(),
        };
        writer.add_channel(&channel).expect("a new channel");
        for direction in [Direction::Forward, Direction::Backward]
            .into_iter()
            .take(n as usize)
        {
            writer
                .update_policy(scid(n), direction, policy)
                .expect("a known channel");
        }
        networks.push(writer.snapshot());
    }
    let details = NewNodeDetails {
        timestamp: 1_799_990_000,
        features: &Features::from_be_bytes(&[1]),
        rgb_color: [1, 2, 3],
        alias: [b'a'; 32],
        addresses: &[1, 127, 0, 0, 1, 38, 7],
    };
    writer
        .update_node(&node(3), &details)
        .expect("a known node");
    networks.push(writer.snapshot());
    networks
}

fn scid(n: u32) -> ShortChannelId {
    ShortChannelId::from_parts(100 + n, 1, 0).expect("small numbers")
}

/// Snapshots of both versions, of everything and of what changed.
fn snapshots(corpus: &mut Corpus) {
    for network in networks() {
        for version in [Version::V1, Version::V2] {
            for since in [Since::Beginning, Since::Seen(1_799_000_000)] {
                let now = Timestamp::from_secs(1_800_000_000);
                let snapshot = encode(&network, None, version, since, now);
                corpus.put("rgs", &[0], &snapshot);
                corpus.put("rgs", &[1], &snapshot);
            }
        }
    }
}

/// Files of a small graph and of what was learned in it: as they are, and what lies between head and checksum.
fn files(corpus: &mut Corpus) {
    let mut put = |which: u8, file: &[u8]| {
        corpus.put("graph_file", &[which], file);
        corpus.put("graph_file", &[which | 2], &file[5..file.len() - 4]);
    };
    for network in networks() {
        put(0, &network.to_bytes());
    }
    let mut liquidity = Liquidity::new();
    put(1, &liquidity.to_bytes());
    for (n, what) in (1u32..).zip([
        Observation::Carried,
        Observation::Refused,
        Observation::Settled,
    ]) {
        let channel = (scid(n), Direction::Forward);
        let (capacity, amount) = (Msat::from_sat(1_000_000), Msat::from_sat(300_000));
        liquidity.observe(
            channel,
            capacity,
            amount,
            what,
            Timestamp::from_secs(1_700_000_000),
        );
        put(1, &liquidity.to_bytes());
    }
}

/// Prefix and quintets without the signature, which the target makes itself.
fn unsigned_bolt11(text: &str) -> Option<Vec<u8>> {
    let text = text.to_lowercase();
    let (hrp, data) = text.rsplit_once('1')?;
    let data = data.get(..data.len().checked_sub(110)?)?;
    let mut input = vec![u8::try_from(hrp.len() * 2 + 1).ok()?];
    input.extend_from_slice(hrp.as_bytes());
    for letter in data.chars() {
        input.push(bech32::Fe32::from_char(letter).ok()?.to_u8());
    }
    Some(input)
}

fn onions(corpus: &mut Corpus, file: &str, bytes: &[u8]) {
    match bytes.len() {
        1366 => {
            corpus.put("onion_peel", &[0], bytes);
            corpus.put("onion_peel", &[2], bytes);
            corpus.put("onion_message", &[0], bytes);
        }
        0..400 if file.contains("error") || file.contains("attribution") => {
            corpus.put("onion_failure", &[0], bytes);
            corpus.put("onion_failure", &[1 + 3 * 5], bytes);
            corpus.put("onion_failure", &[2 + 3 * 4], bytes);
        }
        0..400 if file.contains("message") || file.contains("route-blinding") => {
            corpus.put("blinded_path", &[0], bytes);
            corpus.put("blinded_path", &[1], bytes);
            let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
            corpus.put("onion_message", &[1, len], bytes);
            corpus.put("onion_message", &[2, len], bytes);
            corpus.put("onion_message", &[3 + 4 * 4], bytes);
        }
        0..400 => {
            // Payloads carry their length in the vectors.
            let payload = match bytes.split_first() {
                Some((len, rest)) if usize::from(*len) == rest.len() => rest,
                _ => bytes,
            };
            for which in 0..4 {
                corpus.put("onion_payload", &[which], payload);
            }
        }
        _ => corpus.put("onion_failure", &[1 + 3 * 5], bytes),
    }
}
