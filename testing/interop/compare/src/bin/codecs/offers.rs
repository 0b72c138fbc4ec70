//! BOLT 12: offers, requests, refunds and invoices, each built by one and read by the other.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bitcoin::{
    Network,
    constants::ChainHash,
    secp256k1::{Keypair, PublicKey, SecretKey},
};
use fulmen_compare::{
    Source, Verdict, compare_bolt12_invoice, compare_offer, compare_request, compare_static_invoice,
};
use fulmen_offers::{
    CurrencyCode, InvoiceFields, InvoiceRequest, Offer, OfferFields, RequestFields,
    StaticInvoiceFields,
};
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedPath, blind_route},
};
use fulmen_types::{CltvExpiryDelta, Features, Msat, PaymentHash, SciddirOrPubkey};
use lightning::{
    blinded_path::{
        BlindedHop,
        message::{BlindedMessagePath, MessageContext},
        payment::{BlindedPayInfo as LdkPayInfo, BlindedPaymentPath},
    },
    ln::{channelmanager::PaymentId, inbound_payment::ExpandedKey},
    offers::{
        invoice::UnsignedBolt12Invoice,
        invoice_request::InvoiceRequest as LdkRequest,
        nonce::Nonce,
        offer::{Offer as LdkOffer, OfferBuilder, Quantity},
        refund::{Refund, RefundBuilder},
        static_invoice::StaticInvoiceBuilder,
    },
    sign::ReceiveAuthKey,
    types::{features::BlindedHopFeatures, payment::PaymentHash as LdkHash},
    util::ser::Writeable,
};

use crate::{Counts, routes::Entropy};

fn same(verdict: &Verdict) -> Result<()> {
    ensure!(*verdict == Verdict::Same, "{verdict:?}");
    Ok(())
}

fn not_different(verdict: &Verdict) -> Result<()> {
    if let Verdict::Different(how) = verdict {
        bail!("{how}");
    }
    Ok(())
}

fn changed(g: &mut Source, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = g.len(bytes.len());
    match g.below(3) {
        0 => bytes.truncate(at),
        _ => bytes[at] = g.u8(),
    }
    bytes
}

/// A path for messages or payments.
fn our_path(g: &mut Source) -> Result<BlindedPath> {
    let hops: Vec<_> = (0..1 + g.len(3))
        .map(|_| (g.public_key(), g.bytes(60)))
        .collect();
    let key = g.secret_key();
    Ok(BlindedPath {
        first_node_id: SciddirOrPubkey::Pubkey(hops[0].0),
        route: blind_route(g.secp(), &key, &hops)?,
    })
}

fn our_paths(g: &mut Source) -> Result<Vec<BlindedPath>> {
    (0..1 + g.len(2)).map(|_| our_path(g)).collect()
}

fn their_path(g: &mut Source) -> BlindedMessagePath {
    BlindedMessagePath::new(
        &[],
        g.public_key(),
        ReceiveAuthKey(g.array()),
        MessageContext::Custom(g.bytes(30)),
        &Entropy(g.array()),
        g.secp(),
    )
}

/// In bitcoin or for any amount, and not over for long, so that LDK reads and answers requests for it.
fn our_offer(g: &mut Source, issuer: PublicKey) -> Result<OfferFields> {
    let chains = [ChainHash::BITCOIN, ChainHash::SIGNET, ChainHash::REGTEST];
    Ok(OfferFields {
        chains: g.maybe(|g| vec![chains[g.len(3)]]),
        metadata: g.maybe(|g| g.bytes(40)),
        amount: g.maybe(|g| g.msat() % 1_000_000_000_000 + 1),
        description: Some(g.text(40)),
        absolute_expiry: g.maybe(|g| 4_000_000_000 + (g.u64() >> 1)),
        paths: g.maybe(our_paths).transpose()?,
        issuer: g.maybe(|g| g.text(30)),
        quantity_max: g.maybe(|g| g.u64() % 100),
        issuer_id: Some(issuer),
        ..OfferFields::default()
    })
}

fn their_offer(g: &mut Source, issuer: PublicKey) -> Result<LdkOffer> {
    let mut builder = OfferBuilder::new(issuer);
    if g.flag() {
        builder = builder.chain(Network::Regtest);
    }
    if g.flag() {
        builder = builder
            .metadata(g.bytes(40))
            .map_err(|e| anyhow!("{e:?}"))?;
    }
    if g.flag() {
        builder = builder.amount_msats(g.msat() % 1_000_000_000_000 + 1);
    }
    if g.flag() {
        builder = builder.description(g.text(40));
    }
    if g.flag() {
        builder = builder.absolute_expiry(Duration::from_secs(4_000_000_000 + (g.u64() >> 32)));
    }
    if g.flag() {
        builder = builder.issuer(g.text(30));
    }
    for _ in 0..g.len(3) {
        builder = builder.path(their_path(g));
    }
    let quantity = match g.below(3) {
        0 => Quantity::One,
        1 => Quantity::Unbounded,
        _ => Quantity::Bounded((1 + g.u64() % 100).try_into()?),
    };
    builder
        .supported_quantity(quantity)
        .build()
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))
}

