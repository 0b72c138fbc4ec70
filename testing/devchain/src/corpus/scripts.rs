//! Scripts before taproot: what the interpreter refuses, by consensus or by policy.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::{ScriptBuf, Sequence, Transaction, Witness};

use super::build::{Coin, Key, open, out, pay, push, raw, spend, with_version};
use super::scene::Scene;

/// Name, script, items on the stack, error.
pub(super) type ScriptCase<'a> = (&'a str, &'a [u8], Vec<Vec<u8>>, Option<&'a str>);

/// The reason for a script that fails in the mempool.
pub(super) fn failed(error: &str) -> String {
    format!("mempool-script-verify-flag-failed ({error})")
}

pub(super) const EVAL_FALSE: &str =
    "Script evaluated without error but finished with a false/empty top stack element";
const CLEANSTACK: &str = "Stack size must be exactly one after execution";
pub(super) const NULLFAIL: &str = "Signature must be zero for failed CHECK(MULTI)SIG operation";
const LOCKTIME: &str = "Locktime requirement not satisfied";
pub(super) const STACK: &str = "Operation not valid with the current stack size";
const MISMATCH: &str = "Witness program hash mismatch";
const EQUALVERIFY: &str = "Script failed an OP_EQUALVERIFY operation";

pub(super) fn play(scene: &mut Scene) {
    opcodes(scene);
    limits(scene);
    hash_locks(scene);
    time_locks(scene);
    programs(scene);
    legacy(scene);
}

/// Spends a P2WSH coin with this witness; `stack` without the script.
pub(super) fn wsh(
    scene: &mut Scene,
    name: &str,
    script: &[u8],
    stack: Vec<Vec<u8>>,
    error: Option<&str>,
) {
    wsh_tx(scene, name, script, |_| {}, |_| stack, error);
}

pub(super) fn wsh_tx(
    scene: &mut Scene,
    name: &str,
    script: &[u8],
    change: impl FnOnce(&mut Transaction),
    stack: impl FnOnce(&Transaction) -> Vec<Vec<u8>>,
    error: Option<&str>,
) {
    let script = raw(script);
    let coin = scene.coin_of(ScriptBuf::new_p2wsh(&script.wscript_hash()), 100_000);
    let mut tx = pay(&[coin], 10_000);
    change(&mut tx);
    let mut items = stack(&tx);
    items.push(script.into_bytes());
    tx.input[0].witness = Witness::from_slice(&items);
    scene.transaction(name, &tx, error.map(failed).as_deref());
}

