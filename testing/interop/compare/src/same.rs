//! When a value of Fulmen's and one of LDK's say the same.

use bitcoin::{Amount, ScriptBuf, SignedAmount, Txid, constants::ChainHash, secp256k1};
use fulmen_types::{
    ChannelId, ChannelType, CltvExpiry, CltvExpiryDelta, Features, FeeratePerKw, HtlcId, Msat,
    NodeId, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId, codec::Encode,
};
use fulmen_wire::{
    AttributionData, CurrentFundingLocked, FeeRange, NetAddress, NextFunding, NodeAlias, Rgb,
};
use lightning::{
    ln::{msgs, onion_utils},
    routing::gossip,
    types::{self, features},
    util::ser::Writeable,
};

/// Whether Fulmen's value (`self`) and LDK's say the same.
pub trait Same<L: ?Sized> {
    /// Whether they do.
    fn same(&self, theirs: &L) -> bool;
}

macro_rules! equal {
    ($($ty:ty),* $(,)?) => {$(
        impl Same<$ty> for $ty {
            fn same(&self, theirs: &$ty) -> bool {
                self == theirs
            }
        }
    )*};
}
equal!(
    u8,
    u16,
    u32,
    u64,
    bool,
    [u8; 32],
    ScriptBuf,
    Txid,
    ChainHash,
    secp256k1::PublicKey,
    secp256k1::ecdsa::Signature,
    bitcoin::Transaction,
    bitcoin::Witness,
);

macro_rules! through {
    ($($ours:ty, $theirs:ty: |$a:ident, $b:ident| $same:expr;)*) => {$(
        impl Same<$theirs> for $ours {
            fn same(&self, $b: &$theirs) -> bool {
                let $a = self;
                $same
            }
        }
    )*};
}
through! {
    Msat, u64: |a, b| a.to_msat() == *b;
    Amount, u64: |a, b| a.to_sat() == *b;
    SignedAmount, i64: |a, b| a.to_sat() == *b;
    FeeratePerKw, u32: |a, b| a.to_sat_per_kw() == *b;
    HtlcId, u64: |a, b| a.to_u64() == *b;
    CltvExpiry, u32: |a, b| a.to_u32() == *b;
    CltvExpiryDelta, u16: |a, b| a.to_u16() == *b;
    ShortChannelId, u64: |a, b| a.to_u64() == *b;
    ChannelId, lightning::ln::types::ChannelId: |a, b| *a.as_bytes() == b.0;
    PaymentHash, types::payment::PaymentHash: |a, b| *a.as_bytes() == b.0;
    PaymentPreimage, types::payment::PaymentPreimage: |a, b| *a.as_bytes() == b.0;
    PaymentSecret, types::payment::PaymentSecret: |a, b| *a.as_bytes() == b.0;
    NodeId, gossip::NodeId: |a, b| a.as_bytes() == b.as_array();
    NodeAlias, gossip::NodeAlias: |a, b| *a.as_bytes() == b.0;
    Rgb, [u8; 3]: |a, b| [a.red, a.green, a.blue] == *b;
    ChannelType, features::ChannelTypeFeatures: |a, b| a.features().same(b);
    Vec<u8>, String: |a, b| a.as_slice() == b.as_bytes();
    String, lightning_invoice::Description: |a, b| *a == b.as_inner().0;
    FeeRange, msgs::ClosingSignedFeeRange: |a, b| {
        a.min_fee_satoshis.same(&b.min_fee_satoshis) && a.max_fee_satoshis.same(&b.max_fee_satoshis)
    };
    NextFunding, msgs::NextFunding: |a, b| {
        a.next_funding_txid == b.txid && a.retransmit_flags == b.retransmit_flags
    };
    CurrentFundingLocked, msgs::FundingLocked: |a, b| {
        a.my_current_funding_locked_txid == b.txid && a.retransmit_flags == b.retransmit_flags
    };
    // LDK shows nothing of it but its encoding.
    AttributionData, onion_utils::AttributionData: |a, b| a.to_bytes() == b.encode();
    [u8; 1366], msgs::OnionPacket: |a, b| {
        a[0] == b.version
            && secp256k1::PublicKey::from_slice(&a[1..34]) == b.public_key
            && a[34..1334] == b.hop_data
            && a[1334..] == b.hmac
    };
    Vec<u8>, lightning::onion_message::packet::Packet: |a, b| a.as_slice() == b.encode();
    NetAddress, msgs::SocketAddress: |a, b| match (a, b) {
        (NetAddress::Ipv4 { addr, port }, msgs::SocketAddress::TcpIpV4 { addr: b, port: p }) => {
            addr.octets() == *b && port == p
        }
        (NetAddress::Ipv6 { addr, port }, msgs::SocketAddress::TcpIpV6 { addr: b, port: p }) => {
            addr.octets() == *b && port == p
        }
        (
            NetAddress::TorV3 { onion_addr, port },
            msgs::SocketAddress::OnionV3 { ed25519_pubkey, checksum, version, port: p },
        ) => {
            onion_addr[..32] == *ed25519_pubkey
                && onion_addr[32..34] == checksum.to_be_bytes()
                && onion_addr[34] == *version
                && port == p
        }
        (
            NetAddress::DnsHostname { hostname, port },
            msgs::SocketAddress::Hostname { hostname: b, port: p },
        ) => hostname.as_str() == b.as_str() && port == p,
        // Tor v2 and names that are none: Fulmen keeps the bytes.
        (NetAddress::Unknown(bytes), b) => *bytes == b.encode(),
        _ => false,
    };
    // Present or not.
    bool, Option<()>: |a, b| *a == b.is_some();
}

fn without_zeros(flags: &[u8]) -> &[u8] {
    let len = flags.iter().rposition(|byte| *byte != 0);
    &flags[..len.map_or(0, |at| at + 1)]
}

macro_rules! features {
    ($($theirs:ident),*) => {$(
        /// The same bits, however many bytes hold them.
        impl Same<features::$theirs> for Features {
            fn same(&self, theirs: &features::$theirs) -> bool {
                let mut ours = self.to_be_bytes();
                ours.reverse();
                without_zeros(&ours) == without_zeros(theirs.le_flags())
            }
        }
    )*};
}
features!(
    InitFeatures,
    NodeFeatures,
    ChannelFeatures,
    ChannelTypeFeatures,
    Bolt11InvoiceFeatures,
    OfferFeatures,
    InvoiceRequestFeatures,
    Bolt12InvoiceFeatures,
    BlindedHopFeatures
);

impl<A: Same<B>, B> Same<Option<B>> for Option<A> {
    fn same(&self, theirs: &Option<B>) -> bool {
        match (self, theirs) {
            (Some(a), Some(b)) => a.same(b),
            (None, None) => true,
            _ => false,
        }
    }
}

impl<A: Same<B>, B> Same<[B]> for [A] {
    fn same(&self, theirs: &[B]) -> bool {
        self.len() == theirs.len() && self.iter().zip(theirs).all(|(a, b)| a.same(b))
    }
}

impl<A: Same<B>, B> Same<Vec<B>> for Vec<A> {
    fn same(&self, theirs: &Vec<B>) -> bool {
        self.as_slice().same(theirs.as_slice())
    }
}

impl<A: Same<B> + ?Sized, B> Same<B> for Box<A> {
    fn same(&self, theirs: &B) -> bool {
        (**self).same(theirs)
    }
}