/// Offers, as TLV streams and as texts.
pub(crate) fn offers(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let issuer = g.public_key();
        let mut fields = our_offer(g, issuer)?;
        if fields.amount.is_some() && g.flag() {
            fields.currency = Some(CurrencyCode::new([b'A' + g.u8() % 26; 3])?);
        }
        if fields.paths.is_some() && g.flag() {
            fields.issuer_id = None;
        }
        let ours = Offer::new(&fields)?;
        same(&compare_offer(ours.as_bytes()).1).with_context(|| format!("Fulmen's {ours}"))?;
        let theirs: LdkOffer = ours
            .to_string()
            .parse()
            .map_err(|e| anyhow!("the text: {e:?}"))?;
        ensure!(
            theirs.encode() == ours.as_bytes(),
            "LDK reads the text otherwise"
        );
        counts.to_ldk += 1;
        let bytes = changed(g, ours.as_bytes());
        not_different(&compare_offer(&bytes).1).with_context(|| format!("{bytes:02x?}"))?;
        counts.mutated += 1;

        let theirs = their_offer(g, issuer)?;
        same(&compare_offer(&theirs.encode()).1).with_context(|| format!("LDK's {theirs}"))?;
        let ours: Offer = theirs.to_string().parse().context("LDK's text")?;
        ensure!(
            ours.as_bytes() == theirs.encode(),
            "Fulmen reads the text otherwise"
        );
        ensure!(ours.to_string() == theirs.to_string(), "the texts differ");
        counts.from_ldk += 1;
    }
    Ok(counts)
}

/// A request of Fulmen's for an offer of its own.
fn our_request(g: &mut Source, issuer: PublicKey) -> Result<InvoiceRequest> {
    let fields = our_offer(g, issuer)?;
    let payer = g.secret_key();
    let mut request = RequestFields::new(g.array::<32>().to_vec(), payer.public_key(g.secp()));
    request.chain = fields.chains.as_ref().map(|chains| chains[0]);
    request.quantity = fields.quantity_max.map(|max| 1 + g.u64() % max.max(1));
    let least = fields.amount.unwrap_or(1) * request.quantity.unwrap_or(1);
    if fields.amount.is_none() || g.flag() {
        request.amount = Some(Msat::new(least + g.u64() % 1_000_000));
    }
    request.payer_note = g.maybe(|g| g.text(40));
    let offer = Offer::new(&fields)?;
    Ok(offer.request(&request)?.sign_with_key(g.secp(), &payer)?)
}

/// A request of LDK's for an offer of its own.
fn their_request(g: &mut Source, issuer: PublicKey) -> Result<LdkRequest> {
    let offer = their_offer(g, issuer)?;
    let (key, entropy) = (ExpandedKey::new(g.array()), Entropy(g.array()));
    let nonce = Nonce::from_entropy_source(&entropy);
    let (id, note, more) = (
        PaymentId(g.array()),
        g.maybe(|g| g.text(40)),
        g.u64() % 1_000_000,
    );
    let pick = g.u64();
    let mut builder = offer
        .request_invoice(&key, nonce, g.secp(), id)
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?;
    let quantity = match offer.supported_quantity() {
        Quantity::One => None,
        Quantity::Unbounded => Some(1 + pick % 1_000),
        Quantity::Bounded(max) => Some(1 + pick % max.get()),
    };
    if let Some(quantity) = quantity {
        builder = builder
            .quantity(quantity)
            .map_err(|e| anyhow!("the quantity: {e:?}"))?;
    }
    if !offer.supports_chain(ChainHash::BITCOIN) {
        builder = builder
            .chain(Network::Regtest)
            .map_err(|e| anyhow!("the chain: {e:?}"))?;
    }
    if offer.amount().is_none() {
        builder = builder
            .amount_msats(1 + more)
            .map_err(|e| anyhow!("the amount: {e:?}"))?;
    }
    if let Some(note) = note {
        builder = builder.payer_note(note);
    }
    builder
        .build_and_sign()
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))
}

