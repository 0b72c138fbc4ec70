//! The chain and the nodes of one scenario.

use std::collections::BTreeMap;
use std::ops::Deref;

use anyhow::{Context, Result, bail, ensure};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, OutPoint, Transaction, TxOut};
use fulmen_devchain::{Backend, Faucet};
use serde_json::json;

use crate::ldk::LdkNode;
use crate::node::{ChannelKind, ChannelView, OpenChannel, PaymentStatus, TestNode};
use crate::wait::{LONG, SHORT, until};

/// What each node gets on chain, in coins of this size.
pub(crate) const COIN_SAT: u64 = 3_000_000;
const COINS: u64 = 3;
/// The usual capacity.
pub(crate) const CAPACITY_SAT: u64 = 1_000_000;

/// An implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Impl {
    /// LDK.
    Ldk,
    /// Fulmen.
    Fulmen,
}

impl Impl {
    /// The name used on the command line and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ldk => "ldk",
            Self::Fulmen => "fulmen",
        }
    }
}

/// A node of either implementation.
pub(crate) enum AnyNode {
    /// LDK's.
    Ldk(Box<LdkNode>),
    /// Fulmen's.
    Fulmen(Box<crate::fulmen::FulmenNode>),
}

impl Deref for AnyNode {
    type Target = dyn TestNode;

    fn deref(&self) -> &(dyn TestNode + 'static) {
        match self {
            Self::Ldk(node) => &**node,
            Self::Fulmen(node) => &**node,
        }
    }
}

impl AnyNode {
    /// The node as LDK's, for what only LDK can do.
    pub(crate) fn ldk(&self) -> Result<&LdkNode> {
        match self {
            Self::Ldk(node) => Ok(node),
            Self::Fulmen(_) => bail!("a scenario wants an LDK node and has Fulmen's"),
        }
    }

    /// The node as Fulmen's, for what only Fulmen can do.
    pub(crate) fn fulmen(&mut self) -> Result<&mut crate::fulmen::FulmenNode> {
        match self {
            Self::Ldk(_) => bail!("a scenario wants a Fulmen node and has LDK's"),
            Self::Fulmen(node) => Ok(node),
        }
    }

    /// The node as LDK's, if it is one.
    pub(crate) fn as_ldk(&self) -> Option<&LdkNode> {
        self.ldk().ok()
    }
}

/// The chain of one scenario.
pub(crate) struct World {
    backend: Backend,
    first_block: u32,
}

impl World {
    /// A fresh chain.
    pub(crate) fn new() -> Result<Self> {
        let backend = Backend::start()?;
        let first_block = backend.height()? + 1;
        Ok(Self {
            backend,
            first_block,
        })
    }

    /// Starts a node and gives it coins.
    pub(crate) fn node(&self, which: Impl, name: &str) -> Result<AnyNode> {
        let mut seed = [which as u8 + 1; 32];
        for (to, from) in seed.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        let node = match which {
            Impl::Ldk => AnyNode::Ldk(Box::new(LdkNode::start(name, seed, &self.backend)?)),
            Impl::Fulmen => AnyNode::Fulmen(Box::new(crate::fulmen::FulmenNode::start(
                name,
                &self.backend,
            )?)),
        };
        for _ in 0..COINS {
            self.backend
                .fund(&node.deposit_script()?, Amount::from_sat(COIN_SAT))?;
        }
        self.sync(&[&node])?;
        until("the coins are seen", SHORT, || {
            Ok(node.onchain_sat()? == COINS * COIN_SAT)
        })?;
        Ok(node)
    }

    /// What each node got.
    pub(crate) const fn gift_sat() -> u64 {
        COINS * COIN_SAT
    }

    /// The height of the tip.
    pub(crate) fn height(&self) -> Result<u32> {
        Ok(self.backend.height()?)
    }

    /// Mines blocks and waits until all nodes have seen them.
    pub(crate) fn mine(&self, blocks: u32, nodes: &[&AnyNode]) -> Result<()> {
        self.backend.generate(blocks)?;
        self.sync(nodes)
    }

