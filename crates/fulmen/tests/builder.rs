//! The builder: its example runs, and what it was not told it says.

#[allow(dead_code)] // `main` is the example's.
#[path = "../examples/two_nodes.rs"]
mod two_nodes;

use std::{path::Path, sync::Arc};

use bitcoin::{Network, bip32::Xpriv};
use fulmen::{
    BuildError, Builder,
    block_sync::Auth,
    persister::{FileStore, StoreError},
    signer::{KeysManager, Signer},
};
use fulmen_devchain::Backend;

fn on(chain: &Backend, dir: &Path) -> Builder {
    Builder::new(Network::Regtest).data_dir(dir).bitcoind(
        chain.addr().to_string(),
        Auth::CookieFile(chain.cookie_path().to_path_buf()),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_runs() {
    two_nodes::run().await.expect("it pays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Backend::start().expect("a chain");
    let no_keys = on(&chain, dir.path()).start().await.expect_err("no keys");
    assert!(no_keys.to_string().contains("`seed`"), "{no_keys}");
    let no_dir = Builder::new(Network::Regtest).seed([1; 32]).start().await;
    let no_dir = no_dir.expect_err("no place");
    assert!(no_dir.to_string().contains("`data_dir`"), "{no_dir}");
    let elsewhere = on(&chain, dir.path())
        .seed([1; 32])
        .bitcoind("127.0.0.1:1", Auth::CookieFile("nowhere".into()));
    let no_chain = elsewhere.start().await.expect_err("nobody is there");
    assert!(matches!(no_chain, BuildError::Chain(_)), "{no_chain}");
    let signet = Builder::new(Network::Signet)
        .data_dir(dir.path().join("signet"))
        .seed([1; 32])
        .bitcoind(
            chain.addr().to_string(),
            Auth::CookieFile(chain.cookie_path().to_path_buf()),
        );
    std::fs::create_dir(dir.path().join("signet")).expect("ours");
    let other = signet.start().await.expect_err("another network");
    assert!(other.to_string().contains("regtest"), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_and_the_signer_can_be_replaced_and_are_found_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Backend::start().expect("a chain");
    let log = dir.path().join("node.log");
    let signer = Arc::new(KeysManager::new([9; 32], Network::Regtest));
    let master = Xpriv::new_master(Network::Regtest, &[8; 32]).expect("a key");
    let builder = || {
        on(&chain, dir.path())
            .keys([0; 32], master)
            .signer(signer.clone())
            .store(FileStore::open(&log).expect("free"))
    };
    let node = builder().start().await.expect("it starts");
    assert_eq!(node.node_id(), signer.node_id());
    assert_eq!(node.listening(), None);
    assert!(!dir.path().join(fulmen::NODE_STORE).exists());
    let second = FileStore::open(&log).map(|_| ());
    assert!(
        matches!(second, Err(StoreError::Locked { .. })),
        "{second:?}"
    );
    let wallet = node.wallet().expect("the default one").clone();
    let address = wallet.new_address().expect("room");
    node.stop().await.expect("it was well");
    let learned = dir.path().join("liquidity");
    assert!(learned.exists(), "what was learned is kept");

    let node = builder().start().await.expect("everything is free again");
    let wallet = node.wallet().expect("the default one");
    assert_ne!(
        wallet.new_address().expect("room"),
        address,
        "it was remembered"
    );
    node.stop().await.expect("it was well");
}