/// Signed requests for offers.
pub(crate) fn requests(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let issuer = g.public_key();
        let ours = our_request(g, issuer)?;
        same(&compare_request(g.secp(), ours.as_bytes()).1)
            .with_context(|| format!("Fulmen's {ours}"))?;
        counts.to_ldk += 1;
        let bytes = changed(g, ours.as_bytes());
        not_different(&compare_request(g.secp(), &bytes).1)
            .with_context(|| format!("{bytes:02x?}"))?;
        counts.mutated += 1;
        let theirs = their_request(g, issuer)?.encode();
        same(&compare_request(g.secp(), &theirs).1)
            .with_context(|| format!("LDK's {theirs:02x?}"))?;
        counts.from_ldk += 1;
    }
    Ok(counts)
}

fn our_refund(g: &mut Source) -> Result<InvoiceRequest> {
    let offer = OfferFields {
        description: Some(g.text(40)),
        absolute_expiry: g.maybe(Source::u64),
        issuer: g.maybe(|g| g.text(30)),
        ..OfferFields::default()
    };
    let mut request = RequestFields::new(g.array::<16>().to_vec(), g.public_key());
    request.chain = g.maybe(|_| ChainHash::REGTEST);
    request.amount = Some(Msat::new(g.msat()));
    request.quantity = g.maybe(Source::u64);
    request.payer_note = g.maybe(|g| g.text(40));
    request.paths = g.maybe(our_paths).transpose()?;
    Ok(InvoiceRequest::refund(&offer, &request)?)
}

fn their_refund(g: &mut Source) -> Result<Refund> {
    let mut builder = RefundBuilder::new(g.array::<16>().to_vec(), g.public_key(), g.msat())
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?;
    if g.flag() {
        builder = builder.description(g.text(40));
    }
    if g.flag() {
        builder = builder.absolute_expiry(Duration::from_secs(4_000_000_000 + (g.u64() >> 32)));
    }
    if g.flag() {
        builder = builder.issuer(g.text(30));
    }
    if g.flag() {
        builder = builder.chain(Network::Regtest);
    }
    if g.flag() {
        builder = builder.quantity(g.u64());
    }
    if g.flag() {
        builder = builder.payer_note(g.text(40));
    }
    for _ in 0..g.len(3) {
        builder = builder.path(their_path(g));
    }
    builder.build().map_err(|e| anyhow!("LDK's builder: {e:?}"))
}

/// Requests that answer no offer.
pub(crate) fn refunds(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let ours = our_refund(g)?;
        same(&compare_request(g.secp(), ours.as_bytes()).1)
            .with_context(|| format!("Fulmen's {ours}"))?;
        counts.to_ldk += 1;
        let theirs = their_refund(g)?;
        same(&compare_request(g.secp(), &theirs.encode()).1)
            .with_context(|| format!("LDK's {theirs}"))?;
        counts.from_ldk += 1;
    }
    Ok(counts)
}

fn our_payment_path(g: &mut Source) -> Result<PaymentPath> {
    Ok(PaymentPath {
        path: our_path(g)?,
        payinfo: BlindedPayinfo {
            fee_base_msat: g.u32(),
            fee_proportional_millionths: g.u32(),
            cltv_expiry_delta: CltvExpiryDelta::new(g.u16()),
            htlc_minimum_msat: Msat::new(g.u64()),
            htlc_maximum_msat: Msat::new(g.u64()),
            features: Features::empty(),
        },
    })
}

fn their_payment_path(g: &mut Source) -> BlindedPaymentPath {
    let hops = (0..1 + g.len(3)).map(|_| BlindedHop {
        blinded_node_id: g.public_key(),
        encrypted_payload: g.bytes(60),
    });
    let hops = hops.collect();
    BlindedPaymentPath::from_blinded_path_and_payinfo(
        g.public_key(),
        g.public_key(),
        hops,
        LdkPayInfo {
            fee_base_msat: g.u32(),
            fee_proportional_millionths: g.u32(),
            cltv_expiry_delta: g.u16(),
            htlc_minimum_msat: g.u64(),
            htlc_maximum_msat: g.u64(),
            features: BlindedHopFeatures::empty(),
        },
    )
}

/// An invoice of LDK's, for a request that LDK reads.
fn their_invoice(g: &mut Source, request: &LdkRequest, issuer: &SecretKey) -> Result<Vec<u8>> {
    let paths = (0..1 + g.len(2)).map(|_| their_payment_path(g)).collect();
    let created_at = Duration::from_secs(g.u64() >> 16);
    let mut builder = request
        .respond_with_no_std(paths, LdkHash(g.array()), created_at)
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?;
    if g.flag() {
        builder = builder.relative_expiry(g.u32());
    }
    if g.flag() {
        builder = builder.allow_mpp();
    }
    let keypair = Keypair::from_secret_key(g.secp(), issuer);
    let invoice = builder
        .build()
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?
        .sign(|unsigned: &UnsignedBolt12Invoice| {
            Ok(g.secp()
                .sign_schnorr_no_aux_rand(unsigned.as_ref().as_digest(), &keypair))
        })
        .map_err(|e| anyhow!("LDK's signature: {e:?}"))?;
    Ok(invoice.encode())
}

