//! Feature bits (BOLT 9).

use alloc::vec::Vec;
use core::fmt;

use crate::codec::{Decode, DecodeError, Encode, Reader};

/// Where a feature may be said (BOLT 9, contexts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureContext {
    /// `init` (I).
    Init,
    /// `node_announcement` (N).
    Node,
    /// `channel_announcement` (C).
    Channel,
    /// A BOLT 11 invoice (9).
    Invoice,
    /// `allowed_features` of a blinded path (B).
    BlindedPath,
    /// `channel_type` (T).
    ChannelType,
}

impl FeatureContext {
    /// What it is called in texts for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Node => "node_announcement",
            Self::Channel => "channel_announcement",
            Self::Invoice => "an invoice",
            Self::BlindedPath => "allowed_features",
            Self::ChannelType => "channel_type",
        }
    }
}

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $label:literal, [$($ctx:ident),*], [$($dep:ident),*];)*) => {
        /// A feature that this software knows. The number is the even (compulsory) bit of its pair.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Feature { $($(#[$doc])* $name),* }

        impl Feature {
            /// Every known feature, by bit.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The even bit of the pair.
            pub const fn even_bit(self) -> u32 {
                match self { $(Self::$name => $bit),* }
            }

            /// The name that BOLT 9 uses.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// Where it may be said.
            pub const fn contexts(self) -> &'static [FeatureContext] {
                match self { $(Self::$name => &[$(FeatureContext::$ctx),*]),* }
            }

            /// What it needs beside it.
            pub const fn dependencies(self) -> &'static [Self] {
                match self { $(Self::$name => &[$(Self::$dep),*]),* }
            }
        }
    };
}

features! {
    /// `option_data_loss_protect`, assumed everywhere.
    DataLossProtect = 0, "option_data_loss_protect", [Init, Node], [];
    /// `option_upfront_shutdown_script`.
    UpfrontShutdownScript = 4, "option_upfront_shutdown_script", [Init, Node], [];
    /// `gossip_queries`.
    GossipQueries = 6, "gossip_queries", [Init, Node], [];
    /// `var_onion_optin`, assumed everywhere.
    VarOnion = 8, "var_onion_optin", [Init, Node, Invoice], [];
    /// `gossip_queries_ex`.
    GossipQueriesEx = 10, "gossip_queries_ex", [Init, Node], [];
    /// `option_static_remotekey`, assumed everywhere.
    StaticRemoteKey = 12, "option_static_remotekey", [Init, Node, ChannelType], [];
    /// `payment_secret`, assumed everywhere.
    PaymentSecret = 14, "payment_secret", [Init, Node, Invoice], [];
    /// `basic_mpp`.
    BasicMpp = 16, "basic_mpp", [Init, Node, Invoice], [PaymentSecret];
    /// `option_support_large_channel`.
    SupportLargeChannel = 18, "option_support_large_channel", [Init, Node], [];
    /// `option_anchors` (zero-fee HTLC transactions).
    Anchors = 22, "option_anchors", [Init, Node, ChannelType], [];
    /// `option_route_blinding`.
    RouteBlinding = 24, "option_route_blinding", [Init, Node, Invoice], [];
    /// `option_shutdown_anysegwit`.
    ShutdownAnySegwit = 26, "option_shutdown_anysegwit", [Init, Node], [];
    /// `option_dual_fund`.
    DualFund = 28, "option_dual_fund", [Init, Node], [];
    /// `option_quiesce`.
    Quiesce = 34, "option_quiesce", [Init, Node], [];
    /// `option_attribution_data`.
    AttributionData = 36, "option_attribution_data", [Init, Node, Invoice], [];
    /// `option_onion_messages`.
    OnionMessages = 38, "option_onion_messages", [Init, Node], [];
    /// `zero_fee_commitments`.
    ZeroFeeCommitments = 40, "zero_fee_commitments", [Init, Node, ChannelType], [];
    /// `option_provide_storage`.
    ProvideStorage = 42, "option_provide_storage", [Init, Node], [];
    /// `option_channel_type`, assumed everywhere.
    ChannelType = 44, "option_channel_type", [Init, Node], [];
    /// `option_scid_alias`.
    ScidAlias = 46, "option_scid_alias", [Init, Node, ChannelType], [];
    /// `option_payment_metadata`.
    PaymentMetadata = 48, "option_payment_metadata", [Invoice], [];
    /// `option_zeroconf`.
    ZeroConf = 50, "option_zeroconf", [Init, Node, ChannelType], [ScidAlias];
    /// `keysend` (bLIP 3).
    Keysend = 54, "keysend", [Node], [VarOnion];
    /// `trampoline_routing`, a draft.
    TrampolineRouting = 56, "trampoline_routing", [Init, Node, Invoice], [PaymentSecret];
    /// `option_simple_close`.
    SimpleClose = 60, "option_simple_close", [Init, Node], [ShutdownAnySegwit];
    /// `option_splice`.
    Splice = 62, "option_splice", [Init, Node], [];
    /// `option_onion_messages_only_channels`.
    OnionMessagesOnlyChannels = 66, "option_onion_messages_only_channels", [Init, Node], [];
    /// `option_simple_taproot`.
    SimpleTaproot = 80, "option_simple_taproot", [Init, Node, ChannelType], [ChannelType, SimpleClose];
    /// `option_simple_taproot` before its number was settled.
    SimpleTaprootStaging = 180, "option_simple_taproot_staging", [Init, Node, ChannelType], [ChannelType];
    /// `hosted_channels` (bLIP 17).
    HostedChannels = 256, "hosted_channels", [Init, Node], [];
    /// `option_dns_resolver` (bLIP 32).
    DnsResolver = 258, "option_dns_resolver", [Node], [];
    /// BOLT 11 invoices with blinded paths (bLIP 39). The list of bLIP 2 has it need `option_route_blinding`;
    /// bLIP 39 does not ask for that, so readers here don't either.
    Bolt11BlindedPaths = 262, "option_bolt11_blinded_paths", [Invoice], [];
    /// A provider of liquidity services (bLIP 50).
    Lsps = 728, "lsps", [Init, Node], [];
}

