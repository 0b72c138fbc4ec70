//! BOLT 4 onions of payments, layer by layer.

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_compare::{LdkHtlc, LdkPeeled, Source, as_ldk, ldk_peel};
use fulmen_onion::{
    CustomTlv, ForwardPayload, HopPayload, IncomingHtlc, PaymentData, ReceivePayload,
    build_payment_onion, peel_payment_with_key,
};
use fulmen_types::{CltvExpiry, Msat, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId};
use lightning::{
    ln::{channelmanager::RecipientOnionFields, create_payment_onion},
    routing::router::{Path, RouteHop},
    types::{
        features::{ChannelFeatures, NodeFeatures},
        payment::{
            PaymentHash as LdkHash, PaymentPreimage as LdkPreimage, PaymentSecret as LdkSecret,
        },
    },
    util::ser::Writeable,
};

use crate::Counts;

/// The tip, and what the last hop gets on top of it.
const HEIGHT: u32 = 800_000;
const FINAL_DELTA: u32 = 60;

/// A way, and what each node on it is told.
struct Plan {
    keys: Vec<SecretKey>,
    nodes: Vec<PublicKey>,
    scids: Vec<u64>,
    /// By hop: what is forwarded, and until when; the last is what is received.
    forwarded: Vec<(u64, u32)>,
    payment_hash: [u8; 32],
    secret: [u8; 32],
    total_msat: u64,
    metadata: Option<Vec<u8>>,
    keysend: Option<[u8; 32]>,
    custom: Vec<(u64, Vec<u8>)>,
}

impl Plan {
    fn new(g: &mut Source) -> Self {
        let hops = 1 + g.len(12);
        let keys: Vec<_> = (0..hops).map(|_| g.secret_key()).collect();
        let nodes = keys.iter().map(|key| key.public_key(g.secp())).collect();
        let scids = (0..hops).map(|_| 1 + g.u64() % (u64::MAX - 1)).collect();
        let amount = 1 + g.u64() % 1_000_000_000_000;
        let mut forwarded = vec![(amount, HEIGHT + FINAL_DELTA)];
        for _ in 1..hops {
            let (amount, cltv) = forwarded[forwarded.len() - 1];
            forwarded.push((
                amount + g.u64() % 10_000,
                cltv + 40 + u32::from(g.u16() % 100),
            ));
        }
        // A hop is told what the next one gets.
        forwarded.pop();
        forwarded.reverse();
        forwarded.push((amount, HEIGHT + FINAL_DELTA));
        let keysend = g.maybe(|g| PaymentPreimage::new(g.array()));
        let mut custom: Vec<(u64, Vec<u8>)> =
            g.list(3, |g| (65_537 + 2 * (g.u64() % 1_000_000), g.bytes(30)));
        custom.sort();
        custom.dedup_by_key(|(kind, _)| *kind);
        Self {
            keys,
            nodes,
            scids,
            forwarded,
            payment_hash: match &keysend {
                Some(preimage) => preimage.payment_hash().to_byte_array(),
                None => g.array(),
            },
            secret: g.array(),
            total_msat: amount + g.u64() % 1_000_000_000_000,
            metadata: g.maybe(|g| g.bytes(100)),
            keysend: keysend.map(PaymentPreimage::to_byte_array),
            custom,
        }
    }

    /// What node `at` is to find, but for the next packet.
    fn expect(&self, at: usize, found: &LdkPeeled) -> Result<()> {
        let (amount, expiry) = self.forwarded[at];
        match found {
            LdkPeeled::Forward {
                short_channel_id,
                amount_msat,
                cltv,
                ..
            } => {
                ensure!(at + 1 < self.nodes.len(), "the last node is to forward");
                // Channels are named from their start: hop 0 goes over scids[1].
                ensure!(
                    *short_channel_id == self.scids[at + 1],
                    "the channel of hop {at}"
                );
                ensure!(
                    (*amount_msat, *cltv) == (amount, expiry),
                    "the terms of hop {at}"
                );
            }
            LdkPeeled::Receive {
                amount_msat,
                cltv,
                payment_data,
                metadata,
                keysend,
                custom,
            } => {
                ensure!(at + 1 == self.nodes.len(), "hop {at} is to receive");
                ensure!(
                    (*amount_msat, *cltv) == (amount, expiry),
                    "the terms of the last hop"
                );
                ensure!(
                    *payment_data == Some((self.secret, self.total_msat)),
                    "payment_data"
                );
                ensure!(*metadata == self.metadata, "payment_metadata");
                ensure!(*keysend == self.keysend, "the preimage");
                ensure!(*custom == self.custom, "the custom records");
            }
        }
        Ok(())
    }

    fn peel_theirs(&self, g: &Source, mut packet: [u8; 1366]) -> Result<()> {
        for (at, key) in self.keys.iter().enumerate() {
            let (amount, expiry) = self.forwarded[at];
            let htlc = LdkHtlc {
                payment_hash: self.payment_hash,
                amount_msat: amount,
                cltv_expiry: expiry + if at + 1 < self.keys.len() { 60 } else { 0 },
                path_key: None,
                height: HEIGHT,
            };
            let found = ldk_peel(g.secp(), &packet, key, &htlc)
                .map_err(|e| anyhow!("LDK refuses hop {at}: {e:?}"))?;
            self.expect(at, &found)?;
            if let LdkPeeled::Forward { packet: next, .. } = found {
                packet = next
                    .try_into()
                    .map_err(|_| anyhow!("the packet's length"))?;
            }
        }
        Ok(())
    }

