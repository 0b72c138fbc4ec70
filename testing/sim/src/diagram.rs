//! The messages of a trace as a sequence diagram.

/// A Mermaid sequence diagram of a trace's lines: who said what to whom, what broke, and what failed.
pub fn diagram(lines: &[String]) -> String {
    let mut out = vec!["sequenceDiagram".to_owned()];
    for line in lines {
        let mut words = line.split_whitespace().skip(1);
        let (Some(who), Some(what), rest) = (words.next(), words.next(), words) else {
            continue;
        };
        let rest: Vec<&str> = rest.collect();
        let is_host = who.starts_with('n') && who[1..].parse::<usize>().is_ok();
        match (is_host, what, rest.as_slice()) {
            (true, ">", [to, _, name, ..]) => out.push(format!("    {who}->>{to}: {name}")),
            (true, "crashes:" | "starts" | "event" | "broadcasts", rest) => {
                let text: String = rest.join(" ").chars().take(60).collect();
                let text: String = text.chars().filter(|c| !matches!(c, ';' | '#')).collect();
                out.push(format!("    Note over {who}: {what} {text}"));
            }
            _ => {}
        }
    }
    out.join("\n")
}
