//! The form of a transaction: consensus limits, output kinds, dust, sizes.

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, Witness};

use super::build::{
    Coin, Key, anchor, op_true, open, out, padded, pay, push, raw, spend, with_version,
};
use super::scene::{Scene, sat};

pub(super) fn play(scene: &mut Scene) {
    consensus(scene);
    known(scene);
    versions(scene);
    output_kinds(scene);
    dust(scene);
    sizes(scene);
    inputs(scene);
}

fn consensus(scene: &mut Scene) {
    let coins = scene.coins(2, 100_000);
    let (a, b) = (coins[0].clone(), coins[1].clone());
    let plain = pay(core::slice::from_ref(&a), 1_000);
    let with = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = plain.clone();
        change(&mut tx);
        tx
    };
    let too_much = 21_000_000 * 100_000_000 + 1;
    let cases: [(&str, Transaction, &str); 12] = [
        (
            "no outputs",
            with(&|tx| tx.output.clear()),
            "bad-txns-vout-empty",
        ),
        (
            "an output of more than all money",
            with(&|tx| tx.output[0].value = sat(too_much)),
            "bad-txns-vout-toolarge",
        ),
        (
            "a negative output",
            with(&|tx| tx.output[0].value = sat(u64::MAX)),
            "bad-txns-vout-negative",
        ),
        (
            "outputs of together more than all money",
            with(&|tx| {
                tx.output[0].value = sat(too_much - 1);
                let again = tx.output[0].clone();
                tx.output.push(again);
            }),
            "bad-txns-txouttotal-toolarge",
        ),
        (
            "the same input twice",
            with(&|tx| {
                let again = tx.input[0].clone();
                tx.input.push(again);
            }),
            "bad-txns-inputs-duplicate",
        ),
        (
            "a null input besides another",
            with(&|tx| {
                let mut null = tx.input[0].clone();
                null.previous_output = OutPoint::null();
                tx.input.push(null);
            }),
            "bad-txns-prevout-null",
        ),
        (
            "a loose coinbase",
            with(&|tx| {
                tx.input[0].previous_output = OutPoint::null();
                tx.input[0].script_sig = raw(&[0x51, 0x51]);
            }),
            "coinbase",
        ),
        (
            "a coinbase with too short a script",
            with(&|tx| {
                tx.input[0].previous_output = OutPoint::null();
                tx.input[0].script_sig = raw(&[0x51]);
            }),
            "bad-cb-length",
        ),
        (
            "more out than in",
            with(&|tx| tx.output[0].value = sat(100_001)),
            "bad-txns-in-belowout",
        ),
        (
            "an unknown transaction's output",
            with(&|tx| tx.input[0].previous_output.txid = bitcoin::hashes::Hash::all_zeros()),
            "bad-txns-inputs-missingorspent",
        ),
        (
            "an output that does not exist",
            with(&|tx| tx.input[0].previous_output.vout = 77),
            "bad-txns-inputs-missingorspent",
        ),
        (
            "one known and one unknown input",
            with(&|tx| {
                let mut other = tx.input[0].clone();
                other.previous_output.vout = 55;
                tx.input.push(other);
            }),
            "bad-txns-inputs-missingorspent",
        ),
    ];
    for (name, tx, reason) in cases {
        scene.refuse(name, &tx, reason);
    }
    scene.accept("two inputs, one output", &pay(&[a, b], 1_000));
    scene.settle();
}

fn known(scene: &mut Scene) {
    let drop_true = raw(&[op::OP_DROP.to_u8(), op::OP_PUSHNUM_1.to_u8()]);
    let script = ScriptBuf::new_p2wsh(&drop_true.wscript_hash());
    let coin = scene.coin_of(script, 50_000);
    let mut tx = pay(core::slice::from_ref(&coin), 1_000);
    tx.input[0].witness = Witness::from_slice(&[vec![1], drop_true.to_bytes()]);
    scene.accept("a first witness", &tx);
    scene.refuse("the same transaction again", &tx, "txn-already-in-mempool");
    let mut again = tx.clone();
    again.input[0].witness = Witness::from_slice(&[vec![2], drop_true.to_bytes()]);
    scene.refuse(
        "the same transaction with another witness",
        &again,
        "txn-same-nonwitness-data-in-mempool",
    );
    scene.settle();
    scene.refuse("a confirmed transaction", &tx, "txn-already-known");
    let child = pay(&[Coin::of(&tx, 0)], 1_000);
    scene.send(&child);
    scene.settle();
    scene.refuse(
        "a confirmed and spent one",
        &tx,
        "bad-txns-inputs-missingorspent",
    );
}

