//! Failure codes, made by one and decoded by the other.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::Secp256k1;
use lightning::routing::gossip::RoutingFees;
use lightning::routing::router::{
    Path, PaymentParameters, Route, RouteHint, RouteHintHop, RouteHop, RouteParameters,
};
use lightning::types::features::{ChannelFeatures, NodeFeatures};
use lightning::types::payment::PaymentSecret;
use lightning_invoice::{Currency, InvoiceBuilder};

use super::Case;
use super::forward::line;
use crate::ldk::LdkNode;
use crate::node::{PaymentStatus, TestNode};
use crate::world::{AnyNode, Impl, outcome, pay, quiet};

const AMOUNT_MSAT: u64 = 10_000_000;

/// A route of two hops that LDK takes as it is.
struct Trial {
    what: &'static str,
    fee_msat: u64,
    cltv_delta: u32,
    amount_msat: u64,
    second_hop: Option<u64>,
    code: u16,
}

pub(super) fn of_fulmen(case: &Case<'_>) -> Result<()> {
    let (first, middle, last) = line(case, Impl::Ldk, case.fulmen, true)?;
    let payer = first.ldk()?;
    let into = channel_id_of(&first, &middle)?;
    let out = channel_id_of(&middle, &last)?;
    let usual = Trial {
        what: "",
        fee_msat: 100_000,
        cltv_delta: 144,
        amount_msat: AMOUNT_MSAT,
        second_hop: None,
        code: 0,
    };
    let trials = [
        Trial {
            what: "fee_insufficient",
            fee_msat: 0,
            code: 0x1000 | 12,
            ..usual
        },
        Trial {
            what: "incorrect_cltv_expiry",
            cltv_delta: 2,
            code: 0x1000 | 13,
            ..usual
        },
        Trial {
            what: "unknown_next_peer",
            second_hop: Some(out ^ 0xff_0000),
            code: 0x4000 | 10,
            ..usual
        },
        Trial {
            what: "incorrect_or_unknown_payment_details",
            code: 0x4000 | 15,
            ..usual
        },
    ];
    for (number, trial) in trials.iter().enumerate() {
        let hop = |node: &AnyNode, id, fee_msat, cltv_expiry_delta| RouteHop {
            pubkey: node.node_id(),
            node_features: NodeFeatures::empty(),
            short_channel_id: id,
            channel_features: ChannelFeatures::empty(),
            fee_msat,
            cltv_expiry_delta,
            maybe_announced_channel: true,
        };
        let hops = vec![
            hop(&middle, into, trial.fee_msat, trial.cltv_delta),
            hop(
                &last,
                trial.second_hop.unwrap_or(out),
                trial.amount_msat,
                40,
            ),
        ];
        let from = if trial.code == 0x4000 | 15 {
            &last
        } else {
            &middle
        };
        decoded(payer, hops, from, number, trial.code)
            .with_context(|| format!("{} by the forwarder", trial.what))?;
    }
    // A channel that has too little.
    let too_much = CHANNEL_MSAT_TOO_MUCH;
    let hops = vec![
        RouteHop {
            fee_msat: 1_000_000,
            ..two_hops(&middle, &last, into, out)[0].clone()
        },
        RouteHop {
            fee_msat: too_much,
            ..two_hops(&middle, &last, into, out)[1].clone()
        },
    ];
    drain(&middle, &last)?;
    decoded(payer, hops, &middle, 90, 0x1000 | 7).context("temporary_channel_failure")?;
    // The payee itself.
    let direct = vec![RouteHop {
        fee_msat: AMOUNT_MSAT,
        cltv_expiry_delta: 40,
        ..two_hops(&middle, &last, into, out)[0].clone()
    }];
    decoded(payer, direct, &middle, 91, 0x4000 | 15).context("an unknown hash at the payee")?;
    quiet(&[&first, &middle, &last])?;
    // Nothing of it is a reason to close.
    pay(&first, &middle, AMOUNT_MSAT)?;
    Ok(())
}

/// More than what is left after [`drain`], less than what the first channel carries.
const CHANNEL_MSAT_TOO_MUCH: u64 = 300_000_000;

/// Moves most of what the first can send to the second.
fn drain(from: &AnyNode, to: &AnyNode) -> Result<()> {
    let channels = from.channels()?;
    let channel = channels.iter().find(|one| one.peer == to.node_id());
    let spendable = channel.context("no channel")?.spendable_msat;
    pay(from, to, spendable - 150_000_000)?;
    quiet(&[from, to])
}

fn two_hops(middle: &AnyNode, last: &AnyNode, into: u64, out: u64) -> [RouteHop; 2] {
    let hop = |node: &AnyNode, id, cltv_expiry_delta| RouteHop {
        pubkey: node.node_id(),
        node_features: NodeFeatures::empty(),
        short_channel_id: id,
        channel_features: ChannelFeatures::empty(),
        fee_msat: 0,
        cltv_expiry_delta,
        maybe_announced_channel: true,
    };
    [hop(middle, into, 144), hop(last, out, 40)]
}

