//! One HTLC: its life as one enum and one table, and its record.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::secp256k1::PublicKey;
use fulmen_tx::Side;
use fulmen_types::{
    CltvExpiry, HtlcId, Msat, PaymentHash, PaymentPreimage,
    codec::{Decode, DecodeError, Encode, Reader, U16Bytes},
};

/// Bytes of an `onion_routing_packet` of a payment (BOLT 4).
pub const ONION_LEN: usize = 1366;

/// Where an HTLC or a feerate is on its way through the two commitments, told from its offerer's side:
/// the receiver's commitment is signed by the offerer and the other way round (BOLT 2, Normal Operation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum UpdateState {
    /// The offerer sent it; no signature covers it. Lost on disconnect.
    Add = 1,
    /// In the receiver's next commitment.
    AddCommit = 2,
    /// The receiver has revoked its commitment without it.
    AddRevocation = 3,
    /// In the offerer's next commitment as well.
    AddAckCommit = 4,
    /// Irrevocable: both have revoked every commitment without it.
    AddAckRevocation = 5,
    /// The receiver sent its removal; no signature covers that. Reversed on disconnect.
    Remove = 6,
    /// Gone from the offerer's next commitment.
    RemoveCommit = 7,
    /// The offerer has revoked its commitment with it.
    RemoveRevocation = 8,
    /// Gone from the receiver's next commitment as well.
    RemoveAckCommit = 9,
    /// Irrevocably removed.
    RemoveAckRevocation = 10,
}

/// One of the two ends of an update, as the table knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The end that sent the update that began it.
    Offerer,
    /// The other end.
    Receiver,
}

/// What takes an update from one state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `commitment_signed` by that end; it signs the other's commitment.
    Commit(Role),
    /// `revoke_and_ack` by that end.
    Revoke(Role),
    /// `update_fulfill_htlc`, `update_fail_htlc` or `update_fail_malformed_htlc` by the receiver.
    Remove,
}

/// Whether a commitment has an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Not yet.
    Before,
    /// Yes.
    In,
    /// Not any more.
    After,
}

struct Row {
    state: UpdateState,
    /// In the receiver's newest commitment.
    receiver: Presence,
    /// In the offerer's newest commitment.
    offerer: Presence,
    /// What happens next, and where it leads.
    next: Option<(Step, UpdateState)>,
}

/// The life of an HTLC. A feerate walks the first five rows.
const TABLE: [Row; 10] = {
    use Presence::{After, Before, In};
    use Role::{Offerer, Receiver};
    use Step::{Commit, Revoke};
    use UpdateState::{
        Add, AddAckCommit, AddAckRevocation, AddCommit, AddRevocation, Remove, RemoveAckCommit,
        RemoveAckRevocation, RemoveCommit, RemoveRevocation,
    };
    const fn row(
        state: UpdateState,
        receiver: Presence,
        offerer: Presence,
        next: Option<(Step, UpdateState)>,
    ) -> Row {
        Row {
            state,
            receiver,
            offerer,
            next,
        }
    }
    [
        row(Add, Before, Before, Some((Commit(Offerer), AddCommit))),
        row(
            AddCommit,
            In,
            Before,
            Some((Revoke(Receiver), AddRevocation)),
        ),
        row(
            AddRevocation,
            In,
            Before,
            Some((Commit(Receiver), AddAckCommit)),
        ),
        row(
            AddAckCommit,
            In,
            In,
            Some((Revoke(Offerer), AddAckRevocation)),
        ),
        row(AddAckRevocation, In, In, Some((Step::Remove, Remove))),
        row(Remove, In, In, Some((Commit(Receiver), RemoveCommit))),
        row(
            RemoveCommit,
            In,
            After,
            Some((Revoke(Offerer), RemoveRevocation)),
        ),
        row(
            RemoveRevocation,
            In,
            After,
            Some((Commit(Offerer), RemoveAckCommit)),
        ),
        row(
            RemoveAckCommit,
            After,
            After,
            Some((Revoke(Receiver), RemoveAckRevocation)),
        ),
        row(RemoveAckRevocation, After, After, None),
    ]
};

