//! `closing_signed`: both ends agree on the fee of the closing transaction. It restarts at every
//! connection, so nothing of the negotiation is on disk but its result.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::{Amount, secp256k1::ecdsa::Signature};
use fulmen_signer::{ClosingSigning, SigningAnswer, SigningRequest};
use fulmen_tx::{
    BuiltClosing, ClosingContent, ClosingOutputs, Side, closing_weight, dust_threshold,
};
use fulmen_types::{FeeratePerKw, Timestamp};
use fulmen_wire::{ClosingSigned, FeeRange};

use crate::{
    config::ChannelContext,
    error::Rule,
    funded::{Funded, Link},
    output::ChannelOutput,
};

/// What was said of the fee on this connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Negotiation {
    since: Option<Timestamp>,
    last_sent: Option<Amount>,
    last_received: Option<Amount>,
    sent_range: Option<FeeRange>,
    asked: Option<AskedSignature>,
    agreed: bool,
    /// What the signer could not sign: asked again at the next tick. The peer has said its part and will not
    /// say it again.
    stalled: Option<AskedSignature>,
}

/// A signature that the signer was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AskedSignature {
    content: ClosingContent,
    outputs: ClosingOutputs,
    range: FeeRange,
    /// The peer's signature on the same transaction: with ours the channel is closed.
    theirs: Option<Signature>,
}

impl Funded {
    fn closing_content(&self, fee: Amount) -> Option<ClosingContent> {
        Some(ClosingContent {
            to_local: self.core.settled_local,
            to_remote: self.core.settled_remote,
            local_script: self.core.local_shutdown.as_ref()?.script.clone(),
            remote_script: self.core.remote_shutdown.clone()?,
            fee,
        })
    }

    /// The fee that we would choose, and those that we would agree to.
    fn acceptable_fees(&self, ctx: &ChannelContext<'_>) -> Option<(Amount, FeeRange)> {
        let content = self.closing_content(Amount::ZERO)?;
        let weight = closing_weight([
            content.local_script.as_script(),
            content.remote_script.as_script(),
        ]);
        let floor = ctx.feerates.floor.max(FeeratePerKw::FLOOR);
        let wanted = self
            .core
            .local_shutdown
            .as_ref()
            .and_then(|shutdown| shutdown.feerate)
            .unwrap_or(ctx.feerates.normal)
            .max(floor);
        let (minimum, ideal) = (floor.fee_ceil(weight), wanted.fee_ceil(weight));
        if self.core.params.opener == Side::Local {
            // We pay: up to twice what we want, and never more than we have.
            let balance = content.to_local.to_amount_floor();
            let maximum = (ideal * 2).max(ctx.feerates.urgent.fee_ceil(weight));
            let range = FeeRange {
                min_fee_satoshis: minimum.min(balance),
                max_fee_satoshis: maximum.min(balance),
            };
            Some((ideal.min(balance), range))
        } else {
            // BOLT 2: who does not pay has a low minimum and no maximum.
            let maximum = content.to_remote.to_amount_floor();
            let range = FeeRange {
                min_fee_satoshis: minimum.min(maximum),
                max_fee_satoshis: maximum,
            };
            Some((ideal.min(maximum), range))
        }
    }

    /// The opener makes the first proposal.
    pub(crate) fn send_closing_signed(
        &mut self,
        ctx: &ChannelContext<'_>,
        out: &mut Vec<ChannelOutput>,
    ) {
        if !self.is_ready_to_close() {
            return;
        }
        self.negotiation.since.get_or_insert(ctx.now);
        let is_begun = self.negotiation.asked.is_some()
            || self.negotiation.last_sent.is_some()
            || self.negotiation.agreed
            || self.negotiation.stalled.is_some();
        if self.core.params.opener == Side::Remote || is_begun {
            return;
        }
        if let Some((ideal, range)) = self.acceptable_fees(ctx) {
            self.propose(ideal, range, out);
        }
    }

    fn propose(&mut self, fee: Amount, range: FeeRange, out: &mut Vec<ChannelOutput>) {
        let Some(content) = self.closing_content(fee) else {
            return;
        };
        // BOLT 3: outputs below our own dust_limit_satoshis are removed, and those that would not relay.
        let params = &self.core.params;
        let dust_limit = params.local.dust_limit;
        if let Ok(outputs) = content.outputs_above(params, dust_limit) {
            self.ask_closing_signature(content, outputs, range, None, out);
        }
    }