fn versions(scene: &mut Scene) {
    for (version, standard) in [
        (1, true),
        (2, true),
        (3, true),
        (0, false),
        (4, false),
        (-1, false),
        (i32::MAX, false),
    ] {
        let coin = scene.coin(50_000);
        let tx = with_version(pay(&[coin], 1_000), version);
        scene.transaction(
            &format!("version {version}"),
            &tx,
            (!standard).then_some("version"),
        );
    }
    scene.settle();
}

/// `m` of keys, bare.
fn multisig(required: i64, keys: u8) -> ScriptBuf {
    let mut builder = Builder::new().push_int(required);
    for seed in 1..=keys {
        builder = push(builder, &Key::new(seed).bytes());
    }
    builder
        .push_int(i64::from(keys))
        .push_opcode(op::OP_CHECKMULTISIG)
        .into_script()
}

fn op_return(data: &[u8]) -> ScriptBuf {
    push(Builder::new().push_opcode(op::OP_RETURN), data).into_script()
}

fn program(version: u8, len: u8) -> ScriptBuf {
    let mut bytes = vec![if version == 0 { 0 } else { 0x50 + version }, len];
    bytes.extend(vec![0x33; usize::from(len)]);
    raw(&bytes)
}

fn output_kinds(scene: &mut Scene) {
    let key = scene.key.clone();
    let p2pk = |bytes: &[u8]| {
        push(Builder::new(), bytes)
            .push_opcode(op::OP_CHECKSIG)
            .into_script()
    };
    let uncompressed = key.public().serialize_uncompressed();
    let nonstandard = Some("scriptpubkey");
    let cases: Vec<(&str, ScriptBuf, Option<&str>)> = vec![
        ("p2pk", p2pk(&key.bytes()), None),
        ("p2pk uncompressed", p2pk(&uncompressed), None),
        ("p2pkh", key.p2pkh(), None),
        ("p2sh", ScriptBuf::new_p2sh(&op_true().script_hash()), None),
        ("p2wpkh", key.p2wpkh(), None),
        ("p2wsh", open(), None),
        ("p2tr", key.p2tr(), None),
        ("anchor", anchor(), None),
        ("multisig 1 of 1", multisig(1, 1), None),
        ("multisig 2 of 2", multisig(2, 2), None),
        ("multisig 2 of 3", multisig(2, 3), None),
        ("multisig 3 of 3", multisig(3, 3), None),
        ("multisig 1 of 4", multisig(1, 4), nonstandard),
        ("multisig 3 of 2", multisig(3, 2), nonstandard),
        ("multisig 0 of 1", multisig(0, 1), nonstandard),
        ("witness version 1, 2 bytes", program(1, 2), None),
        ("witness version 1, 33 bytes", program(1, 33), None),
        ("witness version 2", program(2, 32), None),
        ("witness version 16, 40 bytes", program(16, 40), None),
        ("witness version 0, 2 bytes", program(0, 2), nonstandard),
        ("witness version 0, 33 bytes", program(0, 33), nonstandard),
        ("witness version 1, 1 byte", program(1, 1), nonstandard),
        ("witness version 2, 41 bytes", program(2, 41), nonstandard),
        ("bare OP_TRUE", op_true(), nonstandard),
        ("empty script", ScriptBuf::new(), nonstandard),
        ("bare CSV", raw(&[0x51, 0xb2]), nonstandard),
        ("garbage", raw(&[0x4e]), nonstandard),
    ];
    for (name, script, expected) in cases {
        let coin = scene.coin(50_000);
        let tx = spend(&[coin], vec![out(script, 20_000), out(open(), 29_000)]);
        scene.transaction(&format!("output: {name}"), &tx, expected);
    }
    let data: Vec<(&str, Vec<ScriptBuf>, Option<&str>)> = vec![
        ("bare OP_RETURN", vec![raw(&[0x6a])], None),
        ("OP_RETURN with 40 bytes", vec![op_return(&[7; 40])], None),
        ("OP_RETURN with 83 bytes", vec![op_return(&[7; 83])], None),
        (
            "OP_RETURN with 90,000 bytes",
            vec![op_return(&vec![7; 90_000])],
            None,
        ),
        (
            "two OP_RETURN",
            vec![op_return(&[1; 20]), op_return(&[2; 20])],
            None,
        ),
        (
            "OP_RETURN with an opcode",
            vec![raw(&[0x6a, 0xac])],
            nonstandard,
        ),
        (
            "OP_RETURN with a cut push",
            vec![raw(&[0x6a, 0x05, 1])],
            nonstandard,
        ),
        (
            "OP_RETURN that carries value",
            vec![op_return(&[9; 9])],
            None,
        ),
    ];
    for (name, scripts, expected) in data {
        let coin = scene.coin(90_000);
        let mut tx = spend(&[coin], vec![out(open(), 40_000)]);
        let value = if name.contains("value") { 5_000 } else { 0 };
        tx.output
            .extend(scripts.into_iter().map(|script| out(script, value)));
        scene.transaction(&format!("output: {name}"), &tx, expected);
    }
    scene.settle();
}

