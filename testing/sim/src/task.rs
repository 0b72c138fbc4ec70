//! Users at work: commands, their answers, and events.

use bitcoin::{Amount, hashes::Hash};
use fulmen_node::{
    ChannelSelector, ChannelState, CloseMode, Command, CommandError, CommandId, Event, Input,
    OpenChannelCommand, PayCommand, PeerAddress, Reply,
};
use fulmen_types::{ChannelType, Feature, Msat};

use crate::{
    phase::Phase,
    plan::Visibility,
    user::{Again, Stage, Task, TaskKind, Tracked},
    world::{Happening, World},
};

/// How long a user waits before trying again.
const PATIENCE: u64 = 700;
/// Events that a user hears before it acknowledges them.
const ACKNOWLEDGE_EVERY: u64 = 10;

impl World {
    /// A user wants something, `millis` from now.
    pub(crate) fn want(&mut self, millis: u64, kind: TaskKind) -> usize {
        self.users.tasks.push(Task::new(kind));
        let task = self.users.tasks.len() - 1;
        self.after(millis, Happening::Task { task });
        task
    }

    /// A user takes the next step, or asks again for what a crash may have swallowed.
    pub(crate) fn task(&mut self, index: usize) {
        let task = &self.users.tasks[index];
        if task.is_over() {
            return;
        }
        let (host, command) = match (&task.kind, &task.stage) {
            (TaskKind::Open(plan), Stage::First) => (plan.from, self.connect_command(plan.to)),
            (TaskKind::Open(plan), _) => {
                let mut channel_type = if plan.anchors {
                    ChannelType::anchors()
                } else {
                    ChannelType::static_remote_key()
                };
                if plan.visibility == Visibility::AliasOnly {
                    channel_type = channel_type.with(Feature::ScidAlias);
                }
                let command = Command::OpenChannel(OpenChannelCommand {
                    peer: self.hosts[plan.to].id,
                    amount: Amount::from_sat(plan.amount_sat),
                    push: Msat::from_sat(plan.push_sat),
                    announce: plan.visibility == Visibility::Announced,
                    feerate: None,
                    channel_type: Some(channel_type),
                });
                (plan.from, command)
            }
            (TaskKind::Pay(plan), Stage::First) => {
                let amount = (!plan.amountless).then(|| Msat::new(plan.amount_msat));
                let command = Command::CreateInvoice {
                    amount,
                    description: "a simulated coffee".into(),
                    expiry_secs: 3_600,
                };
                (plan.to, command)
            }
            (TaskKind::Pay(plan), Stage::Second) => {
                let tracked = self.users.payments.values().find(|p| p.task == index);
                let Some(tracked) = tracked else { return };
                let command = Command::Pay(PayCommand {
                    invoice: tracked.invoice.clone(),
                    amount: plan.amountless.then(|| Msat::new(plan.amount_msat)),
                    max_fee: None,
                    timeout_secs: plan.timeout_secs,
                });
                (plan.from, command)
            }
            (TaskKind::PayAgain { plan, from, task }, Stage::First | Stage::Second) => {
                let tracked = self.users.payments.values().find(|p| p.task == *task);
                let Some(tracked) = tracked else { return };
                let command = Command::Pay(PayCommand {
                    invoice: tracked.invoice.clone(),
                    amount: plan.amountless.then(|| Msat::new(plan.amount_msat)),
                    max_fee: None,
                    timeout_secs: plan.timeout_secs,
                });
                (*from, command)
            }
            (TaskKind::Pay(_) | TaskKind::PayAgain { .. }, _) => return,
            (
                TaskKind::Close {
                    channel_id,
                    by,
                    force,
                },
                _,
            ) => {
                let mode = if *force {
                    CloseMode::Force
                } else {
                    CloseMode::Cooperative {
                        script_pubkey: None,
                        feerate: None,
                    }
                };
                let channel = ChannelSelector::Id(*channel_id);
                (*by, Command::CloseChannel { channel, mode })
            }
        };
        self.after(PATIENCE, Happening::Task { task: index });
        if self.hosts[host].node.is_none() {
            return;
        }
        let boot = self.hosts[host].boot;
        let id = match self.users.tasks[index].command {
            Some((_, asked_in)) if asked_in == boot => return,
            Some((id, _)) => id,
            None => CommandId(self.rng.bytes16()),
        };
        self.users.tasks[index].command = Some((id, boot));
        self.users.commands.insert(id, index);
        self.say(format!("n{host} command of task {index}: {command:?}"));
        self.feed(host, Input::Command { id, command });
    }

    fn connect_command(&self, to: usize) -> Command {
        let address = PeerAddress(format!("n{to}:9735"));
        Command::Connect {
            peer: self.hosts[to].id,
            address,
        }
    }