fn opcodes(scene: &mut Scene) {
    let if_else: &[u8] = &[0x63, 0x51, 0x67, 0x51, 0x68];
    let minimal_if = Some("OP_IF/NOTIF argument must be minimal");
    let number = Some("Script number overflowed or is non-minimally encoded");
    let unbalanced = Some("Invalid OP_IF construction");
    let minimal_data = Some("Data push larger than necessary");
    let nop = Some("NOPx reserved for soft-fork upgrades");
    let bad = Some("Opcode missing or not understood");
    let disabled = Some("Attempted to use a disabled opcode");
    #[rustfmt::skip]
    let cases: Vec<ScriptCase<'_>> = vec![
        ("OP_TRUE", &[0x51], vec![], None),
        ("OP_FALSE", &[0x00], vec![], Some(EVAL_FALSE)),
        ("negative zero", &[0x01, 0x80], vec![], Some(EVAL_FALSE)),
        ("an item too many", &[0x51], vec![vec![1]], Some(CLEANSTACK)),
        ("nothing left", &[0x75], vec![vec![1]], Some(CLEANSTACK)),
        ("OP_IF true", if_else, vec![vec![1]], None),
        ("OP_IF false", if_else, vec![vec![]], None),
        ("OP_IF with 2", if_else, vec![vec![2]], minimal_if),
        ("OP_IF with 0x00", if_else, vec![vec![0]], minimal_if),
        ("OP_IF with 0x0100", if_else, vec![vec![1, 0]], minimal_if),
        ("OP_NOTIF with 2", &[0x64, 0x51, 0x67, 0x51, 0x68], vec![vec![2]], minimal_if),
        ("OP_IF without an item", if_else, vec![], unbalanced),
        ("OP_IF without OP_ENDIF", &[0x51, 0x51, 0x63], vec![], unbalanced),
        ("OP_ENDIF alone", &[0x51, 0x68], vec![], unbalanced),
        ("OP_ELSE alone", &[0x51, 0x67], vec![], unbalanced),
        ("OP_VERIFY true", &[0x69, 0x51], vec![vec![1]], None),
        ("OP_VERIFY false", &[0x69, 0x51], vec![vec![]], Some("Script failed an OP_VERIFY operation")),
        ("OP_RETURN", &[0x51, 0x6a], vec![], Some("OP_RETURN was encountered")),
        ("OP_RETURN where nothing runs", &[0x00, 0x63, 0x6a, 0x68, 0x51], vec![], None),
        ("a push with OP_PUSHDATA1", &[0x4c, 0x02, 7, 7, 0x75, 0x51], vec![], minimal_data),
        ("a push of 1 as data", &[0x01, 0x01], vec![], minimal_data),
        ("a push of 0x81 as data", &[0x01, 0x81], vec![], minimal_data),
        ("a long push where nothing runs", &[0x00, 0x63, 0x4c, 0x01, 7, 0x68, 0x51], vec![], None),
        ("a push cut off", &[0x51, 0x05, 1, 2], vec![], bad),
        ("OP_1ADD", &[0x8b], vec![vec![5]], None),
        ("OP_1ADD of a long number", &[0x8b], vec![vec![5, 0]], number),
        ("OP_1ADD of five bytes", &[0x8b], vec![vec![1, 2, 3, 4, 5]], number),
        ("OP_ADD to five bytes", &[0x93], vec![vec![0xff, 0xff, 0xff, 0x7f], vec![1]], None),
        ("OP_SUB to zero", &[0x94], vec![vec![5], vec![5]], Some(EVAL_FALSE)),
        ("OP_NUMEQUALVERIFY", &[0x9d, 0x51], vec![vec![5], vec![5]], None),
        ("OP_NUMEQUALVERIFY unequal", &[0x9d, 0x51], vec![vec![5], vec![6]],
            Some("Script failed an OP_NUMEQUALVERIFY operation")),
        ("OP_WITHIN", &[0xa5], vec![vec![5], vec![5], vec![6]], None),
        ("OP_WITHIN outside", &[0xa5], vec![vec![6], vec![5], vec![6]], Some(EVAL_FALSE)),
        ("OP_MIN, OP_MAX", &[0x6e, 0xa3, 0x6b, 0xa4, 0x6c, 0x94], vec![vec![5], vec![9]], None),
        ("OP_SIZE", &[0x82, 0x53, 0x88], vec![vec![1, 2, 3]], None),
        ("OP_SIZE of another size", &[0x82, 0x54, 0x88], vec![vec![1, 2, 3]], Some(EQUALVERIFY)),
        ("OP_DROP of nothing", &[0x75, 0x51], vec![], Some(STACK)),
        ("OP_DUP of nothing", &[0x76], vec![], Some(STACK)),
        ("OP_SWAP of one", &[0x7c], vec![vec![1]], Some(STACK)),
        ("OP_PICK", &[0x51, 0x79, 0x6d], vec![vec![1], vec![]], None),
        ("OP_PICK too deep", &[0x55, 0x79], vec![vec![1]], Some(STACK)),
        ("OP_ROLL", &[0x52, 0x7a, 0x6b, 0x6d, 0x6c], vec![vec![1], vec![], vec![]], None),
        ("OP_ROLL of a negative depth", &[0x4f, 0x7a], vec![vec![1], vec![1]], Some(STACK)),
        ("OP_TUCK, OP_2DROP", &[0x7d, 0x6d], vec![vec![], vec![1]], None),
        ("OP_2ROT", &[0x71, 0x6b, 0x6b, 0x6d, 0x6d, 0x6c, 0x6c, 0x9c],
            vec![vec![5], vec![5], vec![], vec![], vec![], vec![]], None),
        ("OP_DEPTH", &[0x74, 0x52, 0x9d, 0x6d, 0x51], vec![vec![], vec![]], None),
        ("OP_IFDUP", &[0x73, 0x6d, 0x51], vec![vec![1]], None),
        ("OP_FROMALTSTACK of nothing", &[0x6c], vec![],
            Some("Operation not valid with the current altstack size")),
        ("OP_NOP", &[0x61, 0x51], vec![], None),
        ("OP_NOP1", &[0xb0, 0x51], vec![], nop),
        ("OP_NOP10", &[0xb9, 0x51], vec![], nop),
        ("OP_NOP4 where nothing runs", &[0x00, 0x63, 0xb3, 0x68, 0x51], vec![], None),
        ("OP_RESERVED", &[0x51, 0x50], vec![], bad),
        ("OP_VER where nothing runs", &[0x00, 0x63, 0x62, 0x68, 0x51], vec![], None),
        ("OP_VERIF where nothing runs", &[0x00, 0x63, 0x65, 0x68, 0x51], vec![], bad),
        ("OP_CAT", &[0x7e, 0x51], vec![vec![1], vec![1]], disabled),
        ("OP_MUL where nothing runs", &[0x00, 0x63, 0x95, 0x68, 0x51], vec![], disabled),
        ("OP_CHECKSIGADD before taproot", &[0x51, 0xba], vec![], bad),
        ("OP_CODESEPARATOR in segwit", &[0xab, 0x51], vec![], None),
    ];
    for (name, script, stack, error) in cases {
        wsh(scene, &format!("script: {name}"), script, stack, error);
    }
    scene.settle();
}