    fn ask_closing_signature(
        &mut self,
        content: ClosingContent,
        outputs: ClosingOutputs,
        range: FeeRange,
        theirs: Option<Signature>,
        out: &mut Vec<ChannelOutput>,
    ) {
        self.negotiation.stalled = None;
        self.ask_signer_to_close(
            AskedSignature {
                content,
                outputs,
                range,
                theirs,
            },
            out,
        );
    }

    fn ask_signer_to_close(&mut self, asked: AskedSignature, out: &mut Vec<ChannelOutput>) {
        out.push(ChannelOutput::AskSign(Box::new(SigningRequest::Closing(
            Box::new(ClosingSigning {
                params: self.core.params,
                content: asked.content.clone(),
                outputs: asked.outputs,
            }),
        ))));
        self.negotiation.asked = Some(asked);
    }

    /// Our signature has come: it goes out, and with the peer's on the same transaction the channel is
    /// closed.
    pub(crate) fn closing_signature_ready(
        &mut self,
        request: &ClosingSigning,
        answer: &SigningAnswer,
        out: &mut Vec<ChannelOutput>,
    ) {
        let is_asked = self.negotiation.asked.as_ref().is_some_and(|asked| {
            asked.content == request.content && asked.outputs == request.outputs
        });
        if !is_asked {
            return;
        }
        if let SigningAnswer::Refused(refusal) = answer {
            return self.block_by_signer(&alloc::format!("the signer refused: {refusal}"), out);
        }
        let Some(asked) = self.negotiation.asked.take() else {
            return;
        };
        let SigningAnswer::Signature(ours) = answer else {
            self.negotiation.stalled = Some(asked);
            return;
        };
        let fee = asked.content.fee;
        let is_new = self.negotiation.last_sent != Some(fee);
        self.negotiation.last_sent = Some(fee);
        self.negotiation.sent_range = Some(asked.range);
        if self.link == Link::Up && is_new {
            out.push(Self::send(ClosingSigned {
                channel_id: self.core.channel_id,
                fee_satoshis: fee,
                signature: *ours,
                fee_range: Some(asked.range),
            }));
        }
        if let Some(theirs) = asked.theirs
            && let Ok(built) = asked.content.build(&self.core.params, asked.outputs)
        {
            let tx = built.signed(&self.core.params, ours, &theirs);
            self.core.mutual_close = Some(tx.clone());
            self.touch();
            out.push(ChannelOutput::BroadcastClosing(tx));
        }
    }

    pub(crate) fn on_closing_signed(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: &ClosingSigned,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        if !self.is_ready_to_close() {
            return Err(Rule::ClosingTooEarly);
        }
        let fee = m.fee_satoshis;
        let content = self.closing_content(fee).ok_or(Rule::ClosingTooEarly)?;
        let built = self.signed_variant(ctx, &content, &m.signature)?;
        if !self.core.closing_received {
            self.core.closing_received = true;
            self.touch();
        }
        if self.negotiation.agreed {
            return Ok(());
        }
        let (ideal, ours) = self.acceptable_fees(ctx).ok_or(Rule::ClosingTooEarly)?;
        let previous = self.negotiation.last_received.replace(fee);
        let reply = self.reply_to(fee, m.fee_range, previous, ideal, ours)?;
        if reply == fee {
            self.negotiation.agreed = true;
            self.ask_closing_signature(content, built.outputs, ours, Some(m.signature), out);
        } else {
            self.propose(reply, ours, out);
        }
        Ok(())
    }

