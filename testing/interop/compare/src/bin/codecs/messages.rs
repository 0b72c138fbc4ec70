//! BOLT 1, 2, 4 and 7 messages.

use anyhow::{Context, Result, anyhow, bail, ensure};
use bitcoin::{
    hashes::{Hash, sha256d},
    secp256k1::Message as Digest,
};
use fulmen_compare::{LdkMessage, Same, Source, Verdict, compare_message};
use fulmen_types::{ChannelType, Feature, Features};
use fulmen_wire::Message;
use lightning::{
    types::features::{ChannelTypeFeatures, InitFeatures},
    util::ser::Writeable,
};

use crate::Counts;

/// Every type that LDK knows.
pub(crate) fn messages(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        for theirs in LdkMessage::generate_all(g) {
            let bytes = theirs.encode();
            one(&theirs, &bytes).with_context(|| format!("{theirs:?}"))?;
            counts.from_ldk += 1;
            counts.to_ldk += 1;
            let changed = mutate(g, &bytes);
            if let (_, Verdict::Different(how)) = compare_message(&changed) {
                bail!("{how}: {changed:02x?}");
            }
            counts.mutated += 1;
        }
    }
    Ok(counts)
}

fn one(theirs: &LdkMessage, bytes: &[u8]) -> Result<()> {
    let (ours, verdict) = compare_message(bytes);
    ensure!(verdict == Verdict::Same, "{verdict:?}");
    let encoded = ours?.encode();
    let again = LdkMessage::decode(&encoded)
        .ok_or_else(|| anyhow!("LDK does not know the type"))?
        .map_err(|e| anyhow!("LDK refuses Fulmen's encoding: {e:?}"))?;
    ensure!(
        again == *theirs,
        "LDK reads something else from Fulmen's encoding"
    );
    ensure!(encoded == bytes, "the encodings differ");
    Ok(())
}

/// One byte changed, or some cut off, or some put behind.
fn mutate(g: &mut Source, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let body = 2..bytes.len();
    match g.below(4) {
        0 => bytes.truncate(2 + g.len(body.len() + 1)),
        1 => bytes.extend(g.bytes(12)),
        _ if body.is_empty() => bytes.push(g.u8()),
        _ => bytes[2 + g.len(body.len())] = g.u8(),
    }
    bytes
}

/// What nodes sign when they announce something: LDK's encoding of the contents, hashed, is Fulmen's digest,
/// and a signature of it by a real key holds in both.
pub(crate) fn gossip_signatures(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        for theirs in LdkMessage::generate_all(g) {
            let contents = match &theirs {
                LdkMessage::ChannelAnnouncement(m) => m.contents.encode(),
                LdkMessage::NodeAnnouncement(m) => m.contents.encode(),
                LdkMessage::ChannelUpdate(m) => m.contents.encode(),
                _ => continue,
            };
            let digest = Digest::from_digest(sha256d::Hash::hash(&contents).to_byte_array());
            let ours = match Message::decode(&theirs.encode())? {
                Message::ChannelAnnouncement(m) => m.signature_hash(),
                Message::NodeAnnouncement(m) => m.signature_hash(),
                Message::ChannelUpdate(m) => m.signature_hash(),
                other => bail!("{} is no gossip", other.name()),
            };
            ensure!(ours == digest, "what is signed differs: {theirs:?}");
            counts.from_ldk += 1;
            counts.to_ldk += 1;
        }
    }
    Ok(counts)
}

/// Bits, and the channel types that both know.
pub(crate) fn features(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let mut ours = Features::empty();
        let mut theirs = InitFeatures::empty();
        for _ in 0..g.len(12) {
            let bit = u32::try_from(g.below(300))?;
            ours.set_bit(bit);
            let set = if bit % 2 == 0 {
                theirs.set_required_custom_bit(bit as usize)
            } else {
                theirs.set_optional_custom_bit(bit as usize)
            };
            // Bits of named features can't be set by number.
            if set.is_err() {
                let mut flags = theirs.le_flags().to_vec();
                let byte = bit as usize / 8;
                flags.resize(flags.len().max(byte + 1), 0);
                flags[byte] |= 1 << (bit % 8);
                theirs = InitFeatures::from_le_bytes(flags);
            }
        }
        ensure!(ours.same(&theirs), "{ours:?} and {theirs:?}");
        let again = Features::from_be_bytes(&theirs.encode()[2..]);
        ensure!(again == ours, "LDK's encoding of {theirs:?}");
        let back = InitFeatures::from_be_bytes(ours.to_be_bytes());
        ensure!(back == theirs, "Fulmen's encoding of {ours:?}");
        ensure!(
            back.supports_unknown_bits() == theirs.supports_unknown_bits(),
            "unknown bits of {ours:?}"
        );
        counts.to_ldk += 1;
        counts.from_ldk += 1;
    }
    let types = [
        (
            ChannelType::static_remote_key(),
            ChannelTypeFeatures::only_static_remote_key(),
        ),
        (
            ChannelType::anchors(),
            ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies(),
        ),
    ];
    for (ours, theirs) in types {
        ensure!(ours.same(&theirs), "{ours:?} and {theirs:?}");
    }
    named(&[
        (
            Feature::Anchors,
            InitFeatures::supports_anchors_zero_fee_htlc_tx,
        ),
        (Feature::BasicMpp, InitFeatures::supports_basic_mpp),
        (Feature::SupportLargeChannel, InitFeatures::supports_wumbo),
        (
            Feature::ShutdownAnySegwit,
            InitFeatures::supports_shutdown_anysegwit,
        ),
        (Feature::ScidAlias, InitFeatures::supports_scid_privacy),
        (Feature::ZeroConf, InitFeatures::supports_zero_conf),
        (
            Feature::OnionMessages,
            InitFeatures::supports_onion_messages,
        ),
        (
            Feature::RouteBlinding,
            InitFeatures::supports_route_blinding,
        ),
    ])?;
    Ok(counts)
}

/// How LDK asks for a feature.
type Supports = fn(&InitFeatures) -> bool;

/// The same name is the same bit.
fn named(pairs: &[(Feature, Supports)]) -> Result<()> {
    for (feature, supports) in pairs {
        let ours = Features::empty().with_optional(*feature);
        let theirs = InitFeatures::from_be_bytes(ours.to_be_bytes());
        ensure!(
            supports(&theirs),
            "{} is another bit in LDK",
            feature.name()
        );
    }
    Ok(())
}
