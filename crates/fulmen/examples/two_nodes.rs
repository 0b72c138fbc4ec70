//! Two nodes in one program, on a regtest chain in memory: coins, a channel, a payment.
//!
//! ```sh
//! cargo run -p fulmen --example two_nodes
//! ```

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use bitcoin::{Amount, Network};
use fulmen::{
    Builder, RunningNode,
    block_sync::{Auth, FollowConfig},
    node::{
        ChannelState, Command, Event, Node, OpenChannelCommand, PayCommand, PeerAddress, Reply,
    },
    types::Msat,
};
use fulmen_devchain::Backend;

#[tokio::main]
async fn main() -> Result<()> {
    run().await
}

/// The whole of it.
pub(crate) async fn run() -> Result<()> {
    // Speaks Bitcoin Core's RPC: for the nodes it is a bitcoind.
    let chain = Backend::start().context("a chain")?;
    let dir = tempfile::tempdir()?;
    let alice = start(&chain, &dir.path().join("alice"), [1; 32]).await?;
    let bob = start(&chain, &dir.path().join("bob"), [2; 32]).await?;

    // Both need coins: alice for the channel, and each for the fees of enforcing it.
    for node in [&alice, &bob] {
        let wallet = node.wallet().context("the default wallet")?;
        chain.fund(&wallet.new_script()?, Amount::from_sat(2_000_000))?;
        chain.generate(1)?;
        until("the coins are seen", || async {
            Ok(wallet.funds().confirmed > Amount::ZERO)
        })
        .await?;
    }

    let address = bob.listening().context("bob listens")?;
    let connect = Command::Connect {
        peer: bob.node_id(),
        address: PeerAddress(address.to_string()),
    };
    alice.command(connect).await?;
    let open = OpenChannelCommand {
        peer: bob.node_id(),
        amount: Amount::from_sat(1_000_000),
        push: Msat::ZERO,
        announce: true,
        feerate: None,
        channel_type: None,
    };
    alice.command(Command::OpenChannel(open)).await?;
    until("both can use the channel", || async {
        chain.generate(1)?;
        Ok(is_usable(&alice).await? && is_usable(&bob).await?)
    })
    .await?;

    let wanted = Command::CreateInvoice {
        amount: Some(Msat::from_sat(2_500)),
        description: "two coffees".into(),
        expiry_secs: 3_600,
    };
    let Reply::Invoice { invoice, .. } = bob.command(wanted).await? else {
        bail!("no invoice");
    };
    let mut events = alice.handle().events(1).context("alice runs")?;
    let pay = PayCommand {
        invoice,
        amount: None,
        max_fee: None,
        timeout_secs: None,
    };
    alice.command(Command::Pay(pay)).await?;
    loop {
        let event = events.next().await.context("alice runs")?;
        match event.event {
            Event::PaymentSucceeded { amount, fee, .. } => {
                println!("paid {amount}, fee {fee}");
                break;
            }
            Event::PaymentFailed { reason, .. } => bail!("not paid: {reason}"),
            _ => {}
        }
    }
    alice.stop().await?;
    bob.stop().await?;
    Ok(())
}

/// All that a node needs to be told.
async fn start(chain: &Backend, dir: &Path, seed: [u8; 32]) -> Result<RunningNode> {
    std::fs::create_dir(dir)?;
    let node = Builder::new(Network::Regtest)
        .data_dir(dir)
        .seed(seed)
        .bitcoind(
            chain.addr().to_string(),
            Auth::CookieFile(chain.cookie_path().to_path_buf()),
        )
        .follow(FollowConfig {
            poll_interval: Duration::from_millis(100),
            ..FollowConfig::default()
        })
        .listen("127.0.0.1:0".parse()?)
        .start()
        .await?;
    Ok(node)
}

async fn is_usable(node: &RunningNode) -> Result<bool> {
    let channels = node.handle().query(Node::channels_info).await?;
    Ok(channels
        .iter()
        .any(|channel| matches!(channel.state, ChannelState::Normal { usable: true })))
}

async fn until<F: Future<Output = Result<bool>>>(
    what: &str,
    mut is_so: impl FnMut() -> F,
) -> Result<()> {
    for _ in 0..300 {
        if is_so().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("{what}: not within a minute")
}