    /// The transaction that the peer's signature is for. It may leave out its own output, and ours where
    /// that is dust.
    fn signed_variant(
        &self,
        ctx: &ChannelContext<'_>,
        content: &ClosingContent,
        signature: &Signature,
    ) -> Result<BuiltClosing, Rule> {
        let params = &self.core.params;
        let variants = [
            ClosingOutputs::Both,
            ClosingOutputs::Only(Side::Local),
            ClosingOutputs::Only(Side::Remote),
        ];
        let built = variants
            .into_iter()
            .filter_map(|outputs| content.build(params, outputs).ok())
            .find(|built| built.is_signed_by_peer(ctx.secp, params, signature))
            .ok_or(Rule::ClosingSignature)?;
        if built.outputs == ClosingOutputs::Only(Side::Remote) {
            let ours = content
                .value_of(params, Side::Local)
                .map_err(|_| Rule::ClosingSignature)?;
            let dust = params
                .remote
                .dust_limit
                .max(dust_threshold(&content.local_script));
            if ours >= dust {
                return Err(Rule::ClosingSignature);
            }
        }
        // BOLT 2: an output below the dust limit of its script fails the channel: it would not relay.
        let is_dust = built
            .tx
            .output
            .iter()
            .any(|output| output.value < dust_threshold(&output.script_pubkey));
        if is_dust {
            return Err(Rule::ClosingDust);
        }
        Ok(built)
    }

    /// The fee to answer with; the same one to agree.
    fn reply_to(
        &self,
        fee: Amount,
        theirs: Option<FeeRange>,
        previous: Option<Amount>,
        ideal: Amount,
        ours: FeeRange,
    ) -> Result<Amount, Rule> {
        let is_within =
            |range: &FeeRange| (range.min_fee_satoshis..=range.max_fee_satoshis).contains(&fee);
        let last_sent = self.negotiation.last_sent;
        if last_sent == Some(fee) || self.negotiation.sent_range.as_ref().is_some_and(is_within) {
            return Ok(fee);
        }
        let Some(theirs) = theirs else {
            return self.reply_without_range(fee, previous, ideal, ours);
        };
        let least = ours.min_fee_satoshis.max(theirs.min_fee_satoshis);
        let most = ours.max_fee_satoshis.min(theirs.max_fee_satoshis);
        if least > most {
            return Err(Rule::ClosingNoOverlap);
        }
        if self.core.params.opener == Side::Local {
            // BOLT 2: the funder takes a fee in the overlap and fails the channel for any other.
            return if (least..=most).contains(&fee) {
                Ok(fee)
            } else {
                Err(Rule::ClosingFeeOutsideRange)
            };
        }
        if last_sent.is_some() {
            return Err(Rule::ClosingFeeOutsideRange);
        }
        if (least..=most).contains(&fee) {
            Ok(fee)
        } else {
            Ok(ideal.clamp(least, most))
        }
    }

    /// The old way: strictly between the last two, until they meet.
    fn reply_without_range(
        &self,
        fee: Amount,
        previous: Option<Amount>,
        ideal: Amount,
        ours: FeeRange,
    ) -> Result<Amount, Rule> {
        let acceptable = (ours.min_fee_satoshis..=ours.max_fee_satoshis).contains(&fee);
        let Some(last_sent) = self.negotiation.last_sent else {
            return Ok(if acceptable { fee } else { ideal });
        };
        if let Some(previous) = previous {
            let (low, high) = (last_sent.min(previous), last_sent.max(previous));
            if fee <= low || fee >= high {
                return Err(Rule::ClosingFeeNotBetween);
            }
        }
        if acceptable {
            return Ok(fee);
        }
        let (low, high) = (last_sent.min(fee), last_sent.max(fee));
        let middle = Amount::from_sat(low.to_sat().midpoint(high.to_sat()))
            .clamp(ours.min_fee_satoshis, ours.max_fee_satoshis);
        if low < middle && middle < high {
            Ok(middle)
        } else {
            Err(Rule::ClosingNoOverlap)
        }
    }

    /// A signer that could not answer is asked again.
    pub(crate) fn retry_closing(&mut self, out: &mut Vec<ChannelOutput>) {
        if let Some(asked) = self.negotiation.stalled.take() {
            self.ask_signer_to_close(asked, out);
        }
    }

    /// Whether the peer has not closed with us within the time that we give it.
    pub(crate) fn is_closing_overdue(&self, ctx: &ChannelContext<'_>) -> bool {
        self.is_ready_to_close()
            && self.core.mutual_close.is_none()
            && self.negotiation.since.is_some_and(|since| {
                ctx.now.millis_since(since) >= ctx.config.closing_timeout_millis
            })
    }
}
