//! A policy and what stands around it: sockets, dials, and a clock that a test moves.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{collections::BTreeMap, net::IpAddr};

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_connect::{
    ConnId, ConnectConfig, ConnectionPolicy, Direction, Input, Offence, Output, PeerView, Question,
    Refusal, StandardPolicy,
};
use fulmen_types::{NodeId, Timestamp};

pub(crate) fn key(number: u16) -> NodeId {
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    let secret = SecretKey::from_slice(&bytes).expect("a key");
    PublicKey::from_secret_key(&Secp256k1::new(), &secret).into()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Without strangers and seeds.
pub(crate) fn quiet() -> ConnectConfig {
    ConnectConfig {
        min_peers: 0,
        bootstrap: false,
        ..ConnectConfig::default()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) id: ConnId,
    pub(crate) peer: NodeId,
    pub(crate) addresses: Vec<String>,
    pub(crate) at: Timestamp,
}

/// The world as the policy's outputs make it.
pub(crate) struct World {
    pub(crate) policy: StandardPolicy,
    pub(crate) now: Timestamp,
    pub(crate) handshakes: BTreeMap<ConnId, IpAddr>,
    pub(crate) live: BTreeMap<ConnId, NodeId>,
    pub(crate) dialling: BTreeMap<ConnId, NodeId>,
    pub(crate) dials: Vec<Dial>,
    pub(crate) questions: Vec<Question>,
    pub(crate) drops: Vec<(ConnId, Refusal)>,
    next: u64,
}

impl World {
    pub(crate) fn new(config: ConnectConfig) -> Self {
        Self::remembering(config, [7; 32], &[])
    }

    pub(crate) fn remembering(config: ConnectConfig, seed: [u8; 32], memory: &[u8]) -> Self {
        Self {
            policy: StandardPolicy::new(config, seed, memory),
            now: Timestamp::from_secs(1_700_000_000),
            handshakes: BTreeMap::new(),
            live: BTreeMap::new(),
            dialling: BTreeMap::new(),
            dials: Vec::new(),
            questions: Vec::new(),
            drops: Vec::new(),
            next: 1,
        }
    }

    /// Gives an input and does what comes out; the answer if it was a question.
    pub(crate) fn give(&mut self, input: Input) -> Option<Result<(), Refusal>> {
        let mut answer = None;
        for output in self.policy.handle(self.now, input) {
            match output {
                Output::Accept { .. } => {
                    assert_eq!(answer.replace(Ok(())), None, "answered twice");
                }
                Output::Refuse { why, .. } => {
                    assert_eq!(answer.replace(Err(why)), None, "answered twice");
                }
                Output::Dial {
                    id,
                    peer,
                    addresses,
                } => {
                    assert!(self.dialling.insert(id, peer).is_none());
                    self.dials.push(Dial {
                        id,
                        peer,
                        addresses,
                        at: self.now,
                    });
                }
                Output::Drop { id, why } => {
                    let was = self.live.remove(&id).is_some()
                        | self.dialling.remove(&id).is_some()
                        | self.handshakes.remove(&id).is_some();
                    assert!(was, "{id:?} is not there to be dropped");
                    self.drops.push((id, why));
                }
                Output::Ask(question) => self.questions.push(question),
            }
        }
        if let Some(wake) = self.policy.next_wake(self.now) {
            assert!(wake > self.now, "a wake-up in the past is a busy loop");
        }
        answer
    }

    /// Lets time pass, with ticks when they are wanted.
    pub(crate) fn pass(&mut self, millis: u64) {
        let end = self.now.plus_millis(millis);
        let mut ticks = 0;
        while let Some(wake) = self.policy.next_wake(self.now).filter(|wake| *wake <= end) {
            self.now = wake;
            self.give(Input::Tick);
            ticks += 1;
            assert!(ticks < 100_000, "it never sleeps");
        }
        self.now = end;
    }

    pub(crate) fn knock(&mut self, from: IpAddr) -> Result<ConnId, Refusal> {
        let id = ConnId::In(self.next);
        self.next += 1;
        self.give(Input::Incoming { id, ip: from })
            .expect("an answer")?;
        self.handshakes.insert(id, from);
        Ok(id)
    }

    pub(crate) fn come(&mut self, peer: NodeId, from: IpAddr) -> Result<ConnId, Refusal> {
        let id = self.knock(from)?;
        self.shake(id, peer)?;
        Ok(id)
    }

    pub(crate) fn shake(&mut self, id: ConnId, peer: NodeId) -> Result<(), Refusal> {
        self.handshakes.remove(&id);
        self.dialling.remove(&id);
        let address = (id.direction() == Direction::Outbound).then(|| {
            let dial = self.dials.iter().find(|dial| dial.id == id);
            dial.and_then(|d| d.addresses.first().cloned())
                .unwrap_or_default()
        });
        self.give(Input::Connected { id, peer, address })
            .expect("an answer")?;
        self.live.insert(id, peer);
        Ok(())
    }

    pub(crate) fn end(&mut self, id: ConnId, offence: Option<Offence>) {
        self.live.remove(&id);
        self.handshakes.remove(&id);
        self.give(Input::Ended { id, offence });
    }

    pub(crate) fn fail(&mut self, id: ConnId) {
        self.dialling.remove(&id);
        let why = "nobody is there".to_owned();
        self.give(Input::DialFailed { id, why });
    }

    pub(crate) fn fail_all(&mut self) {
        for id in self.dialling.keys().copied().collect::<Vec<_>>() {
            self.fail(id);
        }
    }

    pub(crate) fn channel(&mut self, peer: NodeId, address: &str) {
        let addresses = vec![address.to_owned()];
        self.give(Input::Channel { peer, addresses });
    }

    pub(crate) fn last_dial(&self) -> &Dial {
        self.dials.last().expect("a dial")
    }

    pub(crate) fn view_of(&self, peer: NodeId) -> PeerView {
        let view = self.policy.view(self.now);
        let found = view.peers.into_iter().find(|view| view.peer == peer);
        found.expect("it is known")
    }
}
