//! Answers as people read them.

mod route;

pub(crate) use route::route;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use fulmen_api::{
    BalanceInfo, ChainState, ChannelInfo, ChannelList, DecodedInvoice, Event, InvoiceInfo,
    InvoiceList, InvoiceState, NodeInfo, OpenChannelAnswer, PaymentInfo, PaymentList, PaymentState,
    PeerInfo, PeerList, TransactionList, WithdrawAnswer,
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
    let mut text = pairs(&[
        ("transaction", answer.txid.clone()),
        ("sent", sat(answer.amount_sat)),
        ("fee", sat(answer.fee_sat)),
    ]);
    if let Some(why) = &answer.not_taken_yet {
        text.push_str(&format!(
            "\nThe network has not taken it yet ({why}). It is tried again and again; `bumpfee` may help."
        ));
    }
    text
}

pub(crate) fn transactions(list: &TransactionList) -> String {
    let mut table = table(&[
        "when (UTC)",
        "what",
        "sat",
        "fee",
        "confirmed",
        "transaction",
    ]);
    right(&mut table, &[2, 3, 4]);
    for transaction in &list.transactions {
        table.add_row([
            date(transaction.at_secs.saturating_mul(1_000)),
            transaction.kind.clone(),
            format!(
                "{}{}",
                if transaction.change_sat < 0 { "-" } else { "+" },
                group(transaction.change_sat.unsigned_abs())
            ),
            transaction.fee_sat.map(group).unwrap_or_default(),
            match transaction.confirmations {
                0 => "not yet".to_owned(),
                deep => group(deep.into()),
            },
            short(&transaction.txid),
        ]);
    }
    let text = or_none(
        &table,
        list.transactions.is_empty(),
        "no transactions; `newaddress` shows where to deposit",
    );
    // What is not confirmed is asked about most: in full, to be copied.
    let pending = list.transactions.iter().filter(|t| t.confirmations == 0);
    let pending: Vec<String> = pending
        .map(|t| format!("\n{}  {}", t.kind, t.txid))
        .collect();
    if pending.is_empty() {
        return text;
    }
    format!("{text}\n\nnot confirmed yet:{}", pending.concat())
}

pub(crate) fn opened(answer: &OpenChannelAnswer) -> String {
    let text = pairs(&[
        ("channel", answer.channel_id.clone()),
        ("funding", answer.funding.clone()),
    ]);
    let wanted = match answer.confirmations_wanted {
        Some(1) => "1 confirmation".to_owned(),
        Some(wanted) => format!("{wanted} confirmations"),
        None => "its confirmations".to_owned(),
    };
    format!(
        "{text}\nIt can be used when the funding transaction has {wanted}; `listchannels` shows it."
    )
}

pub(crate) fn peers(list: &PeerList) -> String {
    let peers: Vec<String> = list
        .peers
        .iter()
        .map(|peer| {
            let how = how_connected(peer);
            let place = peer.address.as_deref().unwrap_or("address not known");
            let channels = match peer.channels {
                1 => "1 channel".to_owned(),
                count => format!("{count} channels"),
            };
            format!("{}\n  {how}, {place}, {channels}", peer.node_id)
        })
        .collect();
    let banned = list.banned.iter().map(|ban| {
        let until = ban.secs_left.map_or_else(
            || "until you `unban`".to_owned(),
            |secs| format!("for {}", duration(secs)),
        );
        let why = if ban.by_user {
            "by you"
        } else {
            "for misbehaviour"
        };
        format!("{}\n  banned {why}, {until}", ban.node_id)
    });
    let lines: Vec<String> = peers.into_iter().chain(banned).collect();
    if lines.is_empty() {
        return "no peers; `connect` makes one".to_owned();
    }
    lines.join("\n")
}

fn how_connected(peer: &PeerInfo) -> String {
    let since = |by: &str| match peer.connected_secs {
        Some(secs) => format!("connected by {by} for {}", duration(secs)),
        None => format!("connected by {by}"),
    };
    match (peer.connected, peer.inbound, peer.state.as_str()) {
        (true, true, _) => since("them"),
        (true, false, _) => since("us"),
        (false, _, "dialling") => "being dialled".to_owned(),
        (false, _, "waiting") => {
            let when = peer.next_try_secs.map_or_else(String::new, |secs| {
                format!(", next attempt in {}", duration(secs))
            });
            let why = peer
                .last_error
                .as_ref()
                .map_or_else(String::new, |why| format!(" ({why})"));
            format!("not connected{why}{when}")
        }
        (false, _, "resting") => "not connected, not dialled until you `connect`".to_owned(),
        (false, _, _) => "not connected".to_owned(),
    }
}

pub(crate) fn channels(list: &ChannelList) -> String {
    let mut table = table(&[
        "channel", "peer", "state", "capacity", "ours", "can send", "htlcs",
    ]);
    right(&mut table, &[3, 4, 5, 6]);
    for channel in &list.channels {
        table.add_row([
            channel
                .short_channel_id
                .clone()
                .unwrap_or_else(|| short(&channel.channel_id)),
            short(&channel.peer),
            state(channel),
            group(channel.capacity_sat),
            group(channel.local_msat / 1_000),
            group(channel.spendable_msat / 1_000),
            (channel.htlcs_in + channel.htlcs_out).to_string(),
        ]);
    }
    if list.channels.is_empty() {
        return "no channels; `openchannel` opens one".to_owned();
    }
    let mut text = format!("{}\n(amounts in whole satoshis)", table.trim_fmt());
    for channel in &list.channels {
        if let Some(detail) = &channel.detail {
            text.push_str(&format!("\n{}:{}", name(channel), indented(detail)));
        }
    }
    text
}

