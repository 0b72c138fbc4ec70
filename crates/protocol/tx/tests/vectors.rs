//! The vectors of BOLT 3: Appendices C, D, E and F.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use bitcoin::{
    Amount, OutPoint, Transaction, Witness,
    consensus::encode::{deserialize_hex, serialize_hex},
    hashes::Hash,
    hex::FromHex,
    secp256k1::{PublicKey, SecretKey, ecdsa::Signature},
    sighash::{EcdsaSighashType, SighashCache},
};
use fulmen_tx::{
    BuiltCommitment, ChannelKeysId, ChannelParameters, ChannelPublicKeys, CommitmentContent,
    CommitmentFormat, CommitmentHtlc, CommitmentKeys, CommitmentSecrets, Funding, HtlcKind,
    PartyParameters, Secp, Side, build_commitment, commitment_fee, commitment_number_of,
    derive_private_key, derive_public_key, derive_revocation_private_key,
    derive_revocation_public_key, derive_secret,
};
use fulmen_types::{
    CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage,
};

/// A file of lines: a word, then values. `name` begins a case; what comes before is for all of them.
struct VectorFile {
    common: Vec<(String, Vec<String>)>,
    cases: Vec<Vec<(String, Vec<String>)>>,
}

fn read(text: &str, starter: &str) -> VectorFile {
    let mut file = VectorFile {
        common: Vec::new(),
        cases: Vec::new(),
    };
    for line in text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let mut words = line.split(' ').map(str::to_owned);
        let key = words.next().unwrap();
        let entry = (key, words.collect());
        if entry.0 == starter {
            file.cases.push(vec![entry]);
        } else if let Some(case) = file.cases.last_mut() {
            case.push(entry);
        } else {
            file.common.push(entry);
        }
    }
    file
}

fn number<T: std::str::FromStr>(case: &[(String, Vec<String>)], key: &str) -> Option<T>
where
    T::Err: std::fmt::Debug,
{
    let (_, values) = case.iter().find(|(k, _)| k == key)?;
    Some(values[0].parse().unwrap())
}

fn signature(hex: &str) -> Signature {
    Signature::from_der(&Vec::from_hex(hex).unwrap()).unwrap()
}

struct Keys(BTreeMap<String, String>);

impl Keys {
    fn secret(&self, name: &str) -> SecretKey {
        self.0[name].parse().unwrap()
    }

    fn public(&self, name: &str) -> PublicKey {
        self.0[name].parse().unwrap()
    }
}

struct Fixture {
    secp: Secp,
    params: ChannelParameters,
    keys: Keys,
    point: PublicKey,
    htlcs: BTreeMap<String, (CommitmentHtlc, PaymentPreimage)>,
}

const APPENDIX_C: &str = include_str!("../vectors/bolt3-appendix-c.txt");
const APPENDIX_D: &str = include_str!("../vectors/bolt3-appendix-d.txt");
const APPENDIX_E: &str = include_str!("../vectors/bolt3-appendix-e.txt");
const APPENDIX_F: &str = include_str!("../vectors/bolt3-appendix-f.txt");

