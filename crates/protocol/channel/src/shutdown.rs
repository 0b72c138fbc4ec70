//! `shutdown`: no more HTLCs, and where the funds go.

use alloc::vec::Vec;

use bitcoin::{Script, ScriptBuf};
use fulmen_tx::Side;
use fulmen_types::{Feature, FeeratePerKw};
use fulmen_wire::Shutdown;

use crate::{
    config::ChannelContext,
    error::{ChannelError, Refusal, Rule},
    funded::Funded,
    htlc::UpdateState,
    output::ChannelOutput,
    state::LocalShutdown,
};

/// Whether a witness program of an unknown version may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnySegwit {
    Allowed,
    NotNegotiated,
}

impl AnySegwit {
    pub(crate) fn negotiated(ctx: &ChannelContext<'_>) -> Self {
        if ctx.negotiated(Feature::ShutdownAnySegwit) {
            Self::Allowed
        } else {
            Self::NotNegotiated
        }
    }
}

/// BOLT 2, shutdown: P2WPKH, P2WSH, and with `option_shutdown_anysegwit` versions 1 to 16.
pub(crate) fn is_shutdown_script(script: &Script, any_segwit: AnySegwit) -> bool {
    if script.is_p2wpkh() || script.is_p2wsh() {
        return true;
    }
    let is_later_version = script
        .witness_version()
        .is_some_and(|version| version.to_num() > 0);
    any_segwit == AnySegwit::Allowed && is_later_version
}

impl Funded {
    pub(crate) fn request_shutdown(
        &mut self,
        ctx: &ChannelContext<'_>,
        script: Option<ScriptBuf>,
        feerate: Option<FeeratePerKw>,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        if !self.is_alive() {
            return Err(Refusal::Closed.into());
        }
        if self.core.blocked.is_some() {
            return Err(Refusal::SignerBlocked.into());
        }
        if self.core.local_shutdown.is_some() {
            return Err(Refusal::ShuttingDown.into());
        }
        let script = script.unwrap_or_else(|| self.core.default_shutdown_script().clone());
        // BOLT 2: the same as the non-empty upfront_shutdown_script.
        let is_bound = self
            .core
            .local_upfront_script
            .as_ref()
            .is_some_and(|bound| *bound != script);
        if is_bound || !is_shutdown_script(&script, AnySegwit::negotiated(ctx)) {
            return Err(Refusal::Script.into());
        }
        self.begin_shutdown(ctx, script, feerate);
        out.push(ChannelOutput::ShuttingDown {
            initiator: Side::Local,
        });
        Ok(())
    }

    fn begin_shutdown(
        &mut self,
        ctx: &ChannelContext<'_>,
        script: ScriptBuf,
        feerate: Option<FeeratePerKw>,
    ) {
        self.core.local_shutdown = Some(LocalShutdown {
            script,
            feerate,
            sent: false,
            since: ctx.now,
        });
        self.touch();
    }

    /// Says it as soon as no update of ours waits for our signature (BOLT 2: none pending on the
    /// receiver's commitment).
    pub(crate) fn send_shutdown(&mut self, out: &mut Vec<ChannelOutput>) {
        if self.has_unsigned_updates(Side::Local) {
            return;
        }
        let Some(shutdown) = &mut self.core.local_shutdown else {
            return;
        };
        if shutdown.sent {
            return;
        }
        shutdown.sent = true;
        let message = Shutdown {
            channel_id: self.core.channel_id,
            scriptpubkey: shutdown.script.clone(),
            shutdown_nonce: None,
        };
        self.touch();
        out.push(Self::send(message));
    }

    /// BOLT 2: one that was said is repeated after a reconnection.
    pub(crate) fn repeat_shutdown(&self, out: &mut Vec<ChannelOutput>) {
        if let Some(shutdown) = self.core.local_shutdown.as_ref().filter(|s| s.sent) {
            out.push(Self::send(Shutdown {
                channel_id: self.core.channel_id,
                scriptpubkey: shutdown.script.clone(),
                shutdown_nonce: None,
            }));
        }
    }

    /// Whether `side` has said updates that no signature of its own covers yet.
    fn has_unsigned_updates(&self, side: Side) -> bool {
        let htlcs = self.htlcs.values().any(|htlc| {
            let unsigned = if htlc.offered_by() == side {
                UpdateState::Add
            } else {
                UpdateState::Remove
            };
            htlc.state == unsigned
        });
        let fees = self.core.params.opener == side
            && self
                .core
                .feerates
                .iter()
                .any(|fee| fee.state == UpdateState::Add);
        htlcs || fees
    }

    pub(crate) fn on_shutdown(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: Shutdown,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        let core = &self.core;
        if core
            .remote_upfront_script
            .as_ref()
            .is_some_and(|bound| *bound != m.scriptpubkey)
        {
            return Err(Rule::ShutdownUpfront);
        }
        match &core.remote_shutdown {
            Some(known) if *known == m.scriptpubkey => return Ok(()),
            Some(_) => return Err(Rule::ShutdownChanged),
            None => {}
        }
        if !is_shutdown_script(&m.scriptpubkey, AnySegwit::negotiated(ctx)) {
            return Err(Rule::ShutdownScript);
        }
        if self.has_unsigned_updates(Side::Remote) {
            return Err(Rule::ShutdownPending);
        }
        self.core.remote_shutdown = Some(m.scriptpubkey);
        self.touch();
        if self.core.local_shutdown.is_none() {
            // BOLT 2: MUST reply, once there are no outstanding updates on the peer.
            let script = self.core.default_shutdown_script().clone();
            self.begin_shutdown(ctx, script, None);
            out.push(ChannelOutput::ShuttingDown {
                initiator: Side::Remote,
            });
        }
        Ok(())
    }

    /// Whether both have said `shutdown` and nothing is left to clear: the fee of the closing transaction
    /// is next.
    pub(crate) fn is_ready_to_close(&self) -> bool {
        self.is_alive()
            && self.core.remote_shutdown.is_some()
            && self.core.local_shutdown.as_ref().is_some_and(|s| s.sent)
            && self.is_clear()
    }
}