fn dust(scene: &mut Scene) {
    let key = scene.key.clone();
    let p2pk = push(Builder::new(), &key.bytes())
        .push_opcode(op::OP_CHECKSIG)
        .into_script();
    let limits: Vec<(&str, ScriptBuf, u64)> = vec![
        ("p2pk", p2pk, 576),
        ("p2pkh", key.p2pkh(), 546),
        ("p2sh", ScriptBuf::new_p2sh(&op_true().script_hash()), 540),
        ("p2wpkh", key.p2wpkh(), 294),
        ("p2wsh", open(), 330),
        ("p2tr", key.p2tr(), 330),
        ("anchor", anchor(), 240),
        ("multisig 1 of 2", multisig(1, 2), 684),
        ("witness version 16, 2 bytes", program(16, 2), 240),
    ];
    for (name, script, limit) in limits {
        for (value, expected) in [(limit, None), (limit - 1, Some("dust")), (0, Some("dust"))] {
            let coin = scene.coin(50_000);
            let tx = spend(
                &[coin],
                vec![out(script.clone(), value), out(open(), 48_000)],
            );
            scene.transaction(&format!("{name} of {value} sat"), &tx, expected);
        }
    }
    let coin = scene.coin(50_000);
    let tx = spend(&[coin], vec![out(open(), 50_000), out(anchor(), 0)]);
    scene.refuse(
        "one dust output and no fee, alone",
        &tx,
        "min relay fee not met",
    );
    let coin = scene.coin(50_000);
    let tx = spend(
        &[coin],
        vec![out(open(), 50_000), out(anchor(), 0), out(anchor(), 0)],
    );
    scene.refuse("two dust outputs and no fee", &tx, "dust");
    scene.settle();
}

fn sizes(scene: &mut Scene) {
    let coin = scene.coin(50_000);
    let small = spend(core::slice::from_ref(&coin), vec![out(anchor(), 49_000)]);
    scene.refuse("64 bytes without witness", &small, "tx-size-small");
    let enough = spend(
        core::slice::from_ref(&coin),
        vec![out(program(2, 3), 49_000)],
    );
    scene.accept("65 bytes without witness", &enough);
    for (name, bytes, expected) in [
        ("just below", 99_800, None),
        ("just above", 99_990, Some("tx-size")),
    ] {
        let coin = scene.coin(500_000);
        let tx = padded(pay(&[coin], 100_000), bytes);
        scene.transaction(&format!("{name} 400,000 weight units"), &tx, expected);
        scene.settle();
    }
    // Each script weighs 3500 signature operations, whether they run or not.
    let mut script = vec![0x63];
    script.extend(vec![0xac; 3_500]);
    script.extend([0x68, 0x51]);
    let script = raw(&script);
    let coins = scene.coins_of(vec![
        out(
            ScriptBuf::new_p2wsh(&script.wscript_hash()),
            400_000
        );
        5
    ]);
    let mut tx = spend(&coins, vec![out(open(), 1_000_000)]);
    for input in &mut tx.input {
        input.witness = Witness::from_slice(&[vec![], script.to_bytes()]);
    }
    scene.refuse(
        "17,500 signature operations",
        &tx,
        "bad-txns-too-many-sigops",
    );
    scene.settle();
}