fn limits(scene: &mut Scene) {
    let nonstandard = Some("bad-witness-nonstandard");
    let drops = |count: usize| [vec![0x75; count], vec![0x51]].concat();
    for (name, script, stack, expected) in [
        (
            "100 items on the stack",
            drops(100),
            vec![vec![]; 100],
            None,
        ),
        (
            "101 items on the stack",
            drops(101),
            vec![vec![]; 101],
            nonstandard,
        ),
        ("an item of 80 bytes", drops(1), vec![vec![7; 80]], None),
        (
            "an item of 81 bytes",
            drops(1),
            vec![vec![7; 81]],
            nonstandard,
        ),
        ("a script of 3600 bytes", filler(3_600), vec![], None),
        ("a script of 3601 bytes", filler(3_601), vec![], nonstandard),
    ] {
        let script = raw(&script);
        let coin = scene.coin_of(ScriptBuf::new_p2wsh(&script.wscript_hash()), 100_000);
        let mut tx = pay(&[coin], 10_000);
        let mut items: Vec<Vec<u8>> = stack;
        items.push(script.into_bytes());
        tx.input[0].witness = Witness::from_slice(&items);
        scene.transaction(&format!("script: {name}"), &tx, expected);
    }
    let nops = |count: usize| [vec![0x61; count], vec![0x51]].concat();
    wsh(scene, "script: 201 operations", &nops(201), vec![], None);
    wsh(
        scene,
        "script: 202 operations",
        &nops(202),
        vec![],
        Some("Operation limit exceeded"),
    );
    let large = push(Builder::new(), &[7; 521])
        .push_opcode(op::OP_DROP)
        .push_int(1)
        .into_script();
    let error = Some("Push value size limit exceeded");
    wsh(
        scene,
        "script: a push of 521 bytes",
        large.as_bytes(),
        vec![],
        error,
    );
    scene.settle();
}

/// A script of so many bytes that leaves true.
fn filler(size: usize) -> Vec<u8> {
    let mut script = vec![0x51];
    while script.len() + 524 <= size {
        script.extend([0x4d, 0x08, 0x02]);
        script.extend(vec![7; 520]);
        script.push(0x75);
    }
    script.extend(vec![0x61; size - script.len()]);
    // So many OP_NOP would be too many operations: a last push takes their place.
    let nops = script.iter().rev().take_while(|b| **b == 0x61).count();
    if nops > 150 {
        let start = script.len() - nops;
        let data = nops - 4;
        let bytes = u16::try_from(data).unwrap_or(0).to_le_bytes();
        if data > 255 {
            script[start..start + 3].copy_from_slice(&[0x4d, bytes[0], bytes[1]]);
        } else {
            script[start..start + 3].copy_from_slice(&[0x61, 0x4c, bytes[0]]);
        }
        let last = script.len() - 1;
        script[last] = 0x75;
    }
    script
}

