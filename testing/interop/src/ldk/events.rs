//! What a user of LDK does on its events, and what scenarios want to know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::Amount;
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::events::{Event, EventHandler, PaymentPurpose, ReplayEvent};
use lightning::sign::KeysManager;
use lightning::types::payment::{PaymentHash, PaymentPreimage};

use super::chain::Broadcaster;
use super::logger::LogLines;
use super::wallet::KeyWallet;
use super::{Manager, Sweeper};
use crate::node::PaymentStatus;

type Bumper = BumpTransactionEventHandlerSync<
    Arc<Broadcaster>,
    Arc<WalletSync<Arc<KeyWallet>, Arc<LogLines>>>,
    Arc<KeysManager>,
    Arc<LogLines>,
>;

/// What happened so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) payments: BTreeMap<String, PaymentStatus>,
    pub(super) received: BTreeMap<String, u64>,
    /// HTLC sets that wait to be claimed.
    pub(super) held: BTreeMap<String, PaymentPreimage>,
    /// Parts of each received payment.
    pub(super) parts: BTreeMap<String, usize>,
    /// Channels whose funding has been made: user channel ids.
    pub(super) funded: BTreeSet<u128>,
    /// Whether payments are kept waiting instead of being claimed.
    pub(super) hold: bool,
}

/// Handles LDK's events.
pub(super) struct Handler {
    pub(super) manager: Arc<Manager>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) wallet: Arc<KeyWallet>,
    pub(super) log: Arc<LogLines>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) bumper: Bumper,
}

pub(super) fn hex(hash: PaymentHash) -> String {
    bitcoin::hex::DisplayHex::to_lower_hex_string(&hash.0)
}

fn seen_of(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventHandler for Handler {
    fn handle_event(&self, event: Event) -> Result<(), ReplayEvent> {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                user_channel_id,
            } => {
                let value = Amount::from_sat(channel_value_satoshis);
                match self.wallet.pay(output_script, value) {
                    Ok(tx) => {
                        let given = self.manager.funding_transaction_generated(
                            temporary_channel_id,
                            counterparty_node_id,
                            tx,
                        );
                        if let Err(error) = given {
                            self.log.note(format!("ERROR funding: {error:?}"));
                        }
                    }
                    Err(error) => self
                        .log
                        .note(format!("ERROR funding of {user_channel_id}: {error}")),
                }
            }
            Event::OpenChannelRequest {
                temporary_channel_id,
                counterparty_node_id,
                ..
            } => {
                let accepted = self.manager.accept_inbound_channel(
                    &temporary_channel_id,
                    &counterparty_node_id,
                    0,
                    None,
                );
                if let Err(error) = accepted {
                    self.log.note(format!("ERROR accept: {error:?}"));
                }
            }
            Event::ChannelPending {
                user_channel_id, ..
            } => {
                seen_of(&self.seen).funded.insert(user_channel_id);
            }
            Event::PaymentClaimable {
                payment_hash,
                purpose,
                ..
            } => self.claimable(payment_hash, &purpose),
            Event::PaymentClaimed {
                payment_hash,
                amount_msat,
                htlcs,
                ..
            } => {
                let mut seen = seen_of(&self.seen);
                seen.received.insert(hex(payment_hash), amount_msat);
                seen.parts.insert(hex(payment_hash), htlcs.len());
            }
            Event::PaymentSent {
                payment_hash,
                payment_preimage,
                fee_paid_msat,
                ..
            } => {
                let status = PaymentStatus::Succeeded {
                    preimage: bitcoin::hex::DisplayHex::to_lower_hex_string(&payment_preimage.0),
                    fee_msat: fee_paid_msat.unwrap_or_default(),
                };
                seen_of(&self.seen)
                    .payments
                    .insert(hex(payment_hash), status);
            }
            Event::PaymentFailed {
                payment_hash: Some(payment_hash),
                reason,
                ..
            } => {
                let status = PaymentStatus::Failed(format!("{reason:?}"));
                seen_of(&self.seen)
                    .payments
                    .insert(hex(payment_hash), status);
            }
            Event::SpendableOutputs {
                outputs,
                channel_id,
            } => {
                let tracked = self
                    .sweeper
                    .track_spendable_outputs(outputs, channel_id, false, None);
                if tracked.is_err() {
                    return Err(ReplayEvent());
                }
            }
            Event::BumpTransaction(bump) => self.bumper.handle_event(&bump),
            Event::ChannelClosed {
                channel_id, reason, ..
            } => {
                self.log
                    .note(format!("WARN  closed {channel_id}: {reason}"));
            }
            other => self.log.note(format!("event {other:?}")),
        }
        Ok(())
    }
}

impl Handler {
    fn claimable(&self, payment_hash: PaymentHash, purpose: &PaymentPurpose) {
        let Some(preimage) = purpose.preimage() else {
            self.manager.fail_htlc_backwards(&payment_hash);
            return;
        };
        let hold = {
            let mut seen = seen_of(&self.seen);
            if seen.hold {
                seen.held.insert(hex(payment_hash), preimage);
            }
            seen.hold
        };
        if !hold {
            self.manager.claim_funds(preimage);
        }
    }
}