    fn peel_ours(&self, g: &Source, mut packet: [u8; 1366]) -> Result<()> {
        let hash = PaymentHash::new(self.payment_hash);
        for (at, key) in self.keys.iter().enumerate() {
            let htlc = IncomingHtlc::new(&hash);
            let (peeled, _) = peel_payment_with_key(g.secp(), &packet, key, &htlc)
                .with_context(|| format!("Fulmen refuses hop {at}"))?;
            let found = as_ldk(&peeled).ok_or_else(|| anyhow!("hop {at} is in a blinded path"))?;
            self.expect(at, &found)?;
            if let LdkPeeled::Forward { packet: next, .. } = found {
                packet = next
                    .try_into()
                    .map_err(|_| anyhow!("the packet's length"))?;
            }
        }
        Ok(())
    }
}

/// Built by one, every layer taken off by the other.
pub(crate) fn payment_onions(g: &mut Source, count: usize) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..count.div_ceil(10) {
        let plan = Plan::new(g);
        let session_key = g.secret_key();
        let packet = build_ours(g, &plan, &session_key)?;
        plan.peel_theirs(g, packet).context("Fulmen's onion")?;
        counts.to_ldk += plan.keys.len();
        let packet = build_theirs(g, &plan, &session_key)?;
        plan.peel_ours(g, packet).context("LDK's onion")?;
        counts.from_ldk += plan.keys.len();
    }
    Ok(counts)
}

fn build_ours(g: &Source, plan: &Plan, session_key: &SecretKey) -> Result<[u8; 1366]> {
    let last = plan.nodes.len() - 1;
    let hops: Vec<_> = plan
        .nodes
        .iter()
        .enumerate()
        .map(|(at, node)| {
            let (amount, cltv) = plan.forwarded[at];
            let (amt_to_forward, outgoing_cltv_value) = (Msat::new(amount), CltvExpiry::new(cltv));
            let payload = if at < last {
                HopPayload::Forward(ForwardPayload {
                    short_channel_id: ShortChannelId::from_u64(plan.scids[at + 1]),
                    amt_to_forward,
                    outgoing_cltv_value,
                })
            } else {
                HopPayload::Receive(ReceivePayload {
                    amt_to_forward,
                    outgoing_cltv_value,
                    payment_data: Some(PaymentData {
                        payment_secret: PaymentSecret::new(plan.secret),
                        total_msat: Msat::new(plan.total_msat),
                    }),
                    payment_metadata: plan.metadata.clone(),
                    keysend_preimage: plan.keysend.map(PaymentPreimage::new),
                    custom_tlvs: plan
                        .custom
                        .iter()
                        .map(|(kind, value)| CustomTlv {
                            kind: *kind,
                            value: value.clone(),
                        })
                        .collect(),
                })
            };
            (*node, payload)
        })
        .collect();
    let hash = PaymentHash::new(plan.payment_hash);
    Ok(build_payment_onion(g.secp(), session_key, &hops, &hash)?.packet)
}

fn build_theirs(g: &mut Source, plan: &Plan, session_key: &SecretKey) -> Result<[u8; 1366]> {
    let last = plan.nodes.len() - 1;
    let hops = (0..=last).map(|at| {
        // LDK says what a node keeps, and the last hop's own amount and delta.
        let (amount, cltv) = plan.forwarded[at];
        let (fee_msat, delta) = if at == last {
            (amount, FINAL_DELTA)
        } else {
            let incoming = if at == 0 {
                None
            } else {
                Some(plan.forwarded[at - 1])
            };
            // What the first node keeps is in no payload.
            let (in_amount, in_cltv) = incoming.unwrap_or((amount + 1, cltv + 40));
            (in_amount - amount, in_cltv - cltv)
        };
        RouteHop {
            pubkey: plan.nodes[at],
            node_features: NodeFeatures::empty(),
            short_channel_id: plan.scids[at],
            channel_features: ChannelFeatures::empty(),
            fee_msat,
            cltv_expiry_delta: delta,
            maybe_announced_channel: true,
        }
    });
    let path = Path {
        hops: hops.collect(),
        blinded_tail: None,
    };
    let mut fields = RecipientOnionFields::secret_only(LdkSecret(plan.secret));
    fields.payment_metadata = plan.metadata.clone();
    let fields = fields
        .with_custom_tlvs(plan.custom.clone())
        .map_err(|()| anyhow!("LDK refuses the custom records"))?;
    let (packet, ..) = create_payment_onion(
        g.secp(),
        &path,
        session_key,
        plan.total_msat,
        &fields,
        HEIGHT,
        &LdkHash(plan.payment_hash),
        &plan.keysend.map(LdkPreimage),
        None,
        [7; 32],
    )
    .map_err(|e| anyhow!("LDK can't build the onion: {e:?}"))?;
    packet
        .encode()
        .try_into()
        .map_err(|_| anyhow!("the packet's length"))
}
