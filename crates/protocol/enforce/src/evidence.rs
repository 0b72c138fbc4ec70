//! What a resolution is made from: the channel's data at the moment it is handed over.

use alloc::vec::Vec;

use bitcoin::ScriptBuf;
use fulmen_tx::{
    ChannelParameters, CommitmentHtlc, CommitmentSecrets, CounterpartyCommitment, HolderCommitment,
    Side,
};
use fulmen_types::{
    PaymentPreimage,
    codec::{Decode, DecodeError, Encode, Reader, decode_list},
};

/// All that enforcing one channel takes, besides the records of the peer's revoked commitments.
///
/// It is a copy that no longer changes: from the handover on the channel neither signs nor revokes.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The channel's parameters.
    pub params: ChannelParameters,
    /// Our newest durable commitment, with the peer's signatures; `None` if it must never be broadcast
    /// (stale state) or isn't known (a watchtower).
    pub holder: Option<HolderCommitment>,
    /// The peer's unrevoked commitments: the current one, then the next one if it is signed.
    pub counterparty: Vec<CounterpartyCommitment>,
    /// The secrets that the peer has revealed.
    pub secrets: CommitmentSecrets,
    /// The preimages known of any HTLC of the channel: those that we may claim with and those of HTLCs that
    /// we offered and that are fulfilled already.
    pub preimages: Vec<PaymentPreimage>,
    /// A script of our wallet: where everything goes, change too.
    pub sweep_script: ScriptBuf,
    /// The scripts of both `shutdown` messages, as far as exchanged: a spend that pays only these is the
    /// mutual close.
    pub shutdown_scripts: Vec<ScriptBuf>,
}

impl Evidence {
    /// Every HTLC of an unrevoked commitment, once each, those of ours first: the id is unique per side that offered.
    pub(crate) fn htlcs(&self) -> Vec<&CommitmentHtlc> {
        let contents = self
            .holder
            .iter()
            .map(|c| &c.content)
            .chain(self.counterparty.iter().map(|c| &c.content));
        let mut seen = alloc::collections::BTreeSet::new();
        contents
            .flat_map(|content| &content.htlcs)
            .filter(|htlc| seen.insert((htlc.offered_by == Side::Local, htlc.id)))
            .collect()
    }
}

const VERSION: u8 = 1;

impl Encode for Evidence {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.params.encode(out);
        self.holder.encode(out);
        self.counterparty.encode(out);
        self.secrets.encode(out);
        self.preimages.encode(out);
        self.sweep_script.encode(out);
        self.shutdown_scripts.encode(out);
    }
}

impl Decode for Evidence {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != VERSION {
            return Err(DecodeError::InvalidValue(
                "unknown version of an enforcement record",
            ));
        }
        Ok(Self {
            params: Decode::decode(r)?,
            holder: Decode::decode(r)?,
            counterparty: decode_list(r)?,
            secrets: Decode::decode(r)?,
            preimages: decode_list(r)?,
            sweep_script: Decode::decode(r)?,
            shutdown_scripts: decode_list(r)?,
        })
    }
}
