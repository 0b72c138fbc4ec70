//! Taproot: key path, script path, and what is reserved.

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::sighash::TapSighashType;
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::{ScriptBuf, Transaction, TxOut, Witness};

use super::build::{Coin, pay, push, raw};
use super::scene::Scene;
use super::scripts::{ScriptCase, failed};

pub(super) fn play(scene: &mut Scene) {
    key_path(scene);
    script_path(scene);
    opcodes(scene);
}

fn key_path(scene: &mut Scene) {
    let key = scene.key.clone();
    let other = scene.other.clone();
    let coin = scene.coin_of(key.p2tr(), 50_000);
    let spent = [coin.out.clone()];
    let base = pay(&[coin], 2_000);
    let with = |items: Vec<Vec<u8>>| {
        let mut tx = base.clone();
        tx.input[0].witness = Witness::from_slice(&items);
        tx
    };
    let good = key.schnorr(&base, 0, &spent, None, TapSighashType::Default);
    let invalid = failed("Invalid Schnorr signature");
    let size = failed("Invalid Schnorr signature size");
    let hash_type = failed("Invalid Schnorr signature hash type");
    scene.refuse(
        "taproot: no witness",
        &base,
        &failed("Witness program was passed an empty witness"),
    );
    let by_other = other.schnorr(&base, 0, &spent, None, TapSighashType::Default);
    scene.refuse(
        "taproot: another key's signature",
        &with(vec![by_other]),
        &invalid,
    );
    let other_coin = [TxOut {
        value: super::scene::sat(49_999),
        ..spent[0].clone()
    }];
    let other_value = key.schnorr(&base, 0, &other_coin, None, TapSighashType::Default);
    scene.refuse(
        "taproot: signed for another value",
        &with(vec![other_value]),
        &invalid,
    );
    scene.refuse("taproot: an empty signature", &with(vec![vec![]]), &size);
    scene.refuse("taproot: 63 bytes", &with(vec![good[..63].to_vec()]), &size);
    let mut explicit = good.clone();
    explicit.push(0);
    scene.refuse(
        "taproot: the default hash type written out",
        &with(vec![explicit]),
        &hash_type,
    );
    let mut unknown = good.clone();
    unknown.push(4);
    scene.refuse(
        "taproot: an unknown hash type",
        &with(vec![unknown]),
        &hash_type,
    );
    let annex = vec![good.clone(), vec![0x50, 1]];
    scene.refuse("taproot: an annex", &with(annex), "bad-witness-nonstandard");
    scene.accept("taproot: key path", &with(vec![good]));
    for hash_type in [
        TapSighashType::All,
        TapSighashType::None,
        TapSighashType::Single,
        TapSighashType::AllPlusAnyoneCanPay,
        TapSighashType::NonePlusAnyoneCanPay,
        TapSighashType::SinglePlusAnyoneCanPay,
    ] {
        let coin = scene.coin_of(key.p2tr(), 50_000);
        let spent = [coin.out.clone()];
        let mut tx = pay(&[coin], 2_000);
        let sig = key.schnorr(&tx, 0, &spent, None, hash_type);
        tx.input[0].witness = Witness::from_slice(&[sig]);
        scene.accept(&format!("taproot: {hash_type}"), &tx);
    }
    scene.settle();
}

/// A coin with one leaf, what the witness ends with, and a transaction that spends it.
struct Leaf {
    coin: Coin,
    script: ScriptBuf,
    control: Vec<u8>,
    tx: Transaction,
}

fn leaf(scene: &mut Scene, script: &[u8], version: LeafVersion) -> Leaf {
    let script = raw(script);
    let info = scene.key.tree(&script, version);
    let coin = scene.coin_of(ScriptBuf::new_p2tr_tweaked(info.output_key()), 50_000);
    let control = info
        .control_block(&(script.clone(), version))
        .map(|block| block.serialize());
    let tx = pay(core::slice::from_ref(&coin), 5_000);
    Leaf {
        coin,
        script,
        control: control.unwrap_or_default(),
        tx,
    }
}

