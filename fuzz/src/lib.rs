//! The bodies of the fuzz targets, as functions that also run without a fuzzing engine.
//!
//! Each takes any bytes and panics if Fulmen breaks a promise: decoding never panics, what was decoded is
//! encoded and decoded to the same again, memory stays within [`MEMORY_MAX`], and LDK, where it reads the same
//! bytes, reads the same. `README.md` lists the differences that are justified.

mod addresses;
mod bolt11;
mod bolt12;
mod chain_source;
mod files;
mod keys;
mod messages;
mod noise;
mod onion;
mod onion_message;
mod payer_proof;
mod records;
mod rgs;
mod sim;
mod uris;

pub use chain_source::usual_answers;
pub use records::encode_records;

use std::{alloc::System, sync::Once};

use cap::Cap;

/// Counts what is allocated, and refuses what is above the limit: the process ends then.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The most that reading one input may hold, beside what was there before: 16 MiB, for at most 65535 bytes.
pub const MEMORY_MAX: usize = 16 << 20;

/// The same for a run of the simulator, a network of nodes with their chain.
pub const SIMULATION_MEMORY_MAX: usize = 512 << 20;

/// A target: what it does with bytes, and what it may take for that.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    body: fn(&[u8]),
    /// Makes what stays from one input to the next, which does not count.
    prepare: fn(),
    /// The most memory that one input may hold.
    memory_max: usize,
}

impl Target {
    const fn new(name: &'static str, body: fn(&[u8])) -> Self {
        Self {
            name,
            body,
            prepare: || {},
            memory_max: MEMORY_MAX,
        }
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target::new("messages", messages::messages),
    Target::new("queries", messages::queries),
    Target::new("noise", noise::noise),
    Target::new("onion_peel", onion::peel),
    Target::new("onion_payload", onion::payload),
    Target::new("onion_failure", onion::failure),
    Target::new("blinded_path", onion::blinded_path),
    Target::new("onion_message", onion_message::onion_message),
    Target::new("bolt11", bolt11::bolt11),
    Target::new("bolt12_offer", bolt12::offer),
    Target::new("bolt12_request", bolt12::request),
    Target::new("bolt12_invoice", bolt12::invoice),
    Target::new("addresses", addresses::addresses),
    Target::new("records", records::records),
    Target::new("uris", uris::uris),
    Target::new("payer_proof", payer_proof::payer_proof),
    Target::new("chain_source", chain_source::chain_source),
    Target::new("graph_file", files::graph_file),
    Target {
        prepare: rgs::prepare,
        ..Target::new("rgs", rgs::rgs)
    },
    Target {
        memory_max: SIMULATION_MEMORY_MAX,
        ..Target::new("sim", sim::sim)
    },
];

/// Runs a target on one input, within the bound of memory.
///
/// # Panics
/// When the target finds something, or does not exist.
pub fn run(name: &str, data: &[u8]) {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        panic!("no target has the name {name}");
    };
    // Longer than a message says nothing new, and costs time.
    if data.len() > 65_535 {
        return;
    }
    (target.prepare)();
    lift_the_limit_at_a_panic();
    let before = ALLOCATOR.allocated();
    ALLOCATOR
        .set_limit(before + target.memory_max)
        .expect("the limit is above what is allocated");
    (target.body)(data);
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("nothing is above that");
}

/// What is said of a panic needs memory of its own.
fn lift_the_limit_at_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Nothing is above the greatest limit, and there is no better place to say so.
            let _ = ALLOCATOR.set_limit(usize::MAX);
            hook(info);
        }));
    });
}

/// Splits off the first byte, which chooses what is done with the rest.
fn choice(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}
