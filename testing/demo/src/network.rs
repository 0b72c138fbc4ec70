//! The nodes of a run: a line of four, and a fifth one whose shortcut costs more.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bitcoin::{OutPoint, Txid};
use fulmen_api::{EventKind, PaymentState};
use futures::future::{join_all, try_join_all};

use crate::{
    chain::Chain,
    daemon::Settings,
    node::{Node, htlcs, wait_until},
};

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;
pub(crate) const CAROL: usize = 2;
pub(crate) const DAVE: usize = 3;
pub(crate) const MALLORY: usize = 4;
pub(crate) const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "mallory"];

/// The channels: who opens it, with whom, its capacity and what the other one gets at once, in satoshi.
const PLAN: [(usize, usize, u64, u64); 5] = [
    (ALICE, BOB, 5_000_000, 2_000_000),
    (BOB, CAROL, 5_000_000, 2_000_000),
    (CAROL, DAVE, 5_000_000, 2_000_000),
    (MALLORY, ALICE, 4_000_000, 2_000_000),
    (MALLORY, DAVE, 4_000_000, 1_500_000),
];
/// So many of them are the line.
const LINE: usize = 3;
/// The shortcut: the channel that is cheated on later.
pub(crate) const CHEATED: usize = 3;

/// The state of a channel that nobody closes.
const OPEN: &str = "open";
/// What each node's wallet gets: for its channels and for the reserve.
const DEPOSITS_SAT: [u64; 2] = [6_000_000, 6_000_000];

/// A channel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelOf {
    pub(crate) opener: usize,
    pub(crate) peer: usize,
    pub(crate) capacity_sat: u64,
    pub(crate) push_sat: u64,
    /// `txid:index`.
    pub(crate) funding: String,
}

impl ChannelOf {
    pub(crate) fn outpoint(&self) -> Result<OutPoint> {
        self.funding
            .parse()
            .context("a funding output that can't be read")
    }

    pub(crate) fn funding_txid(&self) -> Result<Txid> {
        Ok(self.outpoint()?.txid)
    }
}

/// All of it. Dropping it kills the nodes.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) chain: Arc<Chain>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) settings: Vec<Settings>,
    pub(crate) channels: Vec<ChannelOf>,
    /// Who got what from the faucet.
    pub(crate) deposits: Vec<(usize, OutPoint, u64)>,
    /// The first block of the run.
    pub(crate) first_height: u32,
}

