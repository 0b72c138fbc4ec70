//! Invoices and payments.

use std::{sync::Arc, time::Duration};

use fulmen_api::{self as api, ErrorCode};
use fulmen_node::{Command, PayCommand, Reply};
use fulmen_payments::Payment;
use fulmen_types::Msat;

use super::{App, Caller, Serve, lists, parse_invoice, unexpected};
use crate::{api_error::ApiError, views};

const DEFAULT_EXPIRY_SECS: u32 = 3_600;
/// How long a wait for a payment is when the request does not say, and what it is at most. The payment
/// itself goes on.
const WAIT_SECS: u32 = 300;
const MAX_WAIT_SECS: u32 = 24 * 3_600;

impl Serve for api::Invoice {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::InvoiceCreated, ApiError> {
        let expiry_secs = self.expiry_secs.unwrap_or(DEFAULT_EXPIRY_SECS);
        if expiry_secs == 0 {
            return Err(ApiError::invalid(
                "an invoice that expires at once can't be paid: give it some seconds, or leave the expiry out for an hour",
            ));
        }
        let command = Command::CreateInvoice {
            amount: self.amount_msat.map(Msat::new),
            description: self.description,
            expiry_secs,
        };
        match app.node.command(caller.id, command).await? {
            Reply::Invoice {
                invoice,
                payment_hash,
            } => Ok(api::InvoiceCreated {
                bolt11: invoice,
                payment_hash: payment_hash.to_string(),
            }),
            other => Err(unexpected(&other)),
        }
    }
}

impl Serve for api::Pay {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::PaymentInfo, ApiError> {
        // Told before the command is given, so that no end is missed.
        let invoice = parse_invoice(&app, &self.bolt11)?;
        let hash = invoice.details().payment_hash;
        let ended = app.events.end_of(hash);
        let command = Command::Pay(PayCommand {
            invoice: self.bolt11,
            amount: self.amount_msat.map(Msat::new),
            max_fee: self.max_fee_msat.map(Msat::new),
            timeout_secs: self.timeout_secs,
        });
        let begun = app.node.command(caller.id, command).await;
        let payment_hash = match begun {
            Ok(Reply::Payment {
                payment_hash,
                ended: Some(record),
            }) => {
                drop(ended);
                app.events.forget(&payment_hash);
                return match Payment::from_record(&record) {
                    Ok(payment) => Ok(views::payment(&payment)),
                    Err(e) => Err(ApiError::new(ErrorCode::Internal, e.to_string())),
                };
            }
            Ok(Reply::Payment {
                payment_hash,
                ended: None,
            }) => payment_hash,
            Ok(other) => {
                app.events.forget(&hash);
                return Err(unexpected(&other));
            }
            Err(e) => {
                drop(ended);
                app.events.forget(&hash);
                return Err(e);
            }
        };
        if self.wait {
            // What is in flight can hang as long as its HTLC; who asked need not.
            let patience = self.wait_secs.unwrap_or(WAIT_SECS).min(MAX_WAIT_SECS);
            let mut stopping = app.stopping.subscribe();
            tokio::select! {
                _ = ended => {}
                () = tokio::time::sleep(Duration::from_secs(patience.into())) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        } else {
            drop(ended);
        }
        app.events.forget(&payment_hash);
        lists::payment(&app, payment_hash).await?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Internal,
                "the payment that was begun is not in the list",
            )
        })
    }
}
