//! What the API shows of the node: conversions, nothing else.

use bitcoin::Network;
use fulmen::connect::{PeerState, PeerView};
use fulmen_api as api;
use fulmen_enforce::{PendingSweep, SweepKind};
use fulmen_invoice::{Description, Invoice as Bolt11};
use fulmen_node::{ChannelInfo, ChannelState, Direction, PeerInfo};
use fulmen_payments::{FailureReason, Invoice, InvoiceStatus, Payment, PaymentStatus};
use fulmen_types::{ChannelId, Feature, Features, Printable, Timestamp};
use fulmen_wallet::{Movement, WalletTransaction};
use hex_conservative::DisplayHex;

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.as_hex().to_string()
}

fn features(features: &Features) -> String {
    hex(&features.to_be_bytes())
}

pub(crate) fn printable(text: &str) -> String {
    Printable(text.as_bytes()).to_string()
}

pub(crate) fn peer(peer: &PeerInfo, view: Option<&PeerView>, now: Timestamp) -> api::PeerInfo {
    let is_connected = peer.connection.is_some();
    let state = match view.map(|view| view.state) {
        // The node's word counts: the network may be a moment ahead of it.
        _ if is_connected => "connected",
        Some(PeerState::Dialling) => "dialling",
        Some(PeerState::Waiting { .. }) => "waiting",
        Some(PeerState::Resting) => "resting",
        Some(PeerState::Connected { .. } | PeerState::Idle) | None => "idle",
    };
    let mut connected_secs = None;
    let mut next_try_secs = None;
    match view.map(|view| view.state) {
        Some(PeerState::Connected { since, .. }) if is_connected => {
            connected_secs = Some(now.millis_since(since) / 1_000);
        }
        Some(PeerState::Waiting { until }) if !is_connected => {
            next_try_secs = Some(until.millis_since(now).div_ceil(1_000));
        }
        Some(_) | None => {}
    }
    api::PeerInfo {
        state: state.to_owned(),
        connected_secs,
        next_try_secs,
        failures: view.map_or(0, |view| view.failures),
        last_error: view
            .and_then(|view| view.last_error.as_deref())
            .filter(|_| !is_connected)
            .map(printable),
        misbehaviour: view.map_or(0, |view| view.score),
        node_id: peer.node_id.to_string(),
        address: peer.addresses.first().map(|address| printable(&address.0)),
        connected: peer.connection.is_some(),
        inbound: matches!(peer.connection, Some((_, Direction::Inbound))),
        features: peer.features.as_ref().map(features).unwrap_or_default(),
        channels: peer.channels,
    }
}

pub(crate) fn channel(channel: &ChannelInfo, connected: bool) -> api::ChannelInfo {
    let (state, detail) = match &channel.state {
        ChannelState::Opening => ("opening", None),
        ChannelState::AwaitingReady => (
            "pending",
            Some(match channel.minimum_depth {
                Some(wanted) if channel.confirmations < wanted => format!(
                    "waits for confirmations: {} of {wanted}",
                    channel.confirmations
                ),
                Some(_) | None => "waits for the peer to see it confirmed".to_owned(),
            }),
        ),
        ChannelState::Normal { .. } => ("open", None),
        ChannelState::ShuttingDown => ("shutting_down", None),
        ChannelState::MutualClose(txid) => (
            "closing_together",
            Some(format!("closing transaction {txid}")),
        ),
        ChannelState::ForceClosing(reason) => ("force_closing", Some(printable(reason))),
        ChannelState::OnChain(txid) => (
            "on_chain",
            Some(format!(
                "closed by transaction {txid}; `balance` shows what is still coming back"
            )),
        ),
        ChannelState::Stale => (
            "stale",
            Some("our state is old: the peer was asked to close; don't delete anything".to_owned()),
        ),
        ChannelState::SignerBlocked(reason) => ("signer_blocked", Some(printable(reason))),
    };
    let channel_type = match &channel.channel_type {
        Some(t) if t.has(Feature::Anchors) => "anchors",
        Some(_) => "static_remotekey",
        None => "",
    };
    api::ChannelInfo {
        channel_id: channel.channel_id.to_string(),
        short_channel_id: channel.short_channel_id.map(|scid| scid.to_string()),
        peer: channel.peer.to_string(),
        connected,
        state: state.to_owned(),
        usable: matches!(channel.state, ChannelState::Normal { usable: true }),
        opener: channel.opener,
        public: channel.announced,
        channel_type: channel_type.to_owned(),
        funding: channel.funding.map(|outpoint| outpoint.to_string()),
        confirmations: channel.confirmations,
        confirmations_wanted: channel.minimum_depth,
        capacity_sat: channel.capacity.to_sat(),
        local_msat: channel.balances.0.to_msat(),
        remote_msat: channel.balances.1.to_msat(),
        spendable_msat: channel.spendable.to_msat(),
        htlcs_out: channel.htlcs.0,
        htlcs_in: channel.htlcs.1,
        htlcs_out_msat: channel.htlc_amounts.0.to_msat(),
        htlcs_in_msat: channel.htlc_amounts.1.to_msat(),
        feerate_sat_per_kw: channel.feerate.map(|rate| rate.to_sat_per_kw()),
        detail,
    }
}

