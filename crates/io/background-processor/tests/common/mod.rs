//! Steps, messages and signers for tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use bitcoin::{
    Amount, OutPoint, Txid,
    hashes::Hash,
    secp256k1::{Message as Digest, PublicKey, Secp256k1, SecretKey, ecdsa},
};
use fulmen_node::{Action, ActionKind, ConnEpoch, Effects, Lane, ReleaseClass, Scope};
use fulmen_signer::{CommitmentSigning, OutMessage, Signer, SigningAnswer, SigningRequest};
use fulmen_tx::{
    ChannelKeysId, ChannelParameters, ChannelPublicKeys, CommitmentContent, CommitmentFormat,
    CounterpartyCommitment, Funding, PartyParameters, Side,
};
use fulmen_types::{
    ChannelId, CommitmentNumber, Features, FeeratePerKw, Msat,
    record::{RecordKey, Space, WriteBatch},
};
use fulmen_wire::{Init, Message, Warning};

pub fn key(seed: u8) -> PublicKey {
    SecretKey::from_slice(&[seed; 32])
        .unwrap()
        .public_key(&Secp256k1::new())
}

pub fn channel(n: u8) -> ChannelId {
    ChannelId::new([n; 32])
}

pub fn scope(n: u8) -> Scope {
    Scope::Channel(ChannelKeysId::new([n; 32]))
}

pub fn lane(peer: u8, epoch: u64, of: Option<u8>) -> Lane {
    Lane {
        peer: key(peer),
        epoch: ConnEpoch(epoch),
        channel: of.map(channel),
    }
}

pub fn init() -> OutMessage {
    let init = Init {
        globalfeatures: Features::empty(),
        features: Features::empty(),
        networks: None,
        remote_addr: None,
    };
    Message::Init(init).into()
}

pub fn text(text: &str) -> OutMessage {
    Message::from(Warning::new(ChannelId::ALL, text)).into()
}

/// A `commitment_signed` of commitment `n`: its number is how tests know it again.
pub fn unsigned(of: u8, n: u64) -> OutMessage {
    let keys = ChannelPublicKeys {
        funding: key(1),
        revocation_basepoint: key(2),
        payment_basepoint: key(3),
        delayed_payment_basepoint: key(4),
        htlc_basepoint: key(5),
    };
    let party = PartyParameters {
        keys,
        to_self_delay: 144,
        dust_limit: Amount::from_sat(354),
    };
    let params = ChannelParameters {
        keys_id: ChannelKeysId::new([of; 32]),
        format: CommitmentFormat::AnchorsZeroFeeHtlc,
        opener: Side::Local,
        local: party,
        remote: party,
        funding: Funding {
            outpoint: OutPoint::new(Txid::from_byte_array([5; 32]), 0),
            value: Amount::from_sat(1_000_000),
        },
    };
    let content = CommitmentContent {
        number: CommitmentNumber::new(n).unwrap(),
        feerate: FeeratePerKw::FLOOR,
        to_local: Msat::from_sat(500_000),
        to_remote: Msat::from_sat(500_000),
        htlcs: Vec::new(),
    };
    let commitment = CounterpartyCommitment {
        content,
        per_commitment_point: key(9),
    };
    OutMessage::CommitmentSigned {
        revoked: None,
        channel_id: channel(of),
        request: Box::new(CommitmentSigning { params, commitment }),
    }
}

/// A step in the making.
pub struct Step(Effects);

impl Step {
    pub fn new(seq: u64) -> Self {
        Self(Effects {
            seq,
            ..Effects::default()
        })
    }

    pub fn scope(mut self, scope: Scope) -> Self {
        self.0.scopes.push(scope);
        self
    }

    /// With something to store.
    pub fn stored(mut self) -> Self {
        let key = RecordKey::new(Space::Node, self.0.seq.to_be_bytes());
        self.0.batch.put(key, vec![1; 10]);
        self
    }

    pub fn act(self, class: ReleaseClass, kind: ActionKind) -> Self {
        let after = self.0.seq;
        self.act_after(class, after, kind)
    }

    pub fn act_after(mut self, class: ReleaseClass, after: u64, kind: ActionKind) -> Self {
        self.0.actions.push(Action { class, after, kind });
        self
    }

    pub fn send(self, lane: Lane, message: OutMessage) -> Self {
        self.act(ReleaseClass::All, ActionKind::Send { lane, message })
    }

    pub fn withdraw(self, lane: Lane) -> Self {
        self.act(ReleaseClass::Now, ActionKind::Withdraw { lane })
    }

    pub fn done(self) -> Effects {
        self.0
    }
}

pub fn batch(name: u8) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(RecordKey::new(Space::Peer, [name]), vec![1, name]);
    batch
}

/// What a test signer does when asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Signs,
    Refuses,
    IsAway,
}

/// Signs anything with a constant, and remembers in which order.
pub struct TestSigner {
    pub mood: Mutex<Mood>,
    pub asked: Mutex<Vec<u64>>,
}

impl TestSigner {
    pub fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(mood),
            asked: Mutex::default(),
        })
    }
}

pub fn signature() -> ecdsa::Signature {
    let secret = SecretKey::from_slice(&[7; 32]).unwrap();
    Secp256k1::new().sign_ecdsa(&Digest::from_digest([1; 32]), &secret)
}

impl Signer for TestSigner {
    fn answer(&self, request: &SigningRequest) -> SigningAnswer {
        match *self.mood.lock().unwrap() {
            Mood::Signs => {}
            Mood::Refuses => return SigningAnswer::Refused(fulmen_signer::Refusal::NotSupported),
            Mood::IsAway => return SigningAnswer::Unavailable,
        }
        match request {
            SigningRequest::CounterpartyCommitment(signing) => {
                let number = signing.commitment.content.number.to_u64();
                self.asked.lock().unwrap().push(number);
                SigningAnswer::Commitment {
                    signature: signature(),
                    htlc_signatures: Vec::new(),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn node_id(&self) -> PublicKey {
        key(1)
    }
}
