//! The crash test: SIGKILLs at random moments under load, and then everything must add up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fulmen_api::{Client, ClientError, ErrorCode, EventKind, Invoice, InvoiceState, PaymentState};

use crate::{
    chain::Miner,
    network::{Folder, NAMES, Network},
    node::pay_request,
    or_interrupted,
    random::Random,
    story::rate,
};

const BLOCK_EVERY: Duration = Duration::from_secs(2);
/// An outage must stay below so many blocks.
const OUTAGE_BLOCKS: u32 = 10;
/// So many HTLCs must be in flight at most kills.
const BUSY_HTLCS: usize = 20;
/// What most is, in percent.
const BUSY_PERCENT: usize = 80;
const LEAST_MSAT: u64 = 1_000_000;
const MOST_MSAT: u64 = 3_000_000;
const MAX_FEE_MSAT: u64 = 500_000;
/// How long the last payments may take to end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(180);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) kills: usize,
    pub(crate) seed: u64,
    /// Payments that are kept on their way.
    pub(crate) load: usize,
}

/// A kill and what was going on.
#[derive(Clone, Copy, Debug)]
struct Kill {
    node: usize,
    htlcs: usize,
    outage: Duration,
    outage_blocks: u32,
}

/// What the load counts.
#[derive(Debug, Default)]
struct Counters {
    stop: AtomicBool,
    running: AtomicUsize,
    succeeded: AtomicUsize,
    failed: AtomicUsize,
}

/// Kills, drains and checks; an error at the first thing that is not as it should be.
pub(crate) async fn run(options: Options) -> Result<()> {
    let folder = Folder::make(false)?;
    let result = or_interrupted(kill_and_check(options, &folder)).await;
    if result.is_err() {
        eprintln!(
            "\nThe logs of the nodes are in {}.",
            folder.path().display()
        );
        if let Folder::Temporary(folder) = folder {
            let _ = folder.keep();
        }
    }
    result
}

async fn kill_and_check(options: Options, folder: &Folder) -> Result<()> {
    let begun = Instant::now();
    println!(
        "crash test: {} kills, seed {}, {} payments on their way at any time, stores in {}",
        options.kills,
        options.seed,
        options.load,
        folder.path().display()
    );
    let mut network = Network::start(folder.path()).await?;
    network.fund().await?;
    network.open_channels().await?;
    let mut wallets = Vec::new();
    for node in &network.nodes {
        wallets.push(node.balance().await?.onchain_confirmed_sat);
    }
    println!(
        "{:6.1} s  {} nodes, {} channels",
        secs(begun),
        network.nodes.len(),
        network.channels.len()
    );

    let miner = Miner::start(Arc::clone(&network.chain), BLOCK_EVERY);
    let counters = Arc::new(Counters::default());
    let clients: Arc<Vec<Client>> = Arc::new(
        network
            .nodes
            .iter()
            .map(|node| node.client().clone())
            .collect(),
    );
    let load_begun = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..options.load {
        let seed = Random::new(options.seed ^ u64::try_from(worker)?.rotate_left(32)).next();
        workers.spawn(work(
            Arc::clone(&clients),
            Arc::clone(&counters),
            Random::new(seed),
        ));
    }
    let kills = kill_nodes(options, &mut network, &miner, &counters, begun).await;
    counters.stop.store(true, Ordering::Relaxed);
    let kills = kills?;

    let last = Instant::now();
    while let Some(ended) = {
        let patience = DRAIN_PATIENCE.saturating_sub(last.elapsed());
        tokio::time::timeout(patience, workers.join_next())
            .await
            .with_context(|| {
                format!(
                    "{} payments have not ended {} s after the last kill",
                    counters.running.load(Ordering::Relaxed),
                    DRAIN_PATIENCE.as_secs()
                )
            })?
    } {
        ended??;
    }
    let took = load_begun.elapsed();
    println!("{:6.1} s  the load has ended; checking", secs(begun));
    network.wait_usable().await?;
    network.wait_quiet(Duration::from_secs(60)).await?;
    let blocks = miner.stop()?;
    network.wait_synced().await?;

    let failures = check(&network, &wallets).await?;
    summary(&kills, &counters, took, blocks, &failures);
    let busy = kills.iter().filter(|kill| kill.htlcs >= BUSY_HTLCS).count();
    ensure!(
        busy * 100 >= kills.len() * BUSY_PERCENT,
        "only {busy} of {} kills had {BUSY_HTLCS} or more HTLCs in flight; give more --load",
        kills.len()
    );
    Ok(())
}

