//! Answers as people read them.

use comfy_table::{CellAlignment, Table, presets};
use fulmen_api::{
    BalanceInfo, ChainState, ChannelInfo, ChannelList, DecodedInvoice, Event, InvoiceList,
    InvoiceState, NodeInfo, OpenChannelAnswer, PaymentInfo, PaymentList, PaymentState, PeerList,
    WithdrawAnswer,
};

pub(crate) fn info(info: &NodeInfo) -> String {
    let chain = match &info.chain {
        ChainState::Starting => "has not answered yet".to_owned(),
        ChainState::Up { synced: true } => "up, in sync".to_owned(),
        ChainState::Up { synced: false } => "up, catching up".to_owned(),
        ChainState::Down {
            since_secs, error, ..
        } => {
            format!("DOWN for {} (trying on): {error}", duration(*since_secs))
        }
    };
    let mut rows = vec![
        ("node id", info.node_id.clone()),
        ("alias", info.alias.clone()),
        ("network", info.network.clone()),
        ("version", info.version.clone()),
        ("connect to it", info.uri.clone()),
        (
            "block",
            format!("{} (wallet {})", info.block_height, info.wallet_height),
        ),
        ("bitcoin core", chain),
        (
            "channels",
            format!(
                "{} usable, {} waiting, {} closing",
                info.channels_usable, info.channels_waiting, info.channels_closing
            ),
        ),
        ("peers", info.peers.to_string()),
        (
            "network graph",
            format!(
                "{} nodes, {} channels",
                info.graph_nodes, info.graph_channels
            ),
        ),
        ("last event", info.last_event.to_string()),
        ("running for", duration(info.uptime_secs)),
    ];
    if let Some(trouble) = &info.trouble {
        rows.push(("TROUBLE", trouble.clone()));
    }
    pairs(&rows)
}

pub(crate) fn withdrawn(answer: &WithdrawAnswer) -> String {
    format!(
        "{} sent in transaction {}, fee {}",
        sat(answer.amount_sat),
        answer.txid,
        sat(answer.fee_sat)
    )
}

pub(crate) fn opened(answer: &OpenChannelAnswer) -> String {
    format!(
        "channel {}\nfunding {}\nIt can be used when the funding transaction has its confirmations; `listchannels` shows it.",
        answer.channel_id, answer.funding
    )
}

pub(crate) fn peers(list: &PeerList) -> String {
    let mut table = table(&["node id", "address", "connected", "by", "channels"]);
    for peer in &list.peers {
        table.add_row([
            peer.node_id.clone(),
            peer.address.clone().unwrap_or_default(),
            if peer.connected { "yes" } else { "no" }.to_owned(),
            match (peer.connected, peer.inbound) {
                (false, _) => "",
                (true, true) => "them",
                (true, false) => "us",
            }
            .to_owned(),
            peer.channels.to_string(),
        ]);
    }
    or_none(
        &table,
        list.peers.is_empty(),
        "no peers; `connect` makes one",
    )
}

pub(crate) fn channels(list: &ChannelList) -> String {
    let mut table = table(&[
        "channel",
        "peer",
        "state",
        "capacity sat",
        "ours",
        "theirs",
        "can send",
        "htlcs",
    ]);
    right(&mut table, &[3, 4, 5, 6, 7]);
    for channel in &list.channels {
        table.add_row([
            channel
                .short_channel_id
                .clone()
                .unwrap_or_else(|| channel.channel_id.clone()),
            short(&channel.peer),
            state(channel),
            group(channel.capacity_sat),
            msat(channel.local_msat),
            msat(channel.remote_msat),
            msat(channel.spendable_msat),
            (channel.htlcs_in + channel.htlcs_out).to_string(),
        ]);
    }
    let mut text = or_none(
        &table,
        list.channels.is_empty(),
        "no channels; `openchannel` opens one",
    );
    for channel in &list.channels {
        if let Some(detail) = &channel.detail {
            text.push_str(&format!("\n{}: {detail}", channel.channel_id));
        }
    }
    text
}

fn state(channel: &ChannelInfo) -> String {
    let state = channel.state.replace('_', " ");
    match (channel.state.as_str(), channel.usable) {
        ("open", false) => "open, peer away".to_owned(),
        _ if !channel.public => format!("{state}, private"),
        _ => state,
    }
}

pub(crate) fn invoices(list: &InvoiceList) -> String {
    let mut table = table(&[
        "payment hash",
        "amount sat",
        "state",
        "received sat",
        "description",
    ]);
    right(&mut table, &[1, 3]);
    for invoice in &list.invoices {
        table.add_row([
            invoice.payment_hash.clone(),
            invoice.amount_msat.map_or_else(|| "any".to_owned(), msat),
            match invoice.state {
                InvoiceState::Open => "open",
                InvoiceState::Paid => "paid",
                InvoiceState::Expired => "expired",
                InvoiceState::Cancelled => "cancelled",
            }
            .to_owned(),
            invoice.received_msat.map(msat).unwrap_or_default(),
            invoice.description.clone(),
        ]);
    }
    or_none(
        &table,
        list.invoices.is_empty(),
        "no invoices; `invoice` makes one",
    )
}

pub(crate) fn payment(payment: &PaymentInfo) -> String {
    let mut rows = vec![
        ("payment hash", payment.payment_hash.clone()),
        ("state", payment_state(payment.state).to_owned()),
        ("amount", format!("{} sat", msat(payment.amount_msat))),
    ];
    if let Some(fee) = payment.fee_msat {
        rows.push(("fee", format!("{} sat", msat(fee))));
    }
    if let Some(preimage) = &payment.preimage {
        rows.push(("preimage", preimage.clone()));
    }
    if let Some(failure) = &payment.failure {
        rows.push(("why", failure.clone()));
    }
    rows.push(("attempts", payment.attempts.to_string()));
    pairs(&rows)
}

