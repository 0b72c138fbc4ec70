//! BOLT 4 onions of payments over blinded paths: whoever made the path and whoever built the onion, both read every
//! layer of it alike.

use anyhow::{Context, Result, anyhow, bail, ensure};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_compare::{KeyOnly, LdkHtlc, LdkPeeled, Source, as_ldk, ldk_peel};
use fulmen_onion::{
    BlindedForwardPayload, BlindedReceivePayload, ForwardPayload, HopPayload, IncomingHtlc,
    PaymentPacket, Peeled, SharedSecret,
    blinding::{
        BlindedHop, BlindedRoute, EncryptedData, NextHop, PaymentConstraints, PaymentRelay,
        blind_route, unblind,
    },
    build_payment_onion, peel_payment_with_key,
};
use fulmen_types::{CltvExpiry, CltvExpiryDelta, Msat, PaymentHash, ShortChannelId, codec::Encode};
use lightning::{
    blinded_path::payment::{
        BlindedPaymentPath, Bolt12RefundContext, ForwardTlvs, PaymentConstraints as LdkConstraints,
        PaymentContext, PaymentForwardNode, PaymentRelay as LdkRelay, UnauthenticatedReceiveTlvs,
    },
    ln::{channelmanager::RecipientOnionFields, create_payment_onion},
    offers::nonce::Nonce,
    routing::router::{BlindedTail, Path, RouteHop},
    sign::NodeSigner,
    types::{
        features::{BlindedHopFeatures, ChannelFeatures, NodeFeatures},
        payment::{PaymentHash as LdkHash, PaymentSecret as LdkSecret},
    },
    util::ser::Writeable,
};

use crate::{Counts, routes::Entropy};

/// The tip, and what the last node gets on top of the sender's expiry.
const HEIGHT: u32 = 800_000;
const FINAL_DELTA: u32 = 60;

/// Who made a path or an onion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Fulmen,
    Ldk,
}

/// An amount and an expiry.
type Terms = (u64, u32);

/// A way: nodes as they are, then a blinded path from its introduction node on.
struct Plan {
    keys: Vec<SecretKey>,
    nodes: Vec<PublicKey>,
    introduction: usize,
    /// The channel out of each node but the last.
    scids: Vec<u64>,
    /// What each node of the path but the last takes.
    relays: Vec<PaymentRelay>,
    /// The HTLC that comes to each node up to the introduction node.
    arriving: Vec<Terms>,
    /// What the last node is told.
    told: Terms,
    total_msat: u64,
    payment_hash: [u8; 32],
    /// The recipient knows its path by it.
    secret: [u8; 32],
}

impl Plan {
    fn new(g: &mut Source) -> Self {
        let (introduction, behind) = (g.len(3), g.len(4));
        let keys: Vec<_> = (0..=introduction + behind)
            .map(|_| g.secret_key())
            .collect();
        let nodes = keys.iter().map(|key| key.public_key(g.secp())).collect();
        let relay = |g: &mut Source| PaymentRelay {
            cltv_expiry_delta: CltvExpiryDelta::new(60 + g.u16() % 100),
            fee_proportional_millionths: g.u32() % 100_000,
            fee_base_msat: g.u32() % 100_000,
        };
        let relays: Vec<_> = (0..behind).map(|_| relay(g)).collect();
        let amount = 1 + g.u64() % 1_000_000_000_000;
        let told = (amount, HEIGHT + u32::from(g.u16() % 100));
        let mut htlc = (amount, told.1 + FINAL_DELTA);
        for relay in relays.iter().rev() {
            let fee = u128::from(htlc.0) * u128::from(relay.fee_proportional_millionths);
            let fee = u64::try_from(fee.div_ceil(1_000_000)).unwrap_or(u64::MAX);
            let fee = u64::from(relay.fee_base_msat) + fee;
            // Now and then more than is asked for.
            let fee = fee + g.u64() % 2;
            let delta = u32::from(relay.cltv_expiry_delta.to_u16());
            htlc = (htlc.0 + fee, htlc.1 + delta);
        }
        let mut arriving = vec![htlc];
        for _ in 0..introduction {
            htlc = (
                htlc.0 + g.u64() % 10_000,
                htlc.1 + 60 + u32::from(g.u16() % 100),
            );
            arriving.push(htlc);
        }
        arriving.reverse();
        Self {
            scids: (1..introduction + behind + 1)
                .map(|_| 1 + g.u64() % (u64::MAX - 1))
                .collect(),
            keys,
            nodes,
            introduction,
            relays,
            arriving,
            told,
            total_msat: amount + g.u64() % 1_000_000_000_000,
            payment_hash: g.array(),
            secret: g.array(),
        }
    }

