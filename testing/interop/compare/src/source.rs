//! Values from a seed.

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime,
    constants::ChainHash,
    hashes::Hash,
    secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey, ecdsa::Signature},
    transaction::Version,
};

/// A stream of values that a seed fixes (SplitMix64), with what it takes to make keys.
#[derive(Clone, Debug)]
pub struct Source {
    state: u64,
    secp: Secp256k1<All>,
}

impl Source {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            secp: Secp256k1::new(),
        }
    }

    /// The context for keys and signatures.
    pub const fn secp(&self) -> &Secp256k1<All> {
        &self.secp
    }

    /// Any number; small and great ones are as frequent as all others.
    pub fn u64(&mut self) -> u64 {
        let any = self.draw();
        match self.draw() % 8 {
            0 => any % 3,
            1 => u64::MAX - any % 3,
            2 => any % 1_000,
            3 => any >> (any % 64),
            _ => any,
        }
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// A length below `bound`.
    pub fn len(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// One of two.
    pub fn flag(&mut self) -> bool {
        self.draw().is_multiple_of(2)
    }

    /// Any number.
    pub fn u32(&mut self) -> u32 {
        self.u64() as u32
    }

    /// Any number.
    pub fn u16(&mut self) -> u16 {
        self.u64() as u16
    }

    /// Any number.
    pub fn u8(&mut self) -> u8 {
        self.u64() as u8
    }

    /// An amount of at most 21 million bitcoin, in millisatoshis, at least 1.
    pub fn msat(&mut self) -> u64 {
        1 + self.u64() % 2_100_000_000_000_000_000
    }

    /// A value, or none.
    pub fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }

    /// Fewer than `bound` values.
    pub fn list<T>(&mut self, bound: usize, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.len(bound)).map(|_| value(self)).collect()
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.draw() as u8)
    }

    /// Fewer than `bound` bytes.
    pub fn bytes(&mut self, bound: usize) -> Vec<u8> {
        self.list(bound, |g| g.draw() as u8)
    }

    /// A text of fewer than `bound` letters.
    pub fn text(&mut self, bound: usize) -> String {
        (0..self.len(bound))
            .map(|_| char::from_u32(self.u32() % 0x2000 + 32).unwrap_or('é'))
            .collect()
    }

    /// A secret key.
    pub fn secret_key(&mut self) -> SecretKey {
        loop {
            if let Ok(key) = SecretKey::from_slice(&self.array::<32>()) {
                return key;
            }
        }
    }

    /// A public key.
    pub fn public_key(&mut self) -> PublicKey {
        let key = self.secret_key();
        PublicKey::from_secret_key(&self.secp, &key)
    }

    /// A signature of something by somebody.
    pub fn signature(&mut self) -> Signature {
        let (key, message) = (self.secret_key(), Message::from_digest(self.array()));
        self.secp.sign_ecdsa(&message, &key)
    }

    /// A transaction's id.
    pub fn txid(&mut self) -> Txid {
        Txid::from_byte_array(self.array())
    }

    /// A chain.
    pub fn chain_hash(&mut self) -> ChainHash {
        ChainHash::from(self.array::<32>())
    }

    /// A script of any bytes.
    pub fn script(&mut self) -> ScriptBuf {
        ScriptBuf::from_bytes(self.bytes(80))
    }

    /// A witness.
    pub fn witness(&mut self) -> Witness {
        Witness::from_slice(&self.list(5, |g| g.bytes(100)))
    }

    /// A transaction with at least one input and one output.
    pub fn transaction(&mut self) -> Transaction {
        let input = |g: &mut Self| TxIn {
            previous_output: OutPoint::new(g.txid(), g.u32()),
            script_sig: g.script(),
            sequence: Sequence(g.u32()),
            witness: g.witness(),
        };
        let output = |g: &mut Self| TxOut {
            value: Amount::from_sat(g.u64() % 2_100_000_000_000_000),
            script_pubkey: g.script(),
        };
        let (first_input, first_output) = (input(self), output(self));
        Transaction {
            version: Version(2),
            lock_time: LockTime::from_consensus(self.u32()),
            input: [vec![first_input], self.list(3, input)].concat(),
            output: [vec![first_output], self.list(3, output)].concat(),
        }
    }
}
