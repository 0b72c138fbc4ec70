//! Errors: what the peer did wrong and what follows, what a command asked for in vain.

use alloc::string::String;
use core::fmt;

use bitcoin::Amount;
use fulmen_types::{
    ChannelId, Msat,
    codec::{Decode, DecodeError, Encode, Reader},
};
use fulmen_wire::Message;

/// What BOLT 2 asks for when a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Send `warning` and go on.
    Warn,
    /// Send `warning` and close the connection: what is not committed is dropped, the channel lives.
    WarnAndClose,
    /// Send `error` and fail the channel.
    Fail,
    /// Send `error` and wait for the peer's: it is behind and may repair its state first.
    ErrorAndWait,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $remedy:ident, $text:literal;)*) => {
        /// A rule of BOLT 2 that a peer can break. The numbers are on disk.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rule { $($(#[$doc])* $name = $number),* }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What follows from breaking it.
            pub const fn remedy(self) -> Remedy {
                match self { $(Self::$name => Remedy::$remedy),* }
            }

            /// The rule in words, with the message that it is about.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

rules! {
    /// `chain_hash`.
    UnknownChain = 1, Fail, "open_channel: chain_hash is not our chain";
    /// `push_msat`.
    PushTooLarge = 2, Fail, "open_channel: push_msat is more than the channel holds";
    /// `funding_satoshis`.
    FundingTooLarge = 3, Fail, "open_channel: funding_satoshis is too large (2^24 and more needs option_support_large_channel)";
    /// `funding_satoshis`.
    FundingTooSmall = 4, Fail, "open_channel: funding_satoshis is below our minimum";
    /// `to_self_delay`.
    DelayTooLong = 5, Fail, "to_self_delay is unreasonably long";
    /// `max_accepted_htlcs`.
    TooManyAcceptedHtlcs = 6, Fail, "max_accepted_htlcs is above 483";
    /// `max_accepted_htlcs`.
    TooFewAcceptedHtlcs = 7, Fail, "max_accepted_htlcs is 0";
    /// `feerate_per_kw`.
    FeerateTooLow = 8, Fail, "open_channel: feerate_per_kw is too low for timely processing";
    /// `feerate_per_kw`.
    FeerateTooHigh = 9, Fail, "open_channel: feerate_per_kw is unreasonably high";
    /// `dust_limit_satoshis`.
    DustLimitTooLow = 10, Fail, "dust_limit_satoshis is below 354";
    /// `dust_limit_satoshis`.
    DustLimitTooHigh = 11, Fail, "dust_limit_satoshis is too large";
    /// `dust_limit_satoshis`.
    DustLimitAboveReserve = 12, Fail, "dust_limit_satoshis is above a channel_reserve_satoshis";
    /// `channel_reserve_satoshis`.
    ReserveTooHigh = 13, Fail, "channel_reserve_satoshis is too large";
    /// Initial balances.
    FunderCannotPayFee = 14, Fail, "open_channel: the funder can't pay the fee of the first commitment";
    /// Initial balances.
    BothBelowReserve = 15, Fail, "open_channel: both balances are at or below channel_reserve_satoshis";
    /// `channel_type`.
    ChannelTypeMissing = 16, Fail, "channel_type is missing";
    /// `channel_type`.
    ChannelTypeUnsuitable = 17, Fail, "channel_type is not suitable";
    /// `channel_type`.
    ZeroConfNotTrusted = 18, Fail, "channel_type has option_zeroconf and we don't trust the opener with it";
    /// `channel_type`.
    ChannelTypeChanged = 19, Fail, "accept_channel: channel_type differs from open_channel";
    /// `minimum_depth`.
    MinimumDepthTooLarge = 20, Fail, "accept_channel: minimum_depth is unreasonably large";
    /// `minimum_depth`.
    MinimumDepthNotZero = 21, Fail, "accept_channel: minimum_depth must be 0 with option_zeroconf";
    /// `htlc_minimum_msat`.
    HtlcMinimumTooLarge = 22, Fail, "htlc_minimum_msat is too large";
    /// `max_htlc_value_in_flight_msat`.
    InFlightTooSmall = 23, Fail, "max_htlc_value_in_flight_msat is too small";
    /// `upfront_shutdown_script`.
    UpfrontScriptInvalid = 24, Fail, "upfront_shutdown_script is in no form that shutdown allows";
    /// A message of another state.
    UnexpectedMessage = 25, WarnAndClose, "a message that this state of the channel does not allow";
    /// `option_dual_fund`.
    DualFundNegotiated = 26, Fail, "open_channel: option_dual_fund is negotiated";
    /// `funding_output_index`, keys.
    InvalidKeys = 27, Fail, "two of the peer's keys, or keys of both ends, are the same";

    /// `funding_created`, `funding_signed`.
    FundingSignature = 30, Fail, "the signature of the first commitment is wrong";
    /// `funding_created`.
    FundingOutpoint = 31, Fail, "funding_created: no transaction has this txid";
    /// `funding_signed`.
    FundingChannelId = 32, Fail, "funding_signed: channel_id is not the funding outpoint's";
    /// On chain.
    FundingOutput = 33, Fail, "the funding transaction does not pay the channel";
    /// `channel_ready`.
    ChannelReadyChanged = 34, WarnAndClose, "channel_ready: second_per_commitment_point differs from the one before";
    /// `announcement_signatures`.
    AnnouncementScid = 35, Warn, "announcement_signatures: short_channel_id is not this channel's";
    /// `announcement_signatures`.
    AnnouncementSignature = 36, WarnAndClose, "announcement_signatures: a signature is wrong";

    /// `update_add_htlc`.
    HtlcAmount = 40, WarnAndClose, "update_add_htlc: amount_msat is 0 or below htlc_minimum_msat";
    /// `update_add_htlc`.
    HtlcUnaffordable = 41, WarnAndClose, "update_add_htlc: the sender can't afford it with reserve, fee and anchors";
    /// `update_add_htlc`.
    HtlcCount = 42, WarnAndClose, "update_add_htlc: more than max_accepted_htlcs";
    /// `update_add_htlc`.
    HtlcInFlight = 43, WarnAndClose, "update_add_htlc: more than max_htlc_value_in_flight_msat";
    /// `update_add_htlc`.
    HtlcExpiryInSeconds = 44, WarnAndClose, "update_add_htlc: cltv_expiry is 500000000 or more";
    /// `update_add_htlc`.
    HtlcId = 45, WarnAndClose, "update_add_htlc: id is not the next one";
    /// `update_add_htlc`.
    AddAfterShutdown = 46, Fail, "update_add_htlc after shutdown";
    /// `update_fulfill_htlc`, `update_fail_htlc`, `update_fail_malformed_htlc`.
    UnknownHtlc = 47, WarnAndClose, "an update removes an HTLC that is not irrevocably committed or is removed already";
    /// `update_fulfill_htlc`.
    WrongPreimage = 48, WarnAndClose, "update_fulfill_htlc: the preimage does not open payment_hash";
    /// `update_fail_malformed_htlc`.
    NotBadOnion = 49, WarnAndClose, "update_fail_malformed_htlc: failure_code has no BADONION bit";
    /// `update_fee`.
    FeeFromFundee = 50, WarnAndClose, "update_fee: only the opener of the channel may send it";
    /// `update_fee`.
    UpdateFeerateTooLow = 51, WarnAndClose, "update_fee: feerate_per_kw is too low for timely processing";
    /// `update_fee`.
    UpdateFeerateTooHigh = 52, WarnAndClose, "update_fee: feerate_per_kw is unreasonably high";
    /// `update_fee`.
    FeeUnaffordable = 53, WarnAndClose, "update_fee: the sender can't afford it on our commitment";
    /// `update_fee`.
    FeeDustExposure = 54, WarnAndClose, "update_fee: it would trim more HTLCs than our limit of dust exposure allows";
    /// Any update.
    UpdateAfterClear = 55, Fail, "an update after shutdown with nothing pending";

    /// `commitment_signed`.
    CommitmentSignature = 61, Fail, "commitment_signed: the signature is wrong";
    /// `commitment_signed`.
    HtlcSignatureCount = 62, Fail, "commitment_signed: num_htlcs is not the number of HTLC outputs";
    /// `commitment_signed`.
    HtlcSignature = 63, Fail, "commitment_signed: an htlc_signature is wrong";
    /// `commitment_signed`.
    CommitmentUnrevoked = 64, WarnAndClose, "commitment_signed before our revoke_and_ack of the one before";
    /// `commitment_signed`.
    CommitmentFundingTxid = 65, Fail, "commitment_signed: funding_txid is not this channel's";
    /// `revoke_and_ack`.
    RevocationSecret = 66, Fail, "revoke_and_ack: the secret is not that of the commitment";
    /// `revoke_and_ack`.
    RevocationUnexpected = 67, Fail, "revoke_and_ack without a commitment_signed of ours";
    /// `revoke_and_ack`.
    RevocationChain = 68, Fail, "revoke_and_ack: the secret is not generated as BOLT 3 asks";
    /// All.
    CommitmentNumbersExhausted = 69, Fail, "the 48 bits of commitment numbers are used up";

    /// `channel_reestablish`.
    ReestablishZero = 70, Fail, "channel_reestablish: next_commitment_number is 0";
    /// `channel_reestablish`.
    ReestablishCommitmentNumber = 71, Fail, "channel_reestablish: next_commitment_number fits no commitment of ours";
    /// `channel_reestablish`.
    ReestablishSecret = 72, Fail, "channel_reestablish: your_last_per_commitment_secret is wrong";
    /// `channel_reestablish`.
    PeerBehind = 73, ErrorAndWait, "channel_reestablish: next_revocation_number is behind: the peer has lost state";
    /// `channel_reestablish`.
    ReestablishRevocationNumber = 74, Fail, "channel_reestablish: next_revocation_number fits no revocation of ours";

    /// `shutdown`.
    ShutdownScript = 80, Warn, "shutdown: scriptpubkey is in no allowed form";
    /// `shutdown`.
    ShutdownUpfront = 81, WarnAndClose, "shutdown: scriptpubkey differs from upfront_shutdown_script";
    /// `shutdown`.
    ShutdownChanged = 82, WarnAndClose, "shutdown: scriptpubkey differs from the one before";
    /// `shutdown`.
    ShutdownPending = 83, WarnAndClose, "shutdown while updates of the sender wait for commitment_signed";
    /// `closing_signed`.
    ClosingSignature = 84, Fail, "closing_signed: the signature fits no closing transaction";
    /// `closing_signed`.
    ClosingFeeOutsideRange = 85, Fail, "closing_signed: fee_satoshis is outside the overlap of both fee_range";
    /// `closing_signed`.
    ClosingNoOverlap = 86, Warn, "closing_signed: fee_range does not overlap ours";
    /// `closing_signed`.
    ClosingFeeNotBetween = 87, WarnAndClose, "closing_signed: fee_satoshis is not strictly between the last two";
    /// `closing_signed`.
    ClosingTooEarly = 88, WarnAndClose, "closing_signed before the channel is clear";
    /// `closing_signed`.
    ClosingDust = 89, Fail, "closing_signed: an output is below the dust limit of its script";
    /// `shutdown` before funding.
    ShutdownBeforeFunding = 90, Fail, "shutdown before the channel is funded";

    /// `stfu`, splices, interactive transactions, `closing_complete`.
    NotNegotiated = 100, WarnAndClose, "a message of a feature that is not negotiated";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Encode for Rule {
    fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for Rule {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = u8::decode(r)?;
        Self::ALL
            .iter()
            .copied()
            .find(|rule| *rule as u8 == number)
            .ok_or(DecodeError::InvalidValue("rule of BOLT 2"))
    }
}

/// A rule that the peer broke, on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelFault {
    /// The channel, by the id that the peer knows.
    pub channel_id: ChannelId,
    /// The rule.
    pub rule: Rule,
}

impl ChannelFault {
    /// What to tell the peer.
    pub fn to_message(self) -> Message {
        match self.rule.remedy() {
            Remedy::Warn | Remedy::WarnAndClose => {
                fulmen_wire::Warning::new(self.channel_id, self.rule.text()).into()
            }
            Remedy::Fail | Remedy::ErrorAndWait => {
                fulmen_wire::Error::new(self.channel_id, self.rule.text()).into()
            }
        }
    }
}

impl fmt::Display for ChannelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "channel {}: the peer broke a rule: {}",
            self.channel_id, self.rule
        )
    }
}