    fn last(&self) -> usize {
        self.nodes.len() - 1
    }

    fn max_expiry(&self) -> u32 {
        self.arriving[self.introduction].1 + 1_000
    }

    fn our_path(&self, g: &mut Source) -> Result<BlindedRoute> {
        let constraints = PaymentConstraints {
            max_cltv_expiry: CltvExpiry::new(self.max_expiry()),
            htlc_minimum_msat: Msat::new(1),
        };
        let forwarders = self.relays.iter().zip(&self.scids[self.introduction..]);
        let mut data: Vec<EncryptedData> = forwarders
            .map(|(relay, scid)| EncryptedData {
                short_channel_id: Some(ShortChannelId::from_u64(*scid)),
                payment_relay: Some(*relay),
                payment_constraints: Some(constraints),
                ..EncryptedData::default()
            })
            .collect();
        data.push(EncryptedData {
            path_id: Some(self.secret.to_vec()),
            payment_constraints: Some(constraints),
            ..EncryptedData::default()
        });
        let hops: Vec<_> = self.nodes[self.introduction..]
            .iter()
            .zip(data)
            .map(|(node, data)| (*node, data.padded_to(60).to_bytes()))
            .collect();
        let session_key = g.secret_key();
        Ok(blind_route(g.secp(), &session_key, &hops)?)
    }

    fn their_path(&self, g: &mut Source) -> Result<BlindedRoute> {
        let constraints = LdkConstraints {
            max_cltv_expiry: self.max_expiry(),
            htlc_minimum_msat: 1,
        };
        let forwarders: Vec<_> = self
            .relays
            .iter()
            .enumerate()
            .map(|(at, relay)| PaymentForwardNode {
                tlvs: ForwardTlvs {
                    short_channel_id: self.scids[self.introduction + at],
                    payment_relay: LdkRelay {
                        cltv_expiry_delta: relay.cltv_expiry_delta.to_u16(),
                        fee_proportional_millionths: relay.fee_proportional_millionths,
                        fee_base_msat: relay.fee_base_msat,
                    },
                    payment_constraints: constraints.clone(),
                    features: BlindedHopFeatures::empty(),
                    next_blinding_override: None,
                },
                node_id: self.nodes[self.introduction + at],
                htlc_maximum_msat: u64::MAX,
            })
            .collect();
        let receive = UnauthenticatedReceiveTlvs {
            payment_secret: LdkSecret(self.secret),
            payment_constraints: constraints,
            payment_context: PaymentContext::Bolt12Refund(Bolt12RefundContext {}),
        };
        let nonce = Nonce::from_entropy_source(&Entropy(g.array()));
        let recipient = KeyOnly(self.keys[self.last()]);
        let path = BlindedPaymentPath::new(
            &forwarders,
            self.nodes[self.last()],
            receive.authenticate(nonce, &recipient.get_expanded_key()),
            u64::MAX,
            FINAL_DELTA as u16,
            &Entropy(g.array()),
            g.secp(),
        )
        .map_err(|()| anyhow!("LDK can't blind the path"))?;
        Ok(BlindedRoute {
            first_path_key: path.blinding_point(),
            path: path
                .blinded_hops()
                .iter()
                .map(|hop| BlindedHop {
                    blinded_node_id: hop.blinded_node_id,
                    encrypted_recipient_data: hop.encrypted_payload.clone(),
                })
                .collect(),
        })
    }

    fn our_onion(&self, g: &mut Source, route: &BlindedRoute) -> Result<PaymentPacket> {
        let mut hops = Vec::new();
        for at in 0..self.introduction {
            let (amount, expiry) = self.arriving[at + 1];
            let payload = HopPayload::Forward(ForwardPayload {
                short_channel_id: ShortChannelId::from_u64(self.scids[at]),
                amt_to_forward: Msat::new(amount),
                outgoing_cltv_value: CltvExpiry::new(expiry),
            });
            hops.push((self.nodes[at], payload));
        }
        for (at, hop) in route.path.iter().enumerate() {
            let encrypted_recipient_data = hop.encrypted_recipient_data.clone();
            let current_path_key = (at == 0).then_some(route.first_path_key);
            let payload = if at + 1 == route.path.len() {
                HopPayload::BlindedReceive(BlindedReceivePayload {
                    amt_to_forward: Msat::new(self.told.0),
                    outgoing_cltv_value: CltvExpiry::new(self.told.1),
                    total_amount_msat: Msat::new(self.total_msat),
                    encrypted_recipient_data,
                    current_path_key,
                })
            } else {
                HopPayload::BlindedForward(BlindedForwardPayload {
                    encrypted_recipient_data,
                    current_path_key,
                })
            };
            // The introduction node has no path key yet to read with.
            let node = match at {
                0 => self.nodes[self.introduction],
                _ => hop.blinded_node_id,
            };
            hops.push((node, payload));
        }
        let (session_key, hash) = (g.secret_key(), PaymentHash::new(self.payment_hash));
        Ok(build_payment_onion(g.secp(), &session_key, &hops, &hash)?.packet)
    }