/// Why two ends can't work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureError {
    /// A compulsory bit that this software does not know.
    UnknownRequired(u32),
    /// A feature without one that it needs (BOLT 9: set all transitive dependencies).
    MissingDependency {
        /// The feature that is there.
        feature: Feature,
        /// The one that is not.
        needs: Feature,
    },
    /// We ask for a feature that the other side does not have.
    NotOffered(Feature),
    /// The other side asks for a feature that we don't offer.
    NotSupported(Feature),
    /// A feature where BOLT 9 does not let it be said.
    WrongContext(Feature, FeatureContext),
    /// Both bits of a pair, the even one of which is given (BOLT 9: the sender must not).
    BothBits(u32),
}

impl fmt::Display for FeatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRequired(bit) => {
                write!(f, "unknown compulsory feature bit {bit} (BOLT 1)")
            }
            Self::MissingDependency { feature, needs } => {
                write!(
                    f,
                    "{} is set without {}, which it needs (BOLT 9)",
                    feature.name(),
                    needs.name()
                )
            }
            Self::NotOffered(feature) => write!(f, "{} is needed and not offered", feature.name()),
            Self::NotSupported(feature) => {
                write!(f, "{} is asked for and not supported", feature.name())
            }
            Self::WrongContext(feature, context) => {
                write!(
                    f,
                    "{} has no place in {} (BOLT 9)",
                    feature.name(),
                    context.name()
                )
            }
            Self::BothBits(even) => {
                write!(
                    f,
                    "feature bits {even} and {} are both set (BOLT 9)",
                    even + 1
                )
            }
        }
    }
}

impl core::error::Error for FeatureError {}

/// A set of feature bits. Unknown bits are kept, and so is the length that a peer chose, because
/// signatures cover it; equality looks at the bits alone.
#[derive(Clone, Default)]
pub struct Features {
    /// Bit `n` is bit `n % 8` of byte `n / 8`.
    bytes: Vec<u8>,
}

impl Features {
    /// The most bytes behind a `u16` length.
    const MAX_LEN: usize = 65535;

    /// No bit.
    pub const fn empty() -> Self {
        Self { bytes: Vec::new() }
    }

