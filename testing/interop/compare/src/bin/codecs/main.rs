//! Fulmen's codecs against LDK's over generated values: what one encodes the other decodes to the same value,
//! both ways.

mod blinded;
mod invoices;
mod messages;
mod offers;
mod onions;
mod routes;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use fulmen_compare::Source;

/// Encodes values with Fulmen and reads them with LDK, and the other way round; compares every field.
///
/// The values come from the seed alone. One line for each kind of value says how many were compared; the
/// exit code is 0 only if all were the same.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: codecs --seed 7 --count 5000 --filter bolt12"
)]
struct Arguments {
    /// Where the values come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many values of each kind, of each message type in particular; onions are a tenth of it.
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// Only the kinds whose names contain this text.
    #[arg(long, default_value = "")]
    filter: String,
}

/// What was compared.
#[derive(Default)]
struct Counts {
    /// Encoded by Fulmen, read by LDK.
    to_ldk: usize,
    /// Encoded by LDK, read by Fulmen.
    from_ldk: usize,
    /// Changed at random: both refuse it, or read the same, or differ for a reason that is known.
    mutated: usize,
}

/// A kind of values.
type Check = fn(&mut Source, usize) -> Result<Counts>;

const CHECKS: &[(&str, Check)] = &[
    ("messages", messages::messages),
    ("gossip signatures", messages::gossip_signatures),
    ("features", messages::features),
    ("bolt11 invoices", invoices::invoices),
    ("bolt12 offers", offers::offers),
    ("bolt12 invoice requests", offers::requests),
    ("bolt12 refunds", offers::refunds),
    ("bolt12 invoices", offers::invoices),
    ("bolt12 static invoices", offers::static_invoices),
    ("blinded paths", routes::blinded_paths),
    ("payment onions", onions::payment_onions),
    ("blinded payment onions", blinded::blinded_payment_onions),
    ("onion messages", routes::onion_messages),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut failed = false;
    for (name, check) in CHECKS {
        if !name.contains(&arguments.filter) {
            continue;
        }
        let begun = Instant::now();
        let mut source = Source::new(arguments.seed);
        match check(&mut source, arguments.count) {
            Ok(counts) => println!(
                "{name:<24} {:>6} Fulmen to LDK, {:>6} LDK to Fulmen, {:>6} mutated: the same ({:.1} s)",
                counts.to_ldk,
                counts.from_ldk,
                counts.mutated,
                begun.elapsed().as_secs_f64()
            ),
            Err(error) => {
                failed = true;
                println!("{name:<24} FAILED with seed {}: {error:#}", arguments.seed);
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
