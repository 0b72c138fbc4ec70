//! Channel types (BOLT 2, Defined Channel Types).

use alloc::vec::Vec;
use core::fmt;

use crate::{
    Feature, Features,
    codec::{Decode, DecodeError, Encode, Reader},
};

/// A channel type of BOLT 2: exactly these bits, all even.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelType(Features);

/// What a channel's commitment transactions look like, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseType {
    /// `option_static_remotekey` alone.
    StaticRemoteKey,
    /// `option_anchors` with `option_static_remotekey`.
    Anchors,
    /// `zero_fee_commitments`.
    ZeroFeeCommitments,
    /// `option_simple_taproot`, or its number before that was settled.
    SimpleTaproot,
}

/// Why a channel type can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelTypeError {
    /// The bits are none of the defined types: types are an enumeration, not any combination.
    Undefined,
    /// The type has a feature that was not negotiated.
    NotNegotiated(Feature),
    /// `option_scid_alias` keeps a channel from the world, so it has no place in one to be announced.
    AliasAnnounced,
    /// Taproot channels can't be announced yet.
    TaprootAnnounced,
}

impl fmt::Display for ChannelTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined => f.write_str("channel_type is none of the defined types (BOLT 2)"),
            Self::NotNegotiated(feature) => write!(
                f,
                "channel_type has {}, which was not negotiated (BOLT 2)",
                feature.name()
            ),
            Self::AliasAnnounced => f.write_str(
                "channel_type has option_scid_alias, but the channel is to be announced (BOLT 2)",
            ),
            Self::TaprootAnnounced => f.write_str(
                "a simple taproot channel can't be announced (simple taproot channels, open_channel)",
            ),
        }
    }
}

impl core::error::Error for ChannelTypeError {}

impl BaseType {
    /// The features whose even bits make the type.
    pub const fn features(self) -> &'static [Feature] {
        match self {
            Self::StaticRemoteKey => &[Feature::StaticRemoteKey],
            Self::Anchors => &[Feature::StaticRemoteKey, Feature::Anchors],
            Self::ZeroFeeCommitments => &[Feature::ZeroFeeCommitments],
            Self::SimpleTaproot => &[Feature::SimpleTaproot],
        }
    }

    const ALL: [Self; 4] = [
        Self::StaticRemoteKey,
        Self::Anchors,
        Self::ZeroFeeCommitments,
        Self::SimpleTaproot,
    ];
}

impl ChannelType {
    /// The features that may be added to any type.
    const VARIATIONS: [Feature; 2] = [Feature::ScidAlias, Feature::ZeroConf];

    /// The type of `base` without variations.
    pub fn new(base: BaseType) -> Self {
        Self(
            base.features()
                .iter()
                .fold(Features::empty(), |bits, f| bits.with_required(*f)),
        )
    }

    /// `option_static_remotekey` alone.
    pub fn static_remote_key() -> Self {
        Self::new(BaseType::StaticRemoteKey)
    }

    /// `option_anchors` and `option_static_remotekey`.
    pub fn anchors() -> Self {
        Self::new(BaseType::Anchors)
    }

    /// The same with another feature, for instance [`Feature::ScidAlias`].
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0.with_required(feature))
    }

    /// From the bits of a message, whatever they are: what is supported is the receiver's question, and
    /// [`ChannelType::check`] answers it.
    pub const fn from_features(features: Features) -> Self {
        Self(features)
    }

    /// The bits.
    pub const fn features(&self) -> &Features {
        &self.0
    }

    /// Whether the type has `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.0.requires(feature)
    }

    /// What the commitment transactions look like; `None` when the bits are none of the defined types
    /// with or without `option_scid_alias` and `option_zeroconf`.
    pub fn base(&self) -> Option<BaseType> {
        let bare = Self::VARIATIONS
            .iter()
            .filter(|f| self.has(**f))
            .fold(self.0.clone(), |bits, f| bits.without(*f));
        let staging = Features::empty().with_required(Feature::SimpleTaprootStaging);
        if bare == staging {
            return Some(BaseType::SimpleTaproot);
        }
        BaseType::ALL
            .into_iter()
            .find(|base| Self::new(*base).0 == bare)
    }

    /// Whether a channel of this type may be opened between nodes of which `negotiates` says what they
    /// both have. `announce` is `announce_channel` of `open_channel`.
    ///
    /// ```
    /// use fulmen_types::{BaseType, ChannelType, ChannelTypeError, Feature};
    /// let type_ = ChannelType::anchors().with(Feature::ScidAlias);
    /// assert_eq!(type_.check(|_| true, false), Ok(BaseType::Anchors));
    /// assert_eq!(type_.check(|_| true, true), Err(ChannelTypeError::AliasAnnounced));
    /// ```
    pub fn check(
        &self,
        negotiates: impl Fn(Feature) -> bool,
        announce: bool,
    ) -> Result<BaseType, ChannelTypeError> {
        let base = self.base().ok_or(ChannelTypeError::Undefined)?;
        let missing = |f: &&Feature| self.has(**f) && !f.is_assumed() && !negotiates(**f);
        if let Some(feature) = Feature::ALL.iter().find(missing) {
            return Err(ChannelTypeError::NotNegotiated(*feature));
        }
        if announce && self.has(Feature::ScidAlias) {
            return Err(ChannelTypeError::AliasAnnounced);
        }
        if announce && base == BaseType::SimpleTaproot {
            return Err(ChannelTypeError::TaprootAnnounced);
        }
        Ok(base)
    }
}

/// The bare bits to the end of the field, as the TLV of `open_channel` has them.
impl Encode for ChannelType {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

impl Decode for ChannelType {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Features::from_be_bytes(r.take_rest())))
    }
}
