//! The command-line client of the Fulmen Lightning daemon.

mod args;
mod offline;
mod show;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use fulmen_api::{self as api, Client, ClientError, ErrorCode, PaymentState, Request};

use args::{Cli, Command, EventsArgs, Global};

/// What ends the program early, for people.
#[derive(Debug)]
struct Problem(String);

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let hint = match error.code() {
            Some(ErrorCode::Unauthorized) => {
                " (use the --data-dir of the daemon that listens at this address)"
            }
            _ => "",
        };
        Self(format!("{error}{hint}"))
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Create(create) => offline::create(&cli.global, create),
        Command::Restore(restore) => offline::restore(&cli.global, restore),
        _ => match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime.block_on(online(cli)),
            Err(e) => Err(Problem(format!("no runtime: {e}"))),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem(text)) => {
            eprintln!("fulmen: {text}");
            ExitCode::FAILURE
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
        Command::Create(_) | Command::Restore(_) => Ok(()),
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
        Command::Connect { peer } => {
            out.run(&api::Connect { peer }, |a| {
                format!("connected to {}", a.node_id)
            })
            .await
        }
        Command::Disconnect { node_id, force } => {
            out.run(&api::Disconnect { node_id, force }, |_| {
                "disconnected".to_owned()
            })
            .await
        }
        Command::Listpeers => out.run(&api::ListPeers {}, show::peers).await,
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
        Command::Listinvoices(a) => {
            let request = api::ListInvoices {
                payment_hash: a.payment_hash,
                limit: a.limit,
            };
            out.run(&request, show::invoices).await
        }
        Command::Pay(a) => {
            let request = api::Pay {
                bolt11: a.bolt11,
                amount_msat: a.amount.map(|amount| amount.0),
                max_fee_msat: a.max_fee.map(|amount| amount.0),
                timeout_secs: a.timeout,
                wait: !a.no_wait,
            };
            let payment = out.client.call(&request).await?;
            out.print(&payment, show::payment)?;
            match payment.state {
                PaymentState::Pending | PaymentState::Succeeded => Ok(()),
                PaymentState::Failed => {
                    Err(Problem("the payment failed; nothing was spent".into()))
                }
            }
        }
        Command::Listpayments(a) => {
            let request = api::ListPayments {
                payment_hash: a.payment_hash,
                limit: a.limit,
            };
            out.run(&request, show::payments).await
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
        .ok_or_else(|| Problem("there is no home directory; say where with --data-dir".into()))
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
            serde_json::to_string_pretty(answer).map_err(|e| Problem(e.to_string()))?
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
        Err(e) => Err(Problem(e.to_string())),
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
                        serde_json::to_string(&event).map_err(|e| Problem(e.to_string()))?
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
