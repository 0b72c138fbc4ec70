//! The server as a Lightning daemon sees it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use bitcoin::{Amount, Block, ScriptBuf, consensus::encode::deserialize};
use fulmen_devchain::server::{DevchainServer, ServerConfig};
use fulmen_devchain::{ClientError, RpcClient};
use serde_json::{Value, json};

fn start() -> (DevchainServer, RpcClient) {
    let server = DevchainServer::start(ServerConfig::default()).unwrap();
    let (user, password) = server.auth();
    let client = RpcClient::new(server.addr(), &user, &password);
    (server, client)
}

fn code(result: Result<Value, ClientError>) -> (i64, String) {
    match result {
        Err(ClientError::Rpc { code, message }) => (code, message),
        other => panic!("an RPC error was expected, not {other:?}"),
    }
}

fn hex(tx: &bitcoin::Transaction) -> String {
    bitcoin::consensus::encode::serialize_hex(tx)
}

#[test]
fn it_describes_the_chain() {
    let (server, client) = start();
    let info = client.call("getblockchaininfo", json!([])).unwrap();
    assert_eq!(info["chain"], "regtest");
    assert_eq!(info["blocks"], 110);
    assert_eq!(info["initialblockdownload"], false);
    let genesis = client.call("getblockhash", json!([0])).unwrap();
    assert_eq!(
        genesis,
        "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
    );
    let tip = client.call("getbestblockhash", json!([])).unwrap();
    let header = client.call("getblockheader", json!([tip])).unwrap();
    assert_eq!(header["height"], 110);
    assert_eq!(header["confirmations"], 1);
    let raw = client.call("getblockheader", json!([tip, false])).unwrap();
    assert_eq!(raw.as_str().unwrap().len(), 160);
    let raw = client
        .call("getblock", json!({ "blockhash": tip, "verbosity": 0 }))
        .unwrap();
    let bytes: Vec<u8> = hex_conservative::FromHex::from_hex(raw.as_str().unwrap()).unwrap();
    let block: Block = deserialize(&bytes).unwrap();
    assert_eq!(json!(block.block_hash().to_string()), tip);
    let full = client.call("getblock", json!([tip, 2])).unwrap();
    assert_eq!(full["tx"][0]["vout"][0]["value"], 50.0);
    assert_eq!(code(client.call("getblockhash", json!([999]))).0, -8);
    assert_eq!(
        code(client.call("getblock", json!(["00".repeat(32)]))).0,
        -5
    );
    assert_eq!(code(client.call("nosuchmethod", json!([]))).0, -32601);
    drop(server);
}

#[test]
fn rest_gives_the_same_blocks() {
    let (_server, client) = start();
    let tip = client.call("getbestblockhash", json!([])).unwrap();
    let tip = tip.as_str().unwrap();
    let (status, bytes) = client.rest(&format!("/rest/block/{tip}.bin")).unwrap();
    assert_eq!(status, 200);
    let block: Block = deserialize(&bytes).unwrap();
    assert_eq!(block.block_hash().to_string(), tip);
    let (_, text) = client.rest("/rest/blockhashbyheight/110.json").unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&text).unwrap()["blockhash"],
        tip
    );
    let (_, info) = client.rest("/rest/chaininfo.json").unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&info).unwrap()["blocks"],
        110
    );
    let first = client.call("getblockhash", json!([100])).unwrap();
    let path = format!("/rest/headers/{}.bin?count=7", first.as_str().unwrap());
    assert_eq!(client.rest(&path).unwrap().1.len(), 7 * 80);
    let path = format!("/rest/headers/1/{}.json", first.as_str().unwrap());
    let headers: Value = serde_json::from_slice(&client.rest(&path).unwrap().1).unwrap();
    assert_eq!(
        (&headers[0]["height"], headers.as_array().unwrap().len()),
        (&json!(100), 1)
    );
    let coinbase = block.txdata[0].compute_txid();
    let path = format!("/rest/getutxos/checkmempool/{coinbase}-0/{coinbase}-9.json");
    let utxos: Value = serde_json::from_slice(&client.rest(&path).unwrap().1).unwrap();
    assert_eq!(
        (&utxos["bitmap"], &utxos["utxos"][0]["value"]),
        (&json!("10"), &json!(50.0))
    );
    assert_eq!(
        client
            .rest(&format!("/rest/block/{}.bin", "11".repeat(32)))
            .unwrap()
            .0,
        404
    );
    assert_eq!(client.rest("/rest/block/xyz.bin").unwrap().0, 400);
}