pub(crate) fn payments(list: &PaymentList) -> String {
    let mut table = table(&[
        "payment hash",
        "state",
        "amount sat",
        "fee sat",
        "attempts",
        "why",
    ]);
    right(&mut table, &[2, 3, 4]);
    for payment in &list.payments {
        table.add_row([
            payment.payment_hash.clone(),
            payment_state(payment.state).to_owned(),
            msat(payment.amount_msat),
            payment.fee_msat.map(msat).unwrap_or_default(),
            payment.attempts.to_string(),
            payment.failure.clone().unwrap_or_default(),
        ]);
    }
    or_none(
        &table,
        list.payments.is_empty(),
        "no payments; `pay` makes one",
    )
}

fn payment_state(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Pending => "pending",
        PaymentState::Succeeded => "succeeded",
        PaymentState::Failed => "failed",
    }
}

pub(crate) fn balance(balance: &BalanceInfo) -> String {
    let text = pairs(&[
        ("on chain, confirmed", sat(balance.onchain_confirmed_sat)),
        (
            "  of it for fundings and fees on their way",
            sat(balance.onchain_leased_sat),
        ),
        (
            "  of it kept for closing channels",
            sat(balance.reserve_sat),
        ),
        (
            "on chain, not confirmed yet",
            sat(balance.onchain_unconfirmed_sat),
        ),
        (
            "in channels",
            format!("{} sat", msat(balance.channels_msat)),
        ),
        (
            "  of it can be sent now",
            format!("{} sat", msat(balance.spendable_msat)),
        ),
        (
            "in payments on their way",
            format!("{} sat", msat(balance.in_flight_msat)),
        ),
        (
            "coming back from closed channels",
            sat(balance.sweeping_sat),
        ),
    ]);
    if balance.sweeps.is_empty() {
        return text;
    }
    let mut table = table(&[
        "coming back",
        "what",
        "amount sat",
        "from block",
        "claimed by",
    ]);
    right(&mut table, &[2, 3]);
    for sweep in &balance.sweeps {
        table.add_row([
            sweep.outpoint.clone(),
            sweep.kind.replace('_', " "),
            group(sweep.amount_sat),
            sweep
                .claimable_at
                .map(|height| height.to_string())
                .unwrap_or_default(),
            sweep.claimed_by.clone().unwrap_or_default(),
        ]);
    }
    format!("{text}\n\n{table}")
}

pub(crate) fn decoded(invoice: &DecodedInvoice) -> String {
    let mut rows = vec![
        ("network", format!("ln{}", invoice.currency)),
        ("payee", invoice.payee.clone()),
        ("payment hash", invoice.payment_hash.clone()),
        (
            "amount",
            invoice
                .amount_msat
                .map_or_else(|| "any".to_owned(), |a| format!("{} sat", msat(a))),
        ),
        (
            "description",
            match (&invoice.description, &invoice.description_hash) {
                (Some(text), _) => text.clone(),
                (None, Some(hash)) => format!("given elsewhere, hash {hash}"),
                (None, None) => String::new(),
            },
        ),
        ("can be paid for", duration(invoice.expiry_secs)),
        (
            "last HTLC's blocks",
            invoice.min_final_cltv_expiry_delta.to_string(),
        ),
        ("private ways", invoice.route_hints.to_string()),
    ];
    if invoice.expired {
        rows.push(("EXPIRED", "ask the payee for a new one".into()));
    }
    if !invoice.payable_here {
        rows.push(("OTHER NETWORK", "this node can't pay it".into()));
    }
    for fallback in &invoice.fallbacks {
        rows.push(("or on chain to", fallback.clone()));
    }
    pairs(&rows)
}

pub(crate) fn event(event: &Event) -> String {
    let mut fields = match serde_json::to_value(&event.kind) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let name = fields.remove("event");
    let name = name
        .as_ref()
        .and_then(|name| name.as_str())
        .unwrap_or("unknown")
        .replace('_', " ");
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}={text}"),
            None => format!("{key}={value}"),
        })
        .collect();
    format!(
        "{:>6}  {}  {name}  {}",
        event.number,
        clock(event.at_millis),
        fields.join(" ")
    )
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(header.iter().copied());
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn or_none(table: &Table, is_empty: bool, none: &str) -> String {
    if is_empty {
        none.to_owned()
    } else {
        table.to_string()
    }
}

fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect();
    lines.join("\n")
}

/// Keys are told apart by their beginnings.
fn short(key: &str) -> String {
    match key.get(..16) {
        Some(head) => format!("{head}…"),
        None => key.to_owned(),
    }
}

/// 1234567 as `1 234 567`.
fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn sat(amount: u64) -> String {
    format!("{} sat", group(amount))
}

/// Millisatoshis in satoshis.
fn msat(amount: u64) -> String {
    let (whole, rest) = (amount / 1_000, amount % 1_000);
    if rest == 0 {
        group(whole)
    } else {
        format!("{}.{rest:03}", group(whole))
    }
}

fn duration(secs: u64) -> String {
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// The time of day in UTC.
fn clock(millis: u64) -> String {
    let secs = millis / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", secs / 3_600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(group(0), "0");
        assert_eq!(group(999), "999");
        assert_eq!(group(1_000), "1 000");
        assert_eq!(group(21_000_000), "21 000 000");
        assert_eq!(msat(1_000_001), "1 000.001");
        assert_eq!(msat(5_000), "5");
        assert_eq!(clock(86_399_999), "23:59:59");
    }
}