impl Leaf {
    fn spend(&self, mut stack: Vec<Vec<u8>>) -> Transaction {
        let mut tx = self.tx.clone();
        stack.extend([self.script.to_bytes(), self.control.clone()]);
        tx.input[0].witness = Witness::from_slice(&stack);
        tx
    }

    fn hash(&self) -> TapLeafHash {
        TapLeafHash::from_script(&self.script, LeafVersion::TapScript)
    }
}

fn script_path(scene: &mut Scene) {
    let good = leaf(scene, &[0x51], LeafVersion::TapScript);
    let mut cut = good.spend(vec![]);
    cut.input[0].witness = Witness::from_slice(&[vec![0x51], good.control[..32].to_vec()]);
    scene.refuse(
        "tapscript: control block cut",
        &cut,
        &failed("Invalid Taproot control block size"),
    );
    let mut other = good.spend(vec![]);
    other.input[0].witness = Witness::from_slice(&[vec![0x52], good.control.clone()]);
    let mismatch = failed("Witness program hash mismatch");
    scene.refuse("tapscript: another script", &other, &mismatch);
    let mut parity = good.control.clone();
    parity[0] ^= 1;
    other.input[0].witness = Witness::from_slice(&[vec![0x51], parity]);
    scene.refuse("tapscript: the wrong parity", &other, &mismatch);
    scene.refuse(
        "tapscript: an item of 81 bytes",
        &good.spend(vec![vec![7; 81]]),
        "bad-witness-nonstandard",
    );
    scene.accept("tapscript: OP_TRUE", &good.spend(vec![]));
    let future = LeafVersion::from_consensus(0xc2).unwrap_or(LeafVersion::TapScript);
    let future = leaf(scene, &[0x51], future);
    scene.refuse(
        "tapscript: an unknown leaf version",
        &future.spend(vec![]),
        &failed("Taproot version reserved for soft-fork upgrades"),
    );
    scene.settle();
}