#[test]
fn a_wrong_password_is_refused() {
    let (server, _) = start();
    let client = RpcClient::new(server.addr(), "__cookie__", "wrong");
    assert!(matches!(
        client.call("getblockcount", json!([])),
        Err(ClientError::Protocol(_))
    ));
    let cookie = std::fs::read_to_string(server.cookie_path()).unwrap();
    let (user, password) = cookie.split_once(':').unwrap();
    let client = RpcClient::new(server.addr(), user, password);
    assert_eq!(client.call("getblockcount", json!([])).unwrap(), 110);
}

#[test]
fn transactions_go_from_the_mempool_into_a_block() {
    let (server, client) = start();
    let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_raw_hash(
        bitcoin::hashes::Hash::hash(b"somebody"),
    ));
    let tx = server
        .with_chain(|c| c.faucet_payment(&script, Amount::from_sat(50_000)))
        .unwrap();
    let txid = tx.compute_txid().to_string();
    let verdict = client
        .call("testmempoolaccept", json!([[hex(&tx)]]))
        .unwrap();
    assert_eq!(verdict[0]["allowed"], true, "{verdict}");
    assert_eq!(
        client
            .call("sendrawtransaction", json!([hex(&tx)]))
            .unwrap(),
        json!(txid)
    );
    assert_eq!(
        client
            .call("sendrawtransaction", json!([hex(&tx)]))
            .unwrap(),
        json!(txid)
    );
    assert_eq!(
        client.call("getrawmempool", json!([])).unwrap(),
        json!([txid])
    );
    assert_eq!(
        client.call("getrawtransaction", json!([txid])).unwrap(),
        json!(hex(&tx))
    );
    let entry = client.call("getmempoolentry", json!([txid])).unwrap();
    assert_eq!(entry["ancestorcount"], 1);
    let out = client.call("gettxout", json!([txid, 0])).unwrap();
    assert_eq!(out["confirmations"], 0);
    assert_eq!(
        client.call("gettxout", json!([txid, 0, false])).unwrap(),
        Value::Null
    );
    client.call("dev_mine", json!([1])).unwrap();
    let out = client.call("gettxout", json!([txid, 0])).unwrap();
    assert_eq!(
        (&out["confirmations"], &out["value"]),
        (&json!(1), &json!(0.0005))
    );
    assert_eq!(code(client.call("getmempoolentry", json!([txid]))).0, -5);
    assert_eq!(
        code(client.call("sendrawtransaction", json!([hex(&tx)]))).0,
        -27
    );
    assert_eq!(code(client.call("getrawtransaction", json!([txid]))).0, -5);
    let tip = client.call("getbestblockhash", json!([])).unwrap();
    let found = client
        .call("getrawtransaction", json!([txid, true, tip]))
        .unwrap();
    assert_eq!(found["confirmations"], 1);
    let mut spent_again = tx.clone();
    spent_again.output[0].value = Amount::from_sat(40_000);
    let (error, message) = code(client.call("sendrawtransaction", json!([hex(&spent_again)])));
    assert_eq!(
        (error, message.as_str()),
        (-25, "bad-txns-inputs-missingorspent")
    );
}

#[test]
fn the_faucet_pays_and_scans_find_it() {
    let (_server, client) = start();
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let paid = client.call("dev_fund", json!([address, 1.5])).unwrap();
    let scan = client
        .call(
            "scantxoutset",
            json!(["start", [format!("addr({address})")]]),
        )
        .unwrap();
    assert_eq!(scan["total_amount"], 1.5);
    assert_eq!(scan["unspents"][0]["txid"], paid["txid"]);
    let mined = client
        .call("generatetoaddress", json!([2, address]))
        .unwrap();
    assert_eq!(mined.as_array().unwrap().len(), 2);
    let block = client.call("generateblock", json!([address, []])).unwrap();
    assert_eq!(
        client.call("getbestblockhash", json!([])).unwrap(),
        block["hash"]
    );
    assert_eq!(
        code(client.call("generatetoaddress", json!([1, "nonsense"]))).0,
        -5
    );
    let total = client.call("gettxoutsetinfo", json!([])).unwrap();
    assert_eq!(total["total_amount"], 114.0 * 50.0);
}

