//! The command-line client of the Fulmen Lightning daemon.

mod args;
mod offline;
mod show;

use std::{convert::Infallible, io::IsTerminal, process::ExitCode, time::Duration};

use clap::Parser;
use fulmen_api::{self as api, Client, ClientError, ErrorCode, PaymentState, Request};

use args::{Cli, Command, EventsArgs, Global, PayArgs};

/// The code of a payment that is still on its way.
const PENDING: u8 = 3;
/// How often a waiting `pay` looks how far the payment is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What ends the program early, for people, and its code.
#[derive(Debug)]
struct Problem {
    text: String,
    code: u8,
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 1,
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let hint = match error.code() {
            Some(ErrorCode::Unauthorized) => {
                " (use the --data-dir of the daemon that listens at this address)"
            }
            _ => "",
        };
        Self::new(format!("{error}{hint}"))
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Create(create) => offline::create(&cli.global, create),
        Command::Restore(restore) => offline::restore(&cli.global, restore),
        Command::Completions { shell } => offline::completions(*shell),
        _ => match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime.block_on(online(cli)),
            Err(e) => Err(Problem::new(format!("no runtime: {e}"))),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem { text, code }) => {
            eprintln!("fulmen: {text}");
            ExitCode::from(code)
        }
    }
}

/// What needs a daemon.
async fn online(cli: Cli) -> Result<(), Problem> {
    let Cli { global, command } = cli;
    let out = Out {
        client: client(&global)?,
        json: global.json,
    };
    match command {
        // Done before.
        Command::Create(_) | Command::Restore(_) | Command::Completions { .. } => Ok(()),
        Command::Getinfo => out.run(&api::GetInfo {}, show::info).await,
        Command::Newaddress => out.run(&api::NewAddress {}, |a| a.address.clone()).await,
        Command::Withdraw(a) => {
            let amount_sat = a.amount.0.map(args::AmountArg::to_sat).transpose()?;
            let request = api::Withdraw {
                address: a.address,
                amount_sat,
                feerate_sat_per_vb: a.feerate,
            };
            out.run(&request, show::withdrawn).await
        }
        Command::Listtransactions { limit } => {
            out.run(&api::ListTransactions { limit }, show::transactions)
                .await
        }
        Command::Bumpfee { txid, feerate } => {
            let request = api::BumpFee {
                txid,
                feerate_sat_per_vb: feerate,
            };
            out.run(&request, show::withdrawn).await
        }
        Command::Connect { peer } => {
            out.run(&api::Connect { peer }, |a| {
                format!("connected to {}", a.node_id)
            })
            .await
        }
        Command::Disconnect { node_id, force } => {
            out.run(&api::Disconnect { node_id, force }, |_| {
                "disconnected; it is not dialled again until you `connect`".to_owned()
            })
            .await
        }
        Command::Listpeers => out.run(&api::ListPeers {}, show::peers).await,
        Command::Ban { node_id, secs } => {
            out.run(&api::Ban { node_id, secs }, |_| "banned".to_owned())
                .await
        }
        Command::Unban { node_id } => {
            out.run(&api::Unban { node_id }, |_| "forgiven".to_owned())
                .await
        }
        Command::Openchannel(a) => {
            let request = api::OpenChannel {
                peer: a.peer,
                amount_sat: a.amount.to_sat()?,
                push_msat: a.push.map_or(0, |push| push.0),
                private: a.private,
                feerate_sat_per_vb: a.feerate,
                channel_type: a.channel_type,
            };
            out.run(&request, show::opened).await
        }
        Command::Closechannel(a) => {
            let request = api::CloseChannel {
                channel: a.channel,
                force: a.force,
                address: a.address,
                feerate_sat_per_vb: a.feerate,
            };
            out.run(&request, |_| {
                "the close has begun; `listchannels` and `balance` show how far it is".to_owned()
            })
            .await
        }
        Command::Unblockchannel(a) => {
            let request = api::UnblockChannel { channel: a.channel };
            out.run(&request, |_| {
                "the signer is asked again; `listchannels` shows whether it signs".to_owned()
            })
            .await
        }
        Command::Listchannels => out.run(&api::ListChannels {}, show::channels).await,
        Command::Invoice(a) => {
            let request = api::Invoice {
                amount_msat: a.amount.0.map(|amount| amount.0),
                description: a.description,
                expiry_secs: Some(a.expiry),
            };
            out.run(&request, |a| {
                format!("{}\npayment hash {}", a.bolt11, a.payment_hash)
            })
            .await
        }
        Command::Listinvoices(a) if a.all => {
            let invoices = out.client.all_invoices().await?;
            out.print(
                &api::InvoiceList {
                    invoices,
                    next: None,
                },
                show::invoices,
            )
        }
        Command::Listinvoices(a) => {
            let one = a.payment_hash.is_some();
            let request = api::ListInvoices {
                payment_hash: a.payment_hash,
                limit: Some(a.limit),
                before: a.before,
            };
            let show = if one {
                show::each_invoice
            } else {
                show::invoices
            };
            out.run(&request, show).await
        }
        Command::Pay(a) => pay(&out, a).await,
        Command::Listpayments(a) if a.all => {
            let payments = out.client.all_payments().await?;
            out.print(
                &api::PaymentList {
                    payments,
                    next: None,
                },
                show::payments,
            )
        }
        Command::Listpayments(a) => {
            let one = a.payment_hash.is_some();
            let request = api::ListPayments {
                payment_hash: a.payment_hash,
                limit: Some(a.limit),
                before: a.before,
            };
            let show = if one {
                show::each_payment
            } else {
                show::payments
            };
            out.run(&request, show).await
        }
        Command::Findroute(a) => {
            let request = api::FindRoute {
                to: a.to,
                amount_msat: a.amount.map(|amount| amount.0),
                max_fee_msat: a.max_fee.map(|amount| amount.0),
            };
            out.run(&request, show::route).await
        }
        Command::Balance => out.run(&api::Balance {}, show::balance).await,
        Command::Decode { bolt11 } => out.run(&api::Decode { bolt11 }, show::decoded).await,
        Command::Events(a) => events(&global, out, a).await,
        Command::Stop => {
            out.run(&api::Stop {}, |_| "the daemon stops".to_owned())
                .await
        }
    }
}

