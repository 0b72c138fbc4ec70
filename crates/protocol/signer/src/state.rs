//! The little that a signer must remember to refuse what would lose money.

use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;

use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::{PublicKey, SecretKey},
};
use fulmen_tx::{ChannelKeysId, ChannelParameters, Secp};
use fulmen_types::{
    CommitmentNumber,
    codec::{BigSize, Decode, DecodeError, Encode, Reader, decode_list},
};

use crate::{
    CommitmentSigning, HolderSigning, Refusal, Revocation, Signer, SigningAnswer, SigningRequest,
    policy,
};

const VERSION: u8 = 2;

/// Stands before a [`Signer`] and refuses what must never be signed or revealed:
///
/// - a channel's parameters other than those first seen, or with keys as ours that are not;
/// - two different commitments of the peer with one number, or one out of order;
/// - a commitment of the peer's before it has revoked the one two before;
/// - the secret of our commitment before the next one, with the peer's valid signatures, was seen;
/// - our commitment once revoked; a secret once that commitment, or an earlier one, is signed for
///   broadcast.
///
/// It knows a channel from the first request on. Started empty it learns again and so forgets what came
/// before: keep [`Encode::to_bytes`] where the node can't reach it, written before an answer leaves, for
/// a signer that does not trust the node.
#[derive(Clone)]
pub struct SignerState {
    secp: Secp,
    channels: BTreeMap<ChannelKeysId, ChannelState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ChannelState {
    params: ChannelParameters,
    /// The peer's newest commitment that is signed.
    counterparty: Option<SignedCommitment>,
    /// The point of the one before, if this one was seen.
    previous_point: Option<PublicKey>,
    /// The peer's newest commitment whose secret is known.
    counterparty_revoked: Option<CommitmentNumber>,
    /// Our newest commitment that the peer has signed.
    validated: Option<CommitmentNumber>,
    /// Our newest commitment whose secret is out.
    revoked: Option<CommitmentNumber>,
    /// Our oldest commitment that is signed for broadcast.
    broadcast: Option<CommitmentNumber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SignedCommitment {
    number: CommitmentNumber,
    /// The hash of what it says.
    digest: [u8; 32],
    point: PublicKey,
}

impl SignerState {
    /// Knows no channel yet.
    pub fn new() -> Self {
        Self {
            secp: Secp::new(),
            channels: BTreeMap::new(),
        }
    }

    /// Judges the request, has it answered, and remembers. What `signer` answers with
    /// [`SigningAnswer::Unavailable`] counts as signed.
    pub fn answer(&mut self, signer: &dyn Signer, request: &SigningRequest) -> SigningAnswer {
        if let SigningRequest::Counters { keys_id } = request {
            return self.counters(keys_id);
        }
        let next = match self.judge(signer, request) {
            Ok(next) => next,
            Err(refusal) => return SigningAnswer::Refused(refusal),
        };
        let answer = signer.answer(request);
        if let Some(next) = next
            && !matches!(answer, SigningAnswer::Refused(_))
        {
            self.channels.insert(next.params.keys_id, next);
        }
        answer
    }

    fn counters(&self, keys_id: &ChannelKeysId) -> SigningAnswer {
        let channel = self.channels.get(keys_id);
        SigningAnswer::Counters {
            holder: channel.and_then(|channel| channel.validated),
            counterparty: channel.and_then(|c| Some(c.counterparty?.number)),
        }
    }

    /// Forgets a channel: it is closed, and all is resolved 100 blocks deep.
    pub fn forget(&mut self, keys_id: &ChannelKeysId) {
        self.channels.remove(keys_id);
    }

    /// What the channel's state becomes by this request; `None` when it does not matter.
    fn judge(
        &self,
        signer: &dyn Signer,
        request: &SigningRequest,
    ) -> Result<Option<ChannelState>, Refusal> {
        match request {
            SigningRequest::CounterpartyCommitment(signing) => {
                let channel = self.channel(signer, &signing.params)?;
                channel.sign_counterparty(signing).map(Some)
            }
            SigningRequest::ValidateHolder(signing) => {
                let channel = self.channel(signer, &signing.params)?;
                self.validate(signer, channel, signing).map(Some)
            }
            SigningRequest::ValidateRevocation {
                keys_id,
                revocation,
            } => match self.channels.get(keys_id) {
                Some(channel) => channel
                    .clone()
                    .take_revocation(&self.secp, revocation)
                    .map(Some),
                // What it does not know it can't judge: the request that follows makes it known.
                None => Ok(None),
            },
            SigningRequest::RevealSecret { keys_id, number } => {
                let channel = self
                    .channels
                    .get(keys_id)
                    .ok_or(Refusal::SuccessorNotValidated(*number))?;
                channel.clone().reveal(*number).map(Some)
            }
            SigningRequest::HolderCommitment(signing) => {
                let channel = self.channel(signer, &signing.params)?;
                channel
                    .sign_holder(signing.commitment.content.number)
                    .map(Some)
            }
            SigningRequest::Closing(signing) => {
                policy::check_closing(&signing.params, &signing.content, signing.outputs)
                    .map_err(Refusal::Policy)?;
                self.channel(signer, &signing.params).map(Some)
            }
            SigningRequest::Claim(signing) => self.channel(signer, &signing.params).map(Some),
            SigningRequest::ChannelAnnouncement { .. }
            | SigningRequest::NodeAnnouncement(_)
            | SigningRequest::ChannelUpdate(_)
            | SigningRequest::Invoice { .. }
            | SigningRequest::PerCommitmentPoint { .. }
            | SigningRequest::ChannelPublicKeys { .. }
            | SigningRequest::Ecdh { .. }
            | SigningRequest::CheckOwnSecret { .. }
            | SigningRequest::Counters { .. } => Ok(None),
        }
    }

    /// The channel as known, or as first seen, its keys being ours.
    fn channel(
        &self,
        signer: &dyn Signer,
        params: &ChannelParameters,
    ) -> Result<ChannelState, Refusal> {
        let keys_id = params.keys_id;
        if let Some(known) = self.channels.get(&keys_id) {
            return if known.params == *params {
                Ok(known.clone())
            } else {
                Err(Refusal::ParametersChanged)
            };
        }
        match signer.answer(&SigningRequest::ChannelPublicKeys { keys_id }) {
            SigningAnswer::ChannelPublicKeys(keys) if *keys == params.local.keys => {
                Ok(ChannelState {
                    params: *params,
                    counterparty: None,
                    previous_point: None,
                    counterparty_revoked: None,
                    validated: None,
                    revoked: None,
                    broadcast: None,
                })
            }
            _ => Err(Refusal::ForeignKeys),
        }
    }

    fn validate(
        &self,
        signer: &dyn Signer,
        mut channel: ChannelState,
        signing: &HolderSigning,
    ) -> Result<ChannelState, Refusal> {
        let (params, commitment) = (&signing.params, &signing.commitment);
        let number = commitment.content.number;
        policy::check_conserved(params, &commitment.content).map_err(Refusal::Policy)?;
        let point = signer.answer(&SigningRequest::PerCommitmentPoint {
            keys_id: params.keys_id,
            number,
        });
        if point != SigningAnswer::Point(commitment.per_commitment_point) {
            return Err(Refusal::ForeignKeys);
        }
        commitment
            .build(&self.secp, params)
            .verify(
                &self.secp,
                params,
                &commitment.counterparty_signature,
                &commitment.htlc_signatures,
            )
            .map_err(|_| Refusal::InvalidPeerSignature)?;
        channel.validated = channel.validated.max(Some(number));
        Ok(channel)
    }
}

impl ChannelState {
    fn sign_counterparty(mut self, signing: &CommitmentSigning) -> Result<Self, Refusal> {
        if let Some(number) = self.broadcast {
            return Err(Refusal::SignedForBroadcast(number));
        }
        policy::check_conserved(&self.params, &signing.commitment.content)
            .map_err(Refusal::Policy)?;
        let asked = signing.commitment.content.number;
        let digest = sha256::Hash::hash(&signing.commitment.to_bytes()).to_byte_array();
        let signed = SignedCommitment {
            number: asked,
            digest,
            point: signing.commitment.per_commitment_point,
        };
        if let Some(last) = self.counterparty {
            if asked == last.number {
                return if digest == last.digest {
                    Ok(self)
                } else {
                    Err(Refusal::DifferentCommitment(asked))
                };
            }
            if Some(asked) != last.number.next() {
                let last = last.number;
                return Err(Refusal::CommitmentOutOfOrder { asked, last });
            }
            // BOLT 2: no more than two commitments of a side are not revoked.
            if let Some(before) = last.number.previous()
                && self.previous_point.is_some()
                && self.counterparty_revoked < Some(before)
            {
                return Err(Refusal::NotRevoked(before));
            }
            self.previous_point = Some(last.point);
        }
        self.counterparty = Some(signed);
        Ok(self)
    }

    fn take_revocation(mut self, secp: &Secp, revocation: &Revocation) -> Result<Self, Refusal> {
        let number = revocation.number;
        if self.counterparty_revoked >= Some(number) {
            return Ok(self);
        }
        let wrong = Refusal::WrongRevocation(number);
        let last = self.counterparty.ok_or(wrong)?;
        let point = if last.number == number {
            last.point
        } else if last.number.previous() == Some(number) {
            match self.previous_point {
                Some(point) => point,
                // Signed before this state began.
                None => return Ok(self),
            }
        } else {
            return Err(wrong);
        };
        let secret =
            SecretKey::from_slice(&revocation.secret.to_byte_array()).map_err(|_| wrong)?;
        if PublicKey::from_secret_key(secp, &secret) != point {
            return Err(wrong);
        }
        self.counterparty_revoked = Some(number);
        Ok(self)
    }

    fn reveal(mut self, number: CommitmentNumber) -> Result<Self, Refusal> {
        if let Some(signed) = self.broadcast
            && signed <= number
        {
            return Err(Refusal::SignedForBroadcast(signed));
        }
        if self.validated <= Some(number) {
            return Err(Refusal::SuccessorNotValidated(number));
        }
        self.revoked = self.revoked.max(Some(number));
        Ok(self)
    }

    fn sign_holder(mut self, number: CommitmentNumber) -> Result<Self, Refusal> {
        if self.revoked >= Some(number) {
            return Err(Refusal::AlreadyRevoked(number));
        }
        self.broadcast = Some(self.broadcast.map_or(number, |signed| signed.min(number)));
        Ok(self)
    }
}

impl Default for SignerState {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SignerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignerState")
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl PartialEq for SignerState {
    fn eq(&self, other: &Self) -> bool {
        self.channels == other.channels
    }
}

impl Eq for SignerState {}

impl Encode for SignedCommitment {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.digest.encode(out);
        self.point.encode(out);
    }
}

impl Decode for SignedCommitment {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: Decode::decode(r)?,
            digest: Decode::decode(r)?,
            point: Decode::decode(r)?,
        })
    }
}

