//! Ports that do not answer: nothing waits for ever, and nothing is concluded about money.

use alloc::boxed::Box;

use fulmen_channel::{ChannelInput, remote_commitment_key};
use fulmen_gossip::UtxoAnswer;
use fulmen_router::NoRoute;
use fulmen_signer::SigningAnswer;
use fulmen_tx::ChannelKeysId;
use fulmen_types::CommitmentNumber;

use crate::{
    command::CommandError,
    effects::{ActionKind, NoteLevel, ReleaseClass},
    node::Node,
    port::{Answer, Ask, BroadcastAnswer, WalletError},
    requests::{GossipPending, Pending},
    step::Step,
    work::Work,
};

impl Node {
    pub(crate) fn give_up_on_ports(&mut self, step: &mut Step) {
        // Each once: some are asked again at once.
        for _ in 0..self.requests.len() {
            let Some(pending) = self.requests.give_up() else {
                return;
            };
            let text = alloc::format!("a port did not answer: {}", pending.name());
            step.note(NoteLevel::Warn, text);
            self.unanswered(step, pending);
        }
    }

    /// What a port that can't answer would have led to.
    fn unanswered(&mut self, step: &mut Step, pending: Pending) {
        let wallet = || WalletError::Unavailable("it did not answer".into());
        match pending {
            Pending::Gather(keys_id, _) => {
                self.gathering_failed(step, keys_id, "the signer or the wallet did not answer");
            }
            Pending::Funding(keys_id) => {
                self.funding_answer(step, keys_id, Answer::Funding(Err(wallet())));
            }
            Pending::ChannelSign(keys_id, request) => {
                let answer = Box::new(SigningAnswer::Unavailable);
                let input = ChannelInput::Signed { request, answer };
                step.work.push_back(Work::Channel(keys_id, input));
            }
            Pending::Onions(keys_id, htlcs) => {
                let answer = Answer::Signed(SigningAnswer::Unavailable);
                self.onions_read(step, keys_id, htlcs, answer);
            }
            Pending::Route {
                payment_hash,
                attempt,
            } => {
                let answer = Answer::Route(Err(NoRoute::NoPath));
                self.route_answer(step, payment_hash, attempt, answer);
            }
            Pending::PaymentArchive { id, .. } => {
                let error = "the store did not answer; nothing was paid: try again";
                self.reply(step, id, Err(CommandError::Failed(error.into())));
            }
            Pending::InvoiceSign(id, ..) => {
                let error = "the signer did not sign the invoice: try again";
                self.reply(step, id, Err(CommandError::Failed(error.into())));
            }
            Pending::Coins(keys_id, lease) => {
                self.coins_answer(step, keys_id, lease, Answer::Coins(Err(wallet())));
            }
            Pending::ClaimSign(keys_id, claim, attempt) => {
                let input = fulmen_enforce::EnforceInput::WalletSigned {
                    claim,
                    attempt,
                    transaction: None,
                };
                self.resolution_input(step, keys_id, input);
            }
            Pending::ClaimBroadcast(keys_id, broadcast) => {
                let answer = BroadcastAnswer::Other("the network did not answer".into());
                let answer = Answer::Broadcast(answer);
                self.claim_broadcast_answer(step, keys_id, broadcast, &answer);
            }
            // That there is none would be a conclusion: it is asked for until the store answers.
            Pending::RemoteCommitment(keys_id, number) => {
                self.ask_remote_commitment(step, keys_id, number);
            }
            Pending::Gossip(pending @ GossipPending::Utxo(_)) => {
                self.gossip_answer(step, pending, Answer::Utxo(UtxoAnswer::Unavailable));
            }
            Pending::Gossip(pending @ GossipPending::Sign(_)) => {
                self.gossip_answer(step, pending, Answer::Signed(SigningAnswer::Unavailable));
            }
            Pending::Broadcast => {}
        }
    }

    pub(crate) fn ask_remote_commitment(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        number: CommitmentNumber,
    ) {
        let id = self
            .requests
            .open(Pending::RemoteCommitment(keys_id, number));
        let ask = Ask::Record(remote_commitment_key(&keys_id, number));
        step.act_as(ReleaseClass::Now, ActionKind::Ask { id, ask });
    }
}

impl Pending {
    /// What was asked for, for the log.
    const fn name(&self) -> &'static str {
        match self {
            Self::Gather(..) => "what a new channel needs",
            Self::Funding(_) => "a funding transaction",
            Self::ChannelSign(..) => "a signature for a channel",
            Self::Broadcast | Self::ClaimBroadcast(..) => "a broadcast",
            Self::Onions(..) => "the reading of onions",
            Self::Route { .. } => "a route",
            Self::PaymentArchive { .. } => "the record of an ended payment",
            Self::InvoiceSign(..) => "the signature of an invoice",
            Self::Coins(..) => "coins for a claim",
            Self::ClaimSign(..) => "the wallet's signature of a claim",
            Self::RemoteCommitment(..) => "the record that punishes a commitment",
            Self::Gossip(GossipPending::Utxo(_)) => "an output of the chain",
            Self::Gossip(GossipPending::Sign(_)) => "the signature of an announcement",
        }
    }
}
