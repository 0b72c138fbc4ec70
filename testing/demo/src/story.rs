//! The demo: what a Lightning network is for, from empty wallets to closed accounts.

use std::{
    io::IsTerminal,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::{OutPoint, consensus::encode::serialize_hex};
use fulmen_api::{CloseChannel, EventKind, InvoiceState, PaymentInfo, PaymentState};
use fulmen_cheat::Cheat;
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    accounts::{self, Closing},
    ledger::sat,
    network::{ALICE, BOB, CAROL, CHEATED, DAVE, Folder, MALLORY, NAMES, Network, Turnover},
    node::{htlcs, pay_request, wait_until},
    or_interrupted,
};

/// The payment over three hops.
const FIRST_PAYMENT_MSAT: u64 = 250_000_000;
/// The many payments: this much each, and a little more each time so that no two are alike.
const MANY_LEAST_MSAT: u64 = 2_000_123;
/// What an HTLC of the cheated state is worth; the small one is below dust.
const HANGING_MSAT: [u64; 3] = [50_000_500, 40_000_700, 200_900];
const MAX_FEE_MSAT: u64 = 500_000;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How many payments at once.
    pub(crate) payments: usize,
    /// Whether the nodes go on at the end.
    pub(crate) keep: bool,
}

/// Prints what happens, with the time since the start.
struct Story {
    begun: Instant,
    chapter: usize,
}

impl Story {
    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!("\n{}. {title}", self.chapter);
    }

    fn say(&self, text: &str) {
        println!("   {:5.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }
}

/// Tells the whole story; an error at the first thing that is not as it should be.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut story = Story {
        begun: Instant::now(),
        chapter: 0,
    };
    let folder = Folder::make(options.keep)?;

    story.chapter("A chain and five nodes");
    let mut network = or_interrupted(Network::start(folder.path())).await?;
    let kind = if network.chain.is_bitcoind() {
        "bitcoind"
    } else {
        "the embedded chain"
    };
    story.say(&format!(
        "{} run as processes of their own on {kind}, stores in {}",
        NAMES.join(", "),
        folder.path().display()
    ));
    let result = or_interrupted(tell(&mut story, &mut network, options)).await;
    if let Err(error) = result {
        eprintln!(
            "\nThe logs of the nodes are in {}.",
            folder.path().display()
        );
        if let Folder::Temporary(folder) = folder {
            let _ = folder.keep();
        }
        return Err(error);
    }
    if options.keep {
        keep(&mut story, &mut network).await?;
    }
    Ok(())
}

async fn tell(story: &mut Story, network: &mut Network, options: Options) -> Result<()> {
    network.fund().await?;
    story.say("every wallet has confirmed coins, for channels and for the reserve");

    story.chapter("Channels");
    network.open_channels().await?;
    story.say("a line alice–bob–carol–dave, and a shortcut alice–mallory–dave that costs more");
    story.say(&format!(
        "every node knows all {} channels by gossip",
        network.channels.len()
    ));

    story.chapter("A payment over three hops");
    first_payment(story, network).await?;

    story.chapter(&format!(
        "{} payments at once, and a forwarding node is killed",
        options.payments
    ));
    many_payments(story, network, options.payments).await?;

    story.chapter("A cheat");
    let (cheat, before) = cheat(story, network).await?;

    story.chapter("The rest closes together");
    let closings = close_all(story, network).await?;

    story.chapter("The accounts");
    accounts::settle(network, &closings, &cheat, &before).await?;
    story.say("no millisatoshi is missing");
    Ok(())
}