/// One payment after another between random nodes, until it is enough.
async fn work(
    clients: Arc<Vec<Client>>,
    counters: Arc<Counters>,
    mut random: Random,
) -> Result<()> {
    while !counters.stop.load(Ordering::Relaxed) {
        let payer = random.pick(clients.len());
        let payee = (payer + 1 + random.pick(clients.len() - 1)) % clients.len();
        let amount = random.between(LEAST_MSAT, MOST_MSAT);
        let request = Invoice::of_msat(amount, "load");
        let created = loop {
            match clients[payee].call(&request).await {
                Ok(created) => break created,
                Err(error) if is_outage(&error) => {}
                Err(error) => bail!("{}: invoice: {error}", NAMES[payee]),
            }
            if counters.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        counters.running.fetch_add(1, Ordering::Relaxed);
        // The same command again and again: it pays once.
        let pay = pay_request(&created.bolt11, MAX_FEE_MSAT);
        let state = loop {
            match clients[payer].call(&pay).await {
                Ok(info) if info.state != PaymentState::Pending => break info.state,
                Ok(_) => {}
                Err(error) if is_outage(&error) => {}
                // The daemon says how the payment ended where it did not work out.
                Err(error) if error.code() == Some(ErrorCode::Failed) => {
                    break PaymentState::Failed;
                }
                Err(error) => bail!("{}: pay: {error}", NAMES[payer]),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        counters.running.fetch_sub(1, Ordering::Relaxed);
        let counter = if state == PaymentState::Succeeded {
            &counters.succeeded
        } else {
            &counters.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether the daemon is away just now.
fn is_outage(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } | ClientError::Broken(_) | ClientError::Timeout => true,
        ClientError::Api(detail) => detail.code == ErrorCode::Unavailable,
        ClientError::Malformed(_) | ClientError::File { .. } => false,
    }
}

async fn kill_nodes(
    options: Options,
    network: &mut Network,
    miner: &Miner,
    counters: &Counters,
    begun: Instant,
) -> Result<Vec<Kill>> {
    let mut random = Random::new(options.seed);
    let mut kills: Vec<Kill> = Vec::with_capacity(options.kills);
    // Until the load is there.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for number in 1..=options.kills {
        tokio::time::sleep(Duration::from_millis(random.between(500, 4_000))).await;
        let index = random.pick(network.nodes.len());
        let down = Duration::from_millis(random.between(0, 3_000));
        let node = &mut network.nodes[index];
        let htlcs = node.htlcs_in_flight().await?;
        // The moment must not depend on when the question was answered.
        tokio::time::sleep(Duration::from_micros(random.between(0, 20_000))).await;
        let (at, height) = (Instant::now(), miner.blocks());
        node.kill()?;
        tokio::time::sleep(down).await;
        node.start().await?;
        let kill = Kill {
            node: index,
            htlcs,
            outage: at.elapsed(),
            outage_blocks: miner.blocks() - height,
        };
        ensure!(
            kill.outage_blocks < OUTAGE_BLOCKS,
            "{} was away for {} blocks",
            NAMES[index],
            kill.outage_blocks
        );
        println!(
            "{:6.1} s  kill {number:3}: {:8} with {htlcs:4} HTLCs in flight, away for {:.1} s; {} payments succeeded, {} failed",
            secs(begun),
            NAMES[index],
            kill.outage.as_secs_f64(),
            counters.succeeded.load(Ordering::Relaxed),
            counters.failed.load(Ordering::Relaxed)
        );
        kills.push(kill);
    }
    Ok(kills)
}

/// All payments have ended, on both sides in the same way; balances follow from them; no channel was closed.
/// Returns why payments failed, and how many.
async fn check(network: &Network, wallets_before: &[u64]) -> Result<BTreeMap<String, usize>> {
    let mut payments = BTreeMap::new();
    let mut invoices = BTreeMap::new();
    for node in &network.nodes {
        for payment in node.payments().await? {
            ensure!(
                payment.state != PaymentState::Pending,
                "payment {} of {} has not ended",
                payment.payment_hash,
                node.name
            );
            payments.insert(payment.payment_hash.clone(), payment);
        }
        for invoice in node.invoices().await? {
            invoices.insert(invoice.payment_hash.clone(), invoice);
        }
        for event in node.events().await? {
            if let EventKind::ChannelClosing {
                channel_id, reason, ..
            } = event.kind
            {
                bail!("{} closes channel {channel_id}: {reason}", node.name);
            }
        }
        let info = node.getinfo().await?;
        if let Some(trouble) = info.trouble {
            bail!("{} is in trouble: {trouble}", node.name);
        }
    }
    let mut failures = BTreeMap::new();
    for (hash, payment) in &payments {
        if payment.state == PaymentState::Failed {
            let reason = payment.failure_reason.clone().unwrap_or_default();
            *failures.entry(reason).or_insert(0) += 1;
        }
        let invoice = invoices
            .get(hash)
            .with_context(|| format!("nobody knows the invoice of payment {hash}"))?;
        let paid = payment.state == PaymentState::Succeeded;
        ensure!(
            paid == (invoice.state == InvoiceState::Paid),
            "payment {hash} is {:?} for its payer and {:?} for its payee",
            payment.state,
            invoice.state
        );
        ensure!(
            !paid || invoice.received_msat == Some(payment.amount_msat),
            "payment {hash}: {} msat were paid and {:?} received",
            payment.amount_msat,
            invoice.received_msat
        );
    }
    for invoice in invoices
        .values()
        .filter(|invoice| invoice.state == InvoiceState::Paid)
    {
        ensure!(
            payments.contains_key(&invoice.payment_hash),
            "invoice {} is paid and nobody knows the payment",
            invoice.payment_hash
        );
    }
    let owned = network.check_channels().await?;
    let turnovers = network.turnovers().await?;
    network.check_turnovers(&owned, &turnovers)?;
    for (node, before) in network.nodes.iter().zip(wallets_before) {
        let now = node.balance().await?.onchain_confirmed_sat;
        ensure!(
            now == *before,
            "the wallet of {} had {before} sat and has {now} sat",
            node.name
        );
    }
    Ok(failures)
}

fn summary(
    kills: &[Kill],
    counters: &Counters,
    took: Duration,
    blocks: u32,
    failures: &BTreeMap<String, usize>,
) {
    let mut htlcs: Vec<usize> = kills.iter().map(|kill| kill.htlcs).collect();
    htlcs.sort_unstable();
    let busy = htlcs.iter().filter(|count| **count >= BUSY_HTLCS).count();
    let per_node: Vec<String> = NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| {
            format!(
                "{name} {}",
                kills.iter().filter(|k| k.node == index).count()
            )
        })
        .collect();
    let succeeded = counters.succeeded.load(Ordering::Relaxed);
    let failed = counters.failed.load(Ordering::Relaxed);
    let longest = kills
        .iter()
        .map(|kill| kill.outage)
        .max()
        .unwrap_or_default();
    let most_blocks = kills
        .iter()
        .map(|kill| kill.outage_blocks)
        .max()
        .unwrap_or_default();
    println!("\nsummary");
    println!(
        "  kills                     {} ({})",
        kills.len(),
        per_node.join(", ")
    );
    println!(
        "  with {BUSY_HTLCS} or more HTLCs     {busy} ({} %)",
        busy * 100 / kills.len().max(1)
    );
    println!(
        "  HTLCs in flight           {} to {}, median {}",
        htlcs.first().copied().unwrap_or_default(),
        htlcs.last().copied().unwrap_or_default(),
        htlcs.get(htlcs.len() / 2).copied().unwrap_or_default()
    );
    println!(
        "  longest outage            {:.1} s, {most_blocks} blocks",
        longest.as_secs_f64()
    );
    println!(
        "  blocks                    {blocks}, one every {} s",
        BLOCK_EVERY.as_secs()
    );
    println!(
        "  payments                  {succeeded} succeeded, {failed} failed, 0 without end; {:.0} a second",
        rate(succeeded + failed, took)
    );
    for (reason, count) in failures {
        println!("    failed by reason        {count} {reason}");
    }
    println!("  force-closes              0");
    println!("  missing                   0 msat");
}

fn secs(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}
