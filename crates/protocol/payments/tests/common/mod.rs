//! A small network, a payer whose records are checked after every step, and onions peeled by hand.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    missing_docs
)]

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewChannel, Policy};
use fulmen_onion::{ReturnPacket, SharedSecret, payment_ecdh_point};
use fulmen_payments::{
    Asked, ForwardPolicy, HtlcLink, Invoice, InvoiceStatus, NewHtlc, OfferedHtlc, Outgoing,
    OutgoingChannel, OutgoingFailure, PayRequest, Payment, PaymentOutput, PaymentStatus,
    PolicyHistory, Resolution, RouteReport, check_forward, read_onion,
};
use fulmen_router::FirstHop;
use fulmen_types::record::{Space, WriteBatch};
use fulmen_types::{
    BlockHeight, CltvExpiryDelta, Features, Msat, NodeId, PaymentHash, PaymentPreimage,
    PaymentSecret, ShortChannelId, Timestamp,
};
use std::collections::BTreeMap;

pub const TIP: BlockHeight = BlockHeight::new(1_000);
pub const PREIMAGE: PaymentPreimage = PaymentPreimage::new([7; 32]);
pub const SECRET: PaymentSecret = PaymentSecret::new([8; 32]);

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

pub fn public(n: u8) -> PublicKey {
    PublicKey::from_secret_key(&Secp256k1::new(), &key(n))
}

pub fn id(n: u8) -> NodeId {
    NodeId::from(public(n))
}

pub fn scid(n: u64) -> ShortChannelId {
    ShortChannelId::from_u64(n)
}

pub fn secs(s: u64) -> Timestamp {
    Timestamp::from_secs(s)
}

pub const POLICY: ForwardPolicy = ForwardPolicy {
    fee_base_msat: 1_000,
    fee_proportional_millionths: 100,
    cltv_expiry_delta: 40,
    htlc_minimum: Msat::new(1_000),
    htlc_maximum: Msat::new(900_000_000),
};

/// 1 pays 4: by 2 (channels 12, 24) or, for a greater fee, by 3 (13, 34).
pub fn graph() -> NetworkGraph {
    graph_of(false)
}

/// The same; the channels to the payee may be disabled, as while its neighbours are away.
pub fn graph_of(disabled: bool) -> NetworkGraph {
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    for (channel, a, b, base) in [
        (12, 1, 2, 1_000),
        (24, 2, 4, 1_000),
        (13, 1, 3, 5_000),
        (34, 3, 4, 5_000),
    ] {
        let (a, b) = (id(a).min(id(b)), id(a).max(id(b)));
        writer
            .add_channel(&NewChannel {
                short_channel_id: scid(channel),
                node_1: a,
                node_2: b,
                capacity: Some(Amount::from_sat(1_000_000)),
                features: Features::empty(),
            })
            .unwrap();
        for direction in [Direction::Forward, Direction::Backward] {
            let policy = Policy {
                htlc_minimum: POLICY.htlc_minimum,
                htlc_maximum: POLICY.htlc_maximum,
                timestamp: 1,
                fee_base_msat: base,
                fee_proportional_millionths: POLICY.fee_proportional_millionths,
                cltv_expiry_delta: CltvExpiryDelta::new(POLICY.cltv_expiry_delta),
                disabled: disabled && channel != 12 && channel != 13,
            };
            writer
                .update_policy(scid(channel), direction, policy)
                .unwrap();
        }
    }
    (*writer.snapshot()).clone()
}

pub fn first_hops() -> [FirstHop; 2] {
    [(12, 2), (13, 3)].map(|(channel, peer)| FirstHop {
        short_channel_id: scid(channel),
        peer: id(peer),
        spendable: Msat::new(500_000_000),
        htlc_minimum: Msat::new(1),
    })
}

pub fn request() -> PayRequest {
    PayRequest {
        payment_hash: PREIMAGE.payment_hash(),
        payment_secret: SECRET,
        payment_metadata: Some(vec![1, 2, 3]),
        payee: public(4),
        amount: Msat::new(10_000_000),
        hints: vec![],
        min_final_cltv_expiry_delta: 24,
        max_fee: Msat::new(100_000),
        max_total_cltv: 2_016,
        max_attempts: 10,
        max_parts: 1,
        retry_until: secs(60),
        invoice: "lnbcrt...".into(),
    }
}

/// The payer: the machine, and its records as a store would hold them.
pub struct Payer {
    pub secp: Secp256k1<All>,
    pub machine: Outgoing,
    pub store: BTreeMap<Vec<u8>, Vec<u8>>,
    pub graph: NetworkGraph,
    pub now: Timestamp,
}

/// What the machine wants of the world once routes are found.
#[derive(Debug, Default)]
pub struct Wanted {
    pub htlcs: Vec<NewHtlc>,
    pub learned: Vec<RouteReport>,
    pub done: Vec<PaymentHash>,
}