async fn first_payment(story: &Story, network: &Network) -> Result<()> {
    let (alice, dave) = (&network.nodes[ALICE], &network.nodes[DAVE]);
    let invoice = dave.invoice(FIRST_PAYMENT_MSAT, "three hops").await?;
    let begun = Instant::now();
    let paid = alice.pay(&invoice, MAX_FEE_MSAT).await?;
    let took = begun.elapsed();
    let fee = paid.fee_msat.unwrap_or_default();
    let to_dave = network.settings[CAROL].fee_msat(FIRST_PAYMENT_MSAT);
    let line = to_dave + network.settings[BOB].fee_msat(FIRST_PAYMENT_MSAT + to_dave);
    let shortcut = network.settings[MALLORY].fee_msat(FIRST_PAYMENT_MSAT);
    ensure!(
        fee == line,
        "the payment cost {fee} msat; bob and carol ask for {line} msat"
    );
    ensure!(line < shortcut, "the shortcut is cheaper than the line");
    story.say(&format!(
        "alice → bob → carol → dave: {} sat in {} ms, fee {} sat (over mallory: {} sat)",
        sat(FIRST_PAYMENT_MSAT.into()),
        took.as_millis(),
        sat(fee.into()),
        sat(shortcut.into())
    ));
    network.wait_quiet(Duration::from_secs(10)).await
}

async fn many_payments(story: &Story, network: &mut Network, count: usize) -> Result<()> {
    let dave = &network.nodes[DAVE];
    let wanted = (0..count).map(async |index| {
        let amount = MANY_LEAST_MSAT + u64::try_from(index)?;
        Ok::<_, anyhow::Error>((
            dave.invoice(amount, &format!("number {index}")).await?,
            amount,
        ))
    });
    let mut invoices = Vec::with_capacity(count);
    for result in join_all(wanted).await {
        invoices.push(result?);
    }
    story.say(&format!("dave made {count} invoices"));

    let begun = Instant::now();
    let client = network.nodes[ALICE].client().clone();
    let mut running: FuturesUnordered<_> = invoices
        .iter()
        .map(async |(invoice, _)| client.call(&pay_request(invoice, MAX_FEE_MSAT)).await)
        .collect();
    let bar = progress_bar(count);
    let mut ended: Vec<PaymentInfo> = Vec::with_capacity(count);
    let mut killed = None;
    let mut outage = None;
    let mut restart = None;
    loop {
        tokio::select! {
            next = running.next() => {
                let Some(result) = next else { break };
                ended.push(result.context("alice: pay")?);
                bar.inc(1);
                let rate = rate(ended.len(), begun.elapsed());
                bar.set_message(format!("{rate:.0} payments/s"));
                if bar.is_hidden() && ended.len().is_multiple_of((count / 5).max(1)) {
                    story.say(&format!("{} of {count}, {rate:.0} payments/s", ended.len()));
                }
                if killed.is_none() && ended.len() * 5 >= count * 2 {
                    let in_flight = network.nodes[BOB].htlcs_in_flight().await?;
                    network.nodes[BOB].kill()?;
                    let now = Instant::now();
                    killed = Some(now);
                    restart = Some(now + Duration::from_secs(1));
                    bar.suspend(|| story.say(&format!("SIGKILL to bob, with {in_flight} HTLCs in flight")));
                }
            }
            () = sleep_until(restart), if restart.is_some() => {
                restart = None;
                network.nodes[BOB].start().await?;
                outage = killed.map(|at: Instant| at.elapsed());
                bar.suspend(|| story.say("bob is started again"));
            }
        }
    }
    drop(running);
    if restart.is_some() {
        // All found their way while it was away.
        network.nodes[BOB].start().await?;
        outage = killed.map(|at| at.elapsed());
        bar.suspend(|| story.say("bob is started again"));
    }
    let took = begun.elapsed();
    bar.finish_and_clear();
    ensure!(killed.is_some(), "bob was never killed");

    // Both sides say the same of each of them.
    let paid_at_dave = network.nodes[DAVE].invoices().await?;
    for info in &ended {
        ensure!(
            info.state == PaymentState::Succeeded,
            "payment {} failed: {}",
            info.payment_hash,
            info.failure.clone().unwrap_or_default()
        );
        let invoice = paid_at_dave
            .iter()
            .find(|invoice| invoice.payment_hash == info.payment_hash);
        let invoice =
            invoice.with_context(|| format!("dave does not know {}", info.payment_hash))?;
        ensure!(
            invoice.state == InvoiceState::Paid && invoice.received_msat == Some(info.amount_msat),
            "alice paid {} msat for {} and dave got {:?}",
            info.amount_msat,
            info.payment_hash,
            invoice.received_msat
        );
    }
    let wanted: u64 = invoices.iter().map(|(_, amount)| amount).sum();
    let paid: u64 = ended.iter().map(|info| info.amount_msat).sum();
    ensure!(
        wanted == paid,
        "the invoices ask for {wanted} msat and alice paid {paid} msat"
    );
    story.say(&format!(
        "all {count} succeeded in {:.1} s: {:.0} payments/s, bob's outage of {:.1} s included",
        took.as_secs_f64(),
        rate(count, took),
        outage.unwrap_or_default().as_secs_f64()
    ));
    network.wait_usable().await?;
    check_everybody(story, network).await?;
    Ok(())
}