    /// From the bytes of a message: bit 0 is the lowest bit of the last byte (BOLT 1). No message has
    /// more than 65535 of them; what lies above is left out.
    #[inline]
    pub fn from_be_bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.iter().rev().take(Self::MAX_LEN).copied().collect(),
        }
    }

    /// The bytes of a message: the fewest that say the bits, unless they were read from more.
    pub fn to_be_bytes(&self) -> Vec<u8> {
        self.bytes.iter().rev().copied().collect()
    }

    /// With the odd bit of `feature`: offered.
    #[must_use]
    pub fn with_optional(self, feature: Feature) -> Self {
        let mut features = self.without(feature);
        features.set_bit(feature.even_bit() + 1);
        features
    }

    /// With the even bit of `feature`: asked for.
    #[must_use]
    pub fn with_required(self, feature: Feature) -> Self {
        let mut features = self.without(feature);
        features.set_bit(feature.even_bit());
        features
    }

    /// Without `feature`.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        for bit in [feature.even_bit(), feature.even_bit() + 1] {
            if let Some(byte) = self.bytes.get_mut((bit / 8) as usize) {
                *byte &= !(1 << (bit % 8));
            }
        }
        let len = self.significant().len();
        self.bytes.truncate(len);
        self
    }

    /// Whether either bit of `feature` is set.
    pub fn supports(&self, feature: Feature) -> bool {
        self.requires(feature) || self.has_bit(feature.even_bit() + 1)
    }

    /// Whether the even bit of `feature` is set.
    pub fn requires(&self, feature: Feature) -> bool {
        self.has_bit(feature.even_bit())
    }

    /// Whether exactly this bit number is set.
    pub fn has_bit(&self, bit: u32) -> bool {
        self.bytes
            .get((bit / 8) as usize)
            .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// Sets a bit by its number, known or not. Numbers from 65535 * 8 on don't fit a message and are
    /// left out.
    pub fn set_bit(&mut self, bit: u32) {
        let index = (bit / 8) as usize;
        if index >= Self::MAX_LEN {
            return;
        }
        if self.bytes.len() <= index {
            self.bytes.resize(index + 1, 0);
        }
        self.bytes[index] |= 1 << (bit % 8);
    }

    /// All set bits in rising order.
    pub fn bits(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..)
            .step_by(8)
            .zip(&self.bytes)
            .flat_map(|(first, byte)| {
                (0..8)
                    .filter(move |bit| byte >> bit & 1 == 1)
                    .map(move |bit| first + bit)
            })
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.significant().is_empty()
    }

    /// Whether `feature` may be used with a peer that offered `theirs` in its `init`, `self` being what
    /// we offered: both did, or we asked for it (BOLT 1).
    pub fn negotiates(&self, theirs: &Self, feature: Feature) -> bool {
        self.requires(feature) || (self.supports(feature) && theirs.supports(feature))
    }

    /// An error if we and a peer that offered `theirs` can't work together: an unknown even bit, a
    /// missing dependency, or a feature that one side asks for and the other lacks (BOLT 1, init).
    ///
    /// Features that every node is assumed to have need not be said.
    pub fn check_peer(&self, theirs: &Self) -> Result<(), FeatureError> {
        theirs.check()?;
        let lacks = |side: &Self, f: &Feature| !side.supports(*f) && !f.is_assumed();
        for feature in Feature::ALL {
            if theirs.requires(*feature) && lacks(self, feature) {
                return Err(FeatureError::NotSupported(*feature));
            }
            if self.requires(*feature) && lacks(theirs, feature) {
                return Err(FeatureError::NotOffered(*feature));
            }
        }
        Ok(())
    }

    /// An error for what a sender must not say in `context` (BOLT 9, the origin node): a known feature
    /// that has no place there, both bits of a pair, a feature without one that it needs. Receivers
    /// tolerate the first two. In a `channel_type` and in an invoice a dependency that has no place there
    /// itself need not be said.
    pub fn check_context(&self, context: FeatureContext) -> Result<(), FeatureError> {
        let has_no_place = |f: &&Feature| self.supports(**f) && !f.is_said_in(context);
        if let Some(feature) = Feature::ALL.iter().find(has_no_place) {
            return Err(FeatureError::WrongContext(*feature, context));
        }
        let is_doubled = |bit: &u32| bit.is_multiple_of(2) && self.has_bit(bit + 1);
        if let Some(even) = self.bits().find(is_doubled) {
            return Err(FeatureError::BothBits(even));
        }
        match self.missing_dependency(|needs| needs.is_said_in(context)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// An error for a feature that is asked for and that `ours` does not have, an unknown one included:
    /// for fields that say what the reader must know, as those of invoices and announcements do.
    pub fn check_understood(&self, ours: &Self) -> Result<(), FeatureError> {
        for even in self.bits().filter(|bit| bit.is_multiple_of(2)) {
            match Feature::from_bit(even) {
                Some(feature) if ours.supports(feature) || feature.is_assumed() => {}
                Some(feature) => return Err(FeatureError::NotSupported(feature)),
                None => return Err(FeatureError::UnknownRequired(even)),
            }
        }
        Ok(())
    }

    /// The first feature that is said without one that it needs. Needs that every node is assumed to
    /// have, and those that don't `count`, need not be said. As every feature that is set is looked at,
    /// what the needed ones need in turn is found too.
    fn missing_dependency(&self, count: impl Fn(Feature) -> bool) -> Option<FeatureError> {
        Feature::ALL
            .iter()
            .filter(|f| self.supports(**f))
            .flat_map(|f| f.dependencies().iter().map(|needs| (*f, *needs)))
            .find(|(_, needs)| !self.supports(*needs) && !needs.is_assumed() && count(*needs))
            .map(|(feature, needs)| FeatureError::MissingDependency { feature, needs })
    }

    /// Only what may be said in `context`: from all that a node can do to what it announces there.
    #[must_use]
    pub fn in_context(&self, context: FeatureContext) -> Self {
        let mut features = Self::empty();
        for feature in Feature::ALL {
            if feature.is_said_in(context) {
                for bit in [feature.even_bit(), feature.even_bit() + 1] {
                    if self.has_bit(bit) {
                        features.set_bit(bit);
                    }
                }
            }
        }
        features
    }

    /// The union, as a receiver of `init` takes `globalfeatures` and `features` (BOLT 1).
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        other.bits().for_each(|bit| union.set_bit(bit));
        union
    }

    /// The bytes up to the last that says something.
    fn significant(&self) -> &[u8] {
        let len = self
            .bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        &self.bytes[..len]
    }

    /// An error for an even bit that we don't know or a missing dependency (BOLT 9).
    ///
    /// Features that every node is assumed to have count as set.
    pub fn check(&self) -> Result<(), FeatureError> {
        if let Some(bit) = self
            .bits()
            .find(|bit| bit.is_multiple_of(2) && Feature::from_bit(*bit).is_none())
        {
            return Err(FeatureError::UnknownRequired(bit));
        }
        match self.missing_dependency(|_| true) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Feature {
    /// The feature of a bit number, even or odd.
    pub fn from_bit(bit: u32) -> Option<Self> {
        Self::ALL.iter().find(|f| f.even_bit() == bit & !1).copied()
    }

    /// Whether BOLT 9 has a place for it there.
    pub fn is_said_in(self, context: FeatureContext) -> bool {
        self.contexts().contains(&context)
    }

    /// Whether BOLT 9 lets a node assume that every other has this feature.
    pub const fn is_assumed(self) -> bool {
        matches!(
            self,
            Self::DataLossProtect
                | Self::VarOnion
                | Self::StaticRemoteKey
                | Self::PaymentSecret
                | Self::ChannelType
        )
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.bits()).finish()
    }
}

impl PartialEq for Features {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for Features {}

/// A `u16` length, then the bits.
impl Encode for Features {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        // No constructor lets it grow beyond `MAX_LEN`.
        u16::try_from(self.bytes.len())
            .unwrap_or(u16::MAX)
            .encode(out);
        out.extend(self.bytes.iter().rev());
    }
}

impl Decode for Features {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_u16_prefixed().map(Self::from_be_bytes)
    }
}