/// Sends along a route with a hash that nobody knows and looks at what LDK decodes.
fn decoded(
    payer: &LdkNode,
    hops: Vec<RouteHop>,
    from: &AnyNode,
    number: usize,
    code: u16,
) -> Result<()> {
    let preimage = [u8::try_from(number)?; 32];
    let hash = sha256::Hash::hash(&preimage).to_byte_array();
    let payee = hops.last().context("no hops")?;
    let params = RouteParameters::from_payment_params_and_value(
        PaymentParameters::from_node_id(payee.pubkey, payee.cltv_expiry_delta),
        payee.fee_msat,
    );
    let route = Route {
        paths: vec![Path {
            hops,
            blinded_tail: None,
        }],
        route_params: Some(params),
    };
    let before = payer.log().with("Onion Error").len();
    let hash = payer.pay_along(route, hash, [7; 32])?;
    crate::wait::until("the failure is decoded", crate::wait::LONG, || {
        Ok(!matches!(payer.payment(&hash)?, PaymentStatus::Pending))
    })?;
    let lines = payer.log().with("Onion Error");
    let line = lines.get(before).context("LDK decoded no failure")?;
    ensure!(
        line.contains(&format!("[from {}", from.node_id()))
            && line.contains(&format!("({code:#x})")),
        "expected {code:#x} from {}, LDK says: {line}",
        from.node_id()
    );
    Ok(())
}

pub(super) fn of_ldk(case: &Case<'_>) -> Result<()> {
    // The payer, an LDK node that forwards and one that is paid over a private channel.
    let world = case.world;
    let payer = world.node(case.fulmen, "payer")?;
    let middle = world.node(Impl::Ldk, "middle")?;
    let last = world.node(Impl::Ldk, "last")?;
    case.channel(&payer, &middle, case.fulmen)?;
    world.channel(&middle, &last, case.kind, false)?;
    world.mine(6, &[&payer, &middle, &last])?;

    // The payee refuses.
    let unknown = invoice(middle.ldk()?, 1, None)?;
    expect_failure(&payer, &unknown, "incorrect_or_unknown_payment_details")
        .context("an unknown hash at LDK")?;

    // The forwarder refuses: hints that promise too much.
    let out = channel_id_of(&middle, &last)?;
    let hint = |fee: u32, delta: u16, id: u64| {
        RouteHint(vec![RouteHintHop {
            src_node_id: middle.node_id(),
            short_channel_id: id,
            fees: RoutingFees {
                base_msat: fee,
                proportional_millionths: 0,
            },
            cltv_expiry_delta: delta,
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        }])
    };
    let trials = [
        ("fee_insufficient", hint(1, 144, out)),
        ("incorrect_cltv_expiry", hint(10_000, 10, out)),
        ("unknown_next_peer", hint(10_000, 144, out ^ 0xff_0000)),
        (
            "incorrect_or_unknown_payment_details",
            hint(10_000, 144, out),
        ),
    ];
    for (number, (what, hint)) in trials.into_iter().enumerate() {
        let text = invoice(last.ldk()?, 10 + number, Some(hint))?;
        expect_failure(&payer, &text, what).with_context(|| format!("{what} by LDK"))?;
    }
    quiet(&[&payer, &middle, &last])?;
    pay(&payer, &middle, AMOUNT_MSAT)?;
    Ok(())
}

/// The payment fails, and the payer's words name the code. LDK as a payer has no words for it,
/// but its log has.
fn expect_failure(payer: &AnyNode, bolt11: &str, what: &str) -> Result<()> {
    let hash = payer.pay(bolt11)?;
    let PaymentStatus::Failed(text) = outcome(payer, &hash)? else {
        return Err(anyhow!("the payment did not fail"));
    };
    let said = match payer.as_ldk() {
        Some(ldk) => ldk.log().with("Onion Error").join("\n"),
        None => text,
    };
    let plain = |text: &str| text.to_lowercase().replace(['_', ' ', '-'], "");
    let known = plain(&said);
    // LDK's log has its own names for some of them.
    let code = match what {
        "fee_insufficient" => "0x100c",
        "incorrect_cltv_expiry" => "0x100d",
        "unknown_next_peer" => "0x400a",
        _ => "0x400f",
    };
    ensure!(
        known.contains(&plain(what)) || known.contains(code),
        "expected {what}, the payer says: {said}"
    );
    Ok(())
}

/// An invoice in the name of an LDK node for a hash that it does not know.
fn invoice(node: &LdkNode, number: usize, hint: Option<RouteHint>) -> Result<String> {
    let hash = sha256::Hash::hash(&[u8::try_from(number)?; 33]);
    let mut builder = InvoiceBuilder::new(Currency::Regtest)
        .description("nobody knows the preimage".to_owned())
        .amount_milli_satoshis(AMOUNT_MSAT)
        .payment_hash(hash)
        .payment_secret(PaymentSecret([9; 32]))
        .duration_since_epoch(SystemTime::now().duration_since(UNIX_EPOCH)?)
        .min_final_cltv_expiry_delta(40);
    if let Some(hint) = hint {
        builder = builder.private_route(hint);
    }
    let secp = Secp256k1::new();
    let key = node.secret_key();
    let invoice = builder
        .build_signed(|message| secp.sign_ecdsa_recoverable(message, &key))
        .map_err(|error| anyhow!("no invoice: {error:?}"))?;
    Ok(invoice.to_string())
}

fn channel_id_of(node: &AnyNode, peer: &AnyNode) -> Result<u64> {
    let channels = node.channels()?;
    let channel = channels.iter().find(|one| one.peer == peer.node_id());
    channel
        .and_then(|one| one.short_channel_id)
        .context("no such channel")
}
