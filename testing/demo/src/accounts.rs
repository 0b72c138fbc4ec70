//! From wallet to wallet: every satoshi that went in, and where it is now.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bitcoin::OutPoint;
use fulmen_cheat::Cheat;

use crate::{
    audit::Audit,
    ledger::{Ledger, sat},
    network::{ALICE, CHEATED, MALLORY, NAMES, Network},
    story::BeforeCheat,
};

const DEPOSITED: &str = "deposited";
const PUSHED: &str = "given at channel opening";
const PAID: &str = "paid over Lightning";
const RECEIVED: &str = "received over Lightning";
const FEES_PAID: &str = "routing fees paid";
const FEES_EARNED: &str = "routing fees earned";
const PENALTY: &str = "taken from the cheat";
const MINER_FUNDING: &str = "miner fees: fundings";
const MINER_CLOSING: &str = "miner fees: closes";
const MINER_COMMITMENT: &str = "miner fees: old commitment";
const MINER_PENALTY: &str = "miner fees: penalties";
const ANCHORS: &str = "anchors left behind";
const TRIMMED: &str = "trimmed HTLCs";
const ROUNDING: &str = "msat rounding";

/// A channel that both ends closed together, with the balances before.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) opener: usize,
    pub(crate) peer: usize,
    pub(crate) funding: OutPoint,
    pub(crate) capacity_sat: u64,
    pub(crate) opener_msat: u64,
    pub(crate) peer_msat: u64,
}

/// Follows the deposits through all blocks of the run.
fn audit(network: &Network) -> Result<Audit> {
    let mut audit = Audit::new(network.deposits.iter().map(|(_, outpoint, _)| *outpoint));
    for height in network.first_height..=network.chain.height()? {
        audit.add_block(height, &network.chain.block(height)?)?;
    }
    Ok(audit)
}

/// Whether every output of the old commitment and of its second stage is spent by somebody else than the
/// cheat, in a block. An anchor is no money of the cheat's.
pub(crate) fn is_punished(network: &Network, cheat: &Cheat) -> Result<bool> {
    let audit = audit(network)?;
    let commitment = cheat.commitment_tx()?;
    let second_stage = cheat.second_stage_tx()?;
    let (commitment_txid, second_txid) = (commitment.compute_txid(), second_stage.compute_txid());
    let last = network.chain.height()?;
    for (vout, _) in (0u32..).zip(&commitment.output) {
        if cheat.anchors.contains(&vout) {
            continue;
        }
        let Some(spend) = audit.spender(&OutPoint {
            txid: commitment_txid,
            vout,
        }) else {
            return Ok(false);
        };
        ensure!(spend.height <= last, "a spend of the future");
    }
    let output = OutPoint {
        txid: second_txid,
        vout: 0,
    };
    ensure!(
        audit.spends().iter().any(|spend| spend.txid == second_txid),
        "the second stage is in no block"
    );
    Ok(audit.spender(&output).is_some())
}

/// Books everything, prints the table, and checks that it adds up in three ways: each node's wallet has
/// what its bookings say, all coins are accounted for, and the miners got what the transactions paid.
pub(crate) async fn settle(
    network: &Network,
    closings: &[Closing],
    cheat: &Cheat,
    before: &BeforeCheat,
) -> Result<()> {
    let audit = audit(network)?;
    let mut ledger = Ledger::new(&NAMES);
    for (node, _, amount_sat) in &network.deposits {
        ledger.book(DEPOSITED, *node, msat(*amount_sat));
    }
    for channel in &network.channels {
        ledger.book(PUSHED, channel.opener, -msat(channel.push_sat));
        ledger.book(PUSHED, channel.peer, msat(channel.push_sat));
    }
    for label in [PAID, RECEIVED, FEES_PAID, FEES_EARNED, PENALTY] {
        ledger.row(label);
    }
    for (node, turnover) in before.turnovers.iter().enumerate() {
        ledger.book(PAID, node, -i128::from(turnover.paid_msat));
        ledger.book(RECEIVED, node, turnover.received_msat.into());
        ledger.book(FEES_PAID, node, -i128::from(turnover.fees_paid_msat));
        ledger.book(FEES_EARNED, node, turnover.fees_earned_msat.into());
    }
    ledger.book(PENALTY, ALICE, before.mallory_msat.into());
    ledger.book(PENALTY, MALLORY, -i128::from(before.mallory_msat));
    for label in [
        MINER_FUNDING,
        MINER_CLOSING,
        MINER_COMMITMENT,
        MINER_PENALTY,
        ANCHORS,
        TRIMMED,
        ROUNDING,
    ] {
        ledger.row(label);
    }
    book_transactions(&mut ledger, network, &audit, closings, cheat)?;

    let anchors_left_sat = anchors_left(&audit, cheat)?;
    ledger.book(ANCHORS, ALICE, -msat(anchors_left_sat));

    // What the wallets say.
    let mut wallets = Vec::new();
    let mut wallets_sat = 0;
    for node in &network.nodes {
        let balance = node.balance().await?;
        ensure!(
            balance.onchain_unconfirmed_sat == 0 && balance.sweeping_sat == 0,
            "{} still waits for {} sat",
            node.name,
            balance.onchain_unconfirmed_sat + balance.sweeping_sat
        );
        wallets_sat += balance.onchain_confirmed_sat;
        wallets.push(msat(balance.onchain_confirmed_sat));
    }
    println!("\n{}\n", ledger.render(&wallets));
    ledger.check(&wallets)?;

    let deposited: u64 = network.deposits.iter().map(|(_, _, amount)| amount).sum();
    let fees = audit.fees_total();
    ensure!(
        audit.unspent_total() == wallets_sat + anchors_left_sat,
        "the chain has {} sat of unspent coins of the nodes, their wallets have {wallets_sat} sat, and \
         {anchors_left_sat} sat are in anchors",
        audit.unspent_total()
    );
    ensure!(
        deposited == wallets_sat + anchors_left_sat + fees,
        "{deposited} sat were deposited; {wallets_sat} sat are in wallets, {anchors_left_sat} sat in anchors, and \
         {fees} sat went to miners"
    );
    println!(
        "   by the blocks: {} deposited = {} in wallets + {} in anchors + {} to miners (satoshi)",
        sat(msat(deposited)),
        sat(msat(wallets_sat)),
        sat(msat(anchors_left_sat)),
        sat(msat(fees))
    );
    Ok(())
}