impl Network {
    /// Starts the chain and the daemons.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let chain = Arc::new(tokio::task::block_in_place(Chain::start)?);
        let first_height = chain.height()? + 1;
        let mut nodes = Vec::new();
        let mut all_settings = Vec::new();
        for (index, name) in NAMES.iter().enumerate() {
            let settings = Settings::new(&chain);
            let settings = if index == MALLORY {
                settings.with_fees(5_000, 1_000)
            } else {
                settings
            };
            nodes.push(Node::create(folder, name, &settings)?);
            all_settings.push(settings);
        }
        for result in join_all(nodes.iter_mut().map(Node::start)).await {
            result?;
        }
        let (channels, deposits) = (Vec::new(), Vec::new());
        Ok(Self {
            chain,
            nodes,
            settings: all_settings,
            channels,
            deposits,
            first_height,
        })
    }

    /// Confirmed coins for everybody.
    pub(crate) async fn fund(&mut self) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            for amount_sat in DEPOSITS_SAT {
                let address = node.new_address().await?;
                let outpoint = self.chain.fund(&address, amount_sat)?;
                self.deposits.push((index, outpoint, amount_sat));
            }
        }
        self.wait_synced().await?;
        let wanted: u64 = DEPOSITS_SAT.iter().sum();
        for node in &self.nodes {
            wait_until(
                &format!("{}'s deposit", node.name),
                Duration::from_secs(20),
                async || Ok(node.balance().await?.onchain_confirmed_sat == wanted),
            )
            .await?;
        }
        Ok(())
    }

    /// Connects, opens all channels, and waits until everybody can use them and knows them all.
    pub(crate) async fn open_channels(&mut self) -> Result<()> {
        self.open(&PLAN).await?;
        self.wait_gossip().await
    }

    /// The line alone, once all channels are closed.
    pub(crate) async fn open_line_again(&mut self) -> Result<()> {
        self.channels.clear();
        self.open(&PLAN[..LINE]).await
    }

    async fn open(&mut self, plan: &[(usize, usize, u64, u64)]) -> Result<()> {
        for (opener, peer, capacity_sat, push_sat) in plan.iter().copied() {
            let (from, to) = (&self.nodes[opener], &self.nodes[peer]);
            from.connect(to).await?;
            let answer = from.open(to, capacity_sat, push_sat).await?;
            let funding = answer.funding;
            self.channels.push(ChannelOf {
                opener,
                peer,
                capacity_sat,
                push_sat,
                funding,
            });
        }
        wait_until(
            "the funding transactions in the mempool",
            Duration::from_secs(10),
            async || Ok(self.chain.mempool_len()? >= plan.len()),
        )
        .await?;
        // BOLT 7: a channel is announced when it is 6 deep.
        for _ in 0..6 {
            self.mine(1).await?;
        }
        self.wait_usable().await
    }

    /// Every channel can be used by both ends.
    pub(crate) async fn wait_usable(&self) -> Result<()> {
        for channel in &self.channels {
            self.wait_channel_usable(channel).await?;
        }
        Ok(())
    }

    /// Both ends can use the channel.
    pub(crate) async fn wait_channel_usable(&self, channel: &ChannelOf) -> Result<()> {
        for end in [channel.opener, channel.peer] {
            let node = &self.nodes[end];
            let what = format!("channel {} usable for {}", self.name_of(channel), node.name);
            wait_until(&what, Duration::from_secs(30), async || {
                Ok(node
                    .find_channel(&channel.funding)
                    .await?
                    .is_some_and(|c| c.usable))
            })
            .await?;
        }
        Ok(())
    }

    /// Every node knows every channel with the terms of both its ends, and every node.
    async fn wait_gossip(&self) -> Result<()> {
        for node in &self.nodes {
            let what = format!("the whole network's gossip at {}", node.name);
            wait_until(&what, Duration::from_secs(40), async || {
                let info = node.getinfo().await?;
                Ok(info.graph_policies == 2 * self.channels.len()
                    && info.graph_nodes == self.nodes.len())
            })
            .await?;
        }
        Ok(())
    }

    /// Mines, and waits until every running node has seen it.
    pub(crate) async fn mine(&self, count: u32) -> Result<()> {
        self.chain.mine(count)?;
        self.wait_synced().await
    }

    /// Every node that runs has seen the tip, its wallet too.
    pub(crate) async fn wait_synced(&self) -> Result<()> {
        let height = self.chain.height()?;
        let waits = self
            .nodes
            .iter()
            .filter(|node| node.is_awake())
            .map(async |node| {
                let what = format!("block {height} at {}", node.name);
                wait_until(&what, Duration::from_secs(30), async || {
                    let info = node.getinfo().await?;
                    Ok(info.block_height >= height && info.wallet_height >= height)
                })
                .await
            });
        try_join_all(waits).await?;
        Ok(())
    }

    pub(crate) fn name_of(&self, channel: &ChannelOf) -> String {
        format!("{}–{}", NAMES[channel.opener], NAMES[channel.peer])
    }

    /// No HTLC is in flight anywhere.
    pub(crate) async fn wait_quiet(&self, patience: Duration) -> Result<()> {
        let waits = self
            .nodes
            .iter()
            .filter(|node| node.is_awake())
            .map(async |node| {
                let what = format!("the end of all HTLCs at {}", node.name);
                wait_until(&what, patience, async || {
                    Ok(node.htlcs_in_flight().await? == 0)
                })
                .await
            });
        try_join_all(waits).await?;
        Ok(())
    }

    /// Both ends of each channel say the same, and nothing is missing from its capacity. Returns what each
    /// node has in channels, in millisatoshi.
    pub(crate) async fn check_channels(&self) -> Result<Vec<u64>> {
        let mut owned = vec![0; self.nodes.len()];
        for channel in &self.channels {
            let name = self.name_of(channel);
            let ours = self.nodes[channel.opener].channel(&channel.funding).await?;
            let theirs = self.nodes[channel.peer].channel(&channel.funding).await?;
            ensure!(
                htlcs(&ours) == 0 && htlcs(&theirs) == 0,
                "channel {name} still has HTLCs: {} on one side, {} on the other",
                htlcs(&ours),
                htlcs(&theirs)
            );
            ensure!(
                ours.local_msat == theirs.remote_msat && ours.remote_msat == theirs.local_msat,
                "the ends of channel {name} don't agree: {} and {} msat on one side, {} and {} msat on the other",
                ours.local_msat,
                ours.remote_msat,
                theirs.remote_msat,
                theirs.local_msat
            );
            ensure!(
                ours.local_msat + ours.remote_msat == channel.capacity_sat * 1_000,
                "channel {name} holds {} msat of {}",
                ours.local_msat + ours.remote_msat,
                channel.capacity_sat * 1_000
            );
            for info in [&ours, &theirs] {
                ensure!(
                    info.state == OPEN,
                    "channel {name} is {}: {}",
                    info.state,
                    info.detail.clone().unwrap_or_default()
                );
            }
            owned[channel.opener] += ours.local_msat;
            owned[channel.peer] += theirs.local_msat;
        }
        Ok(owned)
    }

    /// What each node had in channels when they were opened, in millisatoshi.
    pub(crate) fn initial_channel_msat(&self) -> Vec<u64> {
        let mut owned = vec![0; self.nodes.len()];
        for channel in &self.channels {
            owned[channel.opener] += (channel.capacity_sat - channel.push_sat) * 1_000;
            owned[channel.peer] += channel.push_sat * 1_000;
        }
        owned
    }

    /// What payments did to each node, by its own lists.
    pub(crate) async fn turnovers(&self) -> Result<Vec<Turnover>> {
        let mut turnovers = Vec::new();
        for node in &self.nodes {
            let mut turnover = Turnover::default();
            for payment in node.payments().await? {
                match payment.state {
                    PaymentState::Succeeded => {
                        turnover.paid_msat += payment.amount_msat;
                        turnover.fees_paid_msat += payment.fee_msat.unwrap_or_default();
                        turnover.succeeded += 1;
                    }
                    PaymentState::Failed => turnover.failed += 1,
                    PaymentState::Pending => turnover.pending += 1,
                }
            }
            for invoice in node.invoices().await? {
                turnover.received_msat += invoice.received_msat.unwrap_or_default();
            }
            for event in node.events().await? {
                if let EventKind::PaymentForwarded { fee_msat, .. } = event.kind {
                    turnover.fees_earned_msat += fee_msat;
                    turnover.forwarded += 1;
                }
            }
            turnovers.push(turnover);
        }
        Ok(turnovers)
    }

    /// What each node has in channels follows from its payments, to the millisatoshi.
    pub(crate) fn check_turnovers(&self, owned_msat: &[u64], turnovers: &[Turnover]) -> Result<()> {
        let initial = self.initial_channel_msat();
        for (index, node) in self.nodes.iter().enumerate() {
            let turnover = &turnovers[index];
            let expected = i128::from(initial[index]) + turnover.net_msat();
            let actual = i128::from(owned_msat[index]);
            ensure!(
                expected == actual,
                "{} should have {expected} msat in its channels and has {actual} msat: {} msat are {}",
                node.name,
                (expected - actual).abs(),
                if actual < expected {
                    "missing"
                } else {
                    "too many"
                }
            );
        }
        let sum = |each: fn(&Turnover) -> u64| turnovers.iter().map(each).sum::<u64>();
        let (paid, received) = (sum(|t| t.paid_msat), sum(|t| t.received_msat));
        ensure!(
            paid == received,
            "payers paid {paid} msat and payees received {received} msat"
        );
        let (fees, earned) = (sum(|t| t.fees_paid_msat), sum(|t| t.fees_earned_msat));
        ensure!(
            fees == earned,
            "payers paid {fees} msat of fees and forwarders earned {earned} msat"
        );
        Ok(())
    }
}