    /// Mines a block with exactly these transactions, whatever the mempool holds or relay policy says.
    pub(crate) fn mine_exactly(&self, txs: &[Transaction]) -> Result<Block> {
        let address = Faucet::default().address().to_string();
        let hex: Vec<String> = txs.iter().map(serialize_hex).collect();
        let client = self.backend.client();
        client.call("generateblock", json!([address, hex]))?;
        self.block(self.height()?)
    }

    fn block(&self, height: u32) -> Result<Block> {
        let client = self.backend.client();
        let hash = client.call("getblockhash", json!([height]))?;
        let hex = client.call("getblock", json!([hash, 0]))?;
        Ok(deserialize_hex(hex.as_str().context("no block")?)?)
    }

    /// Waits until all nodes have seen all blocks.
    pub(crate) fn sync(&self, nodes: &[&AnyNode]) -> Result<()> {
        let height = self.height()?;
        for node in nodes {
            until(
                &format!("{} has seen block {height}", node.name()),
                LONG,
                || Ok(node.height()? >= height),
            )?;
        }
        Ok(())
    }

    /// Transactions in the mempool.
    pub(crate) fn mempool(&self) -> Result<usize> {
        let pool = self.backend.client().call("getrawmempool", json!([]))?;
        Ok(pool.as_array().map_or(0, Vec::len))
    }

    /// Connects, opens and mines until both sides can use the channel.
    pub(crate) fn channel(
        &self,
        opener: &AnyNode,
        peer: &AnyNode,
        kind: ChannelKind,
        public: bool,
    ) -> Result<ChannelView> {
        self.channel_of(opener, peer, kind, public, CAPACITY_SAT)
    }

    /// The same with another capacity; half of it is the peer's.
    pub(crate) fn channel_of(
        &self,
        opener: &AnyNode,
        peer: &AnyNode,
        kind: ChannelKind,
        public: bool,
        capacity_sat: u64,
    ) -> Result<ChannelView> {
        if !opener.is_connected(peer.node_id())? {
            opener.connect(peer.node_id(), peer.address())?;
        }
        let known: Vec<String> = opener.channels()?.into_iter().map(|one| one.id).collect();
        opener.open_channel(OpenChannel {
            peer: peer.node_id(),
            capacity_sat,
            push_msat: capacity_sat * 500,
            kind,
            public,
        })?;
        until("the funding is in the mempool", SHORT, || {
            Ok(self.mempool()? > 0)
        })?;
        self.mine(7, &[opener, peer])?;
        let mut found = None;
        until("the channel is usable on both sides", LONG, || {
            let ours = opener.channels()?;
            let ours = ours.into_iter().find(|one| !known.contains(&one.id));
            let Some(ours) = ours else {
                return Ok(false);
            };
            let theirs = peer.channels()?;
            let theirs = theirs.into_iter().find(|one| one.id == ours.id);
            let Some(theirs) = theirs else {
                return Ok(false);
            };
            let ready = ours.usable && theirs.usable && ours.short_channel_id.is_some();
            if ready {
                ensure!(
                    ours.kind == Some(kind) && theirs.kind == Some(kind),
                    "asked for {kind}, got {:?} and {:?}",
                    ours.kind,
                    theirs.kind
                );
                ensure!(
                    ours.capacity_sat == capacity_sat && theirs.capacity_sat == capacity_sat,
                    "the capacities differ"
                );
                found = Some(ours);
            }
            Ok(ready)
        })?;
        found.context("the channel was not found")
    }

    /// The coins that were made since the beginning, are not spent and not the faucet's.
    fn coins(&self) -> Result<BTreeMap<OutPoint, TxOut>> {
        let faucet = Faucet::default().script();
        let mut coins = BTreeMap::new();
        for height in self.first_block..=self.height()? {
            for tx in &self.block(height)?.txdata {
                for input in &tx.input {
                    coins.remove(&input.previous_output);
                }
                let txid = tx.compute_txid();
                for (vout, output) in tx.output.iter().enumerate() {
                    let script = &output.script_pubkey;
                    if *script != faucet && !script.is_op_return() {
                        let vout = u32::try_from(vout)?;
                        coins.insert(OutPoint { txid, vout }, output.clone());
                    }
                }
            }
        }
        Ok(coins)
    }

