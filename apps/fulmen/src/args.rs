//! What can be asked for.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand};

/// Talks to the Fulmen Lightning daemon.
#[derive(Debug, Parser)]
#[command(
    name = "fulmen",
    version,
    after_help = "Examples:
  fulmen create                      makes a node's data directory and seed, once
  fulmen getinfo
  fulmen --network signet balance
  fulmen --json listchannels | jq '.channels[].channel_id'

The daemon is found by its data directory (--data-dir, or ~/.fulmen/NETWORK); its token is there."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the daemon is, and how to show what it says.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The daemon's data directory [default: ~/.fulmen/NETWORK]
    #[arg(long, global = true, env = "FULMEN_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The network: regtest, signet, testnet4 or mainnet
    #[arg(long, global = true, env = "FULMEN_NETWORK", default_value = "regtest")]
    #[arg(value_parser = ["regtest", "signet", "testnet4", "mainnet"])]
    pub(crate) network: String,
    /// Where the daemon's API listens [default: what the daemon wrote to its data directory]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) api: Option<String>,
    /// Shows the daemon's answer as JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a data directory with a new seed, and shows its 24 words once. Needs no daemon
    #[command(after_help = "Examples:
  fulmen create
  fulmen --network signet create --passphrase      asks for a passphrase that encrypts the seed file")]
    Create(CreateArgs),
    /// Makes a data directory with a seed from its 24 words. Needs no daemon
    #[command(after_help = "Examples:
  fulmen restore                            asks for the words
  fulmen restore --birthday-height 850000 < words.txt

Words bring back the on-chain wallet only. Channels are not in them: what was in open channels comes
back when the peers close them, and only with the node's own store where they don't.")]
    Restore(RestoreArgs),
    /// Shows who the node is and how it is
    #[command(after_help = "Example:
  fulmen getinfo")]
    Getinfo,
    /// Shows a fresh address for deposits to the on-chain wallet
    #[command(after_help = "Example:
  fulmen newaddress")]
    Newaddress,
    /// Sends on-chain money away
    #[command(after_help = "Examples:
  fulmen withdraw bcrt1q... 50000sat
  fulmen withdraw bcrt1q... all --feerate 12       everything but the reserve, at 12 sat/vB")]
    Withdraw(WithdrawArgs),
    /// Lists the on-chain wallet's transactions, deposits that are not confirmed yet too
    #[command(after_help = "Example:
  fulmen listtransactions --limit 10")]
    Listtransactions {
        /// At most so many
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Replaces a withdrawal that does not confirm by one that pays a higher feerate
    #[command(after_help = "Examples:
  fulmen bumpfee 1f2e... --feerate 30
  fulmen bumpfee 1f2e...                           at the estimate for the next blocks

A withdrawal of `all` pays the difference from what arrives, others from the change.")]
    Bumpfee {
        /// The withdrawal's transaction id, as `withdraw` or `listtransactions` shows it
        txid: String,
        /// The new feerate in sat/vB [default: an estimate]
        #[arg(long, value_name = "SAT/VB")]
        feerate: Option<u64>,
    },
    /// Connects to a peer
    #[command(after_help = "Examples:
  fulmen connect 02eec7...@127.0.0.1:9735
  fulmen connect 02eec7...                  where it was reached before

Peers with channels are kept connected from then on. A ban of the peer is lifted.")]
    Connect {
        /// The peer: node_id@host:port, or node_id alone when its address is known
        peer: String,
    },
    /// Ends the connection with a peer, which is not dialled again until you `connect`
    #[command(after_help = "Examples:
  fulmen disconnect 02eec7...
  fulmen disconnect 02eec7... --force       also with open channels, which can't be used meanwhile

The peer is not dialled again, after a restart of the daemon neither, until you `connect`. It may still
connect by itself: to keep out a peer without channels, `ban` it.")]
    Disconnect {
        /// The peer's node id
        node_id: String,
        /// Also with open channels
        #[arg(long)]
        force: bool,
    },
    /// Lists the peers and the bans
    #[command(after_help = "Examples:
  fulmen listpeers
  fulmen --json listpeers | jq '.peers[] | select(.connected | not) | .node_id'")]
    Listpeers,
    /// Keeps a peer without channels out, and ends the connection with it
    #[command(after_help = "Examples:
  fulmen ban 02eec7...                      until you `unban` or `connect`
  fulmen ban 02eec7... --secs 86400         for a day

A peer with channels can't be banned: close them first. Bans outlive a restart of the daemon.")]
    Ban {
        /// The peer's node id
        node_id: String,
        /// For how long, in seconds [default: until you lift it]
        #[arg(long, value_name = "SECONDS")]
        secs: Option<u64>,
    },
    /// Lifts a ban, and forgets whatever the peer did wrong
    #[command(after_help = "Example:
  fulmen unban 02eec7...")]
    Unban {
        /// The peer's node id
        node_id: String,
    },
    /// Opens a channel
    #[command(after_help = "Examples:
  fulmen openchannel 02eec7...@127.0.0.1:9735 1000000
  fulmen openchannel 02eec7... 0.02btc --push 1000sat --private")]
    Openchannel(OpenArgs),
    /// Closes a channel
    #[command(after_help = "Examples:
  fulmen closechannel 800000x12x0
  fulmen closechannel 1f2e... --address bcrt1q...
  fulmen closechannel 1f2e... --force              alone and at once: when the peer does not answer")]
    Closechannel(CloseArgs),
    /// Lets the signer be asked again for a channel that rests because it refused something
    #[command(after_help = "Example:
  fulmen unblockchannel 800000x12x0")]
    Unblockchannel(UnblockArgs),
    /// Lists the channels
    #[command(after_help = "Example:
  fulmen listchannels")]
    Listchannels,
    /// Makes an invoice
    #[command(after_help = "Examples:
  fulmen invoice 2500sat \"two coffees\"
  fulmen invoice any \"a tip\" --expiry 86400")]
    Invoice(InvoiceArgs),
    /// Lists the invoices
    #[command(after_help = "Example:
  fulmen listinvoices --limit 10
  fulmen listinvoices 7d8a3f01                     all of one, by the beginning of its payment hash")]
    Listinvoices(ListArgs),
    /// Pays an invoice, and waits for the end. The same invoice again does not pay twice
    #[command(after_help = "Examples:
  fulmen pay lnbcrt25u1...
  fulmen pay lnbcrt1... --amount 2500sat --max-fee 5sat --timeout 30