/// Both ends of every channel agree, and every node's money follows from its payments.
async fn check_everybody(story: &Story, network: &Network) -> Result<Vec<Turnover>> {
    network.wait_quiet(Duration::from_secs(30)).await?;
    let owned = network.check_channels().await?;
    let turnovers = network.turnovers().await?;
    network.check_turnovers(&owned, &turnovers)?;
    story.say("both ends of every channel agree, and not one msat is missing at any node");
    Ok(turnovers)
}

/// What the accounts need to know of the time before the cheat.
#[derive(Clone, Debug)]
pub(crate) struct BeforeCheat {
    pub(crate) turnovers: Vec<Turnover>,
    /// What mallory had in the channel that it cheats on.
    pub(crate) mallory_msat: u64,
}

async fn cheat(story: &Story, network: &mut Network) -> Result<(Cheat, BeforeCheat)> {
    let channel = network.channels[CHEATED].clone();

    // HTLCs that hang, both ways: carol and bob are frozen, so they neither fulfil nor fail them. Nobody
    // stops next to a frozen node: additions that no signature covers yet would be lost with the
    // connection, and the payments would fail. With bob away alice's way to carol is over mallory and dave.
    let mut to_carol = Vec::new();
    let mut to_bob = Vec::new();
    for amount in HANGING_MSAT {
        to_carol.push(
            network.nodes[CAROL]
                .invoice(amount, "from alice over mallory")
                .await?,
        );
        to_bob.push(
            network.nodes[BOB]
                .invoice(amount + 1_000, "from mallory over alice")
                .await?,
        );
    }
    let hanging = HANGING_MSAT.len();
    let [alice_bob, carol_dave] = [0, 2].map(|index| network.channels[index].clone());
    network.nodes[BOB].stop().await?;
    network.nodes[CAROL].freeze()?;
    for invoice in &to_carol {
        let request = pay_request(invoice, MAX_FEE_MSAT).without_waiting();
        network.nodes[ALICE].call(&request).await?;
    }
    wait_htlcs(network, &[ALICE, MALLORY], &channel.funding, hanging).await?;
    wait_htlcs(network, &[DAVE], &carol_dave.funding, hanging).await?;
    network.nodes[BOB].start().await?;
    network.wait_channel_usable(&alice_bob).await?;
    network.nodes[BOB].freeze()?;
    for invoice in &to_bob {
        let request = pay_request(invoice, MAX_FEE_MSAT).without_waiting();
        network.nodes[MALLORY].call(&request).await?;
    }
    wait_htlcs(network, &[ALICE, MALLORY], &channel.funding, 2 * hanging).await?;
    wait_htlcs(network, &[ALICE], &alice_bob.funding, hanging).await?;
    network.nodes[MALLORY].stop().await?;
    let copy = copy_store(&network.nodes[MALLORY])?;
    story.say(&format!(
        "mallory stops and copies its store, with {hanging} HTLCs in flight each way between alice and mallory"
    ));

    // Life goes on, and that state is revoked.
    network.nodes[MALLORY].start().await?;
    network.nodes[BOB].thaw()?;
    network.nodes[CAROL].thaw()?;
    network.wait_usable().await?;
    for (payer, count) in [(ALICE, to_carol.len()), (MALLORY, to_bob.len())] {
        let node = &network.nodes[payer];
        let what = format!("the end of {count} hanging payments of {}", node.name);
        wait_until(&what, Duration::from_secs(60), async || {
            let payments = node.payments().await?;
            Ok(payments
                .iter()
                .all(|payment| payment.state != PaymentState::Pending))
        })
        .await?;
    }
    let payments = network.nodes[ALICE].payments().await?;
    for payment in &payments {
        ensure!(
            payment.state == PaymentState::Succeeded,
            "a payment of alice that hung has failed: {}",
            payment.failure.clone().unwrap_or_default()
        );
    }
    let preimages: Vec<String> = payments
        .into_iter()
        .filter_map(|payment| payment.preimage)
        .collect();
    story.say("mallory goes on, the payments arrive, and the copied state is revoked");
    let turnovers = check_everybody(story, network).await?;
    let info = network.nodes[ALICE].channel(&channel.funding).await?;
    let before = BeforeCheat {
        turnovers,
        mallory_msat: info.remote_msat,
    };

    network.nodes[MALLORY].stop().await?;
    let cheat = run_tool(network, copy, channel.outpoint()?, &preimages).await?;
    ensure!(
        cheat.htlcs_offered > 0 && cheat.htlcs_received > 0,
        "the cheat has HTLCs one way only"
    );
    story.say(&format!(
        "a tool signs commitment {} from the copy, with {} + {} HTLCs, and takes one into its second stage",
        cheat.commitment_number, cheat.htlcs_offered, cheat.htlcs_received
    ));
    story.say("both transactions are in blocks");

    let alice = &network.nodes[ALICE];
    let txid = cheat.commitment_tx()?.compute_txid().to_string();
    wait_until("alice's alarm", Duration::from_secs(20), async || {
        let events = alice.events().await?;
        Ok(events.iter().any(
            |event| matches!(&event.kind, EventKind::Breach { txid: seen, .. } if *seen == txid),
        ))
    })
    .await?;
    story.say("alice sees the breach and claims every output");
    let mut blocks = 0;
    loop {
        let balance = alice.balance().await?;
        let done = balance.sweeping_sat == 0
            && balance.onchain_unconfirmed_sat == 0
            && accounts::is_punished(network, &cheat)?;
        if done {
            break;
        }
        if blocks == 40 {
            bail!(
                "alice has not claimed everything after {blocks} blocks; still to come: {:?}",
                balance.sweeps
            );
        }
        wait_claims(network).await?;
        network.mine(1).await?;
        blocks += 1;
    }
    story.say(&format!(
        "punished in full after {blocks} {}: alice has all of the channel",
        if blocks == 1 { "block" } else { "blocks" }
    ));
    Ok((cheat, before))
}