impl Encode for ChannelState {
    fn encode(&self, out: &mut Vec<u8>) {
        self.params.encode(out);
        self.counterparty.encode(out);
        self.previous_point.encode(out);
        self.counterparty_revoked.encode(out);
        self.validated.encode(out);
        self.revoked.encode(out);
        self.broadcast.encode(out);
    }
}

impl Decode for ChannelState {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            params: Decode::decode(r)?,
            counterparty: Decode::decode(r)?,
            previous_point: Decode::decode(r)?,
            counterparty_revoked: Decode::decode(r)?,
            validated: Decode::decode(r)?,
            revoked: Decode::decode(r)?,
            broadcast: Decode::decode(r)?,
        })
    }
}

/// A version byte, then the channels.
impl Encode for SignerState {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        // The form of a list. A usize always fits: nothing holds more than 2^64 channels.
        BigSize(self.channels.len() as u64).encode(out);
        for channel in self.channels.values() {
            channel.encode(out);
        }
    }
}

impl Decode for SignerState {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != VERSION {
            return Err(DecodeError::InvalidValue("signer state of another version"));
        }
        let channels: Vec<ChannelState> = decode_list(r)?;
        Ok(Self {
            secp: Secp::new(),
            channels: channels
                .into_iter()
                .map(|channel| (channel.params.keys_id, channel))
                .collect(),
        })
    }
}