Exit code: 0 paid, 1 failed or refused (nothing is spent), 3 still on its way when --wait is over. The
same command again goes on waiting; it never pays twice.")]
    Pay(PayArgs),
    /// Lists the payments
    #[command(after_help = "Example:
  fulmen listpayments --limit 10
  fulmen listpayments 7d8a3f01                     all of one, by the beginning of its payment hash")]
    Listpayments(ListArgs),
    /// Shows the way that a payment would take now, what it costs and how likely it succeeds, without paying
    #[command(after_help = "Examples:
  fulmen findroute lnbcrt25u1...
  fulmen findroute 03ab12...ef --amount 50000sat   to a node")]
    Findroute(FindRouteArgs),
    /// Shows what there is and where, with what is on its way back from closed channels
    #[command(after_help = "Example:
  fulmen balance")]
    Balance,
    /// Shows what an invoice says, without paying it
    #[command(after_help = "Example:
  fulmen decode lnbcrt25u1...")]
    Decode {
        /// The invoice
        bolt11: String,
    },
    /// Shows events, from any number on; with --follow also those to come
    #[command(after_help = "Examples:
  fulmen events --from 120
  fulmen --json events --follow                    one JSON object a line; resumes after a restart")]
    Events(EventsArgs),
    /// Prints what makes a shell complete commands and options. Needs no daemon
    #[command(after_help = "Example:
  fulmen completions bash > ~/.local/share/bash-completion/completions/fulmen")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Stops the daemon
    #[command(after_help = "Example:
  fulmen stop")]
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Encrypts the seed file with a passphrase, from FULMEN_PASSPHRASE or a prompt
    #[arg(long)]
    pub(crate) passphrase: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The first block that may have coins of the wallet: later is faster
    #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
    pub(crate) birthday_height: u32,
    /// Encrypts the seed file with a passphrase, from FULMEN_PASSPHRASE or a prompt
    #[arg(long)]
    pub(crate) passphrase: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// To where
    pub(crate) address: String,
    /// How much, like 50000, 50000sat or 0.0005btc; `all` for everything but the reserve
    #[arg(value_parser = all_or_amount)]
    pub(crate) amount: AmountOr,
    /// The feerate in sat/vB [default: an estimate]
    #[arg(long, value_name = "SAT/VB")]
    pub(crate) feerate: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// With whom: node_id, or node_id@host:port to connect first
    pub(crate) peer: String,
    /// The capacity, like 1000000, 1000000sat or 0.01btc
    pub(crate) amount: AmountArg,
    /// Given to the peer at once
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) push: Option<AmountArg>,
    /// Keeps the channel from the network
    #[arg(long)]
    pub(crate) private: bool,
    /// The funding transaction's feerate in sat/vB [default: an estimate]
    #[arg(long, value_name = "SAT/VB")]
    pub(crate) feerate: Option<u64>,
    /// anchors or static_remotekey [default: the best that both know]
    #[arg(long, value_name = "TYPE")]
    pub(crate) channel_type: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UnblockArgs {
    /// The channel: its id or short channel id
    pub(crate) channel: String,
}

