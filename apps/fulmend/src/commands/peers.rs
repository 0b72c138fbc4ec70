//! Peers.

use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use fulmen::connect::{PeerState, PeerView, View};
use fulmen_api::{self as api, ErrorCode};
use fulmen_node::{Command, CommandId, PeerAddress, PeerInfo};
use fulmen_types::{NodeId, Timestamp};

use super::{App, Caller, Serve, node_id_of, peer_of};
use crate::{api_error::ApiError, views};

/// A ban that nobody has set an end to.
const FOR_EVER: Timestamp = Timestamp::new(u64::MAX);

impl Serve for api::Connect {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Connected, ApiError> {
        let (peer, address) = match peer_of(&self.peer)? {
            (peer, Some(address)) => (peer, address),
            (peer, None) => {
                let known = view_of(&app.net.view(), peer).and_then(|view| {
                    let address = view.addresses.first();
                    address.cloned().map(PeerAddress)
                });
                let address = known.ok_or_else(|| {
                    ApiError::invalid(format!(
                        "it is not known where this peer listens: say {peer}@host:port"
                    ))
                })?;
                (peer, address)
            }
        };
        app.connect(caller.id, peer, address).await?;
        Ok(api::Connected {
            node_id: peer.to_string(),
        })
    }
}

impl Serve for api::Disconnect {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Done, ApiError> {
        let peer = node_id_of(&self.node_id)?;
        let force = self.force;
        let command = Command::Disconnect { peer, force };
        match app.node.command(caller.id, command).await {
            Ok(_) => Ok(api::Done {}),
            // Without a connection there may be attempts to make one, and these end as well.
            Err(error) if error.0.code == ErrorCode::PeerNotConnected => {
                let looked_for = view_of(&app.net.view(), peer).is_some_and(|view| {
                    matches!(view.state, PeerState::Dialling | PeerState::Waiting { .. })
                });
                if !looked_for {
                    return Err(error);
                }
                if !force && app.channels_with(peer).await? > 0 {
                    return Err(ApiError::new(
                        ErrorCode::Refused,
                        "there are channels with this peer, and they need the connection; use --force to stop looking for it all the same",
                    ));
                }
                app.net.rest(peer);
                Ok(api::Done {})
            }
            Err(error) => Err(error),
        }
    }
}

impl Serve for api::Ban {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::Done, ApiError> {
        let peer = node_id_of(&self.node_id)?;
        if peer == app.net.node_id() {
            return Err(ApiError::invalid("that is this node's own key"));
        }
        if self.secs == Some(0) {
            return Err(ApiError::invalid(
                "a ban of 0 seconds is none; leave `secs` out for one without an end",
            ));
        }
        if app.channels_with(peer).await? > 0 {
            return Err(ApiError::new(
                ErrorCode::Refused,
                "there are channels with this peer, and they need the connection; close them first",
            ));
        }
        let until = self.secs.map_or(FOR_EVER, |secs| {
            app.net.now().plus_millis(secs.saturating_mul(1_000))
        });
        app.net.ban(peer, until);
        Ok(api::Done {})
    }
}

impl Serve for api::Unban {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::Done, ApiError> {
        app.net.unban(node_id_of(&self.node_id)?);
        Ok(api::Done {})
    }
}

impl Serve for api::ListPeers {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::PeerList, ApiError> {
        let of_node = app.node.query(|node| node.peers_info()).await?;
        let view = app.net.view();
        let now = app.net.now();
        let mut peers: Vec<api::PeerInfo> = of_node
            .iter()
            .map(|peer| views::peer(peer, view_of(&view, peer.node_id), now))
            .collect();
        // Those that the node itself does not know, but that are looked for or left alone.
        let others = view.peers.iter().filter(|view| {
            let is_shown = match view.state {
                PeerState::Dialling | PeerState::Waiting { .. } | PeerState::Resting => true,
                PeerState::Connected { .. } | PeerState::Idle => false,
            };
            is_shown && of_node.iter().all(|p| NodeId::from(p.node_id) != view.peer)
        });
        for view in others {
            let Ok(node_id) = view.peer.to_public_key() else {
                continue;
            };
            let unknown = PeerInfo {
                node_id,
                addresses: view.addresses.iter().cloned().map(PeerAddress).collect(),
                connection: None,
                features: None,
                channels: 0,
            };
            peers.push(views::peer(&unknown, Some(view), now));
        }
        let banned = view.bans.iter().map(|ban| api::BanInfo {
            node_id: ban.peer.to_string(),
            secs_left: (ban.until != FOR_EVER).then(|| ban.until.millis_since(now).div_ceil(1_000)),
            by_user: ban.by_user,
        });
        Ok(api::PeerList {
            peers,
            banned: banned.collect(),
        })
    }
}

impl App {
    /// Connects, and says what to look at when that fails.
    pub(super) async fn connect(
        &self,
        id: CommandId,
        peer: PublicKey,
        address: PeerAddress,
    ) -> Result<(), ApiError> {
        let place = views::printable(&address.0);
        match self
            .node
            .command(id, Command::Connect { peer, address })
            .await
        {
            Ok(_) => Ok(()),
            Err(ApiError(mut detail)) if detail.code == ErrorCode::Failed => {
                detail.message = format!(
                    "could not connect to {peer} at {place}: {}; check the node id and the address, and that the peer runs",
                    detail.message
                );
                Err(ApiError(detail))
            }
            Err(other) => Err(other),
        }
    }

    /// How many channels there are with a peer.
    async fn channels_with(&self, peer: PublicKey) -> Result<usize, ApiError> {
        let count = move |peers: Vec<PeerInfo>| {
            let found = peers.into_iter().find(|info| info.node_id == peer);
            found.map_or(0, |info| info.channels)
        };
        self.node.query(move |node| count(node.peers_info())).await
    }
}

fn view_of(view: &View, peer: PublicKey) -> Option<&PeerView> {
    let peer = NodeId::from(peer);
    view.peers.iter().find(|view| view.peer == peer)
}