fn inputs(scene: &mut Scene) {
    let redeem = op_true();
    let p2sh = ScriptBuf::new_p2sh(&redeem.script_hash());
    let with_sig = |coin: &Coin, script_sig: ScriptBuf| {
        let mut tx = pay(core::slice::from_ref(coin), 2_000);
        tx.input[0].script_sig = script_sig;
        tx
    };
    let coin = scene.coin_of(p2sh.clone(), 50_000);
    let long = push(push(Builder::new(), &[7; 1_700]), redeem.as_bytes()).into_script();
    scene.refuse(
        "a scriptSig over 1650 bytes",
        &with_sig(&coin, long),
        "scriptsig-size",
    );
    let code = push(Builder::new().push_opcode(op::OP_NOP), redeem.as_bytes()).into_script();
    scene.refuse(
        "a scriptSig that runs code",
        &with_sig(&coin, code),
        "scriptsig-not-pushonly",
    );
    scene.refuse(
        "a P2SH spend without a redeem script",
        &with_sig(&coin, ScriptBuf::new()),
        "bad-txns-nonstandard-inputs",
    );
    let good = push(Builder::new(), redeem.as_bytes()).into_script();
    scene.accept("a P2SH spend", &with_sig(&coin, good));
    for (count, expected) in [(15u8, None), (16, Some("bad-txns-nonstandard-inputs"))] {
        let mut bytes = vec![0x00, 0x63];
        bytes.extend(vec![0xac; usize::from(count)]);
        bytes.extend([0x68, 0x51]);
        let redeem = raw(&bytes);
        let coin = scene.coin_of(ScriptBuf::new_p2sh(&redeem.script_hash()), 50_000);
        let sig = push(Builder::new(), redeem.as_bytes()).into_script();
        let name = format!("a P2SH spend with {count} signature operations");
        scene.transaction(&name, &with_sig(&coin, sig), expected);
    }
    let nonstandard: Vec<(&str, ScriptBuf)> = vec![
        ("bare OP_TRUE", op_true()),
        ("witness version 2", program(2, 32)),
        ("witness version 1, 33 bytes", program(1, 33)),
    ];
    for (name, script) in nonstandard {
        let coin = scene.coin_of(script, 50_000);
        let tx = pay(&[coin], 2_000);
        scene.refuse(
            &format!("spend of {name}"),
            &tx,
            "bad-txns-nonstandard-inputs",
        );
    }
    let coin = scene.coin_of(anchor(), 50_000);
    let tx = pay(core::slice::from_ref(&coin), 2_000);
    let mut stuffed = tx.clone();
    stuffed.input[0].witness = Witness::from_slice(&[vec![1]]);
    scene.refuse(
        "spend of an anchor with a witness",
        &stuffed,
        "bad-witness-nonstandard",
    );
    let mut with_script = tx.clone();
    with_script.input[0].script_sig = raw(&[0x51]);
    scene.refuse(
        "spend of an anchor with a scriptSig",
        &with_script,
        "mempool-script-verify-flag-failed (Witness requires empty scriptSig)",
    );
    scene.accept("spend of an anchor", &tx);
    let coin = scene.coin_of(scene.key.p2pkh(), 50_000);
    let mut tx = pay(&[coin], 2_000);
    tx.input[0].witness = Witness::from_slice(&[vec![1]]);
    scene.refuse("a witness for P2PKH", &tx, "bad-witness-nonstandard");
    let coin = scene.coin(50_000);
    let mut tx = pay(&[coin], 2_000);
    tx.lock_time = LockTime::ZERO;
    tx.input[0].sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    scene.accept("a sequence that signals replacement", &tx);
    scene.settle();
}