pub(crate) fn invoice(invoice: &Invoice, now: Timestamp) -> api::InvoiceInfo {
    let (state, received, paid_at) = match invoice.status {
        InvoiceStatus::Open if invoice.is_expired(now) => (api::InvoiceState::Expired, None, None),
        InvoiceStatus::Open => (api::InvoiceState::Open, None, None),
        InvoiceStatus::Paid { amount, at } => (api::InvoiceState::Paid, Some(amount), Some(at)),
        InvoiceStatus::Cancelled => (api::InvoiceState::Cancelled, None, None),
    };
    api::InvoiceInfo {
        payment_hash: invoice.payment_hash().to_string(),
        amount_msat: invoice.amount.map(|amount| amount.to_msat()),
        description: printable(&invoice.description),
        state,
        received_msat: received.map(|amount| amount.to_msat()),
        created_at_millis: invoice.created_at.to_millis(),
        expires_at_millis: invoice.expires_at.to_millis(),
        paid_at_millis: paid_at.map(Timestamp::to_millis),
        bolt11: invoice.bolt11.clone(),
    }
}

pub(crate) fn payment(payment: &Payment) -> api::PaymentInfo {
    let mut info = api::PaymentInfo {
        payment_hash: payment.request.payment_hash.to_string(),
        state: api::PaymentState::Pending,
        amount_msat: payment.request.amount.to_msat(),
        fee_msat: None,
        preimage: None,
        failure_reason: None,
        failure: None,
        attempts: payment.attempts,
        payee: payment.request.payee.to_string(),
        created_at_millis: payment.created_at.to_millis(),
        ended_at_millis: None,
    };
    match &payment.status {
        PaymentStatus::Pending => {
            if !payment.last_failure.is_empty() {
                info.failure = Some(printable(&payment.last_failure));
            }
        }
        PaymentStatus::Succeeded { preimage, fee, at } => {
            info.state = api::PaymentState::Succeeded;
            info.fee_msat = Some(fee.to_msat());
            info.preimage = Some(hex(preimage.as_bytes()));
            info.ended_at_millis = Some(at.to_millis());
        }
        PaymentStatus::Failed { reason, detail, at } => {
            info.state = api::PaymentState::Failed;
            info.failure_reason = Some(
                match reason {
                    FailureReason::NoRoute => "no_route",
                    FailureReason::Rejected => "rejected",
                    FailureReason::GaveUp => "gave_up",
                    FailureReason::Abandoned => "abandoned",
                }
                .to_owned(),
            );
            info.failure = Some(printable(detail));
            info.ended_at_millis = Some(at.to_millis());
        }
    }
    info
}

pub(crate) fn decoded(invoice: &Bolt11, network: Network, now: Timestamp) -> api::DecodedInvoice {
    let details = invoice.details();
    let (description, description_hash) = match &details.description {
        Description::Text(text) => (Some(printable(text)), None),
        Description::Hash(hash) => (None, Some(hash.to_string())),
    };
    api::DecodedInvoice {
        currency: details.currency.prefix().to_owned(),
        payee: invoice.payee().to_string(),
        payment_hash: details.payment_hash.to_string(),
        amount_msat: details.amount.map(|amount| amount.to_msat()),
        description,
        description_hash,
        created_at_secs: details.timestamp_secs,
        expiry_secs: details.expiry_secs_or_default(),
        expired: details.is_expired(now),
        payable_here: details.currency.is_for(network),
        min_final_cltv_expiry_delta: details.final_cltv_expiry_delta().to_u16().into(),
        route_hints: details.route_hints.len(),
        fallbacks: details
            .fallbacks
            .iter()
            .map(|f| f.to_address(network).to_string())
            .collect(),
        features: features(&details.features),
        multi_part: details.allows_multi_part(),
    }
}

pub(crate) fn transaction(transaction: &WalletTransaction, tip: u32) -> api::TransactionInfo {
    api::TransactionInfo {
        txid: transaction.txid.to_string(),
        kind: match transaction.movement {
            Movement::Deposit => "deposit",
            Movement::Withdrawal => "withdrawal",
            Movement::Funding => "funding",
            Movement::Spend => "spend",
        }
        .to_owned(),
        change_sat: transaction.change.to_sat(),
        fee_sat: transaction.fee.map(|fee| fee.to_sat()),
        confirmations: transaction
            .height
            .map_or(0, |height| tip.saturating_sub(height).saturating_add(1)),
        block_height: transaction.height,
        at_secs: transaction.at_secs,
    }
}

pub(crate) fn sweep(channel_id: ChannelId, sweep: &PendingSweep) -> api::SweepInfo {
    api::SweepInfo {
        channel_id: channel_id.to_string(),
        outpoint: sweep.outpoint.to_string(),
        kind: match sweep.kind {
            SweepKind::Main => "main",
            SweepKind::HtlcSuccess => "htlc_success",
            SweepKind::HtlcTimeout => "htlc_timeout",
            SweepKind::SecondStage => "second_stage",
            SweepKind::Penalty => "penalty",
        }
        .to_owned(),
        amount_sat: sweep.amount.to_sat(),
        claimable_at: sweep.claimable_at.map(|height| height.to_u32()),
        claimed_by: sweep.claimed_by.map(|txid| txid.to_string()),
    }
}