impl UpdateState {
    /// The table's row; the numbers of the states are their places in it.
    fn row(self) -> &'static Row {
        &TABLE[usize::from(self as u8) - 1]
    }

    /// The state after `step`; the same one when the step does not concern it.
    pub(crate) fn after(self, step: Step) -> Self {
        match self.row().next {
            Some((expected, next)) if expected == step => next,
            _ => self,
        }
    }

    /// Whether `step` would move it on.
    pub(crate) fn is_moved_by(self, step: Step) -> bool {
        self.after(step) != self
    }

    /// The state before `step`, when `step` is what led here; the same one otherwise.
    pub(crate) fn before(self, step: Step) -> Self {
        TABLE
            .iter()
            .find(|row| row.next == Some((step, self)))
            .map_or(self, |row| row.state)
    }

    /// Whether the newest commitment of that end has it.
    pub(crate) fn presence(self, owner: Role) -> Presence {
        match owner {
            Role::Offerer => self.row().offerer,
            Role::Receiver => self.row().receiver,
        }
    }

    /// From the number on disk.
    fn from_u8(value: u8) -> Option<Self> {
        TABLE
            .iter()
            .map(|row| row.state)
            .find(|state| *state as u8 == value)
    }
}

impl Encode for UpdateState {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for UpdateState {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_u8(u8::decode(r)?).ok_or(DecodeError::InvalidValue("state of an update"))
    }
}

/// Which end of an update is `side`.
pub(crate) const fn role_of(side: Side, offered_by: Side) -> Role {
    match (side, offered_by) {
        (Side::Local, Side::Local) | (Side::Remote, Side::Remote) => Role::Offerer,
        (Side::Local, Side::Remote) | (Side::Remote, Side::Local) => Role::Receiver,
    }
}

/// How an incoming HTLC ends: decided once, durable in its record, said whenever the channel may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HtlcResolution {
    /// With the preimage.
    Fulfil(PaymentPreimage),
    /// With an encrypted failure packet (BOLT 4).
    Fail(Vec<u8>),
    /// Because its onion could not be read.
    FailMalformed {
        /// The failure code; it has the `BADONION` bit.
        failure_code: u16,
        /// The hash of the onion that we got, or zeros.
        sha256_of_onion: [u8; 32],
    },
}

/// Why an HTLC that we offered did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HtlcFailure {
    /// The peer's encrypted failure packet, to be unwrapped by the payer or wrapped once more upstream.
    Packet(Vec<u8>),
    /// The peer could not read the onion.
    Malformed {
        /// Its failure code.
        failure_code: u16,
        /// The hash of the onion that it says it got.
        sha256_of_onion: [u8; 32],
    },
    /// The HTLC was in no commitment: the connection or the channel ended before we signed it.
    NeverCommitted,
}

/// How the peer removed an HTLC of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Fulfilled,
    Failed(HtlcFailure),
}

/// What is particular to the direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HtlcKind {
    Outgoing {
        /// Opaque to the channel: where the HTLC came from.
        link: Vec<u8>,
        /// As soon as it is seen, and never unlearned.
        preimage: Option<PaymentPreimage>,
        /// How the peer removed it; there from state `Remove` on.
        removal: Option<Removal>,
    },
    Incoming {
        /// Above the dust exposure limit when it arrived: to be failed once committed.
        dust_exposed: bool,
        resolution: Option<HtlcResolution>,
    },
}

/// Names an HTLC within a channel: who offered it, and its id. Hash and amount don't: two can share both.
pub(crate) type HtlcKey = (Side, HtlcId);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Htlc {
    pub(crate) id: HtlcId,
    pub(crate) amount: Msat,
    pub(crate) payment_hash: PaymentHash,
    pub(crate) cltv_expiry: CltvExpiry,
    /// Kept as long as it may have to be said again: until the peer has it for good, or we have decided.
    pub(crate) onion: Option<Box<[u8; ONION_LEN]>>,
    pub(crate) path_key: Option<PublicKey>,
    pub(crate) state: UpdateState,
    pub(crate) kind: HtlcKind,
}

impl Htlc {
    pub(crate) const fn offered_by(&self) -> Side {
        match self.kind {
            HtlcKind::Outgoing { .. } => Side::Local,
            HtlcKind::Incoming { .. } => Side::Remote,
        }
    }

    /// Whether it was or is being removed with the preimage, so that its amount goes to the receiver.
    pub(crate) fn is_fulfilled(&self) -> bool {
        match &self.kind {
            HtlcKind::Outgoing { removal, .. } => matches!(removal, Some(Removal::Fulfilled)),
            HtlcKind::Incoming { resolution, .. } => {
                matches!(resolution, Some(HtlcResolution::Fulfil(_)))
            }
        }
    }

    pub(crate) const fn key(&self) -> HtlcKey {
        (self.offered_by(), self.id)
    }

    /// What is on disk of it: removals that no signature covers are not.
    pub(crate) fn durable(&self) -> Self {
        let mut htlc = self.clone();
        htlc.revert_uncommitted_removal();
        htlc
    }

    /// BOLT 2, Message Retransmission: updates that no `commitment_signed` covers are reversed. The
    /// preimage stays.
    pub(crate) fn revert_uncommitted_removal(&mut self) {
        if self.state != UpdateState::Remove {
            return;
        }
        self.state = UpdateState::AddAckRevocation;
        if let HtlcKind::Outgoing { removal, .. } = &mut self.kind {
            *removal = None;
        }
    }
}