    /// A command is answered.
    pub(crate) fn reply(&mut self, host: usize, id: CommandId, reply: Result<Reply, CommandError>) {
        let Some(index) = self.users.commands.get(&id).copied() else {
            return;
        };
        self.say(format!("n{host} reply to task {index}: {reply:?}"));
        let task = &mut self.users.tasks[index];
        if task.command.is_none_or(|(asked, _)| asked != id) {
            return;
        }
        task.command = None;
        match (&task.kind, &task.stage, reply) {
            (TaskKind::Open(_), Stage::First, Ok(_)) => {
                task.stage = Stage::Second;
                self.after(1, Happening::Task { task: index });
            }
            (TaskKind::Open(plan), Stage::Second, Ok(Reply::ChannelOpening { channel_id, .. })) => {
                let plan = *plan;
                task.stage = Stage::Done;
                self.users.channels.insert(channel_id, plan);
                self.stats.channels += 1;
            }
            (TaskKind::Open(_), _, Err(_)) => {
                task.stage = Stage::First;
                task.retries += 1;
            }
            (
                TaskKind::Pay(plan),
                Stage::First,
                Ok(Reply::Invoice {
                    invoice,
                    payment_hash,
                }),
            ) => {
                let plan = *plan;
                task.stage = Stage::Second;
                let again = plan.again.map(|host| {
                    let kind = TaskKind::PayAgain {
                        plan,
                        from: host,
                        task: index,
                    };
                    let pause = self.rng.below(2_000);
                    let task = self.want(pause, kind);
                    Again {
                        host,
                        task,
                        sent: None,
                    }
                });
                let tracked = Tracked {
                    again,
                    task: index,
                    ends: (plan.from, plan.to),
                    amount_msat: plan.amount_msat,
                    invoice,
                    sent: None,
                    received: None,
                };
                self.users.payments.insert(payment_hash, tracked);
                self.after(1, Happening::Task { task: index });
            }
            (
                TaskKind::Pay(_) | TaskKind::PayAgain { .. },
                Stage::First | Stage::Second,
                Ok(Reply::Payment { .. }),
            ) => {
                task.stage = Stage::Waiting;
                let told = self.users.payments.values_mut().find_map(|p| {
                    let (sent, task) = p.payer(host)?;
                    (task == index).then(|| sent.is_some())
                });
                if told == Some(true) {
                    self.users.tasks[index].stage = Stage::Done;
                }
            }
            // The signer of an invoice may be away: later, then.
            (TaskKind::Pay(_), Stage::First, Err(_)) if self.plan.faults.absent > 0 => {}
            (TaskKind::Pay(_) | TaskKind::PayAgain { .. }, _, Err(error)) => {
                let error = error.to_string();
                self.blame(
                    host,
                    format!("n{host} refuses a payment or an invoice: {error}"),
                );
            }
            (TaskKind::Close { .. }, _, Ok(_)) => task.stage = Stage::Done,
            (TaskKind::Close { .. }, _, Err(CommandError::UnknownChannel(_))) => {
                task.stage = Stage::Done;
            }
            (TaskKind::Close { channel_id, .. }, _, Err(error)) => {
                let channel_id = *channel_id;
                let is_closed = self.hosts[host].channels().iter().any(|c| {
                    let over = matches!(
                        c.state,
                        ChannelState::ForceClosing(_)
                            | ChannelState::OnChain(_)
                            | ChannelState::ShuttingDown
                            | ChannelState::MutualClose(_)
                            | ChannelState::Stale
                    );
                    over && c.channel_id == channel_id
                });
                let wanted =
                    self.forced.contains(&channel_id) || self.closed_early.contains(&channel_id);
                let task = &mut self.users.tasks[index];
                if is_closed && wanted {
                    task.stage = Stage::Done;
                }
                task.retries += 1;
                if task.retries > 200 {
                    task.stage = Stage::Failed(error.to_string());
                }
            }
            (_, _, Ok(other)) => self.fail(format!("n{host} gives task {index} {other:?}")),
        }
    }