    /// After all channels are closed and resolved: every coin on chain must be in a wallet or be
    /// one of at most `anchors` anchors.
    pub(crate) fn account(&self, nodes: &[&AnyNode], anchors: usize) -> Result<()> {
        self.account_with(nodes, 0, anchors)
    }

    /// The same, with so much in the wallets of nodes that are no more.
    pub(crate) fn account_with(
        &self,
        nodes: &[&AnyNode],
        elsewhere_sat: u64,
        anchors: usize,
    ) -> Result<()> {
        let coins = self.coins()?;
        let is_anchor = |out: &&TxOut| out.value.to_sat() == 330 && out.script_pubkey.is_p2wsh();
        let left = coins.values().filter(is_anchor).count();
        ensure!(left <= anchors, "{left} anchors are left, not {anchors}");
        let on_chain: u64 = coins.values().map(|out| out.value.to_sat()).sum();
        let mut in_wallets = elsewhere_sat;
        for node in nodes {
            in_wallets += node.onchain_sat()?;
        }
        let expected = in_wallets + 330 * left as u64;
        ensure!(
            on_chain == expected,
            "{on_chain} sat are on chain, but {in_wallets} in the wallets and {left} anchors: {coins:?}"
        );
        Ok(())
    }

    /// Mines until nothing is left to sweep and the wallets have everything.
    pub(crate) fn resolve(&self, nodes: &[&AnyNode], max_blocks: u32) -> Result<()> {
        let mut mined = 0;
        loop {
            let mut sweeping = 0;
            for node in nodes {
                sweeping += node.sweeping_sat()?;
            }
            if sweeping == 0 && self.mempool()? == 0 && mined > 0 {
                return Ok(());
            }
            ensure!(
                mined < max_blocks,
                "after {mined} blocks {sweeping} sat are still to be swept"
            );
            // Nodes need a moment to answer a block with transactions.
            let step = if self.mempool()? > 0 { 1 } else { 6 };
            self.mine(step, nodes)?;
            mined += step;
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
    }
}

/// Waits for the end of a payment.
pub(crate) fn outcome(payer: &AnyNode, payment_hash: &str) -> Result<PaymentStatus> {
    let mut status = PaymentStatus::Pending;
    until("the payment has ended", LONG, || {
        status = payer.payment(payment_hash)?;
        Ok(status != PaymentStatus::Pending)
    })?;
    Ok(status)
}

/// Waits for success and checks proof and receipt.
pub(crate) fn succeeded(
    payer: &AnyNode,
    payee: &AnyNode,
    payment_hash: &str,
    amount_msat: u64,
) -> Result<u64> {
    let PaymentStatus::Succeeded { preimage, fee_msat } = outcome(payer, payment_hash)? else {
        bail!(
            "{} could not pay: {:?}",
            payer.name(),
            payer.payment(payment_hash)?
        );
    };
    let preimage: [u8; 32] = bitcoin::hex::FromHex::from_hex(&preimage)?;
    let hash = <bitcoin::hashes::sha256::Hash as bitcoin::hashes::Hash>::hash(&preimage);
    ensure!(hash.to_string() == payment_hash, "the proof is wrong");
    until("the payee has it", SHORT, || {
        Ok(payee.received_msat(payment_hash)? == Some(amount_msat))
    })?;
    Ok(fee_msat)
}

/// Pays an invoice of the payee; returns the fee.
pub(crate) fn pay(payer: &AnyNode, payee: &AnyNode, amount_msat: u64) -> Result<u64> {
    let invoice = payee.invoice(amount_msat, "a scenario")?;
    let hash = payer.pay(&invoice)?;
    succeeded(payer, payee, &hash, amount_msat)
}

/// Waits until no HTLC is in flight in any channel of these nodes.
pub(crate) fn quiet(nodes: &[&AnyNode]) -> Result<()> {
    for node in nodes {
        until(
            &format!("{} has no HTLCs in flight", node.name()),
            LONG,
            || Ok(node.channels()?.iter().all(|channel| channel.htlcs == 0)),
        )?;
    }
    Ok(())
}