#[test]
fn batches_and_fee_estimates() {
    let (server, client) = start();
    let calls = [
        ("getblockcount", json!([])),
        ("getblockhash", json!([9999])),
        ("uptime", json!([])),
    ];
    let answers = client.batch(&calls).unwrap();
    assert_eq!(answers[0].as_ref().unwrap(), &json!(110));
    assert!(answers[1].is_err() && answers[2].is_ok());
    client.call("dev_setfeerate", json!([5000, 6])).unwrap();
    let near = client.call("estimatesmartfee", json!([2])).unwrap();
    assert_eq!(near["feerate"], 0.00001);
    let far = client.call("estimatesmartfee", json!([12])).unwrap();
    assert_eq!(far["feerate"], 0.00005);
    server.set_feerate(None);
    assert!(client.call("estimatesmartfee", json!([2])).unwrap()["errors"].is_array());
}

#[test]
fn a_long_poll_wakes_up_for_a_block_and_for_the_end() {
    let (server, client) = start();
    let begun = Instant::now();
    let same = client.call("waitfornewblock", json!([50])).unwrap();
    assert_eq!(same["height"], 110);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let (user, password) = server.auth();
    let addr = server.addr();
    let waiting = std::thread::spawn(move || {
        let client = RpcClient::new(addr, &user, &password);
        client.call("waitforblockheight", json!([112])).unwrap()
    });
    std::thread::sleep(Duration::from_millis(50));
    server.with_chain(|chain| chain.generate(2));
    assert_eq!(waiting.join().unwrap()["height"], 112);
    client.call("stop", json!([])).unwrap();
    server.wait();
}

#[test]
fn blocks_travel_between_servers_and_forks_are_told() {
    let (one, client_one) = start();
    let two = DevchainServer::start(ServerConfig {
        initial_blocks: 0,
        ..Default::default()
    });
    let two = two.unwrap();
    let (user, password) = two.auth();
    let client_two = RpcClient::new(two.addr(), &user, &password);
    for height in 1..=110 {
        let hash = client_one.call("getblockhash", json!([height])).unwrap();
        let raw = client_one.call("getblock", json!([hash, 0])).unwrap();
        assert_eq!(
            client_two.call("submitblock", json!([raw])).unwrap(),
            Value::Null
        );
    }
    let tip = client_one.call("getbestblockhash", json!([])).unwrap();
    assert_eq!(client_two.call("getbestblockhash", json!([])).unwrap(), tip);
    let raw = client_one.call("getblock", json!([tip, 0])).unwrap();
    assert_eq!(
        client_two.call("submitblock", json!([raw])).unwrap(),
        "duplicate"
    );
    client_one.call("invalidateblock", json!([tip])).unwrap();
    assert_eq!(client_one.call("getblockcount", json!([])).unwrap(), 109);
    client_one.call("reconsiderblock", json!([tip])).unwrap();
    assert_eq!(client_one.call("getbestblockhash", json!([])).unwrap(), tip);
    let mined = client_one.call("dev_reorg", json!([3])).unwrap();
    assert_eq!(mined.as_array().unwrap().len(), 4);
    let tips = client_one.call("getchaintips", json!([])).unwrap();
    assert_eq!(tips.as_array().unwrap().len(), 2);
    for height in 108..=111 {
        let hash = client_one.call("getblockhash", json!([height])).unwrap();
        let raw = client_one.call("getblock", json!([hash, 0])).unwrap();
        let answer = client_two.call("submitblock", json!([raw])).unwrap();
        assert_eq!(
            answer,
            if height < 111 {
                json!("inconclusive")
            } else {
                Value::Null
            }
        );
    }
    assert_eq!(
        two.with_chain(|chain| chain.tip()),
        one.with_chain(|chain| chain.tip())
    );
}