/// What payments did to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turnover {
    pub(crate) paid_msat: u64,
    pub(crate) fees_paid_msat: u64,
    pub(crate) received_msat: u64,
    pub(crate) fees_earned_msat: u64,
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
    pub(crate) pending: usize,
    pub(crate) forwarded: usize,
}

impl Turnover {
    /// What it has more than before.
    pub(crate) fn net_msat(&self) -> i128 {
        i128::from(self.received_msat) + i128::from(self.fees_earned_msat)
            - i128::from(self.paid_msat)
            - i128::from(self.fees_paid_msat)
    }
}

/// The folder of a run: a temporary one, or the one that was asked for and is kept.
#[derive(Debug)]
pub(crate) enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    pub(crate) fn make(keep: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fulmen-demo-").tempdir()?;
        Ok(if keep {
            Self::Kept(folder.keep())
        } else {
            Self::Temporary(folder)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turnover_is_what_came_less_what_went() {
        let turnover = Turnover {
            paid_msat: 1_000,
            fees_paid_msat: 7,
            received_msat: 500,
            fees_earned_msat: 3,
            ..Turnover::default()
        };
        assert_eq!(turnover.net_msat(), -504);
    }

    #[test]
    fn every_opener_can_pay_its_channels() {
        for (node, name) in NAMES.iter().enumerate() {
            let opened: u64 = PLAN.iter().filter(|p| p.0 == node).map(|p| p.2).sum();
            assert!(opened + 1_000_000 < DEPOSITS_SAT.iter().sum(), "{name}");
        }
    }
}
