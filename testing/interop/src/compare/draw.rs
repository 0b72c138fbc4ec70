//! Channels and commitments drawn at random, the same ones in each run.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid, WPubkeyHash, WScriptHash};
use fulmen_tx::{
    ChannelKeysId, ChannelParameters, ChannelPublicKeys, CommitmentContent, CommitmentFormat,
    CommitmentHtlc, Funding, PartyParameters, Side,
};
use fulmen_types::{CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash};

/// Numbers and bytes that look random.
pub(super) struct Draw {
    label: String,
    count: u64,
}

impl Draw {
    pub(super) fn new(label: String) -> Self {
        Self { label, count: 0 }
    }

    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut engine = sha256::Hash::engine();
        engine.input(self.label.as_bytes());
        engine.input(&self.count.to_be_bytes());
        self.count += 1;
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    /// A number below `bound`, which is above 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % bound
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(super) fn side(&mut self) -> Side {
        if self.one_in(2) {
            Side::Local
        } else {
            Side::Remote
        }
    }

    pub(super) fn channel(
        &mut self,
        format: CommitmentFormat,
        local: ChannelPublicKeys,
        remote: ChannelPublicKeys,
    ) -> ChannelParameters {
        let mut party = |keys| PartyParameters {
            keys,
            to_self_delay: match self.below(3) {
                // Around the sizes of a pushed number.
                0 => 15 + self.small(4),
                1 => 126 + self.small(4),
                _ => 1 + self.small(2_016),
            },
            dust_limit: Amount::from_sat(354 + self.below(700)),
        };
        let (local, remote) = (party(local), party(remote));
        ChannelParameters {
            keys_id: ChannelKeysId::new(self.bytes()),
            format,
            opener: self.side(),
            local,
            remote,
            funding: Funding {
                outpoint: OutPoint {
                    txid: Txid::from_byte_array(self.bytes()),
                    vout: u32::from(self.small(4)),
                },
                value: Amount::from_sat(20_000 + self.below(50_000_000)),
            },
        }
    }

    /// A division of a channel's money, often with many HTLCs that are alike.
    pub(super) fn content(&mut self, params: &ChannelParameters) -> CommitmentContent {
        let count = match self.below(20) {
            0 => self.below(484),
            1..5 => 0,
            _ => self.below(12),
        };
        let mut left = Msat::from_amount(params.funding.value).to_msat();
        let mut next = [0, 0];
        let mut htlcs = Vec::new();
        let feerate = 253 + self.below(20_000);
        for _ in 0..count {
            let offered_by = self.side();
            let amount = match self.below(4) {
                0 => 1 + self.below(1_000_000),
                // About what is trimmed.
                1 => (354 + self.below(2_000) + 700 * feerate / 1_000) * 1_000,
                2 => 2_000_000 + self.below(3),
                _ => 1 + self.below(left / 4 + 1),
            };
            let Some(rest) = left.checked_sub(amount) else {
                break;
            };
            left = rest;
            let id = &mut next[usize::from(offered_by == Side::Remote)];
            *id += 1;
            let few = self.one_in(2);
            htlcs.push(CommitmentHtlc {
                id: HtlcId::new(*id),
                offered_by,
                amount: Msat::new(amount),
                payment_hash: if few {
                    PaymentHash::new([u8::from(self.one_in(2)); 32])
                } else {
                    PaymentHash::new(self.bytes())
                },
                cltv_expiry: CltvExpiry::new(u32::from(self.small(60_000)) * 14 + 1),
            });
        }
        // The whole, nothing, or about the dust limit is worth a look too.
        let to_local = match self.below(6) {
            0 => 0,
            1 => left,
            2 => left.min(self.below(2_000_000)),
            3 => left - left.min(self.below(2_000_000)),
            _ => self.below(left + 1),
        };
        CommitmentContent {
            number: self.number(),
            feerate: FeeratePerKw::new(u32::try_from(feerate).unwrap_or(253)),
            to_local: Msat::new(to_local),
            to_remote: Msat::new(left - to_local),
            htlcs,
        }
    }

    /// A commitment number, small or of any size.
    fn number(&mut self) -> CommitmentNumber {
        let number = if self.one_in(2) {
            self.below(10)
        } else {
            self.below(1 << 48)
        };
        CommitmentNumber::new(number).unwrap_or(CommitmentNumber::FIRST)
    }

    /// A script that `shutdown` may carry.
    pub(super) fn shutdown_script(&mut self) -> ScriptBuf {
        let bytes = self.bytes();
        if self.one_in(2) {
            ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&bytes))
        } else {
            ScriptBuf::new_p2wsh(&WScriptHash::hash(&bytes))
        }
    }

    fn small(&mut self, bound: u16) -> u16 {
        u16::try_from(self.below(u64::from(bound))).unwrap_or(0)
    }
}
