//! Channels.

use std::{str::FromStr, sync::Arc};

use bitcoin::{Amount, secp256k1::PublicKey};
use fulmen_api::{self as api, ErrorCode};
use fulmen_node::{ChannelSelector, CloseMode, Command, Node, OpenChannelCommand, Reply};
use fulmen_types::{ChannelId, ChannelType, Msat, ShortChannelId};

use super::{App, Caller, Serve, feerate, peer_of, script_of, unexpected};
use crate::{api_error::ApiError, views};

impl Serve for api::OpenChannel {
    async fn serve(
        self,
        app: Arc<App>,
        caller: Caller,
    ) -> Result<api::OpenChannelAnswer, ApiError> {
        let (peer, address) = peer_of(&self.peer)?;
        let channel_type = match self.channel_type.as_deref() {
            None => None,
            Some("anchors") => Some(ChannelType::anchors()),
            Some("static_remotekey") => Some(ChannelType::static_remote_key()),
            Some(other) => {
                return Err(ApiError::invalid(format!(
                    "channel_type = {:?} is not known; take anchors or static_remotekey",
                    views::printable(other)
                )));
            }
        };
        let command = OpenChannelCommand {
            peer,
            amount: Amount::from_sat(self.amount_sat),
            push: Msat::new(self.push_msat),
            announce: !self.private,
            feerate: self.feerate_sat_per_vb.map(feerate).transpose()?,
            channel_type,
        };
        if let Some(address) = address {
            app.connect(Caller::new(None)?.id, peer, address).await?;
        }
        match app
            .node
            .command(caller.id, Command::OpenChannel(command))
            .await?
        {
            Reply::ChannelOpening {
                channel_id,
                funding,
            } => {
                let of_channel = move |node: &mut Node| {
                    let mut channels = node.channels_info().into_iter();
                    channels
                        .find(|channel| channel.channel_id == channel_id)?
                        .minimum_depth
                };
                Ok(api::OpenChannelAnswer {
                    channel_id: channel_id.to_string(),
                    funding: funding.to_string(),
                    confirmations_wanted: app.node.query(of_channel).await?,
                })
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl Serve for api::CloseChannel {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Done, ApiError> {
        let channel = app.find_channel(&self.channel).await?;
        if self.force && (self.address.is_some() || self.feerate_sat_per_vb.is_some()) {
            return Err(ApiError::invalid(
                "a forced close pays to the node's own wallet at its own feerate: leave out address and feerate",
            ));
        }
        let mode = if self.force {
            CloseMode::Force
        } else {
            CloseMode::Cooperative {
                script_pubkey: self
                    .address
                    .as_deref()
                    .map(|address| script_of(address, app.network))
                    .transpose()?,
                feerate: self.feerate_sat_per_vb.map(feerate).transpose()?,
            }
        };
        let command = Command::CloseChannel {
            channel: ChannelSelector::Id(channel),
            mode,
        };
        app.node.command(caller.id, command).await?;
        Ok(api::Done {})
    }
}

impl Serve for api::UnblockChannel {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Done, ApiError> {
        let channel = app.find_channel(&self.channel).await?;
        let command = Command::UnblockChannel(ChannelSelector::Id(channel));
        app.node.command(caller.id, command).await?;
        Ok(api::Done {})
    }
}

impl Serve for api::ListChannels {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::ChannelList, ApiError> {
        let (channels, peers) = app
            .node
            .query(|node| (node.channels_info(), node.peers_info()))
            .await?;
        let is_connected = |id: &PublicKey| {
            peers
                .iter()
                .any(|peer| peer.node_id == *id && peer.connection.is_some())
        };
        Ok(api::ChannelList {
            channels: channels
                .iter()
                .map(|channel| views::channel(channel, is_connected(&channel.peer)))
                .collect(),
        })
    }
}

impl App {
    /// The channel that a user means.
    async fn find_channel(&self, text: &str) -> Result<ChannelId, ApiError> {
        if let Ok(id) = ChannelId::from_str(text) {
            return Ok(id);
        }
        let scid = ShortChannelId::from_str(text).map_err(|_| {
            ApiError::invalid(format!(
                "{:?} is neither a channel id (64 hex digits) nor a short channel id (like 800000x12x0); `listchannels` shows both",
                views::printable(text)
            ))
        })?;
        let found = self
            .node
            .query(move |node| {
                node.channels_info()
                    .into_iter()
                    .find(|channel| channel.short_channel_id == Some(scid))
                    .map(|channel| channel.channel_id)
            })
            .await?;
        found.ok_or_else(|| {
            ApiError::new(
                ErrorCode::UnknownChannel,
                format!("there is no channel {scid}; `listchannels` shows those that are"),
            )
        })
    }
}
