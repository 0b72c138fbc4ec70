//! Signatures and keys in P2WSH, single and several.

use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{ScriptBuf, Transaction};

use super::build::{Key, push, raw};
use super::scene::Scene;
use super::scripts::{EVAL_FALSE, NULLFAIL, STACK, wsh, wsh_tx};

pub(super) fn play(scene: &mut Scene) {
    signatures(scene);
    multisig(scene);
}

/// `s` above half the curve's order.
fn high_s(mut signature: Vec<u8>) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let hash_type = signature.pop().unwrap_or(1);
    let parsed = Signature::from_der(&signature).expect("we made it");
    let mut compact = parsed.serialize_compact();
    let mut borrow = 0u16;
    for i in (0..32).rev() {
        let sub = u16::from(compact[32 + i]) + borrow;
        let from = u16::from(ORDER[i]);
        borrow = u16::from(from < sub);
        let digit = (from + 256 * borrow) - sub;
        compact[32 + i] = u8::try_from(digit & 0xff).unwrap_or(0);
    }
    let mut bytes = Signature::from_compact(&compact)
        .expect("the negative of a valid number is valid")
        .serialize_der()
        .to_vec();
    bytes.push(hash_type);
    bytes
}

fn signatures(scene: &mut Scene) {
    let key = scene.key.clone();
    let other = scene.other.clone();
    let value = super::scene::sat(100_000);
    let checksig = |key: &[u8]| {
        push(Builder::new(), key)
            .push_opcode(op::OP_CHECKSIG)
            .into_script()
    };
    let script = checksig(&key.bytes());
    let sign = |key: &Key, tx: &Transaction, script: &ScriptBuf, hash_type: u8| {
        key.ecdsa(tx, 0, script, Some(value), hash_type)
    };
    let names = ["ALL", "NONE", "SINGLE"];
    for (at, base) in [1u8, 2, 3].into_iter().enumerate() {
        for (suffix, flag) in [("", 0), ("|ANYONECANPAY", 0x80)] {
            let name = format!("signature: SIGHASH_{}{suffix}", names[at]);
            let stack = |tx: &Transaction| vec![sign(&key, tx, &script, base | flag)];
            wsh_tx(scene, &name, script.as_bytes(), |_| {}, stack, None);
        }
    }
    let hashtype = Some("Signature hash type missing or not understood");
    for unknown in [0u8, 4, 0x80, 0x84] {
        let name = format!("signature: hash type {unknown}");
        let stack = |tx: &Transaction| vec![sign(&key, tx, &script, unknown)];
        wsh_tx(scene, &name, script.as_bytes(), |_| {}, stack, hashtype);
    }
    let bytes = script.as_bytes();
    let by_other = |tx: &Transaction| vec![sign(&other, tx, &script, 1)];
    wsh_tx(
        scene,
        "signature: another key's",
        bytes,
        |_| {},
        by_other,
        Some(NULLFAIL),
    );
    wsh(
        scene,
        "signature: empty",
        bytes,
        vec![vec![]],
        Some(EVAL_FALSE),
    );
    wsh(scene, "signature: none", bytes, vec![], Some(STACK));
    let der = Some("Non-canonical DER signature");
    wsh(scene, "signature: garbage", bytes, vec![vec![1; 70]], der);
    let cut = |tx: &Transaction| {
        let mut sig = sign(&key, tx, &script, 1);
        sig.truncate(sig.len() - 3);
        vec![sig]
    };
    wsh_tx(scene, "signature: cut", bytes, |_| {}, cut, der);
    let padded = |tx: &Transaction| {
        let mut sig = sign(&key, tx, &script, 1);
        sig.insert(4, 0);
        sig[3] += 1;
        sig[1] += 1;
        vec![sig]
    };
    wsh_tx(
        scene,
        "signature: a padded number",
        bytes,
        |_| {},
        padded,
        der,
    );
    let high = |tx: &Transaction| vec![high_s(sign(&key, tx, &script, 1))];
    let error = Some("Non-canonical signature: S value is unnecessarily high");
    wsh_tx(scene, "signature: a high s", bytes, |_| {}, high, error);
    let wrong_value =
        |tx: &Transaction| vec![key.ecdsa(tx, 0, &script, Some(super::scene::sat(99_999)), 1)];
    wsh_tx(
        scene,
        "signature: for another value",
        bytes,
        |_| {},
        wrong_value,
        Some(NULLFAIL),
    );

    let not = push(Builder::new(), &key.bytes())
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_NOT)
        .into_script();
    wsh(
        scene,
        "signature: empty where none is wanted",
        not.as_bytes(),
        vec![vec![]],
        None,
    );
    let wrong = |tx: &Transaction| vec![sign(&other, tx, &not, 1)];
    wsh_tx(
        scene,
        "signature: wrong where none is wanted",
        not.as_bytes(),
        |_| {},
        wrong,
        Some(NULLFAIL),
    );
    let verify = push(Builder::new(), &key.bytes())
        .push_opcode(op::OP_CHECKSIGVERIFY)
        .push_int(1)
        .into_script();
    let error = Some("Script failed an OP_CHECKSIGVERIFY operation");
    wsh(
        scene,
        "signature: OP_CHECKSIGVERIFY of an empty one",
        verify.as_bytes(),
        vec![vec![]],
        error,
    );
    let separated = Builder::new().push_opcode(op::OP_CODESEPARATOR);
    let separated = push(separated, &key.bytes())
        .push_opcode(op::OP_CHECKSIG)
        .into_script();
    let after = |tx: &Transaction| vec![sign(&key, tx, &script, 1)];
    wsh_tx(
        scene,
        "signature: after OP_CODESEPARATOR",
        separated.as_bytes(),
        |_| {},
        after,
        None,
    );

    let uncompressed = checksig(&key.public().serialize_uncompressed());
    let stack = |tx: &Transaction| vec![sign(&key, tx, &uncompressed, 1)];
    let error = Some("Using non-compressed keys in segwit");
    wsh_tx(
        scene,
        "key: uncompressed in segwit",
        uncompressed.as_bytes(),
        |_| {},
        stack,
        error,
    );
    let neither = Some("Public key is neither compressed or uncompressed");
    let mut hybrid = key.public().serialize_uncompressed();
    hybrid[0] = 6 | (hybrid[64] & 1);
    let hybrid = checksig(&hybrid);
    let stack = |tx: &Transaction| vec![sign(&key, tx, &hybrid, 1)];
    wsh_tx(
        scene,
        "key: hybrid",
        hybrid.as_bytes(),
        |_| {},
        stack,
        neither,
    );
    let short = checksig(&key.bytes()[..32]);
    let stack = |tx: &Transaction| vec![sign(&key, tx, &short, 1)];
    wsh_tx(
        scene,
        "key: 32 bytes before taproot",
        short.as_bytes(),
        |_| {},
        stack,
        neither,
    );
    scene.settle();
}