fn fixture(format: CommitmentFormat) -> Fixture {
    let secp = Secp::new();
    let file = read(APPENDIX_C, "name");
    let rows = |key: &'static str| file.common.iter().filter(move |(k, _)| k == key);
    let keys = Keys(
        rows("key")
            .map(|(_, v)| (v[0].clone(), v[1].clone()))
            .collect(),
    );
    let htlcs = rows("htlc")
        .map(|(_, v)| {
            let preimage: PaymentPreimage = v[4].parse().unwrap();
            let htlc = CommitmentHtlc {
                id: HtlcId::new(v[0].parse().unwrap()),
                offered_by: match v[1].as_str() {
                    "local->remote" => Side::Local,
                    "remote->local" => Side::Remote,
                    other => panic!("direction {other}"),
                },
                amount: Msat::new(v[2].parse().unwrap()),
                payment_hash: preimage.payment_hash(),
                cltv_expiry: CltvExpiry::new(v[3].parse().unwrap()),
            };
            (v[0].clone(), (htlc, preimage))
        })
        .collect();
    let unused = SecretKey::from_slice(&[0x77; 32])
        .unwrap()
        .public_key(&secp);
    let dust_limit = Amount::from_sat(546);
    let party = |keys, dust_limit| PartyParameters {
        keys,
        to_self_delay: 144,
        dust_limit,
    };
    let params = ChannelParameters {
        keys_id: ChannelKeysId::new([0; 32]),
        format,
        opener: Side::Local,
        local: party(
            ChannelPublicKeys {
                funding: keys.public("local_funding_pubkey"),
                revocation_basepoint: unused,
                payment_basepoint: keys.public("local_payment_basepoint"),
                delayed_payment_basepoint: keys.public("local_delayed_payment_basepoint"),
                htlc_basepoint: keys.public("local_htlc_basepoint"),
            },
            dust_limit,
        ),
        remote: party(
            ChannelPublicKeys {
                funding: keys.public("remote_funding_pubkey"),
                revocation_basepoint: keys.public("remote_revocation_basepoint"),
                payment_basepoint: keys.public("remote_payment_basepoint"),
                delayed_payment_basepoint: unused,
                htlc_basepoint: keys.public("remote_htlc_basepoint"),
            },
            dust_limit,
        ),
        funding: Funding {
            outpoint: OutPoint {
                txid: "8984484a580b825b9972d7adb15050b3ab624ccd731946b3eeddb92f4e7ef6be"
                    .parse()
                    .unwrap(),
                vout: 0,
            },
            value: Amount::from_sat(10_000_000),
        },
    };
    let point = keys.secret("local_per_commitment_secret").public_key(&secp);
    Fixture {
        secp,
        params,
        keys,
        point,
        htlcs,
    }
}

fn without_witness(mut tx: Transaction) -> Transaction {
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    tx
}

/// Runs all commitments of a file; returns how many commitment and HTLC transactions were compared.
fn run_commitments(format: CommitmentFormat, text: &str) -> (usize, usize) {
    let mut fixture = fixture(format);
    let (mut commitments, mut htlc_txs) = (0, 0);
    for case in read(text, "name").cases {
        let name = case[0].1.join(" ");
        fixture.params.local.dust_limit = Amount::from_sat(number(&case, "dust_limit").unwrap());
        let used = &case.iter().find(|(k, _)| k == "use_htlcs").unwrap().1;
        let content = CommitmentContent {
            number: CommitmentNumber::new(42).unwrap(),
            feerate: FeeratePerKw::new(number(&case, "feerate_per_kw").unwrap()),
            to_local: Msat::new(number(&case, "to_local_msat").unwrap()),
            to_remote: Msat::new(number(&case, "to_remote_msat").unwrap()),
            htlcs: used.iter().map(|id| fixture.htlcs[id].0).collect(),
        };
        let built = build_commitment(
            &fixture.secp,
            &fixture.params,
            Side::Local,
            &fixture.point,
            &content,
        );
        check_commitment(&fixture, &case, &name, &content, &built);
        commitments += 1;
        htlc_txs += check_htlcs(&fixture, &case, &name, &built);
    }
    (commitments, htlc_txs)
}

fn check_commitment(
    fixture: &Fixture,
    case: &[(String, Vec<String>)],
    name: &str,
    content: &CommitmentContent,
    built: &BuiltCommitment,
) {
    let (secp, params) = (&fixture.secp, &fixture.params);
    let text = |key: &str| number::<String>(case, key).unwrap();
    let expected: Transaction = deserialize_hex(&text("commit_tx")).unwrap();
    assert_eq!(built.tx, without_witness(expected), "{name}");
    assert_eq!(
        commitment_number_of(&built.tx, params),
        Some(content.number)
    );
    if let Some(fee) = number::<u64>(case, "fee") {
        assert_eq!(built.fee, Amount::from_sat(fee), "{name}");
    }
    if let Some(fee) = number::<u64>(case, "base_fee") {
        let outputs = built.htlcs.len() as u64;
        let base = commitment_fee(params.format, content.feerate, outputs);
        assert_eq!(base, Amount::from_sat(fee), "{name}");
    }

    let sighash = built.sighash(params);
    let local = secp.sign_ecdsa(&sighash, &fixture.keys.secret("local_funding_privkey"));
    let remote = secp.sign_ecdsa(&sighash, &fixture.keys.secret("remote_funding_privkey"));
    assert_eq!(remote, signature(&text("remote_signature")), "{name}");
    let mut signed = built.tx.clone();
    signed.input[0].witness = params.funding_witness(&local, &remote);
    assert_eq!(serialize_hex(&signed), text("commit_tx"), "{name}");
}