    /// A user hears of something, once.
    pub(crate) fn user_hears(&mut self, host: usize, event: &Event) {
        if self.is_villain(host) {
            return self.acknowledge(host);
        }
        match event {
            Event::PaymentSucceeded {
                payment_hash,
                preimage,
                amount,
                fee,
            } => {
                let hash = bitcoin::hashes::sha256::Hash::hash(preimage.as_bytes());
                if hash.to_byte_array() != *payment_hash.as_bytes() {
                    return self.fail(format!("n{host}: a proof of payment that proves nothing"));
                }
                let Some(tracked) = self.users.payments.get_mut(payment_hash) else {
                    return self.fail(format!("n{host} paid what nobody asked for"));
                };
                let wrong = tracked.amount_msat != amount.to_msat();
                let Some((sent, task)) = tracked.payer(host) else {
                    return self.fail(format!("n{host} paid what it was not asked to pay"));
                };
                // A command that is given again after a crash tries anew what had failed.
                let again = sent.replace(Ok(fee.to_msat())).filter(Result::is_ok);
                let most_fee = (amount.to_msat() / 100).max(5_000);
                if fee.to_msat() > most_fee {
                    return self.fail(format!("n{host} paid a fee of {fee:?}, above {most_fee}"));
                }
                if again.is_some() || wrong {
                    return self.fail(format!(
                        "n{host}: payment {payment_hash} succeeded with {amount:?} after {again:?}"
                    ));
                }
                self.stats.paid += 1;
                self.payment_is_over(task);
            }
            Event::PaymentFailed {
                payment_hash,
                reason,
            } => {
                if let Err(what) = self.check_payment_failed(host, *payment_hash) {
                    return self.fail(format!("n{host}: payment {payment_hash} fails: {what}"));
                }
                let Some(tracked) = self.users.payments.get_mut(payment_hash) else {
                    return self.fail(format!("n{host} failed what nobody asked for"));
                };
                let Some((sent, task)) = tracked.payer(host) else {
                    return self.fail(format!("n{host} failed what it was not asked to pay"));
                };
                let again = sent.replace(Err(reason.clone())).filter(Result::is_ok);
                if again.is_some() {
                    return self.fail(format!(
                        "n{host}: payment {payment_hash} failed after {again:?}"
                    ));
                }
                self.stats.unpaid += 1;
                self.payment_is_over(task);
            }
            Event::PaymentReceived {
                payment_hash,
                amount,
            } => {
                let Some(tracked) = self.users.payments.get_mut(payment_hash) else {
                    return self.fail(format!("n{host} received what it did not ask for"));
                };
                let again = tracked.received.replace(amount.to_msat());
                let wrong = tracked.ends.1 != host || amount.to_msat() < tracked.amount_msat;
                if again.is_some() || wrong {
                    self.fail(format!(
                        "n{host}: payment {payment_hash} received with {amount:?} after {again:?}"
                    ));
                }
            }
            Event::PaymentForwarded { fee, .. } => {
                *self.users.earned.entry(host).or_default() += fee.to_msat();
                self.stats.forwards += 1;
            }
            Event::ChannelClosing {
                channel_id,
                forced,
                reason,
                ..
            } => {
                let scripted = self.forced.contains(channel_id);
                let together = scripted || self.closed_early.contains(channel_id);
                if *forced && !scripted {
                    self.fail(format!("n{host} closes {channel_id} by force: {reason}"));
                } else if !*forced && !together && self.phase != Phase::Close {
                    self.fail(format!(
                        "n{host} closes {channel_id} without being asked: {reason}"
                    ));
                }
                let in_flight = self.hosts[host]
                    .channels()
                    .iter()
                    .any(|c| c.channel_id == *channel_id && c.htlcs != (0, 0));
                self.stats.forced_in_flight += u64::from(*forced && in_flight);
                self.stats.closes += 1;
                self.stats.forced += u64::from(*forced);
            }
            Event::ChannelClosed {
                channel_id, kind, ..
            } => {
                let scripted = self.forced.contains(channel_id);
                let cheated = kind == "revoked" && !self.is_cheated(channel_id);
                if cheated || (kind != "mutual" && !scripted) {
                    self.fail(format!(
                        "n{host}: {channel_id} is closed by a {kind} transaction"
                    ));
                }
            }
            Event::Breach { txid, channel_id } if self.is_cheated(channel_id) => {
                self.villainy.noticed.insert(*txid);
            }
            Event::Breach { channel_id, .. } => {
                self.fail(format!(
                    "n{host}: an honest peer seems to cheat in {channel_id}"
                ));
            }
            Event::Alert { message } => self.fail(format!("n{host} alerts: {message}")),
            Event::HtlcGivenUp {
                payment_hash,
                amount,
                ..
            } => {
                let most = self.most_given_up();
                if amount.to_msat() > most {
                    return self.fail(format!("n{host} gives {amount:?} up, above {most}"));
                }
                *self.users.given_up.entry(host).or_default() += amount.to_msat();
                self.users.given_up_hashes.insert(*payment_hash);
                self.stats.given_up += 1;
            }
            Event::SignerBlocked { reason, .. } => {
                self.fail(format!("n{host}'s signer refused: {reason}"));
            }
            Event::ChannelPending {
                channel_id,
                funding,
                ..
            } => {
                self.users.fundings.insert(*channel_id, *funding);
            }
            Event::ChannelReady { .. }
            | Event::ChannelOpenFailed { .. }
            | Event::Swept { .. }
            | Event::ChannelResolved { .. } => {}
        }
        self.acknowledge(host);
    }

    fn payment_is_over(&mut self, task: usize) {
        // A reply that a crash swallowed may still be on its way.
        let task = &mut self.users.tasks[task];
        task.stage = Stage::Done;
        task.command = None;
    }

    fn acknowledge(&mut self, host: usize) {
        let last = self.hosts[host]
            .events
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        if last < self.hosts[host].acknowledged + ACKNOWLEDGE_EVERY {
            return;
        }
        self.hosts[host].acknowledged = last;
        let id = CommandId(self.rng.bytes16());
        let command = Command::AcknowledgeEvents { up_to: last };
        // Events come out of steps: the node is told later.
        self.pending_commands.push((host, id, command));
    }

    /// Commands that came up in the middle of a step.
    pub(crate) fn give_pending_commands(&mut self) {
        for (host, id, command) in core::mem::take(&mut self.pending_commands) {
            self.feed(host, Input::Command { id, command });
        }
    }
}