    fn their_onion(&self, g: &mut Source, route: &BlindedRoute) -> Result<PaymentPacket> {
        let hops = (0..=self.introduction).map(|at| {
            // What the node keeps; of the introduction node, what the whole path does, and the excess.
            let (next_amount, next_expiry) = match self.arriving.get(at + 1) {
                Some(next) => *next,
                None => (self.told.0, HEIGHT),
            };
            RouteHop {
                pubkey: self.nodes[at],
                node_features: NodeFeatures::empty(),
                short_channel_id: at.checked_sub(1).map_or(7, |before| self.scids[before]),
                channel_features: ChannelFeatures::empty(),
                fee_msat: self.arriving[at].0 - next_amount,
                cltv_expiry_delta: self.arriving[at].1 - next_expiry,
                maybe_announced_channel: true,
            }
        });
        let blinded = route
            .path
            .iter()
            .map(|hop| lightning::blinded_path::BlindedHop {
                blinded_node_id: hop.blinded_node_id,
                encrypted_payload: hop.encrypted_recipient_data.clone(),
            });
        let path = Path {
            hops: hops.collect(),
            blinded_tail: Some(BlindedTail {
                trampoline_hops: vec![],
                hops: blinded.collect(),
                blinding_point: route.first_path_key,
                excess_final_cltv_expiry_delta: self.told.1 - HEIGHT,
                final_value_msat: self.told.0,
            }),
        };
        let (session_key, prng_seed) = (g.secret_key(), g.array());
        let (packet, first_amount, first_expiry) = create_payment_onion(
            g.secp(),
            &path,
            &session_key,
            self.total_msat,
            &RecipientOnionFields::spontaneous_empty(),
            HEIGHT,
            &LdkHash(self.payment_hash),
            &None,
            None,
            prng_seed,
        )
        .map_err(|e| anyhow!("LDK can't build the onion: {e:?}"))?;
        ensure!(
            (first_amount, first_expiry) == self.arriving[0],
            "LDK's first HTLC"
        );
        packet
            .encode()
            .try_into()
            .map_err(|_| anyhow!("the packet's length"))
    }