/// Invoices for requests of either.
pub(crate) fn invoices(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let key = g.secret_key();
        let issuer = key.public_key(g.secp());
        // Fulmen answers LDK's request, and its own.
        let theirs = their_request(g, issuer)?;
        let requests = [
            InvoiceRequest::from_bytes(g.secp(), &theirs.encode())?,
            our_request(g, issuer)?,
        ];
        for request in requests {
            let amount = request.amount_to_invoice(None)?;
            let paths = (0..1 + g.len(2))
                .map(|_| our_payment_path(g))
                .collect::<Result<_>>()?;
            let (created_at, hash) = (g.u64() >> 16, PaymentHash::new(g.array()));
            let mut fields = InvoiceFields::new(created_at, hash, amount, issuer, paths);
            fields.relative_expiry = g.maybe(Source::u32);
            let ours = request.respond(&fields)?.sign_with_key(g.secp(), &key)?;
            same(&compare_bolt12_invoice(g.secp(), ours.as_bytes()).1)
                .with_context(|| format!("Fulmen's {ours}"))?;
            counts.to_ldk += 1;
            let bytes = changed(g, ours.as_bytes());
            not_different(&compare_bolt12_invoice(g.secp(), &bytes).1)
                .with_context(|| format!("{bytes:02x?}"))?;
            counts.mutated += 1;
        }
        // And LDK answers both.
        let ours = our_request(g, issuer)?;
        let ours = LdkRequest::try_from(ours.as_bytes().to_vec()).map_err(|e| anyhow!("{e:?}"))?;
        for request in [&theirs, &ours] {
            let bytes = their_invoice(g, request, &key)?;
            same(&compare_bolt12_invoice(g.secp(), &bytes).1)
                .with_context(|| format!("LDK's {bytes:02x?}"))?;
            counts.from_ldk += 1;
        }
    }
    Ok(counts)
}

/// LDK makes static invoices only with keys that it derived for the offer.
fn their_static_invoice(g: &mut Source) -> Result<Vec<u8>> {
    let expanded = ExpandedKey::new(g.array());
    let nonce = Nonce::from_entropy_source(&Entropy(g.array()));
    let (path, text) = (their_path(g), g.text(40));
    let node_id = g.public_key();
    let amount = g.maybe(|g| g.msat() % 1_000_000_000 + 1);
    let mut builder = OfferBuilder::deriving_signing_pubkey(node_id, &expanded, nonce, g.secp())
        .description(text)
        .path(path);
    if let Some(amount) = amount {
        builder = builder.amount_msats(amount);
    }
    let offer = builder
        .build()
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?;
    let paths = (0..1 + g.len(2)).map(|_| their_payment_path(g)).collect();
    let message_paths = vec![their_path(g)];
    let created_at = Duration::from_secs(g.u64() >> 16);
    let builder = StaticInvoiceBuilder::for_offer_using_derived_keys(
        &offer,
        paths,
        message_paths,
        created_at,
        &expanded,
        nonce,
        g.secp(),
    );
    let invoice = builder
        .and_then(|builder| builder.build_and_sign(g.secp()))
        .map_err(|e| anyhow!("LDK's builder: {e:?}"))?;
    Ok(invoice.encode())
}

/// Invoices that somebody else hands out.
pub(crate) fn static_invoices(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let key = g.secret_key();
        let mut fields = our_offer(g, key.public_key(g.secp()))?;
        fields.paths = Some(our_paths(g)?);
        let offer = Offer::new(&fields)?;
        let paths = (0..1 + g.len(2))
            .map(|_| our_payment_path(g))
            .collect::<Result<_>>()?;
        let message_paths = our_paths(g)?;
        let created_at = g.u64() >> 16;
        let mut fields =
            StaticInvoiceFields::new(created_at, key.public_key(g.secp()), paths, message_paths);
        fields.relative_expiry = g.maybe(Source::u32);
        let ours = offer
            .static_invoice(&fields)?
            .sign_with_key(g.secp(), &key)?;
        same(&compare_static_invoice(g.secp(), ours.as_bytes()).1)
            .with_context(|| format!("Fulmen's {:02x?}", ours.as_bytes()))?;
        counts.to_ldk += 1;
        let bytes = changed(g, ours.as_bytes());
        not_different(&compare_static_invoice(g.secp(), &bytes).1)
            .with_context(|| format!("{bytes:02x?}"))?;
        counts.mutated += 1;
        let bytes = their_static_invoice(g)?;
        same(&compare_static_invoice(g.secp(), &bytes).1)
            .with_context(|| format!("LDK's {bytes:02x?}"))?;
        counts.from_ldk += 1;
    }
    Ok(counts)
}