/// What people know a channel by.
fn name(channel: &ChannelInfo) -> String {
    let id = channel
        .short_channel_id
        .as_ref()
        .unwrap_or(&channel.channel_id);
    id.clone()
}

/// A text in lines that fit a narrow terminal.
fn indented(text: &str) -> String {
    const WIDTH: usize = 78;
    let mut lines = String::new();
    let mut used = WIDTH;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used + 1 + length > WIDTH {
            lines.push_str("\n  ");
            used = 0;
        } else {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
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
        "when (UTC)",
        "state",
        "asked sat",
        "received",
        "hash",
        "for",
    ]);
    right(&mut table, &[2, 3]);
    for invoice in &list.invoices {
        table.add_row([
            date(invoice.created_at_millis),
            invoice_state(invoice.state).to_owned(),
            invoice.amount_msat.map_or_else(|| "any".to_owned(), msat),
            invoice.received_msat.map(msat).unwrap_or_default(),
            short(&invoice.payment_hash),
            cut(&invoice.description),
        ]);
    }
    let text = or_none(
        &table,
        list.invoices.is_empty(),
        "no invoices; `invoice` makes one",
    );
    text + older(&list.next)
}

/// Each in full.
pub(crate) fn each_invoice(list: &InvoiceList) -> String {
    let each: Vec<String> = list.invoices.iter().map(invoice).collect();
    if each.is_empty() {
        return "there is no invoice with this payment hash".to_owned();
    }
    each.join("\n\n")
}

fn invoice(invoice: &InvoiceInfo) -> String {
    let mut rows = vec![
        ("payment hash", invoice.payment_hash.clone()),
        ("state", invoice_state(invoice.state).to_owned()),
        (
            "asked",
            invoice
                .amount_msat
                .map_or_else(|| "any".to_owned(), |a| format!("{} sat", msat(a))),
        ),
    ];
    if let Some(received) = invoice.received_msat {
        rows.push(("received", format!("{} sat", msat(received))));
    }
    rows.push(("for", invoice.description.clone()));
    rows.push(("made", date(invoice.created_at_millis)));
    match invoice.paid_at_millis {
        Some(paid) => rows.push(("paid", date(paid))),
        None => rows.push(("expires", date(invoice.expires_at_millis))),
    }
    rows.push(("invoice", invoice.bolt11.clone()));
    pairs(&rows)
}

fn invoice_state(state: InvoiceState) -> &'static str {
    match state {
        InvoiceState::Open => "open",
        InvoiceState::Paid => "paid",
        InvoiceState::Expired => "expired",
        InvoiceState::Cancelled => "cancelled",
    }
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
    rows.push(("to", payment.payee.clone()));
    rows.push(("begun", date(payment.created_at_millis)));
    rows.push(("HTLCs sent", payment.attempts.to_string()));
    pairs(&rows)
}

pub(crate) fn payments(list: &PaymentList) -> String {
    let mut table = table(&[
        "when (UTC)",
        "state",
        "amount sat",
        "fee sat",
        "hash",
        "payee",
    ]);
    right(&mut table, &[2, 3]);
    for payment in &list.payments {
        table.add_row([
            date(payment.created_at_millis),
            payment_state(payment.state).to_owned(),
            msat(payment.amount_msat),
            payment.fee_msat.map(msat).unwrap_or_default(),
            short(&payment.payment_hash),
            short(&payment.payee),
        ]);
    }
    let text = or_none(
        &table,
        list.payments.is_empty(),
        "no payments; `pay` makes one",
    );
    text + older(&list.next)
}

/// Each in full.
pub(crate) fn each_payment(list: &PaymentList) -> String {
    let each: Vec<String> = list.payments.iter().map(payment).collect();
    if each.is_empty() {
        return "there is no payment with this payment hash".to_owned();
    }
    each.join("\n\n")
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
        "of channel",
        "what",
        "amount sat",
        "from block",
        "claimed by",
    ]);
    right(&mut table, &[2, 3]);
    for sweep in &balance.sweeps {
        table.add_row([
            short(&sweep.channel_id),
            sweep.kind.replace('_', " "),
            group(sweep.amount_sat),
            sweep
                .claimable_at
                .map(|height| height.to_string())
                .unwrap_or_default(),
            sweep.claimed_by.as_deref().map(short).unwrap_or_default(),
        ]);
    }
    format!("{text}\n\n{}", table.trim_fmt())
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
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
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
        table.trim_fmt()
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

fn older(next: &Option<String>) -> &'static str {
    match next {
        Some(_) => "\nThere are older ones: --limit shows more, --all all of them.",
        None => "",
    }
}

/// So much of a text as a table has room for.
fn cut(text: &str) -> String {
    const ROOM: usize = 24;
    if text.chars().count() <= ROOM {
        return text.to_owned();
    }
    text.chars().take(ROOM - 1).chain(['…']).collect()
}

/// Keys are told apart by their beginnings; commands take them so too.
fn short(key: &str) -> String {
    match key.get(..8) {
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

/// Day and minute in UTC: `2026-11-25 21:30`.
fn date(millis: u64) -> String {
    // Years begin in March here, so that the day that some have more is their last one.
    const DAYS_TO_1970: u64 = 719_468;
    let days = millis / 86_400_000 + DAYS_TO_1970;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let clock = clock(millis);
    format!(
        "{year:04}-{month:02}-{day:02} {}",
        clock.get(..5).unwrap_or_default()
    )
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
        assert_eq!(indented("one two"), "\n  one two");
        let long = format!("closed by {} and more", "0".repeat(64));
        assert_eq!(
            indented(&long),
            format!("\n  {long}").replace(" more", "\n  more")
        );
        assert_eq!(clock(86_399_999), "23:59:59");
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399_000), "2000-02-28 23:59");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(date(1_735_689_599_000), "2024-12-31 23:59");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00");
    }
}