    /// Takes off every layer with both, each HTLC as the one before it says.
    fn walk(&self, g: &Source, path_by: By, mut packet: PaymentPacket) -> Result<()> {
        let hash = PaymentHash::new(self.payment_hash);
        let (mut amount, mut expiry) = self.arriving[0];
        let mut path_key: Option<PublicKey> = None;
        for (at, key) in self.keys.iter().enumerate() {
            let htlc = IncomingHtlc {
                path_key: path_key.as_ref(),
                ..IncomingHtlc::new(&hash)
            };
            let (ours, _) = peel_payment_with_key(g.secp(), &packet, key, &htlc)
                .with_context(|| format!("Fulmen refuses hop {at}"))?;
            let htlc = LdkHtlc {
                payment_hash: self.payment_hash,
                amount_msat: amount,
                cltv_expiry: expiry,
                path_key,
                height: HEIGHT,
            };
            let theirs = || {
                ldk_peel(g.secp(), &packet, key, &htlc)
                    .map_err(|e| anyhow!("LDK refuses hop {at}: {e:?}"))
            };
            let forward = match ours {
                Peeled::Forward { .. } => {
                    ensure!(at < self.introduction, "hop {at} is in the path");
                    as_ldk(&ours).ok_or_else(|| anyhow!("a forward is one"))?
                }
                Peeled::BlindedForward {
                    payload,
                    next_packet,
                } => {
                    let given = payload.current_path_key.or(path_key);
                    let given = given.ok_or_else(|| anyhow!("no path key at hop {at}"))?;
                    let blinding = SharedSecret::ecdh(&given, key);
                    let hop = unblind(
                        g.secp(),
                        &given,
                        &blinding,
                        &payload.encrypted_recipient_data,
                    )?;
                    let forward = hop
                        .data
                        .forward(Msat::new(amount), CltvExpiry::new(expiry))?;
                    let NextHop::Channel(channel) = forward.next else {
                        bail!("the path names channels");
                    };
                    path_key = Some(hop.next_path_key);
                    LdkPeeled::Forward {
                        short_channel_id: channel.to_u64(),
                        amount_msat: forward.amt_to_forward.to_msat(),
                        cltv: forward.outgoing_cltv_value.to_u32(),
                        packet: next_packet.to_vec(),
                    }
                }
                Peeled::BlindedReceive(payload) => {
                    ensure!(at == self.last(), "hop {at} is not the last");
                    ensure!(
                        amount >= self.told.0,
                        "{amount} are left of {}",
                        self.told.0
                    );
                    return self.received(g, path_by, path_key, &payload, theirs);
                }
                Peeled::Receive(_) | Peeled::Trampoline(_) => bail!("hop {at}: {ours:?}"),
            };
            let theirs = theirs()?;
            ensure!(theirs == forward, "hop {at}: {theirs:?} and {forward:?}");
            let LdkPeeled::Forward {
                short_channel_id,
                amount_msat,
                cltv,
                packet: next,
            } = forward
            else {
                bail!("it is a forward");
            };
            ensure!(
                self.scids.get(at) == Some(&short_channel_id),
                "the channel out of hop {at}"
            );
            if let Some(arriving) = self.arriving.get(at + 1) {
                ensure!((amount_msat, cltv) == *arriving, "the terms of hop {at}");
            }
            (amount, expiry) = (amount_msat, cltv);
            packet = next
                .try_into()
                .map_err(|_| anyhow!("the packet's length"))?;
        }
        bail!("nobody received it")
    }

    /// The end: what only the maker of the path can read is read by it alone.
    fn received(
        &self,
        g: &Source,
        path_by: By,
        path_key: Option<PublicKey>,
        payload: &BlindedReceivePayload,
        theirs: impl Fn() -> Result<LdkPeeled>,
    ) -> Result<()> {
        let told = (
            payload.amt_to_forward.to_msat(),
            payload.outgoing_cltv_value.to_u32(),
        );
        ensure!(told == self.told, "the terms of the last hop");
        ensure!(
            payload.total_amount_msat.to_msat() == self.total_msat,
            "the total"
        );
        match path_by {
            By::Fulmen => {
                let given = payload.current_path_key.or(path_key);
                let given = given.ok_or_else(|| anyhow!("no path key at the end"))?;
                let blinding = SharedSecret::ecdh(&given, &self.keys[self.last()]);
                let data = &payload.encrypted_recipient_data;
                let hop = unblind(g.secp(), &given, &blinding, data)?;
                ensure!(
                    hop.data.path_id.as_deref() == Some(&self.secret[..]),
                    "path_id"
                );
            }
            By::Ldk => {
                let found = theirs()?;
                let expected = LdkPeeled::Receive {
                    amount_msat: self.told.0,
                    cltv: self.told.1,
                    payment_data: Some((self.secret, self.total_msat)),
                    metadata: None,
                    keysend: None,
                    custom: vec![],
                };
                ensure!(found == expected, "{found:?} and {expected:?}");
            }
        }
        Ok(())
    }
}

/// Paths and onions of both, four ways to put them together.
pub(crate) fn blinded_payment_onions(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count.div_ceil(20) {
        let plan = Plan::new(g);
        for path_by in [By::Fulmen, By::Ldk] {
            let route = match path_by {
                By::Fulmen => plan.our_path(g),
                By::Ldk => plan.their_path(g),
            }
            .with_context(|| format!("{path_by:?}'s path"))?;
            for onion_by in [By::Fulmen, By::Ldk] {
                let (packet, counted) = match onion_by {
                    By::Fulmen => (plan.our_onion(g, &route)?, &mut counts.to_ldk),
                    By::Ldk => (plan.their_onion(g, &route)?, &mut counts.from_ldk),
                };
                plan.walk(g, path_by, packet)
                    .with_context(|| format!("{onion_by:?}'s onion over {path_by:?}'s path"))?;
                *counted += plan.nodes.len();
            }
        }
    }
    Ok(counts)
}