/// Pays, and shows how far it is while it waits.
async fn pay(out: &Out, args: PayArgs) -> Result<(), Problem> {
    let request = api::Pay {
        bolt11: args.bolt11,
        amount_msat: args.amount.map(|amount| amount.0),
        max_fee_msat: args.max_fee.map(|amount| amount.0),
        timeout_secs: args.timeout,
        wait: !args.no_wait,
        wait_secs: Some(args.wait),
    };
    let paying = out.client.call(&request);
    let payment = tokio::select! {
        payment = paying => payment?,
        never = show_progress(&out.client, &request.bolt11) => match never {},
        _ = tokio::signal::ctrl_c() => {
            return Err(Problem {
                text: "no longer waiting; the payment goes on: `listpayments` shows it, and the same command waits again".into(),
                code: PENDING,
            });
        }
    };
    out.print(&payment, show::payment)?;
    match payment.state {
        PaymentState::Succeeded => Ok(()),
        PaymentState::Pending if args.no_wait => Ok(()),
        PaymentState::Pending => Err(Problem {
            text: "the payment is still on its way; the same command waits again, and never pays twice".into(),
            code: PENDING,
        }),
        PaymentState::Failed => Err(Problem::new("the payment failed; nothing was spent")),
    }
}

/// For people who watch: a line that says how far a payment is.
async fn show_progress(client: &Client, bolt11: &str) -> Infallible {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let begun = tokio::time::Instant::now();
    let decode = api::Decode {
        bolt11: bolt11.to_owned(),
    };
    let Ok(invoice) = client.call(&decode).await else {
        return std::future::pending().await;
    };
    let look = api::ListPayments {
        payment_hash: Some(invoice.payment_hash),
        ..api::ListPayments::default()
    };
    loop {
        tokio::time::sleep(PROGRESS).await;
        let Ok(list) = client.call(&look).await else {
            continue;
        };
        if let Some(payment) = list.payments.first() {
            let tries = payment.attempts;
            let secs = begun.elapsed().as_secs();
            eprint!(
                "\r\x1b[Kon its way for {secs} s, HTLCs sent: {tries} (Ctrl-C stops the waiting, not the payment)"
            );
            if payment.state != PaymentState::Pending {
                eprint!("\r\x1b[K");
                return std::future::pending().await;
            }
        }
    }
}

/// The daemon that is meant.
fn client(global: &Global) -> Result<Client, Problem> {
    let data_dir = data_dir(global)?;
    let client = match &global.api {
        Some(address) => Client::with_token_of(address, &data_dir),
        None => match Client::from_data_dir(&data_dir) {
            // No daemon has said where it is: where it would be by default.
            Err(ClientError::File { path, .. }) if path.ends_with(api::ADDRESS_FILE) => {
                Client::with_token_of(api::default_api_address(&global.network), &data_dir)
            }
            other => other,
        },
    };
    Ok(client?)
}

fn data_dir(global: &Global) -> Result<std::path::PathBuf, Problem> {
    global
        .data_dir
        .clone()
        .or_else(|| api::default_data_dir(&global.network))
        .ok_or_else(|| Problem::new("there is no home directory; say where with --data-dir"))
}

struct Out {
    client: Client,
    json: bool,
}

impl Out {
    async fn run<R: Request>(
        &self,
        request: &R,
        show: impl FnOnce(&R::Answer) -> String,
    ) -> Result<(), Problem> {
        let answer = self.client.call(request).await?;
        self.print(&answer, show)
    }

    fn print<T: serde::Serialize>(
        &self,
        answer: &T,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Problem> {
        let text = if self.json {
            serde_json::to_string_pretty(answer).map_err(|e| Problem::new(e.to_string()))?
        } else {
            show(answer)
        };
        line(&text)
    }
}

/// A reader that has seen enough is no error.
fn line(text: &str) -> Result<(), Problem> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Problem::new(e.to_string())),
    }
}

/// Shows events; following, it goes on after the daemon's restart where it was.
async fn events(global: &Global, mut out: Out, args: EventsArgs) -> Result<(), Problem> {
    let mut next = args.from;
    let mut connected = false;
    loop {
        match out.client.events(next, args.follow).await {
            Ok(mut stream) => {
                connected = true;
                while let Some(event) = stream.next().await {
                    let Ok(event) = event else { break };
                    next = event.number.saturating_add(1);
                    let text = if out.json {
                        serde_json::to_string(&event).map_err(|e| Problem::new(e.to_string()))?
                    } else {
                        show::event(&event)
                    };
                    line(&text)?;
                }
            }
            // A first try that fails is a mistake; later ones wait for the daemon.
            Err(ClientError::Connect { .. } | ClientError::Broken(_)) if connected => {}
            Err(e) => return Err(e.into()),
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        // It may listen elsewhere now.
        if let Ok(again) = client(global) {
            out.client = again;
        }
    }
}