/// Gives alice a moment to broadcast before the next block.
async fn wait_claims(network: &Network) -> Result<()> {
    let begun = Instant::now();
    while network.chain.mempool_len()? == 0 && begun.elapsed() < Duration::from_millis(700) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn wait_htlcs(network: &Network, nodes: &[usize], funding: &str, count: usize) -> Result<()> {
    for index in nodes {
        let node = &network.nodes[*index];
        let what = format!("{count} HTLCs in flight at {}", node.name);
        wait_until(&what, Duration::from_secs(30), async || {
            Ok(htlcs(&node.channel(funding).await?) == count)
        })
        .await?;
    }
    Ok(())
}

/// Copies the data directory of a node that does not run.
fn copy_store(node: &crate::node::Node) -> Result<PathBuf> {
    let target = node.dir().with_file_name(format!("{}-copy", node.name));
    fulmen_cheat::copy_data_dir(node.dir(), &target)?;
    Ok(target)
}

/// Runs the cheat's tool as a process of its own, as `fulmen-demo cheat`.
async fn run_tool(
    network: &Network,
    copy: PathBuf,
    funding: OutPoint,
    preimages: &[String],
) -> Result<Cheat> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let mut command = tokio::process::Command::new(program);
    command
        .arg("cheat")
        .arg("--data-dir")
        .arg(copy)
        .arg("--funding")
        .arg(funding.to_string());
    for preimage in preimages {
        command.arg("--preimage").arg(preimage);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "the cheat's tool ended with {}",
        output.status
    );
    let cheat: Cheat = serde_json::from_slice(&output.stdout)?;

    // Broadcast like any transaction; the miner takes the second stage in the very next block.
    let commitment = cheat.commitment_tx()?;
    network.chain.broadcast(&commitment).with_context(|| {
        format!(
            "the chain does not take the old commitment {}",
            serialize_hex(&commitment)
        )
    })?;
    network.chain.mine(1)?;
    network
        .chain
        .mine_exactly(&[&cheat.second_stage_tx()?])
        .context("the chain does not take the second stage")?;
    network.wait_synced().await?;
    Ok(cheat)
}