impl Encode for HtlcResolution {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fulfil(preimage) => {
                out.push(0);
                preimage.encode(out);
            }
            Self::Fail(packet) => {
                out.push(1);
                U16Bytes(packet.clone()).encode(out);
            }
            Self::FailMalformed {
                failure_code,
                sha256_of_onion,
            } => {
                out.push(2);
                failure_code.encode(out);
                sha256_of_onion.encode(out);
            }
        }
    }
}

impl Decode for HtlcResolution {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            0 => Self::Fulfil(Decode::decode(r)?),
            1 => Self::Fail(U16Bytes::decode(r)?.0),
            2 => Self::FailMalformed {
                failure_code: Decode::decode(r)?,
                sha256_of_onion: Decode::decode(r)?,
            },
            _ => return Err(DecodeError::InvalidValue("resolution of an HTLC")),
        })
    }
}

impl Encode for Removal {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fulfilled => out.push(0),
            Self::Failed(HtlcFailure::Packet(packet)) => {
                out.push(1);
                U16Bytes(packet.clone()).encode(out);
            }
            Self::Failed(HtlcFailure::Malformed {
                failure_code,
                sha256_of_onion,
            }) => {
                out.push(2);
                failure_code.encode(out);
                sha256_of_onion.encode(out);
            }
            Self::Failed(HtlcFailure::NeverCommitted) => out.push(3),
        }
    }
}

impl Decode for Removal {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            0 => Self::Fulfilled,
            1 => Self::Failed(HtlcFailure::Packet(U16Bytes::decode(r)?.0)),
            2 => Self::Failed(HtlcFailure::Malformed {
                failure_code: Decode::decode(r)?,
                sha256_of_onion: Decode::decode(r)?,
            }),
            3 => Self::Failed(HtlcFailure::NeverCommitted),
            _ => return Err(DecodeError::InvalidValue("removal of an HTLC")),
        })
    }
}

/// Version 1 of the record.
const VERSION: u8 = 1;

impl Encode for Htlc {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.id.encode(out);
        self.state.encode(out);
        self.amount.encode(out);
        self.payment_hash.encode(out);
        self.cltv_expiry.encode(out);
        self.onion.encode(out);
        self.path_key.encode(out);
        match &self.kind {
            HtlcKind::Outgoing {
                link,
                preimage,
                removal,
            } => {
                out.push(0);
                U16Bytes(link.clone()).encode(out);
                preimage.encode(out);
                removal.encode(out);
            }
            HtlcKind::Incoming {
                dust_exposed,
                resolution,
            } => {
                out.push(1);
                dust_exposed.encode(out);
                resolution.encode(out);
            }
        }
    }
}

impl Decode for Htlc {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != VERSION {
            return Err(DecodeError::InvalidValue("version of an HTLC record"));
        }
        Ok(Self {
            id: Decode::decode(r)?,
            state: Decode::decode(r)?,
            amount: Decode::decode(r)?,
            payment_hash: Decode::decode(r)?,
            cltv_expiry: Decode::decode(r)?,
            onion: Decode::decode(r)?,
            path_key: Decode::decode(r)?,
            kind: match u8::decode(r)? {
                0 => HtlcKind::Outgoing {
                    link: U16Bytes::decode(r)?.0,
                    preimage: Decode::decode(r)?,
                    removal: Decode::decode(r)?,
                },
                1 => HtlcKind::Incoming {
                    dust_exposed: Decode::decode(r)?,
                    resolution: Decode::decode(r)?,
                },
                _ => return Err(DecodeError::InvalidValue("direction of an HTLC")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_one_path_through_all_states() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.state as usize, index + 1);
            match row.next {
                Some((step, next)) => {
                    assert_eq!(next as usize, index + 2);
                    assert_eq!(row.state.after(step), next);
                    assert_eq!(next.before(step), row.state);
                }
                None => assert_eq!(row.state, UpdateState::RemoveAckRevocation),
            }
        }
    }

    #[test]
    fn only_a_signature_changes_a_commitment_and_only_the_one_it_signs() {
        for row in &TABLE {
            let Some((step, next)) = row.next else {
                continue;
            };
            let receiver_changes = row.receiver != next.row().receiver;
            let offerer_changes = row.offerer != next.row().offerer;
            assert_eq!(
                receiver_changes,
                step == Step::Commit(Role::Offerer),
                "{:?}",
                row.state
            );
            assert_eq!(
                offerer_changes,
                step == Step::Commit(Role::Receiver),
                "{:?}",
                row.state
            );
        }
    }
}