fn hash_locks(scene: &mut Scene) {
    let preimage = [7u8; 32];
    let hashes: [(&str, u8, Vec<u8>); 5] = [
        (
            "OP_RIPEMD160",
            0xa6,
            ripemd160::Hash::hash(&preimage).to_byte_array().to_vec(),
        ),
        (
            "OP_SHA1",
            0xa7,
            sha1::Hash::hash(&preimage).to_byte_array().to_vec(),
        ),
        (
            "OP_SHA256",
            0xa8,
            sha256::Hash::hash(&preimage).to_byte_array().to_vec(),
        ),
        (
            "OP_HASH160",
            0xa9,
            hash160::Hash::hash(&preimage).to_byte_array().to_vec(),
        ),
        (
            "OP_HASH256",
            0xaa,
            sha256d::Hash::hash(&preimage).to_byte_array().to_vec(),
        ),
    ];
    for (name, opcode, hash) in hashes {
        let mut script = vec![opcode, u8::try_from(hash.len()).unwrap_or(0)];
        script.extend(hash);
        script.push(0x87);
        wsh(
            scene,
            &format!("{name}: the preimage"),
            &script,
            vec![preimage.to_vec()],
            None,
        );
        let wrong = vec![vec![8; 32]];
        wsh(
            scene,
            &format!("{name}: another"),
            &script,
            wrong,
            Some(EVAL_FALSE),
        );
    }
    scene.settle();
}

fn time_locks(scene: &mut Scene) {
    let script = |number: i64, opcode: op_code::Code| {
        Builder::new()
            .push_int(number)
            .push_opcode(opcode.0)
            .into_bytes()
    };
    let cltv = op_code::Code(op::OP_CLTV);
    let csv = op_code::Code(op::OP_CSV);
    let locked = |lock: u32, sequence: u32| {
        move |tx: &mut Transaction| {
            tx.lock_time = LockTime::from_consensus(lock);
            tx.input[0].sequence = Sequence(sequence);
        }
    };
    #[rustfmt::skip]
    let cases = [
        ("a height that is reached", 50, 50, 0, None),
        ("a lower height than the lock time", 50, 60, 0, None),
        ("a height that is not reached", 61, 60, 0, Some(LOCKTIME)),
        ("a height against a time", 50, 500_000_001, 0, Some(LOCKTIME)),
        ("a time against a height", 500_000_001, 60, 0, Some(LOCKTIME)),
        ("a time that is reached", 500_000_001, 500_000_001, 0, None),
        ("a final sequence", 50, 50, u32::MAX, Some(LOCKTIME)),
        ("a negative height", -1, 50, 0, Some("Negative locktime")),
    ];
    for (name, wanted, lock, sequence, error) in cases {
        let name = format!("OP_CHECKLOCKTIMEVERIFY: {name}");
        wsh_tx(
            scene,
            &name,
            &script(wanted, cltv),
            locked(lock, sequence),
            |_| vec![],
            error,
        );
    }
    const TIME: i64 = 1 << 22;
    // The coins have one confirmation.
    #[rustfmt::skip]
    let cases = [
        ("one block", 1, 2, 1u32, None),
        ("zero blocks", 1, 2, 0, Some(LOCKTIME)),
        ("version 1", 1, 1, 1, Some(LOCKTIME)),
        ("version 3", 1, 3, 1, None),
        ("a disabled sequence", 1, 2, 1 | (1 << 31), Some(LOCKTIME)),
        ("blocks against time", 1, 2, 1 << 22, Some(LOCKTIME)),
        ("time against blocks", TIME, 2, 1, Some(LOCKTIME)),
        ("time", TIME, 2, 1 << 22, None),
        ("a negative number", -1, 2, 1, Some("Negative locktime")),
        ("a disabled argument", 1 << 31, 2, 0, None),
    ];
    for (name, wanted, version, sequence, error) in cases {
        let name = format!("OP_CHECKSEQUENCEVERIFY: {name}");
        let change = |tx: &mut Transaction| {
            tx.version = bitcoin::transaction::Version(version);
            tx.input[0].sequence = Sequence(sequence);
        };
        // A lock of 0 is false and needs a true item above it.
        let mut bytes = script(wanted, csv);
        bytes.extend([0x75, 0x51]);
        wsh_tx(scene, &name, &bytes, change, |_| vec![], error);
    }
    scene.settle();
}

