//! The way that a payment would take, and why.

use fulmen_api::{FoundRoute, HopKnowledge, RouteHop, RoutePart};

use super::{cut, msat, pairs, right, short, table};

pub(crate) fn route(route: &FoundRoute) -> String {
    let amount = |amount| format!("{} sat", msat(amount));
    let mut texts = vec![pairs(&[
        ("amount", amount(route.amount_msat)),
        ("fee", amount(route.fee_msat)),
        ("chance to succeed at once", percent(route.success_ppm)),
        (
            "weighed with the fee",
            format!(
                "{} for the time that money is bound, {} for the risk",
                amount(route.time_cost_msat),
                amount(route.risk_cost_msat)
            ),
        ),
    ])];
    let count = route.parts.len();
    for (number, part) in (1..).zip(&route.parts) {
        texts.push(one(number, count, part));
    }
    texts.join("\n\n")
}

fn one(number: usize, count: usize, part: &RoutePart) -> String {
    let mut table = table(&[
        "channel",
        "to",
        "alias",
        "carries sat",
        "fee sat",
        "blocks",
        "chance",
        "since",
    ]);
    right(&mut table, &[3, 4, 5, 6]);
    for hop in &part.hops {
        table.add_row([
            hop.short_channel_id.clone(),
            short(&hop.to),
            hop.alias.as_deref().map(cut).unwrap_or_default(),
            msat(hop.amount_msat),
            msat(hop.fee_msat),
            hop.cltv_expiry_delta.to_string(),
            percent(hop.success_ppm),
            since(hop),
        ]);
    }
    format!(
        "HTLC {number} of {count}: {} sat and a fee of {} sat, out for {} blocks at most, chance {}\n{}",
        msat(part.amount_msat),
        msat(part.fee_msat),
        part.blocks,
        percent(part.success_ppm),
        table.trim_fmt()
    )
}

fn since(hop: &RouteHop) -> String {
    match &hop.known {
        HopKnowledge::Own => "the channel is ours".into(),
        HopKnowledge::Invoice => "the invoice says so".into(),
        HopKnowledge::Tried {
            least_msat,
            most_msat,
        } => format!(
            "tried: holds {} to {} sat",
            msat(*least_msat),
            msat(*most_msat)
        ),
        HopKnowledge::Capacity { capacity_msat } => {
            format!("never tried: {} sat in all", msat(*capacity_msat))
        }
        HopKnowledge::Gone => "the channel has just gone".into(),
    }
}

fn percent(ppm: u32) -> String {
    format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10)
}
