//! What a payment costs: Fulmen and LDK side by side, each with both nodes in one process.

mod fulmen;
mod ldk;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::fulmen::{Fulmen, Work};
use crate::ldk::Ldk;

const CAPACITY_SAT: u64 = 16_000_000;
const PUSH_SAT: u64 = 8_000_000;
const AMOUNT_SAT: u64 = 2_000;
const CONFIRMATIONS: u32 = 8;
/// Payments of each pair before anything is measured.
const WARM_UP: u32 = 20;

/// Measures payments over one hop, one at a time: invoice made, read and paid, until both nodes rest.
///
/// Fulmen's and LDK's pairs of nodes take turns in one run. There is no wire and no noise encryption:
/// messages are handed over as they are. Both have a public channel with anchors and pay to and fro.
///
/// Fulmen writes each step's batch before it acts. LDK writes the whole monitor at every update, as its
/// plain store does. Its manager, which a real node has to write as well, is written only in the row that
/// says so, once per payment and node.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Payments in a round.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    payments: u32,
    /// Rounds of each pair; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the durable stores are made, in a folder that is deleted at the end. Should be a real disk.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Measures nothing, but writes the records of both nodes, with a channel and some payments, to this
    /// folder: seeds for the fuzz target of that name.
    #[arg(long, value_name = "FOLDER")]
    records: Option<PathBuf>,
}

/// Two nodes that can pay each other.
trait Pair {
    /// One payment from one to the other.
    fn pay(&mut self, from: usize) -> Result<()>;
    /// What is to be done once in a while, measured too.
    fn end_round(&mut self) -> Result<()>;
}

/// A pair and how it did: milliseconds per payment, by round.
struct Runner<P> {
    pair: P,
    turns: usize,
    rounds: Vec<f64>,
}

impl<P: Pair> Runner<P> {
    fn new(pair: P) -> Result<Self> {
        let mut runner = Self {
            pair,
            turns: 0,
            rounds: Vec::new(),
        };
        runner.round(WARM_UP)?;
        runner.rounds.clear();
        Ok(runner)
    }

    fn round(&mut self, payments: u32) -> Result<()> {
        let start = Instant::now();
        for _ in 0..payments {
            self.pair.pay(self.turns % 2)?;
            self.turns += 1;
        }
        self.pair.end_round()?;
        let millis = start.elapsed().as_secs_f64() * 1_000.0;
        self.rounds.push(millis / f64::from(payments));
        Ok(())
    }

    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        let middle = rounds.len() / 2;
        if rounds.len() % 2 == 1 {
            rounds[middle]
        } else {
            (rounds[middle - 1] + rounds[middle]) / 2.0
        }
    }

    /// The median, and the least and the most.
    fn text(&self) -> String {
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rounds.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2} to {most:.2})", self.median())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::Builder::new()
        .prefix("fulmen-bench-")
        .tempdir_in(&args.folder)
        .with_context(|| format!("no folder in {}", args.folder.display()))?;
    let open = |name: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    if let Some(records) = &args.records {
        let runner = Runner::new(Fulmen::start(fulmen::Kind::Memory, folder.path())?)?;
        return runner.pair.write_records(records);
    }
    let mut ours = [
        ("memory", fulmen::Kind::Memory),
        ("SQLite", fulmen::Kind::Sqlite),
        ("files", fulmen::Kind::File),
    ]
    .into_iter()
    .map(|(name, kind)| {
        let pair = Fulmen::start(kind, &open(&format!("fulmen-{name}"))?)?;
        Ok((name, Runner::new(pair)?))
    })
    .collect::<Result<Vec<_>>>()?;
    let mut theirs = [
        ("nothing", ldk::Kind::Nothing),
        ("memory", ldk::Kind::Memory),
        ("files, monitors", ldk::Kind::Files),
        ("files, monitors and manager", ldk::Kind::FilesAndManager),
    ]
    .into_iter()
    .map(|(name, kind)| {
        let pair = Ldk::start(kind, &open(&format!("ldk-{name}"))?)?;
        Ok((name, Runner::new(pair)?))
    })
    .collect::<Result<Vec<_>>>()?;
    let our_start: Vec<Work> = ours.iter().map(|(_, r)| r.pair.work()).collect();
    let their_start: Vec<(u64, u64)> = theirs.iter().map(|(_, r)| r.pair.written()).collect();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        let mut left = ours.iter_mut();
        for (_, their) in &mut theirs {
            if let Some((_, our)) = left.next() {
                our.round(args.payments)?;
            }
            their.round(args.payments)?;
        }
    }
    let total = f64::from(args.payments) * f64::from(args.rounds);

    println!(
        "\nMilliseconds per payment, both nodes together: median (least to most) of {} rounds of {} payments\n",
        args.rounds, args.payments
    );
    let mut table = table(&[
        "Fulmen's store",
        "Fulmen ms",
        "LDK's store",
        "LDK ms",
        "LDK / Fulmen",
    ]);
    for (ours_at, theirs_at) in [(0, 0), (0, 1), (1, 2), (1, 3), (2, 2), (2, 3)] {
        let ((our_name, our), (their_name, their)) = (&ours[ours_at], &theirs[theirs_at]);
        table.add_row([
            (*our_name).to_owned(),
            our.text(),
            (*their_name).to_owned(),
            their.text(),
            format!("{:.2}", their.median() / our.median()),
        ]);
    }
    println!("{table}");

    println!("\nWhere Fulmen's time goes: milliseconds per payment, both nodes together\n");
    let mut table = self::table(&["Store", "node", "signer", "store", "route"]);
    let works: Vec<Work> = ours
        .iter()
        .zip(&our_start)
        .map(|((_, runner), start)| runner.pair.work().since(start))
        .collect();
    for ((name, _), work) in ours.iter().zip(&works) {
        let parts = [work.in_node, work.in_signer, work.in_store, work.in_route];
        let parts = parts.map(|part| format!("{:.3}", part.as_secs_f64() * 1_000.0 / total));
        table.add_row(std::iter::once((*name).to_owned()).chain(parts));
    }
    println!("{table}");

    println!("\nWhat is done per payment, both nodes together\n");
    let mut table = self::table(&[
        "Nodes",
        "steps",
        "writes",
        "bytes written",
        "signed",
        "verified",
        "ECDH",
    ]);
    for ((name, _), work) in ours.iter().zip(&works) {
        let counts = [
            work.steps,
            work.batches,
            work.bytes,
            work.signed,
            work.verified,
            work.ecdh,
        ];
        let counts = counts.map(|count| per(count, total));
        table.add_row(std::iter::once(format!("Fulmen, {name}")).chain(counts));
    }
    for ((name, runner), start) in theirs.iter().zip(&their_start) {
        let (writes, bytes) = runner.pair.written();
        let none = String::new;
        table.add_row([
            format!("LDK, {name}"),
            none(),
            per(writes - start.0, total),
            per(bytes - start.1, total),
            none(),
            none(),
            none(),
        ]);
    }
    println!("{table}");
    println!(
        "\nSigned: by the signer, invoices too. Verified: the peer's commitments and HTLCs only, by their \
         number in its messages."
    );
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^52"
)]
fn per(count: u64, total: f64) -> String {
    format!("{:.1}", count as f64 / total)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table
}