/// A copyable opcode, for closures over several of them.
mod op_code {
    #[derive(Clone, Copy)]
    pub(super) struct Code(pub(super) bitcoin::Opcode);
}

fn programs(scene: &mut Scene) {
    let key = scene.key.clone();
    let other = scene.other.clone();
    let value = super::scene::sat(50_000);
    let fresh = |scene: &mut Scene, script: ScriptBuf| {
        let coin = scene.coin_of(script, 50_000);
        pay(&[coin], 2_000)
    };
    let keyed = |tx: &Transaction, signer: &Key| {
        let sig = signer.ecdsa(tx, 0, &key.p2pkh(), Some(value), 1);
        vec![sig, signer.bytes()]
    };
    let mut tx = fresh(scene, key.p2wpkh());
    scene.refuse("P2WPKH without witness", &tx, &failed(MISMATCH));
    tx.input[0].witness = Witness::from_slice(&keyed(&tx, &other));
    scene.refuse("P2WPKH with another key", &tx, &failed(EQUALVERIFY));
    let mut mixed = keyed(&tx, &other);
    mixed[1] = key.bytes();
    tx.input[0].witness = Witness::from_slice(&mixed);
    scene.refuse(
        "P2WPKH with another key's signature",
        &tx,
        &failed(NULLFAIL),
    );
    tx.input[0].witness = Witness::from_slice(&[key.bytes()]);
    scene.refuse("P2WPKH with one item", &tx, &failed(MISMATCH));
    tx.input[0].witness = Witness::from_slice(&keyed(&tx, &key));
    let mut malleated = tx.clone();
    malleated.input[0].script_sig = raw(&[0x51]);
    scene.refuse(
        "P2WPKH with a scriptSig",
        &malleated,
        &failed("Witness requires empty scriptSig"),
    );
    scene.accept("P2WPKH", &tx);

    let mut tx = fresh(scene, open());
    tx.input[0].witness = Witness::new();
    scene.refuse(
        "P2WSH without witness",
        &tx,
        &failed("Witness program was passed an empty witness"),
    );
    tx.input[0].witness = Witness::from_slice(&[vec![0x52]]);
    scene.refuse("P2WSH with another script", &tx, &failed(MISMATCH));

    let redeem = key.p2wpkh();
    let mut tx = fresh(scene, ScriptBuf::new_p2sh(&redeem.script_hash()));
    let sig = push(Builder::new(), redeem.as_bytes()).into_script();
    tx.input[0].script_sig = sig.clone();
    tx.input[0].witness = Witness::from_slice(&keyed(&tx, &key));
    let mut malleated = tx.clone();
    malleated.input[0].script_sig = [&[0x51], sig.as_bytes()].concat().into();
    scene.refuse(
        "nested P2WPKH with more in the scriptSig",
        &malleated,
        &failed("Witness requires only-redeemscript scriptSig"),
    );
    scene.accept("nested P2WPKH", &tx);
    scene.settle();
}

