//! What happened, in readable lines and as one hash.

use std::collections::VecDeque;

use bitcoin::hashes::{Hash, HashEngine, sha256};

/// How many lines a failure shows.
const TAIL: usize = 60;

/// What becomes of the lines of a trace, apart from its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The last of them are kept.
    #[default]
    Tail,
    /// They are printed as they come, and the last are kept.
    Print,
    /// All are kept.
    All,
}

/// The trace of a run: every line goes into the hash.
pub struct Trace {
    engine: sha256::HashEngine,
    keep: Keep,
    lines: VecDeque<String>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep: Keep) -> Self {
        Self {
            engine: sha256::Hash::engine(),
            keep,
            lines: VecDeque::new(),
        }
    }

    /// Adds a line; `millis` is the time since the start of the run.
    pub fn line(&mut self, millis: u64, text: &str) {
        let line = format!("{:>6}.{:03} {text}", millis / 1_000, millis % 1_000);
        self.engine.input(line.as_bytes());
        self.engine.input(b"\n");
        if self.keep == Keep::Print {
            println!("{line}");
        }
        if self.keep != Keep::All && self.lines.len() == TAIL {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Bytes that count for the hash and are not shown.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.engine.input(bytes);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> String {
        sha256::Hash::from_engine(self.engine.clone()).to_string()
    }

    /// The lines that were kept.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