#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// The channel: its id or short channel id
    pub(crate) channel: String,
    /// Alone and at once, by our commitment transaction
    #[arg(long)]
    pub(crate) force: bool,
    /// Where our balance goes [default: the wallet]
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// The closing transaction's feerate in sat/vB [default: an estimate]
    #[arg(long, value_name = "SAT/VB")]
    pub(crate) feerate: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct InvoiceArgs {
    /// What to ask for, like 2500, 2500sat, 100msat or 0.001btc; `any` leaves it to the payer
    #[arg(value_parser = any_or_amount)]
    pub(crate) amount: AmountOr,
    /// What it is for
    #[arg(default_value = "")]
    pub(crate) description: String,
    /// How long it can be paid, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) expiry: u32,
}

#[derive(Debug, Args)]
pub(crate) struct FindRouteArgs {
    /// The invoice, or the id of a node
    pub(crate) to: String,
    /// The amount, for a node and for invoices that leave it open
    #[arg(long)]
    pub(crate) amount: Option<AmountArg>,
    /// The most to spend on fees [default: as configured]
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) max_fee: Option<AmountArg>,
}

#[derive(Debug, Args)]
pub(crate) struct PayArgs {
    /// The invoice
    pub(crate) bolt11: String,
    /// The amount, for invoices that leave it open
    #[arg(long)]
    pub(crate) amount: Option<AmountArg>,
    /// The most to spend on fees [default: as configured]
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) max_fee: Option<AmountArg>,
    /// How long to look for ways, in seconds [default: as configured]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// How long to wait for the end, in seconds; the payment itself goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) wait: u32,
    /// Does not wait for the end
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only the one with this payment hash, or with one that begins so
    pub(crate) payment_hash: Option<String>,
    /// At most so many, newest first, up to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 25)]
    pub(crate) limit: usize,
    /// Those after a page: the `next` of its --json
    #[arg(long, value_name = "NEXT")]
    pub(crate) before: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["limit", "before", "payment_hash"])]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The first event to show
    #[arg(long, default_value_t = 1)]
    pub(crate) from: u64,
    /// Goes on with those to come
    #[arg(long)]
    pub(crate) follow: bool,
}

/// An amount in millisatoshi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmountArg(pub(crate) u64);

impl AmountArg {
    /// In whole satoshis.
    pub(crate) fn to_sat(self) -> Result<u64, String> {
        if self.0.is_multiple_of(1_000) {
            Ok(self.0 / 1_000)
        } else {
            Err(format!(
                "{} msat are no whole satoshis, which is what the chain knows",
                self.0
            ))
        }
    }
}

impl FromStr for AmountArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no amount; write 2500 or 2500sat, 100msat, 0.001btc");
        let lower = text.to_ascii_lowercase();
        let text = lower.as_str();
        let (digits, decimals) = if let Some(digits) = text.strip_suffix("msat") {
            (digits, 0)
        } else if let Some(digits) = text.strip_suffix("sat") {
            (digits, 3)
        } else if let Some(digits) = text.strip_suffix("btc") {
            (digits, 11)
        } else {
            (text, 3)
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !is_number(whole)
            || !is_number(fraction)
            || fraction.len() > decimals
        {
            return Err(wrong());
        }
        let padded = format!("{whole}{fraction:0<decimals$}");
        padded.parse().map(Self).map_err(|_| wrong())
    }
}

/// An amount, or a word that means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmountOr(pub(crate) Option<AmountArg>);

fn all_or_amount(text: &str) -> Result<AmountOr, String> {
    amount_or("all", text)
}

fn any_or_amount(text: &str) -> Result<AmountOr, String> {
    amount_or("any", text)
}

fn amount_or(word: &str, text: &str) -> Result<AmountOr, String> {
    if text.eq_ignore_ascii_case(word) {
        return Ok(AmountOr(None));
    }
    match text.parse() {
        Ok(amount) => Ok(AmountOr(Some(amount))),
        Err(error) => Err(format!("{error}; or `{word}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        for (text, msat) in [
            ("1", 1_000),
            ("1sat", 1_000),
            ("1.5sat", 1_500),
            ("2SAT", 2_000),
            ("0.1BTC", 10_000_000_000),
            ("7msat", 7),
            ("0.00000001btc", 1_000),
            ("0.00000000001btc", 1),
            ("21000000btc", 2_100_000_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(AmountArg(msat)), "{text}");
        }
        for text in [
            "",
            "sat",
            "-1",
            "1.5msat",
            "1.0001sat",
            "1e3",
            "+1",
            ".5btc",
            "99999999999btc",
            "1 sat",
        ] {
            assert!(text.parse::<AmountArg>().is_err(), "{text}");
        }
        assert_eq!(all_or_amount("all"), Ok(AmountOr(None)));
        assert_eq!(any_or_amount("7msat"), Ok(AmountOr(Some(AmountArg(7)))));
        assert!(any_or_amount("all").is_err_and(|e| e.contains("`any`")));
        assert!(AmountArg(1_001).to_sat().is_err());
    }

    #[test]
    fn every_command_has_an_example() {
        use clap::CommandFactory;
        let command = Cli::command();
        for command in command.get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
            assert!(help.contains(command.get_name()), "{}", command.get_name());
        }
    }
}