fn opcodes(scene: &mut Scene) {
    let key = scene.key.clone();
    let other = scene.other.clone();
    let x_only = key.x_only().serialize();
    let success = "OP_SUCCESSx reserved for soft-fork upgrades";
    let weight = "Too much signature validation relative to witness weight";
    let minimal = "OP_IF/NOTIF argument must be minimal in tapscript";
    let reserved = "Public key version reserved for soft-fork upgrades";
    let multisig = "OP_CHECKMULTISIG(VERIFY) is not available in tapscript";
    let if_else = [0x63, 0x51, 0x67, 0x51, 0x68];
    let long_number = vec![vec![5, 0]];
    let number = "Script number overflowed or is non-minimally encoded";
    let unknown_key = [&[33u8], &[5; 33][..], &[0xac]].concat();
    let many_nops = [&[0x61; 300][..], &[0x51]].concat();
    #[rustfmt::skip]
    let cases: Vec<ScriptCase<'_>> = vec![
        ("OP_FALSE", &[0x00], vec![], Some("Script evaluated without error but finished with a false/empty top stack element")),
        ("an item too many", &[0x51, 0x51], vec![], Some("Stack size must be exactly one after execution")),
        ("OP_SUCCESS80", &[0x50], vec![], Some(success)),
        ("OP_CAT is OP_SUCCESS126", &[0x7e], vec![], Some(success)),
        ("OP_SUCCESS254 behind OP_RETURN", &[0x6a, 0xfe], vec![], Some(success)),
        ("OP_IF true", &if_else, vec![vec![1]], None),
        ("OP_IF with 2", &if_else, vec![vec![2]], Some(minimal)),
        ("OP_CHECKMULTISIG", &[0x00, 0x00, 0x00, 0xae], vec![], Some(multisig)),
        ("OP_1ADD of a long number", &[0x8b], long_number, Some(number)),
        ("a key of 33 bytes", &unknown_key, vec![vec![7; 64]], Some(reserved)),
        ("an empty key", &[0x00, 0xac], vec![vec![7; 64]], Some("Empty public key in tapscript")),
        ("OP_NOP1", &[0xb0, 0x51], vec![], Some("NOPx reserved for soft-fork upgrades")),
        ("OP_CODESEPARATOR", &[0xab, 0x51], vec![], None),
        ("300 operations", &many_nops, vec![], None),
    ];
    for (name, script, stack, error) in cases {
        let leaf = leaf(scene, script, LeafVersion::TapScript);
        let name = format!("tapscript: {name}");
        scene.transaction(&name, &leaf.spend(stack), error.map(failed).as_deref());
    }

    let checksig = push(Builder::new(), &x_only)
        .push_opcode(op::OP_CHECKSIG)
        .into_script();
    let one = leaf(scene, checksig.as_bytes(), LeafVersion::TapScript);
    let spent = [one.coin.out.clone()];
    let default = TapSighashType::Default;
    let wrong = other.schnorr(&one.tx, 0, &spent, Some(one.hash()), default);
    let invalid = failed("Invalid Schnorr signature");
    scene.refuse(
        "tapscript: another key's signature",
        &one.spend(vec![wrong]),
        &invalid,
    );
    let elsewhere = TapLeafHash::all_zeros();
    let elsewhere = key.schnorr(&one.tx, 0, &spent, Some(elsewhere), default);
    scene.refuse(
        "tapscript: signed for another leaf",
        &one.spend(vec![elsewhere]),
        &invalid,
    );
    scene.refuse(
        "tapscript: an empty signature",
        &one.spend(vec![vec![]]),
        &failed("Script evaluated without error but finished with a false/empty top stack element"),
    );
    let sig = key.schnorr(&one.tx, 0, &spent, Some(one.hash()), default);
    scene.accept("tapscript: OP_CHECKSIG", &one.spend(vec![sig]));

    let add = Builder::new().push_int(0);
    let add = push(add, &x_only).push_opcode(op::OP_CHECKSIGADD);
    let add = push(add, &other.x_only().serialize()).push_opcode(op::OP_CHECKSIGADD);
    let add = add.push_int(2).push_opcode(op::OP_NUMEQUAL).into_script();
    // OP_CHECKSIGADD finds the signature below the number.
    let add = [&[0x00u8][..], &add.as_bytes()[1..]].concat();
    let two = leaf(scene, &add, LeafVersion::TapScript);
    let spent = [two.coin.out.clone()];
    let first = key.schnorr(&two.tx, 0, &spent, Some(two.hash()), default);
    let second = other.schnorr(&two.tx, 0, &spent, Some(two.hash()), default);
    scene.refuse(
        "tapscript: one of two by OP_CHECKSIGADD",
        &two.spend(vec![vec![], first.clone()]),
        &failed("Script evaluated without error but finished with a false/empty top stack element"),
    );
    scene.accept(
        "tapscript: two of two by OP_CHECKSIGADD",
        &two.spend(vec![second, first]),
    );

    // The same signature again and again: the witness is too small for so many checks.
    let mut bytes = Vec::new();
    for _ in 0..6 {
        bytes.extend([0x76, 32]);
        bytes.extend(x_only);
        bytes.extend([0xad]);
    }
    bytes.extend([0x75, 0x51]);
    let many = leaf(scene, &bytes, LeafVersion::TapScript);
    let spent = [many.coin.out.clone()];
    let sig = key.schnorr(&many.tx, 0, &spent, Some(many.hash()), default);
    scene.accept("tapscript: six checks fit", &many.spend(vec![sig]));
    let mut bytes = vec![32];
    bytes.extend(x_only);
    for _ in 0..8 {
        bytes.extend([0x6e, 0xad]);
    }
    bytes.extend([0x6d, 0x51]);
    let many = leaf(scene, &bytes, LeafVersion::TapScript);
    let spent = [many.coin.out.clone()];
    let sig = key.schnorr(&many.tx, 0, &spent, Some(many.hash()), default);
    scene.refuse(
        "tapscript: eight checks in little space",
        &many.spend(vec![sig]),
        &failed(weight),
    );
    scene.settle();
}
