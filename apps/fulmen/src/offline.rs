//! What needs no daemon: the seed.

use std::io::{IsTerminal, Read};

use clap::CommandFactory;
use fulmen_seed::{Birthday, Seed, SeedError, SeedFile};
use serde_json::json;

use crate::{
    Problem,
    args::{Cli, CreateArgs, Global, RestoreArgs},
    data_dir, line,
};

impl From<SeedError> for Problem {
    fn from(error: SeedError) -> Self {
        Self::new(error.to_string())
    }
}

/// Makes a seed and shows it once.
pub(crate) fn create(global: &Global, args: &CreateArgs) -> Result<(), Problem> {
    let dir = data_dir(global)?;
    refuse_existing(&dir)?;
    let passphrase = passphrase(args.passphrase)?;
    let seed = Seed::generate()?;
    SeedFile::create(&dir, &seed, Birthday::Now, passphrase.as_deref())?;
    if global.json {
        return line(&json!({ "data_dir": dir, "words": seed.words() }).to_string());
    }
    let words: Vec<String> = seed
        .words()
        .split(' ')
        .enumerate()
        .map(|(index, word)| format!("{:>2}. {word:<10}", index + 1))
        .collect();
    let rows: Vec<String> = words
        .chunks(6)
        .map(|row| row.concat().trim_end().to_owned())
        .collect();
    line(&format!(
        "The seed of the new node, in {}:\n\n{}\n\nWrite these 24 words down now, on paper: they are shown this once. Whoever has them has the money.\nThey bring back the on-chain wallet, not the channels: keep the data directory safe too.\n\nNext: start the daemon with `{}`.",
        dir.display(),
        rows.join("\n"),
        daemon(global)
    ))
}

/// Takes a seed from its words.
pub(crate) fn restore(global: &Global, args: &RestoreArgs) -> Result<(), Problem> {
    let dir = data_dir(global)?;
    refuse_existing(&dir)?;
    let words = words()?;
    let seed = Seed::from_words(&words)?;
    let passphrase = passphrase(args.passphrase)?;
    let birthday = Birthday::Height(args.birthday_height);
    SeedFile::create(&dir, &seed, birthday, passphrase.as_deref())?;
    if global.json {
        return line(&json!({ "data_dir": dir }).to_string());
    }
    line(&format!(
        "The seed is restored, in {}.\n\nThe on-chain wallet comes back: the daemon looks through the chain from block {} on at its first start.\nChannels don't: the words know nothing of them. If the node had open channels, don't run it on the\nwords alone while its old data directory may still exist; what peers close is swept to the wallet only\nwhere it pays an address of it.\n\nNext: start the daemon with `{}`.",
        dir.display(),
        args.birthday_height,
        daemon(global)
    ))
}

/// Prints what makes a shell complete commands and options.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fulmen", &mut script);
    line(String::from_utf8_lossy(&script).trim_end())
}

/// How to start the daemon there.
fn daemon(global: &Global) -> String {
    match &global.data_dir {
        Some(dir) => format!(
            "fulmend --network {} --data-dir {}",
            global.network,
            dir.display()
        ),
        None => format!("fulmend --network {}", global.network),
    }
}

/// Before anything is typed or shown.
fn refuse_existing(dir: &std::path::Path) -> Result<(), Problem> {
    if SeedFile::exists(dir) {
        return Err(SeedError::Exists(dir.join(fulmen_seed::SEED_FILE)).into());
    }
    Ok(())
}

fn words() -> Result<String, Problem> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password("The 24 words (not shown): ");
        return typed.map_err(|e| Problem::new(e.to_string()));
    }
    let mut words = String::new();
    std::io::stdin()
        .take(4_096)
        .read_to_string(&mut words)
        .map_err(|e| Problem::new(format!("the words can't be read: {e}")))?;
    // Lists are often numbered.
    Ok(words
        .split_whitespace()
        .filter(|word| {
            !word
                .trim_end_matches('.')
                .bytes()
                .all(|b| b.is_ascii_digit())
        })
        .collect::<Vec<_>>()
        .join(" "))
}

fn passphrase(wanted: bool) -> Result<Option<String>, Problem> {
    if !wanted {
        return Ok(None);
    }
    if let Ok(passphrase) = std::env::var("FULMEN_PASSPHRASE") {
        return non_empty(passphrase);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Problem::new(
            "no terminal to ask for the passphrase; set FULMEN_PASSPHRASE",
        ));
    }
    let ask = |prompt| rpassword::prompt_password(prompt).map_err(|e| Problem::new(e.to_string()));
    let passphrase = ask("Passphrase for the seed file: ")?;
    if ask("Once more: ")? != passphrase {
        return Err(Problem::new("the two differ; nothing was made"));
    }
    non_empty(passphrase)
}

fn non_empty(passphrase: String) -> Result<Option<String>, Problem> {
    if passphrase.is_empty() {
        return Err(Problem::new(
            "an empty passphrase protects nothing; leave --passphrase out",
        ));
    }
    Ok(Some(passphrase))
}
