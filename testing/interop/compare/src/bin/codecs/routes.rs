//! Blinded paths and onion messages.

use anyhow::{Context, Result, anyhow, bail, ensure};
use bitcoin::secp256k1::PublicKey;
use fulmen_compare::{KeyOnly, Same, Silent, Source};
use fulmen_onion::{
    Destination, MessageContents, MessageKeys, MessagePayload, PeeledMessage, SharedSecret,
    blinding::{BlindedPath, BlindedRoute, EncryptedData, NextHop, blind_route},
    build_message, peel_message_with_key,
};
use fulmen_types::{
    SciddirOrPubkey, ShortChannelId,
    codec::{Decode, Encode},
};
use lightning::{
    blinded_path::{
        EmptyNodeIdLookUp, IntroductionNode,
        message::{BlindedMessagePath, MessageContext, MessageForwardNode, NextMessageHop},
    },
    ln::msgs,
    onion_message::{
        messenger::{
            CustomOnionMessageHandler, Destination as LdkDestination, MessageSendInstructions,
            OnionMessagePath, PeeledOnion, Responder, ResponseInstruction, create_onion_message,
            peel_onion_message,
        },
        packet::{OnionMessageContents, Packet},
    },
    sign::{EntropySource, ReceiveAuthKey},
    util::ser::{LengthReadable, Readable, Writeable, Writer},
};

use crate::Counts;

/// Fixed entropy: a fresh one for each use.
pub(crate) struct Entropy(pub(crate) [u8; 32]);

impl EntropySource for Entropy {
    fn get_secure_random_bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// Made by one, read by the other; by the node that begins it, too.
pub(crate) fn blinded_paths(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count {
        let ours = our_path(g)?;
        let bytes = ours.to_bytes();
        let theirs = BlindedMessagePath::read_from_fixed_length_buffer(&mut bytes.as_slice())
            .map_err(|e| anyhow!("LDK refuses Fulmen's path: {e:?}"))?;
        ensure!(ours.same(&theirs), "{ours:?} and {theirs:?}");
        counts.to_ldk += 1;
        their_path(g)?;
        counts.from_ldk += 1;
    }
    Ok(counts)
}

fn our_path(g: &mut Source) -> Result<BlindedPath> {
    let hops = (0..1 + g.len(4)).map(|_| (g.public_key(), g.bytes(100)));
    let hops: Vec<_> = hops.collect();
    let route = blind_route(g.secp(), &g.clone().secret_key(), &hops)?;
    let first_node_id = match g.flag() {
        true => SciddirOrPubkey::Pubkey(hops[0].0),
        false => SciddirOrPubkey::Sciddir {
            is_node_2: g.flag(),
            short_channel_id: ShortChannelId::from_u64(g.u64()),
        },
    };
    Ok(BlindedPath {
        first_node_id,
        route,
    })
}

/// LDK blinds a path over nodes and channels; Fulmen walks it.
fn their_path(g: &mut Source) -> Result<()> {
    let keys: Vec<_> = (0..2 + g.len(3)).map(|_| g.secret_key()).collect();
    let nodes: Vec<_> = keys.iter().map(|key| key.public_key(g.secp())).collect();
    let (recipient, forwarders) = nodes.split_last().ok_or_else(|| anyhow!("no nodes"))?;
    let forwarders: Vec<_> = forwarders
        .iter()
        .map(|node_id| MessageForwardNode {
            node_id: *node_id,
            short_channel_id: g.maybe(Source::u64),
        })
        .collect();
    let theirs = BlindedMessagePath::new(
        &forwarders,
        *recipient,
        ReceiveAuthKey(g.array()),
        MessageContext::Custom(g.bytes(40)),
        &Entropy(g.array()),
        g.secp(),
    );
    let ours = BlindedPath::from_bytes(&theirs.encode())?;
    ensure!(ours.same(&theirs), "{ours:?} and {theirs:?}");
    ensure!(matches!(theirs.introduction_node(), IntroductionNode::NodeId(id) if *id == nodes[0]));
    let mut route: BlindedRoute = ours.route;
    for (at, key) in keys.iter().enumerate().take(forwarders.len()) {
        let blinding = SharedSecret::ecdh(&route.first_path_key, key);
        let (data, rest) = route.advance(g.secp(), &blinding)?;
        check_next(&data, &nodes, &forwarders, at)?;
        route = rest;
    }
    Ok(())
}

fn check_next(
    data: &EncryptedData,
    nodes: &[PublicKey],
    forwarders: &[MessageForwardNode],
    at: usize,
) -> Result<()> {
    match forwarders[at].short_channel_id {
        Some(scid) => ensure!(data.short_channel_id.map(ShortChannelId::to_u64) == Some(scid)),
        None => ensure!(data.next_node_id == Some(nodes[at + 1])),
    }
    Ok(())
}

/// A payload of an application.
#[derive(Clone, Debug, PartialEq)]
struct Contents(u64, Vec<u8>);

impl Writeable for Contents {
    fn write<W: Writer>(&self, writer: &mut W) -> Result<(), lightning::io::Error> {
        writer.write_all(&self.1)
    }
}

impl OnionMessageContents for Contents {
    fn tlv_type(&self) -> u64 {
        self.0
    }

    fn msg_type(&self) -> &'static str {
        "contents"
    }
}

struct Handler;

impl CustomOnionMessageHandler for Handler {
    type CustomMessage = Contents;