fn check_htlcs(
    fixture: &Fixture,
    case: &[(String, Vec<String>)],
    name: &str,
    built: &BuiltCommitment,
) -> usize {
    let (secp, params) = (&fixture.secp, &fixture.params);
    // The HTLC basepoints are the payment basepoints.
    let key = |base: &str| derive_private_key(secp, &fixture.keys.secret(base), &fixture.point);
    let local_key = key("local_payment_basepoint_secret");
    let remote_key = key("remote_payment_basepoint_secret");
    let rows: Vec<_> = case.iter().filter(|(k, _)| k == "htlc_tx").collect();
    assert_eq!(rows.len(), built.htlcs.len(), "{name}");
    let mut signatures = Vec::new();
    for ((_, row), (htlc, vout)) in rows.iter().zip(&built.htlcs) {
        let [id, remote_hex, tx_hex] = row.as_slice() else {
            panic!("{name}: three values")
        };
        assert!(id == "-" || *id == htlc.id.to_string(), "{name}: order");
        let remote = secp.sign_ecdsa(&built.htlc_sighash(htlc, *vout), &remote_key);
        assert_eq!(remote, signature(remote_hex), "{name}");
        signatures.push(remote);

        let mut tx = built.htlc_tx(htlc, *vout);
        let sighash = SighashCache::new(&tx)
            .p2wsh_signature_hash(
                0,
                &built.htlc_witness_script(htlc),
                built.txout(*vout).unwrap().value,
                EcdsaSighashType::All,
            )
            .unwrap();
        let local = secp.sign_ecdsa(&sighash.into(), &local_key);
        let preimage = match built.htlc_kind(htlc) {
            HtlcKind::Offered => None,
            HtlcKind::Received => Some(&fixture.htlcs[&htlc.id.to_string()].1),
        };
        tx.input[0].witness = built.htlc_witness(htlc, &remote, &local, preimage);
        assert_eq!(serialize_hex(&tx), *tx_hex, "{name}");
    }
    let commitment = secp.sign_ecdsa(
        &built.sighash(params),
        &fixture.keys.secret("remote_funding_privkey"),
    );
    assert_eq!(built.verify(secp, params, &commitment, &signatures), Ok(()));
    rows.len()
}

#[test]
fn appendix_c_static_remotekey() {
    let counts = run_commitments(CommitmentFormat::StaticRemoteKey, APPENDIX_C);
    println!(
        "BOLT 3 App. C: {} commitment, {} HTLC transactions",
        counts.0, counts.1
    );
    assert_eq!(counts, (16, 33));
}

#[test]
fn appendix_f_anchors() {
    let counts = run_commitments(CommitmentFormat::AnchorsZeroFeeHtlc, APPENDIX_F);
    println!(
        "BOLT 3 App. F: {} commitment, {} HTLC transactions",
        counts.0, counts.1
    );
    assert_eq!(counts, (9, 15));
}

#[test]
fn appendix_c_keys() {
    let Fixture {
        secp,
        params,
        keys,
        point,
        ..
    } = fixture(CommitmentFormat::StaticRemoteKey);
    let derived = CommitmentKeys::derive(&secp, &params, Side::Local, &point);
    assert_eq!(
        derived.broadcaster_htlc_key,
        keys.public("local_htlcpubkey")
    );
    assert_eq!(
        derived.countersigner_htlc_key,
        keys.public("remote_htlcpubkey")
    );
    assert_eq!(derived.delayed_key, keys.public("local_delayedpubkey"));
    assert_eq!(
        derived.revocation_key,
        keys.public("local_revocation_pubkey")
    );
    assert_eq!(
        fulmen_tx::obscuring_factor(
            &params.local.keys.payment_basepoint,
            &params.remote.keys.payment_basepoint
        ),
        0x2bb0_3852_1914
    );
}