/// Books what each transaction cost, to whoever had to pay it.
fn book_transactions(
    ledger: &mut Ledger,
    network: &Network,
    audit: &Audit,
    closings: &[Closing],
    cheat: &Cheat,
) -> Result<()> {
    let mut fundings = BTreeMap::new();
    for channel in &network.channels {
        fundings.insert(channel.funding_txid()?, channel.opener);
    }
    let cheated = network.channels[CHEATED].outpoint()?;
    let commitment = cheat.commitment_tx()?.compute_txid();
    let second_stage = cheat.second_stage_tx()?.compute_txid();
    // What the victim has made of the cheat's outputs.
    let mut claims = vec![commitment, second_stage];
    for spend in audit.spends() {
        let spends = |outpoint: &OutPoint| {
            spend
                .tx
                .input
                .iter()
                .any(|i| i.previous_output == *outpoint)
        };
        let fee = msat(spend.fee_sat);
        if let Some(opener) = fundings.get(&spend.txid) {
            ledger.book(MINER_FUNDING, *opener, -fee);
        } else if let Some(closing) = closings.iter().find(|closing| spends(&closing.funding)) {
            // Each output is cut to whole satoshis; what is cut off goes to the miner too.
            let cut = [closing.opener_msat % 1_000, closing.peer_msat % 1_000];
            ensure!(
                closing.opener_msat + closing.peer_msat == closing.capacity_sat * 1_000,
                "the balances of a closed channel were not its capacity"
            );
            let cut_sum = i128::from(cut[0] + cut[1]);
            ledger.book(ROUNDING, closing.opener, -i128::from(cut[0]));
            ledger.book(ROUNDING, closing.peer, -i128::from(cut[1]));
            ledger.book(MINER_CLOSING, closing.opener, cut_sum - fee);
        } else if spends(&cheated) {
            ensure!(
                spend.txid == commitment,
                "the cheated channel was spent by {}",
                spend.txid
            );
            let base = msat(cheat.base_fee_sat);
            let trimmed = i128::from(cheat.trimmed_msat);
            let cut = fee - base - trimmed;
            ensure!(
                (0..16_000).contains(&cut),
                "the old commitment pays {fee} msat: {base} by its feerate, {trimmed} trimmed, and {cut} that nobody knows of"
            );
            ledger.book(MINER_COMMITMENT, ALICE, -base);
            ledger.book(TRIMMED, ALICE, -trimmed);
            ledger.book(ROUNDING, ALICE, -cut);
        } else if spend.txid == second_stage {
            ensure!(spend.fee_sat == 0, "the second stage was to pay nothing");
        } else if spend
            .tx
            .input
            .iter()
            .any(|input| claims.contains(&input.previous_output.txid))
        {
            claims.push(spend.txid);
            ledger.book(MINER_PENALTY, ALICE, -fee);
        } else {
            bail!(
                "transaction {} at height {} spent coins of the nodes, and nobody knows why",
                spend.txid,
                spend.height
            );
        }
    }
    Ok(())
}

/// What is still in the anchors of the old commitment.
fn anchors_left(audit: &Audit, cheat: &Cheat) -> Result<u64> {
    let txid = cheat.commitment_tx()?.compute_txid();
    let values = cheat.anchors.iter().map(|vout| {
        let outpoint = OutPoint { txid, vout: *vout };
        match audit.unspent(&outpoint) {
            Some(value) => Ok(value),
            None => {
                audit
                    .spender(&outpoint)
                    .context("an anchor that never was")?;
                Ok(0)
            }
        }
    });
    values.sum()
}

fn msat(sat: u64) -> i128 {
    i128::from(sat) * 1_000
}
