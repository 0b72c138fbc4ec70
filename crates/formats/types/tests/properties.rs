//! What holds for all values: encodings read back, arithmetic never wraps.
#![allow(clippy::unwrap_used, clippy::panic)]

use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid,
    absolute::LockTime,
    constants::ChainHash,
    hashes::Hash,
    secp256k1::{PublicKey, Secp256k1, SecretKey},
    transaction::Version,
};
use fulmen_types::{
    BlockHeight, ChannelId, ChannelType, CltvExpiry, CltvExpiryDelta, CommitmentNumber, Feature,
    Features, FeeratePerKw, HtlcId, Msat, NodeId, PartialSignature, PaymentHash, PaymentPreimage,
    PaymentSecret, PublicNonce, SciddirOrPubkey, ShortChannelId, Timestamp,
    codec::{
        BigSize, Decode, DecodeError, Encode, TlvReader, TlvWriter, Truncated, U16Bytes, Utf8,
        decode_list,
    },
};
use proptest::prelude::*;

fn reads_back<T: Encode + Decode + PartialEq + core::fmt::Debug>(value: T) {
    let bytes = value.to_bytes();
    assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(&value));
    // One encoding for one value: no shorter or longer one is the same.
    let mut longer = bytes.clone();
    longer.push(0);
    assert_ne!(T::from_bytes(&longer).ok(), Some(value));
}

fn public_key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_filter_map("secret key", |bytes| {
        let key = SecretKey::from_slice(&bytes).ok()?;
        Some(PublicKey::from_secret_key(&Secp256k1::signing_only(), &key))
    })
}

fn transaction() -> impl Strategy<Value = Transaction> {
    (
        prop::collection::vec((any::<[u8; 32]>(), any::<u32>()), 1..4),
        prop::collection::vec(
            (any::<u64>(), prop::collection::vec(any::<u8>(), 0..50)),
            0..4,
        ),
    )
        .prop_map(|(inputs, outputs)| Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: inputs
                .into_iter()
                .map(|(txid, vout)| TxIn {
                    previous_output: OutPoint::new(Txid::from_byte_array(txid), vout),
                    ..TxIn::default()
                })
                .collect(),
            output: outputs
                .into_iter()
                .map(|(value, script)| TxOut {
                    value: Amount::from_sat(value),
                    script_pubkey: ScriptBuf::from_bytes(script),
                })
                .collect(),
        })
}

