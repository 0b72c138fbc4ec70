//! The handle that end-to-end tests use, on whichever chain the environment names.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, WScriptHash};
use fulmen_devchain::{Backend, BackendError, Bitcoind};

#[test]
fn it_funds_mines_and_reorganises() {
    let backend = Backend::start().unwrap();
    assert_eq!(backend.height().unwrap(), 110);
    let script = ScriptBuf::new_p2wsh(&WScriptHash::hash(&[0x51]));
    let first = backend.fund(&script, Amount::from_sat(100_000)).unwrap();
    let second = backend
        .fund_unconfirmed(&script, Amount::from_sat(200_000))
        .unwrap();
    let third = backend
        .fund_unconfirmed(&script, Amount::from_sat(300_000))
        .unwrap();
    assert_eq!(backend.confirmations(&first.txid).unwrap(), 1);
    assert_eq!(backend.confirmations(&second.txid).unwrap(), 0);
    backend.generate(2).unwrap();
    assert_eq!(backend.confirmations(&third.txid).unwrap(), 2);
    let before = backend.tip().unwrap();
    backend.reorg(3, 4).unwrap();
    assert_ne!(backend.tip().unwrap(), before);
    assert_eq!(backend.height().unwrap(), 114);
    // All three went back to the mempool and were mined again in the first new block.
    assert_eq!(backend.confirmations(&first.txid).unwrap(), 4);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Bitcoind::start(Path::new("/nowhere/bitcoind")).unwrap_err();
    assert!(matches!(&error, BackendError::Start(what) if what.contains("/nowhere/bitcoind")));
}