fn multisig(scene: &mut Scene) {
    let (a, b) = (scene.key.clone(), scene.other.clone());
    let c = Key::new(3);
    let script = |required: i64, keys: &[&Key]| {
        let mut builder = Builder::new().push_int(required);
        for key in keys {
            builder = push(builder, &key.bytes());
        }
        let count = i64::try_from(keys.len()).unwrap_or(0);
        builder
            .push_int(count)
            .push_opcode(op::OP_CHECKMULTISIG)
            .into_script()
    };
    let value = super::scene::sat(100_000);
    let two = script(2, &[&a, &b]);
    let three = script(2, &[&a, &b, &c]);
    let dummy = Vec::new;
    let signed = |script: &ScriptBuf, keys: &[&Key], tx: &Transaction| {
        let mut stack = vec![dummy()];
        stack.extend(
            keys.iter()
                .map(|key| key.ecdsa(tx, 0, script, Some(value), 1)),
        );
        stack
    };
    #[rustfmt::skip]
    let cases: [(&str, &ScriptBuf, Vec<&Key>, Option<&str>); 8] = [
        ("2 of 2", &two, vec![&a, &b], None),
        ("2 of 2 in the wrong order", &two, vec![&b, &a], Some(NULLFAIL)),
        ("2 of 2 with one twice", &two, vec![&a, &a], Some(NULLFAIL)),
        ("2 of 2 by a stranger", &two, vec![&a, &c], Some(NULLFAIL)),
        ("2 of 3, first and last", &three, vec![&a, &c], None),
        ("2 of 3, the last two", &three, vec![&b, &c], None),
        ("2 of 3, reversed", &three, vec![&c, &a], Some(NULLFAIL)),
        ("2 of 2 with one signature", &two, vec![&a], Some(NULLFAIL)),
    ];
    for (name, script, keys, error) in cases {
        let stack = |tx: &Transaction| signed(script, &keys, tx);
        wsh_tx(
            scene,
            &format!("multisig: {name}"),
            script.as_bytes(),
            |_| {},
            stack,
            error,
        );
    }
    let stack = |tx: &Transaction| {
        let mut stack = signed(&two, &[&a, &b], tx);
        stack[0] = vec![1];
        stack
    };
    let error = Some("Dummy CHECKMULTISIG argument must be zero");
    wsh_tx(
        scene,
        "multisig: a dummy that is not empty",
        two.as_bytes(),
        |_| {},
        stack,
        error,
    );
    let empty = vec![vec![]; 3];
    wsh(
        scene,
        "multisig: empty signatures",
        two.as_bytes(),
        empty,
        Some(EVAL_FALSE),
    );
    let many = raw(&[0x00, 0x01, 0x15, 0xae]);
    let error = Some("Pubkey count negative or limit exceeded");
    wsh(
        scene,
        "multisig: 21 keys",
        many.as_bytes(),
        vec![vec![]],
        error,
    );
    let error = Some("Signature count negative or greater than pubkey count");
    wsh(
        scene,
        "multisig: 1 of 0",
        &[0x51, 0x00, 0xae],
        vec![vec![]],
        error,
    );
    wsh(
        scene,
        "multisig: 0 of 0",
        &[0x00, 0x00, 0xae],
        vec![vec![]],
        None,
    );
    scene.settle();
}
