//! What reading and writing costs: Fulmen's codecs and LDK's, side by side in one run.

mod invoices;
mod messages;
mod noise;
mod onions;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use fulmen_compare::Source;

/// Measures Fulmen's codecs beside LDK's public functions, and beside the bare primitives that both must use.
///
/// In each round the contestants of a row take turns. Both read the same bytes and end with the same fields
/// validated, the same signatures and keys parsed; that they do is checked before anything is measured.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long one contestant runs in a round, in milliseconds: short, so that on a busy machine most rounds are
    /// not interrupted.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// Only rows whose names contain this text.
    #[arg(long, default_value = "")]
    filter: String,
}

type Work = Box<dyn FnMut()>;

/// One thing to do, and who does it.
struct Row {
    name: String,
    fulmen: Work,
    ldk: Option<Work>,
    /// The curve, cipher and hash operations that nobody can do without.
    floor: Option<Work>,
}

impl Row {
    fn new<T>(name: impl Into<String>, mut fulmen: impl FnMut() -> T + 'static) -> Self {
        Self {
            name: name.into(),
            fulmen: Box::new(move || drop(black_box(fulmen()))),
            ldk: None,
            floor: None,
        }
    }

    fn ldk<T>(mut self, mut work: impl FnMut() -> T + 'static) -> Self {
        self.ldk = Some(Box::new(move || drop(black_box(work()))));
        self
    }

    fn floor<T>(mut self, mut work: impl FnMut() -> T + 'static) -> Self {
        self.floor = Some(Box::new(move || drop(black_box(work()))));
        self
    }
}

/// How often a contestant does its work in about this time.
fn calibrate(work: &mut Work, time: Duration) -> u32 {
    let mut times = 1u32;
    loop {
        let begun = Instant::now();
        (0..times).for_each(|_| work());
        let took = begun.elapsed();
        if took * 4 >= time || times > 1 << 24 {
            let wanted = f64::from(times) * time.as_secs_f64() / took.as_secs_f64().max(1e-9);
            return wanted.clamp(1.0, 1e8) as u32;
        }
        times *= 2;
    }
}

/// Nanoseconds for each time.
fn measure(work: &mut Work, times: u32) -> f64 {
    let begun = Instant::now();
    (0..times).for_each(|_| work());
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut source = Source::new(1);
    let mut rows = messages::rows(&mut source)?;
    rows.extend(onions::rows(&mut source)?);
    rows.extend(invoices::rows(&mut source)?);
    rows.extend(noise::rows()?);
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "What",
        "Fulmen",
        "LDK",
        "LDK / Fulmen",
        "bare primitives",
        "Fulmen / bare",
    ]);
    for row in rows
        .iter_mut()
        .filter(|row| row.name.contains(&args.filter))
    {
        let time = Duration::from_millis(args.millis);
        let mut works: Vec<Option<&mut Work>> =
            vec![Some(&mut row.fulmen), row.ldk.as_mut(), row.floor.as_mut()];
        let times: Vec<u32> = works
            .iter_mut()
            .map(|work| work.as_mut().map_or(0, |work| calibrate(work, time)))
            .collect();
        let mut samples = vec![Vec::new(); works.len()];
        for _ in 0..args.rounds {
            for ((work, times), samples) in works.iter_mut().zip(&times).zip(&mut samples) {
                if let Some(work) = work {
                    samples.push(measure(work, *times));
                }
            }
        }
        let [fulmen, ldk, floor]: [f64; 3] = samples
            .into_iter()
            .map(median)
            .collect::<Vec<_>>()
            .try_into()
            .expect("three contestants");
        table.add_row([
            row.name.clone(),
            time_text(fulmen),
            time_text(ldk),
            ratio_text(ldk / fulmen),
            time_text(floor),
            ratio_text(fulmen / floor),
        ]);
        eprintln!("{}", row.name);
    }
    println!("{table}");
    Ok(())
}

fn time_text(nanos: f64) -> String {
    match nanos {
        _ if nanos.is_nan() => String::new(),
        _ if nanos < 1_000.0 => format!("{nanos:.0} ns"),
        _ if nanos < 1_000_000.0 => format!("{:.2} µs", nanos / 1_000.0),
        _ => format!("{:.2} ms", nanos / 1_000_000.0),
    }
}

fn ratio_text(ratio: f64) -> String {
    if ratio.is_nan() {
        String::new()
    } else {
        format!("{ratio:.2}")
    }
}