    fn handle_custom_message(
        &self,
        _: Contents,
        _: Option<Vec<u8>>,
        _: Option<Responder>,
    ) -> Option<(Contents, ResponseInstruction)> {
        None
    }

    fn read_custom_message<R: lightning::io::Read>(
        &self,
        kind: u64,
        buffer: &mut R,
    ) -> Result<Option<Contents>, msgs::DecodeError> {
        let mut value = Vec::new();
        while let Ok(byte) = <u8 as Readable>::read(buffer) {
            value.push(byte);
        }
        Ok(Some(Contents(kind, value)))
    }

    fn release_pending_custom_messages(&self) -> Vec<(Contents, MessageSendInstructions)> {
        vec![]
    }
}

/// Over up to four nodes, every layer taken off by the other.
pub(crate) fn onion_messages(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count.div_ceil(10) {
        let keys: Vec<_> = (0..1 + g.len(4)).map(|_| g.secret_key()).collect();
        let nodes: Vec<_> = keys.iter().map(|key| key.public_key(g.secp())).collect();
        let contents = Contents(65_537 + 2 * (g.u64() % 1_000_000), g.bytes(1_500));
        let reply_path = g.maybe(our_path).transpose()?;

        let (last, through) = nodes.split_last().ok_or_else(|| anyhow!("no nodes"))?;
        let message_keys = MessageKeys {
            onion: g.secret_key(),
            path: g.secret_key(),
        };
        let payload = MessagePayload {
            reply_path: reply_path.clone(),
            contents: Some(MessageContents::Custom {
                kind: contents.0,
                value: contents.1.clone(),
            }),
        };
        let built = build_message(
            g.secp(),
            &message_keys,
            through,
            &Destination::Node(*last),
            &payload,
        )?;
        ensure!(built.first_node_id == nodes[0]);
        let mut message = msgs::OnionMessage {
            blinding_point: built.path_key,
            onion_routing_packet: packet(&built.packet)?,
        };
        for (at, key) in keys.iter().enumerate() {
            let peeled = peel_onion_message(&message, g.secp(), &KeyOnly(*key), &Silent, &Handler)
                .map_err(|()| anyhow!("LDK refuses hop {at} of Fulmen's message"))?;
            match peeled {
                PeeledOnion::Forward(NextMessageHop::NodeId(next), forwarded) => {
                    ensure!(
                        nodes.get(at + 1) == Some(&next),
                        "LDK's next hop after {at}"
                    );
                    message = forwarded;
                }
                PeeledOnion::Custom(found, context, path) => {
                    ensure!(at + 1 == nodes.len() && found == contents && context.is_none());
                    ensure!(reply_path.same(&path), "the reply path");
                }
                other => bail!("LDK finds {other:?}"),
            }
            counts.to_ldk += 1;
        }
        from_ldk(g, &keys, &nodes, &contents, reply_path.as_ref()).context("LDK's message")?;
        counts.from_ldk += keys.len();
    }
    Ok(counts)
}

fn packet(bytes: &[u8]) -> Result<Packet> {
    Packet::read_from_fixed_length_buffer(&mut &bytes[..])
        .map_err(|e| anyhow!("LDK refuses the packet: {e:?}"))
}

fn from_ldk(
    g: &mut Source,
    keys: &[bitcoin::secp256k1::SecretKey],
    nodes: &[PublicKey],
    contents: &Contents,
    reply_path: Option<&BlindedPath>,
) -> Result<()> {
    let (last, through) = nodes.split_last().ok_or_else(|| anyhow!("no nodes"))?;
    let their_reply = reply_path
        .map(|path| {
            BlindedMessagePath::read_from_fixed_length_buffer(&mut path.to_bytes().as_slice())
        })
        .transpose()
        .map_err(|e| anyhow!("{e:?}"))?;
    let path = OnionMessagePath {
        intermediate_nodes: through.to_vec(),
        destination: LdkDestination::Node(*last),
        first_node_addresses: vec![],
    };
    let (first, message, _) = create_onion_message(
        &&Entropy(g.array()),
        &&KeyOnly(g.secret_key()),
        &&EmptyNodeIdLookUp {},
        g.secp(),
        path,
        contents.clone(),
        their_reply,
    )
    .map_err(|e| anyhow!("LDK can't build it: {e:?}"))?;
    ensure!(first == nodes[0]);
    let (mut packet, mut path_key) = (
        message.onion_routing_packet.encode(),
        message.blinding_point,
    );
    for (at, key) in keys.iter().enumerate() {
        match peel_message_with_key(g.secp(), &packet, &path_key, key, &[])? {
            PeeledMessage::Forward {
                next,
                next_path_key,
                packet: inner,
            } => {
                ensure!(
                    next == NextHop::Node(nodes[at + 1]),
                    "the next hop after {at}"
                );
                (packet, path_key) = (inner, next_path_key);
            }
            PeeledMessage::Receive { path_id, payload } => {
                ensure!(at + 1 == nodes.len() && path_id.is_none());
                let value = payload
                    .contents
                    .as_ref()
                    .map(|c| (c.kind(), c.value().to_vec()));
                ensure!(
                    value == Some((contents.0, contents.1.clone())),
                    "the contents"
                );
                ensure!(payload.reply_path.as_ref() == reply_path, "the reply path");
            }
        }
    }
    Ok(())
}
