//! The interpreter against the consensus library, on scripts made by chance.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{Keypair, Secp256k1};
use bitcoin::taproot::TaprootBuilder;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, TxIn, Witness};

use super::*;

/// A fixed sequence of numbers that look random.
struct Numbers(u64);

/// Opcodes that often make sense one after another.
const COMMON: [u8; 63] = [
    0x00, 0x51, 0x52, 0x53, 0x63, 0x64, 0x67, 0x68, 0x69, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71,
    0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x7b, 0x7c, 0x7d, 0x82, 0x87, 0x88, 0x8b,
    0x8c, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
    0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb1, 0xb2, 0xac, 0xae, 0xba, 0x61, 0xb0,
];

impl Numbers {
    fn next(&mut self, bound: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).unwrap()
    }

    fn item(&mut self) -> Vec<u8> {
        match self.next(8) {
            0 | 1 => vec![],
            2 | 3 => vec![1],
            4 => vec![self.byte()],
            5 => (0..self.next(6)).map(|_| self.byte()).collect(),
            6 => vec![0x80],
            _ => vec![2; self.next(40)],
        }
    }

    fn script(&mut self) -> Vec<u8> {
        let mut script = Vec::new();
        for _ in 0..=self.next(9) {
            match self.next(12) {
                0 => script.push(self.byte()),
                1 => {
                    let item = self.item();
                    script.push(u8::try_from(item.len()).unwrap());
                    script.extend(item);
                }
                _ => script.push(COMMON[self.next(63)]),
            }
        }
        // What this interpreter does not model in blocks.
        script.retain(|byte| *byte != 0xab);
        script
    }

    fn spending(&mut self, witness: Witness, script_sig: ScriptBuf) -> Transaction {
        Transaction {
            version: Version(1 + i32::try_from(self.next(2)).unwrap()),
            lock_time: LockTime::from_consensus(u32::try_from(self.next(3)).unwrap()),
            input: vec![TxIn {
                previous_output: OutPoint {
                    txid: Hash::all_zeros(),
                    vout: 0,
                },
                script_sig,
                sequence: Sequence(u32::try_from(self.next(3)).unwrap()),
                witness,
            }],
            output: vec![TxOut {
                value: Amount::from_sat(1),
                script_pubkey: ScriptBuf::new(),
            }],
        }
    }
}

/// Puts a script into an output of one of three kinds; the items become those that spend it.
fn output(
    kind: u32,
    script: &ScriptBuf,
    items: &mut Vec<Vec<u8>>,
    script_sig: &mut ScriptBuf,
) -> ScriptBuf {
    let push = |builder: Builder, item: &Vec<u8>| {
        builder.push_slice(PushBytesBuf::try_from(item.clone()).unwrap())
    };
    match kind {
        0 => {
            items.push(script.to_bytes());
            ScriptBuf::new_p2wsh(&script.wscript_hash())
        }
        1 => {
            items.push(script.to_bytes());
            *script_sig = items.iter().fold(Builder::new(), push).into_script();
            items.clear();
            ScriptBuf::new_p2sh(&script.script_hash())
        }
        _ => {
            let secp = Secp256k1::new();
            let pair = Keypair::from_seckey_slice(&secp, &[1; 32]).unwrap();
            let tree = TaprootBuilder::new().add_leaf(0, script.clone()).unwrap();
            let info = tree.finalize(&secp, pair.x_only_public_key().0).unwrap();
            let leaf = (script.clone(), LeafVersion::TapScript);
            items.push(script.to_bytes());
            items.push(info.control_block(&leaf).unwrap().serialize());
            ScriptBuf::new_p2tr_tweaked(info.output_key())
        }
    }
}

#[test]
fn the_interpreter_agrees_with_the_consensus_library() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut valid = [0; 3];
    for round in 0..30_000 {
        // Taproot outputs take longer to make.
        let kind = if round % 10 == 0 { 2 } else { round % 2 };
        let script = ScriptBuf::from_bytes(numbers.script());
        let mut items: Vec<Vec<u8>> = (0..numbers.next(6)).map(|_| numbers.item()).collect();
        let mut script_sig = ScriptBuf::new();
        let script_pubkey = output(kind, &script, &mut items, &mut script_sig);
        let tx = numbers.spending(Witness::from_slice(&items), script_sig);
        let spent = [TxOut {
            value: Amount::from_sat(2),
            script_pubkey,
        }];
        let by = |policy| {
            verify_input(&Spend {
                tx: &tx,
                index: 0,
                spent: &spent,
                rules: Rules { policy },
            })
        };
        let library = verify_consensus(&tx, &spent).is_ok();
        let ours = by(false);
        assert_eq!(library, ours.is_ok(), "{script:?} with {items:?}: {ours:?}");
        assert!(library || by(true).is_err(), "{script:?} with {items:?}");
        valid[usize::try_from(kind).unwrap()] += i32::from(library);
    }
    assert!(
        valid.iter().all(|count| *count > 50),
        "few scripts are valid: {valid:?}"
    );
}