impl Payer {
    pub fn new() -> Self {
        Self {
            secp: Secp256k1::new(),
            machine: Outgoing::new(id(1), [42; 32]),
            store: BTreeMap::new(),
            graph: graph(),
            now: secs(1),
        }
    }

    pub fn step(
        &mut self,
        f: impl FnOnce(&mut Outgoing, Timestamp, &mut WriteBatch) -> Vec<PaymentOutput>,
    ) -> Wanted {
        let mut batch = WriteBatch::new();
        let outputs = f(&mut self.machine, self.now, &mut batch);
        self.save(batch);
        self.work(outputs)
    }

    pub fn work(&mut self, outputs: Vec<PaymentOutput>) -> Wanted {
        let mut wanted = Wanted::default();
        let mut outputs = std::collections::VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                PaymentOutput::FindRoute(question) => {
                    let answer = question.answer(&self.graph, id(1), &first_hops(), self.now);
                    let mut batch = WriteBatch::new();
                    outputs.extend(self.machine.route_answered(
                        &self.secp,
                        &question.payment_hash,
                        question.attempt,
                        answer,
                        false,
                        self.now,
                        TIP,
                        &mut batch,
                    ));
                    self.save(batch);
                }
                PaymentOutput::AddHtlc(htlc) => wanted.htlcs.push(htlc),
                PaymentOutput::Learn(report) => wanted.learned.push(*report),
                PaymentOutput::Done(hash) => wanted.done.push(hash),
            }
        }
        wanted
    }

    pub fn save(&mut self, batch: WriteBatch) {
        for (record, value) in batch.iter() {
            assert_eq!(record.space, Space::Payment);
            self.store
                .insert(record.key.clone(), value.unwrap().to_vec());
        }
        // What is in memory is what the records say.
        for payment in self.machine.iter() {
            let record = &self.store[payment.request.payment_hash.as_bytes().as_slice()];
            assert_eq!(&Payment::from_record(record).unwrap(), payment);
        }
    }

    pub fn restart(&mut self) {
        let records = self.store.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        self.machine = Outgoing::restore(id(1), [43; 32], records).unwrap();
    }

    pub fn pay(&mut self) -> Wanted {
        self.step(|m, now, batch| m.pay(request(), now, batch).unwrap())
    }

    pub fn status(&self) -> PaymentStatus {
        self.machine
            .get(&PREIMAGE.payment_hash())
            .unwrap()
            .status
            .clone()
    }

    pub fn failed(&mut self, link: HtlcLink, failure: OutgoingFailure) -> Wanted {
        let secp = self.secp.clone();
        self.step(|m, now, batch| m.htlc_failed(&secp, &link, failure, now, batch))
    }
}

/// A node peels its layer.
pub fn peel(n: u8, htlc: &OfferedHtlc) -> (SharedSecret, Asked) {
    let secp = Secp256k1::new();
    let point = payment_ecdh_point(&secp, &htlc.onion, None).unwrap();
    let secret = SharedSecret::ecdh(&point, &key(n));
    let asked = read_onion(&secp, htlc, &secret);
    (secret, asked)
}

pub fn offered(htlc: &NewHtlc) -> OfferedHtlc {
    OfferedHtlc {
        amount: htlc.amount,
        payment_hash: htlc.payment_hash,
        cltv_expiry: htlc.cltv_expiry,
        onion: *htlc.onion,
    }
}

/// A node forwards: gives its secret and what it offers to the next.
pub fn forward(
    n: u8,
    htlc: &OfferedHtlc,
    base: u32,
) -> (SharedSecret, ShortChannelId, OfferedHtlc) {
    let (secret, asked) = peel(n, htlc);
    let Asked::Forward {
        payload,
        next_packet,
    } = asked
    else {
        panic!("{asked:?}")
    };
    let policy = PolicyHistory::new(ForwardPolicy {
        fee_base_msat: base,
        ..POLICY
    });
    let next = OutgoingChannel {
        policy: &policy,
        usable: true,
        disabled: false,
        channel_update: &[],
    };
    assert_eq!(
        check_forward(htlc, &payload, Some(&next), secs(1), TIP),
        Ok(())
    );
    let next = OfferedHtlc {
        amount: payload.amt_to_forward,
        payment_hash: htlc.payment_hash,
        cltv_expiry: payload.outgoing_cltv_value,
        onion: next_packet,
    };
    (secret, payload.short_channel_id, next)
}

pub fn invoice() -> Invoice {
    Invoice {
        preimage: PREIMAGE,
        payment_secret: SECRET,
        amount: Some(Msat::new(10_000_000)),
        created_at: secs(0),
        expires_at: secs(3_600),
        min_final_cltv_expiry_delta: CltvExpiryDelta::new(24),
        description: "coffee ☕".into(),
        bolt11: "lnbcrt...".into(),
        status: InvoiceStatus::Open,
    }
}

pub fn packet(resolution: Resolution) -> ReturnPacket {
    match resolution {
        Resolution::Fail(packet) => packet,
        other => panic!("{other:?}"),
    }
}
