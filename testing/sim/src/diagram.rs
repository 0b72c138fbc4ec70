//! The messages of a trace as a sequence diagram.

use std::collections::BTreeMap;

/// How many characters of a note are shown.
const SHOWN: usize = 90;

/// A Mermaid sequence diagram of a trace's lines: who said what to whom and whether it arrived, what broke, blocks with
/// transactions, and what failed.
pub fn diagram(lines: &[String]) -> String {
    let arrived = arrivals(lines);
    let mut said: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut out = vec!["sequenceDiagram".to_owned()];
    let hosts = lines.iter().filter_map(|line| host(words(line).next()?));
    let last = hosts.max().unwrap_or(0);
    out.extend((0..=last).map(|host| format!("    participant n{host}")));
    let all = format!("n0,n{last}");
    for line in lines {
        let parts: Vec<&str> = words(line).collect();
        match parts.as_slice() {
            [from, ">", to, connection, name, ..] if host(from).is_some() => {
                let count = said.entry((from, connection)).or_default();
                *count += 1;
                let has_arrived = arrived
                    .get(&(*from, *connection))
                    .is_some_and(|arrived| *count <= *arrived);
                let arrow = if has_arrived { "->>" } else { "-x" };
                out.push(format!("    {from}{arrow}{to}: {name}"));
            }
            [one, "-", other, connection, what] if host(one) < host(other) => {
                let connection = connection.trim_start_matches('#');
                out.push(note(&format!("{one},{other}"), &[what, connection]));
            }
            [
                who,
                "crashes:" | "starts" | "event" | "broadcasts" | "cheats" | "closes",
                ..,
            ] if host(who).is_some() => {
                out.push(note(who, &parts[1..]));
            }
            ["block", _, "with", count, ..] if *count != "0" => out.push(note(&all, &parts)),
            ["----" | "FAILURE:", ..] => out.push(note(&all, &parts)),
            _ => {}
        }
    }
    out.join("\n")
}

/// How many messages of a host on a connection arrived: it is always the first of them.
fn arrivals(lines: &[String]) -> BTreeMap<(&str, &str), usize> {
    let mut arrived = BTreeMap::new();
    for line in lines {
        let parts: Vec<&str> = words(line).collect();
        if let [to, "<", from, connection, ..] = parts.as_slice()
            && host(to).is_some()
        {
            *arrived.entry((*from, *connection)).or_default() += 1;
        }
    }
    arrived
}

/// The words of a line after its time.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().skip(1)
}

fn host(word: &str) -> Option<usize> {
    word.strip_prefix('n')?.parse().ok()
}

/// A note without what Mermaid takes for its own; of hashes and keys the beginning.
fn note(over: &str, words: &[&str]) -> String {
    let short = |word: &&str| {
        let is_long = word.len() > 40 && !word.contains("::");
        let word: String = word.chars().take(if is_long { 12 } else { 40 }).collect();
        word.replace([';', '#'], "")
    };
    let text: Vec<String> = words.iter().map(short).collect();
    let text: String = text.join(" ").chars().take(SHOWN).collect();
    format!("    Note over {over}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_what_is_lost_and_what_breaks() {
        let lines = [
            "     0.001 n0 - n2 #1 connected",
            "     0.002 n0 > n2 #1 init",
            "     0.003 n0 > n2 #1 open_channel",
            "     0.004 n2 < n0 #1 init",
            "     0.005 n2 - n0 #1 disconnected",
            "     0.006 n0 - n2 #1 disconnected",
            "     0.007 n0 broadcasts [9e6dc2fda3923c57acf886a068d9050630238814b25039d12c164b438d7bfe39]: Accepted",
            "     0.008 block 7 with 0 transactions",
            "     0.009 FAILURE: n0; lost",
        ];
        let lines = lines.map(str::to_owned);
        let expected = "sequenceDiagram
    participant n0
    participant n1
    participant n2
    Note over n0,n2: connected 1
    n0->>n2: init
    n0-xn2: open_channel
    Note over n0,n2: disconnected 1
    Note over n0: broadcasts [9e6dc2fda39 Accepted
    Note over n0,n2: FAILURE: n0 lost";
        assert_eq!(diagram(&lines), expected);
    }
}