proptest! {
    #[test]
    fn integers_read_back(a: u8, b: u16, c: u32, d: u64, e: i8, f: i16, g: i32, h: i64, flag: bool) {
        reads_back(a);
        reads_back(b);
        reads_back(c);
        reads_back(d);
        reads_back(e);
        reads_back(f);
        reads_back(g);
        reads_back(h);
        reads_back(flag);
        reads_back(BigSize(d));
        reads_back(BigSize(d >> (a % 64)));
        reads_back((b, d));
    }

    #[test]
    fn truncated_integers_read_back(a: u16, b: u32, c: u64, shift in 0..64u32) {
        let check = |bytes: Vec<u8>| assert_ne!(bytes.first(), Some(&0));
        let (b, c) = (b >> (shift % 32), c >> shift);
        check(Truncated(a).to_bytes());
        check(Truncated(b).to_bytes());
        check(Truncated(c).to_bytes());
        prop_assert_eq!(Truncated::from_bytes(&Truncated(a).to_bytes()), Ok(Truncated(a)));
        prop_assert_eq!(Truncated::from_bytes(&Truncated(b).to_bytes()), Ok(Truncated(b)));
        prop_assert_eq!(Truncated::from_bytes(&Truncated(c).to_bytes()), Ok(Truncated(c)));
    }

    #[test]
    fn bytes_and_texts_read_back(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text in ".{0,40}",
        list in prop::collection::vec(any::<u32>(), 0..20),
        option: Option<u64>,
    ) {
        reads_back(U16Bytes(bytes.clone()));
        reads_back(ScriptBuf::from_bytes(bytes.clone()));
        reads_back(Box::new(U16Bytes(bytes.clone())));
        reads_back(option);
        prop_assert_eq!(Vec::from_bytes(&bytes), Ok(bytes.clone()));
        let utf8 = Utf8(text);
        prop_assert_eq!(Utf8::from_bytes(&utf8.to_bytes()), Ok(utf8));
        prop_assert_eq!(Utf8::from_bytes(&bytes).is_ok(), String::from_utf8(bytes).is_ok());
        let encoded = list[..].to_bytes();
        prop_assert_eq!(
            decode_list(&mut fulmen_types::codec::Reader::new(&encoded)),
            Ok(list)
        );
    }

    #[test]
    fn chain_values_read_back(
        key in public_key(),
        hash: [u8; 32],
        vout: u32,
        sat: u64,
        tx in transaction(),
    ) {
        reads_back(key);
        reads_back(Txid::from_byte_array(hash));
        reads_back(BlockHash::from_byte_array(hash));
        reads_back(ChainHash::from(hash));
        reads_back(bitcoin::hashes::sha256::Hash::from_byte_array(hash));
        reads_back(OutPoint::new(Txid::from_byte_array(hash), vout));
        reads_back(Amount::from_sat(sat));
        for output in tx.output.clone() {
            reads_back(output);
        }
        reads_back(tx);
    }

    #[test]
    fn own_types_read_back(key in public_key(), a: [u8; 32], n: u64, h: u32, d: u16, end: bool) {
        reads_back(Msat::new(n));
        reads_back(FeeratePerKw::new(h));
        reads_back(BlockHeight::new(h));
        reads_back(CltvExpiry::new(h));
        reads_back(CltvExpiryDelta::new(d));
        reads_back(Timestamp::new(n));
        reads_back(ChannelId::new(a));
        reads_back(PaymentHash::new(a));
        reads_back(PaymentPreimage::new(a));
        reads_back(PaymentSecret::new(a));
        reads_back(NodeId::from(key));
        reads_back(HtlcId::new(n));
        reads_back(PartialSignature::new(a));
        reads_back(PublicNonce::new([&a[..], &a[..], &[d.to_be_bytes()[0]; 2]].concat().try_into().unwrap()));
        reads_back(ShortChannelId::from_u64(n));
        reads_back(CommitmentNumber::new(n >> 16).unwrap());
        reads_back(SciddirOrPubkey::Pubkey(key));
        reads_back(SciddirOrPubkey::Sciddir {
            is_node_2: end,
            short_channel_id: ShortChannelId::from_u64(n),
        });
    }

    #[test]
    fn ids_and_their_texts(a: [u8; 32], n: u64) {
        let id = ChannelId::new(a);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        let scid = ShortChannelId::from_u64(n);
        prop_assert_eq!(scid.to_string().parse(), Ok(scid));
        prop_assert_eq!(
            ShortChannelId::from_parts(scid.block(), scid.tx_index(), scid.output_index()),
            Some(scid)
        );
    }

    #[test]
    fn anything_decodes_or_fails(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = PublicKey::from_bytes(&bytes);
        let _ = Transaction::from_bytes(&bytes);
        let _ = Features::from_bytes(&bytes);
        let _ = SciddirOrPubkey::from_bytes(&bytes);
        let _ = <Option<Box<(BigSize, U16Bytes)>>>::from_bytes(&bytes);
        let _ = decode_list::<u16>(&mut fulmen_types::codec::Reader::new(&bytes));
        for record in TlvReader::new(&bytes) {
            let _ = record;
        }
    }

    #[test]
    fn feature_bytes_stay_as_they_came(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let features = Features::from_be_bytes(&bytes);
        prop_assert_eq!(features.to_be_bytes(), bytes.clone());
        prop_assert_eq!(Features::from_bytes(&features.to_bytes()).unwrap().to_be_bytes(), bytes.clone());
        prop_assert_eq!(ChannelType::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        let mut again = Features::empty();
        features.bits().for_each(|bit| again.set_bit(bit));
        prop_assert_eq!(&again, &features);
        prop_assert_eq!(features.union(&again), features);
    }

    #[test]
    fn features_can_be_set_and_taken_back(
        bits in prop::collection::btree_set(0u32..800, 0..20),
        index in any::<prop::sample::Index>(),
    ) {
        let mut features = Features::empty();
        bits.iter().for_each(|bit| features.set_bit(*bit));
        prop_assert_eq!(features.bits().collect::<Vec<_>>(), bits.iter().copied().collect::<Vec<_>>());
        let feature = Feature::ALL[index.index(Feature::ALL.len())];
        let without = features.without(feature);
        prop_assert!(!without.supports(feature));
        let (odd, even) = (without.clone().with_optional(feature), without.clone().with_required(feature));
        prop_assert!(odd.supports(feature) && !odd.requires(feature));
        prop_assert!(even.supports(feature) && even.requires(feature));
        prop_assert_eq!(odd.without(feature), even.without(feature));
    }

    #[test]
    fn msat_arithmetic_agrees_with_wide_integers(a: u64, b: u64, ppm in 0..u64::from(u32::MAX)) {
        let (x, y) = (Msat::new(a), Msat::new(b));
        let wide = |v: Option<Msat>| v.map(|v| u128::from(v.to_msat()));
        let fits = |v: u128| (v <= u128::from(u64::MAX)).then_some(v);
        let (a, b) = (u128::from(a), u128::from(b));
        prop_assert_eq!(wide(x.checked_add(y)), fits(a + b));
        prop_assert_eq!(wide(x.checked_sub(y)), a.checked_sub(b));
        prop_assert_eq!(wide(x.checked_mul(y.to_msat())), fits(a * b));
        prop_assert_eq!(wide(Some(x.saturating_sub(y))), Some(a.saturating_sub(b)));
        prop_assert_eq!(wide(Some(x.saturating_add(y))), Some((a + b).min(u128::from(u64::MAX))));
        prop_assert_eq!(wide(x.checked_ppm_floor(ppm)), fits(a * u128::from(ppm) / 1_000_000));
        prop_assert_eq!(u128::from(x.to_sat_floor()), a / 1000);
        prop_assert_eq!(u128::from(x.to_sat_ceil()), a.div_ceil(1000));
        prop_assert_eq!(wide(Msat::checked_sum([x, y, x])), fits(2 * a + b));
    }

    #[test]
    fn feerates_round_as_they_say(rate: u32, weight in 0u64..4_000_000, kvb: u64) {
        let feerate = FeeratePerKw::new(rate);
        let exact = u128::from(rate) * u128::from(weight);
        prop_assert_eq!(u128::from(feerate.fee_floor(weight).to_sat()), exact / 1000);
        prop_assert_eq!(u128::from(feerate.fee_ceil(weight).to_sat()), exact.div_ceil(1000));
        prop_assert_eq!(FeeratePerKw::from_sat_per_kvb_ceil(feerate.to_sat_per_kvb()), feerate);
        let rounded = FeeratePerKw::from_sat_per_kvb_ceil(kvb);
        prop_assert!(rounded.to_sat_per_kvb() >= kvb.min(4 * u64::from(u32::MAX)));
    }

    #[test]
    fn heights_saturate(a: u32, b: u32, delta: u16) {
        let (low, tip) = (BlockHeight::new(a), BlockHeight::new(b));
        let depth = low.depth_at(tip);
        prop_assert_eq!(depth == 0, a > b);
        if a <= b {
            prop_assert_eq!(u64::from(depth), (u64::from(b) - u64::from(a) + 1).min(u64::from(u32::MAX)));
        }
        let expiry = low + CltvExpiryDelta::new(delta);
        prop_assert_eq!(expiry.to_u32(), a.saturating_add(delta.into()));
        prop_assert_eq!(expiry.is_reached_after(tip), expiry.to_u32() <= b);
        prop_assert_eq!(expiry.blocks_from(tip) == 0, expiry.to_u32() <= b);
        prop_assert_eq!(low.plus(b).to_u32(), a.saturating_add(b));
        prop_assert_eq!(low.minus(b).to_u32(), a.saturating_sub(b));
    }
}

#[test]
fn encodings_with_one_form_refuse_others() {
    assert_eq!(
        bool::from_bytes(&[2]),
        Err(DecodeError::InvalidValue("boolean that is neither 0 nor 1"))
    );
    assert_eq!(
        Truncated::<u64>::from_bytes(&[0, 1]),
        Err(DecodeError::NonMinimal)
    );
    assert!(Truncated::<u16>::from_bytes(&[1, 0, 0]).is_err());
    assert_eq!(u16::from_bytes(&[1]), Err(DecodeError::UnexpectedEnd));
    assert_eq!(u16::from_bytes(&[1, 2, 3]), Err(DecodeError::TrailingBytes));
    assert!(SciddirOrPubkey::from_bytes(&[4; 33]).is_err());
    assert!(PublicKey::from_bytes(&[2; 32]).is_err());
    assert!(CommitmentNumber::from_bytes(&[0, 1, 0, 0, 0, 0, 0, 0]).is_err());
    // A count that no bytes stand behind costs nothing.
    let huge = BigSize(u64::MAX).to_bytes();
    let mut r = fulmen_types::codec::Reader::new(&huge);
    assert_eq!(decode_list::<u8>(&mut r), Err(DecodeError::UnexpectedEnd));
}

#[test]
fn long_tlv_values_get_long_lengths() {
    for len in [0usize, 1, 0xfc, 0xfd, 0xffff, 0x1_0000] {
        let value = vec![7u8; len];
        let mut out = vec![1, 2];
        TlvWriter::new(&mut out).put(9, &value).put(11, &1u8);
        let prefix = BigSize(len as u64).to_bytes();
        let expected = [&[1, 2, 9][..], &prefix, &value, &[11, 1, 1]].concat();
        assert_eq!(out, expected, "{len}");
    }
}

#[test]
fn tlv_writer_and_reader_agree() {
    let mut out = Vec::new();
    TlvWriter::new(&mut out)
        .put(1, &Truncated(256u64))
        .put_some(2, None::<&u64>)
        .put_some(0xfd, Some(&7u16));
    assert_eq!(out, [1, 2, 1, 0, 0xfd, 0, 0xfd, 2, 0, 7]);
    let kinds: Vec<u64> = TlvReader::new(&out).map(|r| r.unwrap().kind).collect();
    assert_eq!(kinds, [1, 0xfd]);
}
