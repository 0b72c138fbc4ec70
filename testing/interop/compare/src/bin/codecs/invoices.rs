//! BOLT 11.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::{
    PubkeyHash, ScriptHash, WitnessProgram, WitnessVersion,
    hashes::{Hash, sha256},
};
use fulmen_compare::{Source, Verdict, compare_invoice};
use fulmen_invoice::{Currency, Description, Fallback, InvoiceDetails, RouteHint, RouteHintHop};
use fulmen_types::{
    CltvExpiryDelta, Feature, Msat, PaymentHash, PaymentSecret, ShortChannelId, Timestamp,
};
use lightning::{
    routing::router::{RouteHint as LdkHint, RouteHintHop as LdkHop},
    types::payment::PaymentSecret as LdkSecret,
    types::routing::RoutingFees,
};
use lightning_invoice as ldk;

use crate::Counts;

/// Built, signed, written and read.
pub(crate) fn invoices(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let ours = build_ours(g)?;
        expect_same(&ours).with_context(|| format!("Fulmen's invoice {ours}"))?;
        counts.to_ldk += 1;
        let theirs = build_theirs(g)?;
        expect_same(&theirs).with_context(|| format!("LDK's invoice {theirs}"))?;
        counts.from_ldk += 1;
        let mut changed = ours.into_bytes();
        let at = g.len(changed.len());
        changed[at] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l1"[g.len(33)];
        let changed = String::from_utf8(changed)?;
        if let (_, Verdict::Different(how)) = compare_invoice(&changed) {
            return Err(anyhow!("{how}: {changed}"));
        }
        counts.mutated += 1;
    }
    Ok(counts)
}

fn expect_same(text: &str) -> Result<()> {
    let (ours, verdict) = compare_invoice(text);
    ensure!(verdict == Verdict::Same, "{verdict:?} ({ours:?})");
    Ok(())
}

/// As many letters as fit 639 bytes.
fn description(g: &mut Source) -> String {
    let mut text = g.text(250);
    while text.len() > 639 {
        text.pop();
    }
    text
}

fn build_ours(g: &mut Source) -> Result<String> {
    let currencies = [
        Currency::Bitcoin,
        Currency::Testnet,
        Currency::Signet,
        Currency::Regtest,
    ];
    let mut details = InvoiceDetails::new(
        currencies[g.len(4)],
        Timestamp::from_secs(g.u64() % (1 << 35)),
        PaymentHash::new(g.array()),
        PaymentSecret::new(g.array()),
        match g.flag() {
            true => Description::Text(description(g)),
            false => Description::Hash(sha256::Hash::from_byte_array(g.array())),
        },
    );
    // LDK counts in pico-bitcoin, in 64 bits.
    details.amount = g.maybe(|g| Msat::new(1 + g.u64() % 1_000_000_000_000_000_000));
    details.expiry_secs = g.maybe(|g| g.u64() >> 1);
    details.min_final_cltv_expiry_delta = g.maybe(Source::u64);
    details.payment_metadata = g.maybe(|g| g.bytes(639));
    details.fallbacks = g.list(4, |g| match g.below(4) {
        0 => Fallback::PubkeyHash(PubkeyHash::from_byte_array(g.array())),
        1 => Fallback::ScriptHash(ScriptHash::from_byte_array(g.array())),
        2 => witness(WitnessVersion::V0, &g.array::<20>()),
        _ => witness(WitnessVersion::V1, &g.array::<32>()),
    });
    details.route_hints = g.list(3, |g| {
        let first = hop(g);
        let hops = [vec![first], g.list(3, hop)].concat();
        RouteHint { hops }
    });
    for feature in [
        Feature::BasicMpp,
        Feature::PaymentMetadata,
        Feature::RouteBlinding,
    ] {
        if g.flag() {
            details.features = details.features.with_optional(feature);
        }
    }
    let key = g.secret_key();
    if g.flag() {
        details.payee = Some(key.public_key(g.secp()));
    }
    let invoice = details.into_unsigned()?.sign_with_key(g.secp(), &key)?;
    Ok(invoice.to_string())
}

fn witness(version: WitnessVersion, program: &[u8]) -> Fallback {
    Fallback::Witness(
        WitnessProgram::new(version, program).expect("of a length that suits the version"),
    )
}

fn hop(g: &mut Source) -> RouteHintHop {
    RouteHintHop {
        node_id: g.public_key(),
        short_channel_id: ShortChannelId::from_u64(g.u64()),
        fee_base_msat: g.u32(),
        fee_proportional_millionths: g.u32(),
        cltv_expiry_delta: CltvExpiryDelta::new(g.u16()),
    }
}

fn build_theirs(g: &mut Source) -> Result<String> {
    let currencies = [
        ldk::Currency::Bitcoin,
        ldk::Currency::BitcoinTestnet,
        ldk::Currency::Signet,
        ldk::Currency::Regtest,
    ];
    let key = g.secret_key();
    let mut builder = ldk::InvoiceBuilder::new(currencies[g.len(4)].clone())
        .invoice_description(match g.flag() {
            true => ldk::Bolt11InvoiceDescription::Direct(
                ldk::Description::new(description(g)).map_err(|e| anyhow!("{e:?}"))?,
            ),
            false => ldk::Bolt11InvoiceDescription::Hash(ldk::Sha256(
                sha256::Hash::from_byte_array(g.array()),
            )),
        })
        .payment_hash(sha256::Hash::from_byte_array(g.array()))
        .payment_secret(LdkSecret(g.array()))
        .duration_since_epoch(Duration::from_secs(g.u64() % (1 << 35)))
        .min_final_cltv_expiry_delta(g.u64());
    if g.flag() {
        builder = builder.amount_milli_satoshis(1 + g.u64() % 1_000_000_000_000_000_000);
    }
    if g.flag() {
        builder = builder.expiry_time(Duration::from_secs(g.u64() >> 1));
    }
    if g.flag() {
        builder = builder.payee_pub_key(key.public_key(g.secp()));
    }
    if g.flag() {
        builder = builder.basic_mpp();
    }
    for _ in 0..g.len(3) {
        builder = builder.fallback(match g.below(3) {
            0 => ldk::Fallback::PubKeyHash(PubkeyHash::from_byte_array(g.array())),
            1 => ldk::Fallback::ScriptHash(ScriptHash::from_byte_array(g.array())),
            _ => ldk::Fallback::SegWitProgram {
                version: WitnessVersion::V0,
                program: g.array::<32>().to_vec(),
            },
        });
    }
    for _ in 0..g.len(3) {
        let hops = (0..1 + g.len(3)).map(|_| LdkHop {
            src_node_id: g.public_key(),
            short_channel_id: g.u64(),
            fees: RoutingFees {
                base_msat: g.u32(),
                proportional_millionths: g.u32(),
            },
            cltv_expiry_delta: g.u16(),
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        });
        let hops = hops.collect();
        builder = builder.private_route(LdkHint(hops));
    }
    let secp = g.secp();
    let sign = |hash: &bitcoin::secp256k1::Message| secp.sign_ecdsa_recoverable(hash, &key);
    let invoice = builder
        .build_signed(sign)
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?;
    Ok(invoice.to_string())
}