fn legacy(scene: &mut Scene) {
    let key = scene.key.clone();
    let other = scene.other.clone();
    let sig_for =
        |tx: &Transaction, signer: &Key, script: &ScriptBuf| signer.ecdsa(tx, 0, script, None, 1);
    let coin = scene.coin_of(key.p2pkh(), 50_000);
    let base = pay(core::slice::from_ref(&coin), 2_000);
    let p2pkh = |items: &[&[u8]]| {
        let mut tx = base.clone();
        tx.input[0].script_sig = items
            .iter()
            .fold(Builder::new(), |b, item| push(b, item))
            .into_script();
        tx
    };
    let good = sig_for(&base, &key, &key.p2pkh());
    let bad = sig_for(&base, &other, &key.p2pkh());
    scene.refuse("P2PKH without scriptSig", &base, &failed(STACK));
    scene.refuse(
        "P2PKH with another key",
        &p2pkh(&[&bad, &other.bytes()]),
        &failed(EQUALVERIFY),
    );
    scene.refuse(
        "P2PKH with a wrong signature",
        &p2pkh(&[&bad, &key.bytes()]),
        &failed(NULLFAIL),
    );
    scene.refuse(
        "P2PKH with an item too many",
        &p2pkh(&[&[7, 7], &good, &key.bytes()]),
        &failed(CLEANSTACK),
    );
    let mut long = p2pkh(&[&good, &key.bytes()]);
    let mut bytes = vec![0x4c];
    bytes.extend(long.input[0].script_sig.as_bytes());
    long.input[0].script_sig = raw(&bytes);
    scene.refuse(
        "P2PKH with a push longer than necessary",
        &long,
        &failed("Data push larger than necessary"),
    );
    scene.accept("P2PKH", &p2pkh(&[&good, &key.bytes()]));

    let script =
        push(Builder::new(), &key.public().serialize_uncompressed()).push_opcode(op::OP_CHECKSIG);
    let script = script.into_script();
    let coin = scene.coin_of(script.clone(), 50_000);
    let mut tx = pay(&[coin], 2_000);
    let sig = sig_for(&tx, &key, &script);
    tx.input[0].script_sig = push(Builder::new(), &sig).into_script();
    scene.accept("P2PK with an uncompressed key", &tx);

    let script = Builder::new().push_int(1);
    let script = push(push(script, &key.bytes()), &other.bytes());
    let script = script
        .push_int(2)
        .push_opcode(op::OP_CHECKMULTISIG)
        .into_script();
    let coin = scene.coin_of(script.clone(), 50_000);
    let mut tx = pay(&[coin], 2_000);
    let sig = sig_for(&tx, &other, &script);
    tx.input[0].script_sig = push(Builder::new().push_int(0), &sig).into_script();
    scene.accept("bare multisig", &tx);

    let separator = Builder::new()
        .push_opcode(op::OP_CODESEPARATOR)
        .push_int(1)
        .into_script();
    let coin = scene.coin_of(ScriptBuf::new_p2sh(&separator.script_hash()), 50_000);
    let mut tx = pay(&[coin], 2_000);
    tx.input[0].script_sig = push(Builder::new(), separator.as_bytes()).into_script();
    scene.refuse(
        "OP_CODESEPARATOR before segwit",
        &tx,
        &failed("Using OP_CODESEPARATOR in non-witness script"),
    );

    // OP_IF takes anything before segwit.
    let redeem = raw(&[0x63, 0x51, 0x67, 0x00, 0x68]);
    let coin = scene.coin_of(ScriptBuf::new_p2sh(&redeem.script_hash()), 50_000);
    let mut tx = pay(&[coin], 2_000);
    tx.input[0].script_sig = push(Builder::new().push_int(2), redeem.as_bytes()).into_script();
    scene.accept("OP_IF with 2 in P2SH", &tx);
    let coin = scene.coin_of(ScriptBuf::new_p2sh(&redeem.script_hash()), 50_000);
    let mut tx = pay(&[coin], 2_000);
    let wrong = raw(&[0x51]);
    tx.input[0].script_sig = push(Builder::new(), wrong.as_bytes()).into_script();
    scene.refuse("P2SH with another script", &tx, &failed(EVAL_FALSE));

    // One signature for its own input and output only.
    let coins: Vec<Coin> = scene.coins_of(vec![out(key.p2pkh(), 50_000), out(key.p2pkh(), 50_000)]);
    let mut tx = spend(&coins, vec![out(open(), 45_000), out(open(), 45_000)]);
    for index in 0..2 {
        let sig = key.ecdsa(&tx, index, &key.p2pkh(), None, 0x83);
        tx.input[index].script_sig = push(push(Builder::new(), &sig), &key.bytes()).into_script();
    }
    scene.accept("SIGHASH_SINGLE|ANYONECANPAY on two inputs", &tx);
    let mut swapped = with_version(tx, 2);
    swapped.output[0].value = super::scene::sat(44_000);
    scene.settle();
    scene.refuse(
        "a change after it is mined",
        &swapped,
        "bad-txns-inputs-missingorspent",
    );
}
