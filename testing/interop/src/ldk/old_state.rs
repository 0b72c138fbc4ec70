//! What an LDK node that cheats keeps: a copy of a channel's monitor, which goes on believing that its
//! commitment is the newest.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use bitcoin::{Block, BlockHash, Transaction};
use lightning::chain::chaininterface::BroadcasterInterface;
use lightning::chain::channelmonitor::ChannelMonitor;
use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::events::{Event, ReplayEvent};
use lightning::sign::{InMemorySigner, KeysManager};
use lightning::util::ser::{ReadableArgs, Writeable};

use super::chain::Feerates;
use super::logger::LogLines;
use super::wallet::KeyWallet;

/// Keeps what it is told to broadcast.
#[derive(Default)]
struct Kept(Mutex<Vec<Transaction>>);

impl BroadcasterInterface for Kept {
    fn broadcast_transactions(&self, txs: &[&Transaction]) {
        self.put(txs.iter().map(|&tx| tx.clone()).collect());
    }
}

impl Kept {
    fn put(&self, txs: Vec<Transaction>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(txs);
    }

    fn take(&self) -> Vec<Transaction> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The copy, and the wallet that pays for what it puts on chain. It needs no running node.
pub(crate) struct OldState {
    monitor: ChannelMonitor<InMemorySigner>,
    keys: Arc<KeysManager>,
    wallet: Arc<KeyWallet>,
    log: Arc<LogLines>,
    kept: Arc<Kept>,
}

impl OldState {
    pub(super) fn copy(
        monitor: &ChannelMonitor<InMemorySigner>,
        keys: Arc<KeysManager>,
        wallet: Arc<KeyWallet>,
        log: Arc<LogLines>,
    ) -> Result<Self> {
        let bytes = monitor.encode();
        let read = <(BlockHash, ChannelMonitor<InMemorySigner>)>::read(
            &mut bytes.as_slice(),
            (&*keys, &*keys),
        );
        let (_, monitor) = read.map_err(|error| anyhow!("LDK can't read its copy: {error:?}"))?;
        Ok(Self {
            monitor,
            keys,
            wallet,
            log,
            kept: Arc::default(),
        })
    }

    /// The commitment that was the newest when the copy was made, signed by both.
    pub(crate) fn commitment(&self) -> Result<Transaction> {
        self.monitor.broadcast_latest_holder_commitment_txn(
            &self.kept,
            &Arc::new(Feerates),
            &self.log,
        );
        for event in self.bumps()? {
            if let BumpTransactionEvent::ChannelClose { commitment_tx, .. } = event {
                self.kept.put(vec![commitment_tx]);
            }
        }
        let funding = self.monitor.get_funding_txo().into_bitcoin_outpoint();
        let spends = |tx: &Transaction| tx.input.iter().any(|one| one.previous_output == funding);
        // Without anchors the second stages come with it; they are for later.
        let found = self.kept.take().into_iter();
        let (commitments, others): (Vec<_>, Vec<_>) = found.partition(spends);
        self.kept.put(others);
        let first = commitments.into_iter().next();
        first.context("LDK has no commitment to broadcast")
    }

    /// The second stages that LDK makes of a commitment that is in a block, signed and paid for.
    pub(crate) fn second_stages(&self, block: &Block, height: u32) -> Result<Vec<Transaction>> {
        let txs: Vec<(usize, &Transaction)> = block.txdata.iter().enumerate().collect();
        let feerates = Arc::new(Feerates);
        self.monitor.block_connected(
            &block.header,
            &txs,
            height,
            Arc::clone(&self.kept),
            feerates,
            &self.log,
        );
        let bumper = BumpTransactionEventHandlerSync::new(
            Arc::clone(&self.kept),
            Arc::new(WalletSync::new(
                Arc::clone(&self.wallet),
                Arc::clone(&self.log),
            )),
            Arc::clone(&self.keys),
            Arc::clone(&self.log),
        );
        for event in self.bumps()? {
            if let BumpTransactionEvent::HTLCResolution { .. } = event {
                bumper.handle_event(&event);
            }
        }
        let commitments: Vec<_> = block.txdata.iter().map(Transaction::compute_txid).collect();
        let mut found: Vec<Transaction> = Vec::new();
        for tx in self.kept.take() {
            let spent: Vec<_> = tx.input.iter().map(|one| one.previous_output).collect();
            let is_stage = spent.iter().any(|out| commitments.contains(&out.txid));
            // One that was made again with another fee takes the same output.
            let mut taken = found.iter().flat_map(|one| &one.input);
            if is_stage && taken.all(|one| !spent.contains(&one.previous_output)) {
                found.push(tx);
            }
        }
        if found.is_empty() {
            bail!("LDK takes no HTLC to its second stage");
        }
        Ok(found)
    }

    /// What the cheat has in its wallet.
    pub(crate) fn onchain_sat(&self) -> Result<u64> {
        self.wallet.total_sat()
    }

    fn bumps(&self) -> Result<Vec<BumpTransactionEvent>> {
        let found = Mutex::new(Vec::new());
        let handler = |event: Event| -> Result<(), ReplayEvent> {
            if let Event::BumpTransaction(bump) = event {
                found.lock().map_err(|_| ReplayEvent())?.push(bump);
            }
            Ok(())
        };
        self.monitor
            .process_pending_events(&&handler, &self.log)
            .map_err(|_| anyhow!("LDK's events could not be read"))?;
        found.into_inner().map_err(|_| anyhow!("poisoned"))
    }
}
