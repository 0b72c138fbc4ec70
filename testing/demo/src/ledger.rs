//! Who had what, what happened to it, and whether it adds up: in millisatoshi, to the last one.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

/// Accounts with one column per node and one row per reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    nodes: Vec<String>,
    /// In order of first use; amounts per node in millisatoshi, signed.
    rows: Vec<(String, BTreeMap<usize, i128>)>,
}

impl Ledger {
    pub(crate) fn new(nodes: &[&str]) -> Self {
        Self {
            nodes: nodes.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Makes a row, so that it is shown at this place even if nothing is booked.
    pub(crate) fn row(&mut self, label: &str) {
        if !self.rows.iter().any(|(l, _)| l == label) {
            self.rows.push((label.to_owned(), BTreeMap::new()));
        }
    }

    /// Books an amount in millisatoshi: positive is in favour of the node.
    pub(crate) fn book(&mut self, label: &str, node: usize, msat: i128) {
        self.row(label);
        if let Some((_, row)) = self.rows.iter_mut().find(|(l, _)| l == label) {
            *row.entry(node).or_default() += msat;
        }
    }

    /// What a node should have.
    pub(crate) fn expected(&self, node: usize) -> i128 {
        self.rows.iter().filter_map(|(_, row)| row.get(&node)).sum()
    }

    /// A row's sum over all nodes.
    #[cfg(test)]
    pub(crate) fn row_total(&self, label: &str) -> i128 {
        self.rows
            .iter()
            .filter(|(l, _)| l == label)
            .flat_map(|(_, row)| row.values())
            .sum()
    }

    /// The table: the rows, what each node should have, what it has, and the difference.
    pub(crate) fn render(&self, actual_msat: &[i128]) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        let mut header = vec!["satoshi".to_owned()];
        header.extend(self.nodes.iter().cloned());
        header.push("all".to_owned());
        table.set_header(header);
        for (label, row) in &self.rows {
            let amounts: Vec<i128> = (0..self.nodes.len())
                .map(|node| row.get(&node).copied().unwrap_or(0))
                .collect();
            table.add_row(line(label, &amounts, false));
        }
        let expected: Vec<i128> = (0..self.nodes.len())
            .map(|node| self.expected(node))
            .collect();
        table.add_row(line("= should have", &expected, true));
        table.add_row(line("has, by its wallet", actual_msat, true));
        let missing: Vec<i128> = expected
            .iter()
            .zip(actual_msat)
            .map(|(e, a)| a - e)
            .collect();
        table.add_row(line("difference", &missing, true));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// Every node has what it should have.
    pub(crate) fn check(&self, actual_msat: &[i128]) -> Result<()> {
        for (node, name) in self.nodes.iter().enumerate() {
            let expected = self.expected(node);
            let actual = actual_msat.get(node).copied().unwrap_or(0);
            if expected != actual {
                bail!(
                    "the accounts of {name} don't add up: it should have {expected} msat and has {actual} msat \
                     ({} msat too {})",
                    (actual - expected).abs(),
                    if actual > expected { "much" } else { "little" }
                );
            }
        }
        Ok(())
    }
}

fn line(label: &str, amounts: &[i128], zeros: bool) -> Vec<String> {
    let show = |amount: i128| {
        if amount == 0 && !zeros {
            "·".to_owned()
        } else {
            sat(amount)
        }
    };
    let mut cells = vec![label.to_owned()];
    cells.extend(amounts.iter().map(|amount| show(*amount)));
    cells.push(show(amounts.iter().sum()));
    cells
}

/// Millisatoshi as satoshi with thousands apart, and three decimals only where there are any.
pub(crate) fn sat(msat: i128) -> String {
    let sign = if msat < 0 { "-" } else { "" };
    let (whole, part) = (msat.unsigned_abs() / 1_000, msat.unsigned_abs() % 1_000);
    let digits = whole.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    if part == 0 {
        format!("{sign}{text}")
    } else {
        format!("{sign}{text}.{part:03}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_or_says_who_misses_what() {
        let mut ledger = Ledger::new(&["alice", "bob"]);
        ledger.book("deposit", 0, 5_000_000);
        ledger.book("deposit", 1, 1_000_000);
        ledger.book("paid", 0, -2_001_500);
        ledger.book("paid", 1, 2_001_500);
        ledger.book("rounding", 0, -500);
        ledger.book("rounding", 1, -500);
        assert_eq!(ledger.row_total("paid"), 0);
        assert_eq!(ledger.expected(0), 2_998_000);
        let actual = [2_998_000, 3_001_000];
        assert!(ledger.check(&actual).is_ok());
        let wrong = ledger
            .check(&[2_998_000, 3_000_999])
            .expect_err("one msat is missing");
        assert!(wrong.to_string().contains("bob"), "{wrong}");
        assert!(wrong.to_string().contains("(1 msat too little)"), "{wrong}");
        assert!(ledger.check(&[2_998_001, 3_001_000]).is_err());
        let table = ledger.render(&actual);
        assert!(
            table.contains("2 001.500") && table.contains("-0.500"),
            "{table}"
        );
    }

    #[test]
    fn satoshi_are_readable() {
        assert_eq!(sat(0), "0");
        assert_eq!(sat(-1), "-0.001");
        assert_eq!(sat(999_000), "999");
        assert_eq!(sat(1_000_000), "1 000");
        assert_eq!(sat(-12_345_678_900), "-12 345 678.900");
    }
}
