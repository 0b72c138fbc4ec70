//! LDK's log, kept in memory: the only place where LDK says which failure code it decoded.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use lightning::util::logger::{Level, Logger, Record};

/// Older lines are forgotten.
const MAX_LINES: usize = 20_000;

/// The lines of one node's log.
pub(crate) struct LogLines {
    name: String,
    print: bool,
    lines: Mutex<VecDeque<String>>,
}

impl LogLines {
    /// An empty log; with `FULMEN_INTEROP_LOG` set the lines are printed too.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            print: std::env::var_os("FULMEN_INTEROP_LOG").is_some(),
            lines: Mutex::new(VecDeque::new()),
        }
    }

    /// Adds a line of our own.
    pub(crate) fn note(&self, line: String) {
        if self.print {
            eprintln!("[{}] {line}", self.name);
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines with a text in them, oldest first.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }
}

impl Logger for LogLines {
    fn log(&self, record: Record<'_>) {
        if record.level >= Level::Debug {
            let module = record.module_path.rsplit("::").next().unwrap_or_default();
            self.note(format!("{:<5} {module}: {}", record.level, record.args));
        }
    }
}