#[test]
fn appendix_d_generation_and_storage() {
    let file = read(APPENDIX_D, "store");
    let bytes = |hex: &str| <[u8; 32]>::from_hex(hex).unwrap();
    let mut generated = 0;
    for (key, values) in &file.common {
        assert_eq!(key, "generate");
        let index = values[1].parse().unwrap();
        assert_eq!(derive_secret(&bytes(&values[0]), index), bytes(&values[2]));
        generated += 1;
    }
    for case in &file.cases {
        let name = case[0].1.join(" ");
        let mut store = CommitmentSecrets::new();
        let mut taken = Vec::new();
        for (_, values) in &case[1..] {
            let index: u64 = values[0].parse().unwrap();
            let number = CommitmentNumber::new((1 << 48) - 1 - index).unwrap();
            let before = store.clone();
            let result = store.insert(number, bytes(&values[1]));
            assert_eq!(result.is_ok(), values[2] == "OK", "{name}, {index}");
            match result {
                Ok(()) => taken.push((number, bytes(&values[1]))),
                Err(_) => assert!(store == before, "{name}: an error changes nothing"),
            }
        }
        for (number, secret) in taken {
            assert_eq!(store.get(number), Some(secret), "{name}");
        }
    }
    println!(
        "BOLT 3 App. D: {generated} generation, {} storage",
        file.cases.len()
    );
    assert_eq!((generated, file.cases.len()), (5, 9));
}

#[test]
fn appendix_e_key_derivation() {
    let secp = Secp::new();
    let keys = Keys(
        read(APPENDIX_E, "name")
            .common
            .into_iter()
            .map(|(key, values)| (key, values[0].clone()))
            .collect(),
    );
    let base_secret = keys.secret("base_secret");
    let base = keys.public("base_point");
    let point = keys.public("per_commitment_point");
    let per_commitment_secret = keys.secret("per_commitment_secret");
    assert_eq!(base_secret.public_key(&secp), base);
    assert_eq!(per_commitment_secret.public_key(&secp), point);
    assert_eq!(
        derive_public_key(&secp, &base, &point),
        keys.public("localpubkey")
    );
    assert_eq!(
        derive_private_key(&secp, &base_secret, &point),
        keys.secret("localprivkey")
    );
    assert_eq!(
        derive_revocation_public_key(&secp, &base, &point),
        keys.public("revocationpubkey")
    );
    assert_eq!(
        derive_revocation_private_key(&secp, &base_secret, &per_commitment_secret),
        keys.secret("revocationprivkey")
    );
}

/// BOLT 3, Fee Calculation, Example.
#[test]
fn worked_fee_example() {
    let fixture = fixture(CommitmentFormat::StaticRemoteKey);
    let htlc = |id: u64, offered_by, amount| CommitmentHtlc {
        id: HtlcId::new(id),
        offered_by,
        amount: Msat::new(amount),
        payment_hash: PaymentHash::new(bitcoin::hashes::sha256::Hash::hash(&[1]).to_byte_array()),
        cltv_expiry: CltvExpiry::new(500),
    };
    let content = CommitmentContent {
        number: CommitmentNumber::FIRST,
        feerate: FeeratePerKw::new(5_000),
        to_local: Msat::from_sat(5_000_000),
        to_remote: Msat::from_sat(10_000_000 - 5_000_000 - 5_000 - 1_000 - 7_000 - 800),
        htlcs: vec![
            htlc(0, Side::Local, 5_000_000),
            htlc(1, Side::Local, 1_000_000),
            htlc(0, Side::Remote, 7_000_000),
            htlc(1, Side::Remote, 800_000),
        ],
    };
    let built = build_commitment(
        &fixture.secp,
        &fixture.params,
        Side::Local,
        &fixture.point,
        &content,
    );
    assert_eq!(built.fee, Amount::from_sat(7_140));
    assert_eq!(built.trimmed.len(), 2);
    assert_eq!(
        built.htlc_tx_output(&content.htlcs[0]).value,
        Amount::from_sat(5_000 - 3_315)
    );
    assert_eq!(
        built.htlc_tx_output(&content.htlcs[2]).value,
        Amount::from_sat(7_000 - 3_515)
    );
}
