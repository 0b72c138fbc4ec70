//! What happened, in readable lines and as one hash.

use std::collections::VecDeque;

use bitcoin::hashes::{Hash, HashEngine, sha256};

/// How many lines a failure shows.
const TAIL: usize = 60;

/// The trace of a run: every line goes into the hash.
pub struct Trace {
    engine: sha256::HashEngine,
    print: bool,
    tail: VecDeque<String>,
    lines: u64,
}

impl Trace {
    /// An empty trace, printed as it grows if `print` is set.
    pub fn new(print: bool) -> Self {
        Self {
            engine: sha256::Hash::engine(),
            print,
            tail: VecDeque::new(),
            lines: 0,
        }
    }

    /// Adds a line; `millis` is the time since the start of the run.
    pub fn line(&mut self, millis: u64, text: &str) {
        let line = format!("{:>6}.{:03} {text}", millis / 1_000, millis % 1_000);
        self.engine.input(line.as_bytes());
        self.engine.input(b"\n");
        self.lines += 1;
        if self.print {
            println!("{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Bytes that count for the hash and are not shown.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.engine.input(bytes);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> String {
        sha256::Hash::from_engine(self.engine.clone()).to_string()
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// How many lines there are.
    pub const fn len(&self) -> u64 {
        self.lines
    }

    /// Whether nothing has happened.
    pub const fn is_empty(&self) -> bool {
        self.lines == 0
    }
}