impl core::error::Error for ChannelFault {}

/// Why a channel can't be opened as asked. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Below the minimum of the configuration.
    FundingTooSmall {
        /// The minimum.
        minimum: Amount,
    },
    /// Above what the configuration or the protocol allows.
    FundingTooLarge {
        /// The maximum with this peer.
        maximum: Amount,
    },
    /// The gift is more than the channel holds, less the fee of its commitment.
    PushTooLarge,
    /// What stays with us can't pay the fee, the anchors and keep a side above the reserve.
    CannotPayFee {
        /// The fee and the anchors.
        needed: Amount,
    },
    /// The type asked for is not one that both ends support; the feature that is missing or not allowed.
    ChannelType(&'static str),
    /// The peer wants channels funded by both (`option_dual_fund`), which this software does not do.
    DualFundOnly,
    /// The wallet's script is in no form that `shutdown` allows.
    SweepScript,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FundingTooSmall { minimum } => {
                write!(f, "the channel is too small; the minimum is {minimum}")
            }
            Self::FundingTooLarge { maximum } => write!(
                f,
                "the channel is too large; the maximum with this peer is {maximum}"
            ),
            Self::PushTooLarge => f.write_str(
                "the amount to push is more than the channel holds; push less or open a larger one",
            ),
            Self::CannotPayFee { needed } => write!(
                f,
                "what stays on our side can't pay {needed} for the commitment transaction; push less or open a larger channel"
            ),
            Self::ChannelType(why) => write!(f, "no channel of this type with this peer: {why}"),
            Self::DualFundOnly => f.write_str(
                "the peer negotiated option_dual_fund, which forbids this way of opening",
            ),
            Self::SweepScript => f.write_str(
                "the wallet's script can't be used to close a channel; use a segwit one",
            ),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a command is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer is not connected, or the channel is not yet in step with it.
    NotConnected,
    /// Not ready: the funding is not confirmed enough, or the peer has not said so.
    NotReady,
    /// The channel is being closed.
    ShuttingDown,
    /// The channel is closed, frozen or stale.
    Closed,
    /// The amount is zero or below the peer's `htlc_minimum_msat`.
    AmountTooSmall {
        /// The minimum.
        minimum: Msat,
    },
    /// Our side can't pay it with reserve and fees.
    InsufficientBalance {
        /// The most that could be sent now.
        available: Msat,
    },
    /// The peer accepts no more HTLCs now: try again when one ends.
    TooManyHtlcs {
        /// The peer's `max_accepted_htlcs`.
        maximum: u16,
    },
    /// More than the peer wants in flight: try again when one ends.
    InFlightLimit {
        /// The peer's `max_htlc_value_in_flight_msat`.
        maximum: Msat,
    },
    /// The peer, who pays the fees of commitments, can't pay for one more HTLC.
    PeerFee,
    /// Too small for an output while too many such HTLCs are in flight: try again when one ends.
    DustExposure,
    /// `cltv_expiry` is past or in seconds.
    Expiry,
    /// The link is longer than 1024 bytes.
    LinkTooLong,
    /// No such HTLC of the peer, or it is not irrevocably committed yet.
    UnknownHtlc,
    /// The HTLC is resolved already, otherwise.
    AlreadyResolved,
    /// The preimage does not open the payment hash.
    WrongPreimage,
    /// The resolution does not fit a message.
    ResolutionTooLong,
    /// Only the opener of a channel changes its feerate.
    NotTheOpener,
    /// The feerate is out of bounds or unaffordable.
    Feerate,
    /// The script is in no allowed form, or another one was promised.
    Script,
    /// The funding transaction does not pay the channel, or its inputs are not segwit.
    FundingTransaction,
    /// The input does not fit the channel's state.
    WrongState,
    /// The signer refused something before: the channel rests until its owner unblocks it.
    SignerBlocked,
    /// The state was restored from a backup and nobody has confirmed it: our commitment may be revoked.
    Unproven,
    /// The on-chain resolution is not done: the channel can't be forgotten.
    NotDone,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("the peer is not connected; try again when it is"),
            Self::NotReady => f.write_str("the channel waits for confirmations or for the peer"),
            Self::ShuttingDown => f.write_str("the channel is being closed"),
            Self::Closed => f.write_str("the channel is closed"),
            Self::AmountTooSmall { minimum } => {
                write!(f, "the amount is below the channel's minimum of {minimum}")
            }
            Self::InsufficientBalance { available } => write!(
                f,
                "not enough on our side of the channel; {available} can be sent now"
            ),
            Self::TooManyHtlcs { maximum } => {
                write!(
                    f,
                    "the peer accepts no more than {maximum} payments at once"
                )
            }
            Self::InFlightLimit { maximum } => {
                write!(
                    f,
                    "the peer accepts no more than {maximum} in flight at once"
                )
            }
            Self::PeerFee => f.write_str("the peer can't pay the fee for one more payment"),
            Self::DustExposure => {
                f.write_str("too many payments too small for the chain are in flight")
            }
            Self::Expiry => f.write_str("the expiry is past or too far away"),
            Self::LinkTooLong => f.write_str("the link is longer than 1024 bytes"),
            Self::UnknownHtlc => {
                f.write_str("no such payment in the channel, or not yet committed")
            }
            Self::AlreadyResolved => f.write_str("the payment is resolved already"),
            Self::WrongPreimage => f.write_str("the preimage does not open the payment hash"),
            Self::ResolutionTooLong => f.write_str("the failure does not fit a message"),
            Self::NotTheOpener => f.write_str("only the opener of a channel changes its feerate"),
            Self::Feerate => f.write_str("the feerate is out of bounds or can't be paid"),
            Self::Script => f.write_str(
                "the script is in no form that can close the channel, or not the one promised",
            ),
            Self::FundingTransaction => {
                f.write_str("the transaction does not fund the channel with segwit inputs")
            }
            Self::WrongState => f.write_str("the channel is not in a state for this"),
            Self::SignerBlocked => f.write_str(
                "the signer refused something before: see to the signer, then unblock the channel",
            ),
            Self::Unproven => f.write_str(
                "the state was restored from a backup and may be old: wait until the peer has connected, or ask it to close the channel",
            ),
            Self::NotDone => f.write_str("the channel is not settled on chain yet"),
        }
    }
}

/// Why an input was not taken. Nothing has changed. What peers do wrong is no error of this kind: it makes
/// the transition that BOLT 2 asks for, see [`crate::ChannelOutput::Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelError {
    /// The command can't be done.
    Refused(Refusal),
    /// An invariant does not hold: a bug of this software; what is wrong.
    Bug(&'static str),
}

impl From<Refusal> for ChannelError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Bug(what) => write!(f, "bug: {what}; please report it"),
        }
    }
}

impl core::error::Error for ChannelError {}

/// Why records make no channel: the store is damaged or of another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// A record can't be read.
    Decode(DecodeError),
    /// Records contradict each other; how.
    Inconsistent(String),
}

impl From<DecodeError> for RestoreError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "a channel's record can't be read: {error}"),
            Self::Inconsistent(how) => {
                write!(f, "a channel's records contradict each other: {how}")
            }
        }
    }
}

impl core::error::Error for RestoreError {}