async fn close_all(story: &Story, network: &mut Network) -> Result<Vec<Closing>> {
    // What mallory's node makes of what was done with its old state is its own affair; it comes back to
    // close its other channel.
    network.nodes[MALLORY].start().await?;
    let mut closings = Vec::new();
    let rest: Vec<_> = network
        .channels
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != CHEATED)
        .map(|(_, channel)| channel.clone())
        .collect();
    for channel in &rest {
        let opener = &network.nodes[channel.opener];
        let what = format!("channel {} usable again", network.name_of(channel));
        wait_until(&what, Duration::from_secs(30), async || {
            Ok(opener.channel(&channel.funding).await?.usable)
        })
        .await?;
        let info = opener.channel(&channel.funding).await?;
        closings.push(Closing {
            opener: channel.opener,
            peer: channel.peer,
            funding: channel.outpoint()?,
            capacity_sat: channel.capacity_sat,
            opener_msat: info.local_msat,
            peer_msat: info.remote_msat,
        });
        let request = CloseChannel {
            channel: info.channel_id,
            force: false,
            address: None,
            feerate_sat_per_vb: None,
        };
        opener.call(&request).await?;
    }
    wait_until(
        "the closing transactions in the mempool",
        Duration::from_secs(30),
        async || Ok(network.chain.mempool_len()? >= rest.len()),
    )
    .await?;
    network.mine(1).await?;
    story.say(&format!(
        "{} channels are closed by both ends together",
        rest.len()
    ));
    Ok(closings)
}

async fn keep(story: &mut Story, network: &mut Network) -> Result<()> {
    story.chapter("The nodes go on");
    or_interrupted(network.open_line_again()).await?;
    story.say("alice–bob–carol–dave have channels again, and a block is mined every 10 seconds");
    let chain = network.chain.url();
    let cookie = network.chain.cookie_path().display().to_string();
    let [alice, dave] = [&network.nodes[ALICE], &network.nodes[DAVE]];
    let client = "cargo run -q --release -p fulmen-cli -- --data-dir";
    println!("\n   Talk to the nodes (alice, bob, carol, dave, mallory), for instance:\n");
    for (node, command) in [
        (alice, "getinfo"),
        (alice, "listchannels"),
        (dave, "invoice 2500sat \"a coffee\""),
        (alice, "pay THE_INVOICE"),
        (alice, "balance"),
    ] {
        println!("     {client} {} {command}", node.dir().display());
    }
    println!("\n   A block at once, from the chain at {chain}:\n");
    println!(
        "     curl -s -u \"$(cat {cookie})\" -d '{{\"method\":\"generatetoaddress\",\"params\":[1,\"{}\"]}}' {chain}",
        alice.new_address().await?
    );
    println!(
        "\n   Logs: {}",
        alice.log().with_file_name("*.log").display()
    );
    println!("   Ctrl-C ends everything; the stores stay.");
    let miner = crate::chain::Miner::start(network.chain.clone(), Duration::from_secs(10));
    tokio::signal::ctrl_c().await?;
    miner.stop()?;
    for node in &mut network.nodes {
        node.stop().await?;
    }
    Ok(())
}

fn progress_bar(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    if let Ok(style) =
        ProgressStyle::with_template("   {elapsed:>5}    [{bar:40}] {pos}/{len} {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// So many a second.
pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    f64::from(count) / took.as_secs_f64().max(0.001)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
