//! Endpoints over loopback, honest and not.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_connect::{
    ConnectConfig, ConnectionPolicy, Input, NodeAddresses, Output, PeerState, Question, Refusal,
    StandardPolicy, View,
};
use fulmen_net_tokio::{
    Connections, Directory, Epoch, Initiator, Net, NetConfig, NetEvent, NoDirectory, SendError,
    Work,
};
use fulmen_noise::{Handshake, LocalKey, Progress, Transport};
use fulmen_types::{ChannelId, Timestamp};
use fulmen_wire::{Message, Ping, Warning};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::Receiver,
    time::timeout,
};

struct End {
    net: Net,
    events: Receiver<NetEvent>,
}

impl End {
    fn new(seed: u8) -> Self {
        Self::with(seed, NetConfig::default())
    }

    fn with(seed: u8, config: NetConfig) -> Self {
        Self::limited(seed, config, quick())
    }

    fn limited(seed: u8, config: NetConfig, limits: ConnectConfig) -> Self {
        let key = Arc::new(LocalKey::new(secret(seed)));
        let (net, events) = Net::start(config, key, Connections::standard(limits));
        Self { net, events }
    }

    fn id(&self) -> PublicKey {
        self.net.node_id()
    }

    async fn listen(&self) -> String {
        self.net.listen("127.0.0.1:0").await.unwrap().to_string()
    }

    async fn event(&mut self) -> NetEvent {
        timeout(Duration::from_secs(10), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// After attempts that failed, if any.
    async fn connected(&mut self) -> (PublicKey, Epoch) {
        loop {
            match self.event().await {
                NetEvent::Connected { peer, epoch, .. } => return (peer, epoch),
                NetEvent::ConnectFailed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn message(&mut self) -> Message {
        match self.event().await {
            NetEvent::Message { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    async fn disconnected(&mut self) -> (Epoch, String) {
        match self.event().await {
            NetEvent::Disconnected { epoch, reason, .. } => (epoch, reason),
            other => panic!("{other:?}"),
        }
    }

    async fn nothing_for(&mut self, millis: u64) {
        let event = timeout(Duration::from_millis(millis), self.events.recv()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

/// Looks for nobody but who is wanted, and soon again.
fn quick() -> ConnectConfig {
    ConnectConfig {
        min_peers: 0,
        min_backoff: 50,
        ..ConnectConfig::default()
    }
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_slice(&[seed; 32]).unwrap()
}

fn text(text: &str) -> Message {
    Warning::new(ChannelId::ALL, text).into()
}

/// A peer in the hands of the test.
struct Raw {
    socket: TcpStream,
    noise: Transport,
}

impl Raw {
    async fn connect(address: &str, seed: u8, remote: PublicKey) -> Self {
        let raw = Self::try_connect(address, secret(seed), remote).await;
        raw.unwrap()
    }

    /// `None` when the other end closes during the handshake.
    async fn try_connect(address: &str, key: SecretKey, remote: PublicKey) -> Option<Self> {
        let mut socket = TcpStream::connect(address).await.ok()?;
        let key = LocalKey::new(key);
        let (mut handshake, act) = Handshake::initiator(key, secret(77), remote).unwrap();
        socket.write_all(&act).await.ok()?;
        let mut act_two = [0; 50];
        socket.read_exact(&mut act_two).await.ok()?;
        let Progress::Done(session) = handshake.receive(&mut &act_two[..]).unwrap() else {
            panic!()
        };
        socket.write_all(&session.send).await.ok()?;
        Some(Self {
            socket,
            noise: session.transport,
        })
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = Vec::new();
        self.noise.encrypt(bytes, &mut out).unwrap();
        self.socket.write_all(&out).await
    }

    /// The next message; `None` at the end of the connection.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut byte = [0; 1];
            if self.socket.read(&mut byte).await.unwrap_or(0) == 0 {
                return None;
            }
            if let Some(message) = self.noise.decrypt(&mut &byte[..]).unwrap() {
                return Some(message);
            }
        }
    }
}

#[tokio::test]
async fn messages_go_both_ways_in_order_and_the_last_words_arrive() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let address = b.listen().await;
    a.net
        .connect(b.id(), vec!["127.0.0.1:1".into(), address.clone()]);
    let NetEvent::Connected {
        peer,
        epoch: ea,
        initiator,
        address: dialled,
        ..
    } = a.event().await
    else {
        panic!()
    };
    assert_eq!(
        (peer, initiator, dialled),
        (b.id(), Initiator::Us, Some(address))
    );
    let (peer, eb) = b.connected().await;
    assert_eq!(peer, a.id());
    for n in 0..500 {
        a.net.send(b.id(), ea, &text(&format!("to b {n}"))).unwrap();
        b.net.send(a.id(), eb, &text(&format!("to a {n}"))).unwrap();
    }
    a.net.send(b.id(), ea, &text(&"x".repeat(65_000))).unwrap();
    a.net.disconnect(b.id(), ea, None);
    assert_eq!(
        a.net.send(b.id(), ea, &text("too late")),
        Err(SendError::NotConnected)
    );
    for n in 0..500 {
        assert_eq!(b.message().await, text(&format!("to b {n}")));
    }
    assert_eq!(b.message().await, text(&"x".repeat(65_000)));
    assert_eq!(b.disconnected().await.0, eb);
    assert_eq!(
        b.net.send(a.id(), eb, &text("late")),
        Err(SendError::NotConnected)
    );
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_the_connection_stays() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.net.connect(b.id(), vec![b.listen().await]);
    let (_, ea) = a.connected().await;
    b.connected().await;
    let long = Message::Unknown {
        type_: 32_769,
        payload: vec![0; 65_534],
    };
    assert_eq!(a.net.send(b.id(), ea, &long), Err(SendError::TooLong));
    let longest = Message::Unknown {
        type_: 32_769,
        payload: vec![7; 65_533],
    };
    a.net.send(b.id(), ea, &longest).unwrap();
    assert_eq!(b.message().await, longest);
}

#[tokio::test]
async fn the_wrong_key_and_a_closed_port_are_told() {
    let (mut a, b) = (End::new(1), End::new(2));
    let address = b.listen().await;
    let stranger = End::new(3).id();
    a.net.connect(stranger, vec![address]);
    let NetEvent::ConnectFailed { peer, .. } = a.event().await else {
        panic!()
    };
    assert_eq!(peer, stranger);
    a.net.connect(b.id(), vec!["127.0.0.1:1".into()]);
    assert!(matches!(a.event().await, NetEvent::ConnectFailed { .. }));
}

#[tokio::test]
async fn a_new_connection_replaces_the_old_one() {
    let mut b = End::new(2);
    let address = b.listen().await;
    let mut old = Raw::connect(&address, 1, b.id()).await;
    let (peer, first) = b.connected().await;
    let _new = Raw::connect(&address, 1, b.id()).await;
    assert_eq!(b.disconnected().await.0, first);
    let (again, second) = b.connected().await;
    assert_eq!(again, peer);
    assert!(second > first);
    assert!(old.receive().await.is_none());
    assert_eq!(
        b.net.send(peer, first, &text("old")),
        Err(SendError::NotConnected)
    );
    b.net.send(peer, second, &text("new")).unwrap();
}

#[tokio::test]
async fn dials_that_cross_settle_on_one_connection() {
    for _ in 0..10 {
        let (mut a, mut b) = (End::new(1), End::new(2));
        let (to_a, to_b) = (a.listen().await, b.listen().await);
        a.net.keep_connected(b.id(), vec![to_b]);
        b.net.keep_connected(a.id(), vec![to_a]);
        let settle = |end: &mut End| {
            let mut live = None;
            while let Ok(event) = end.events.try_recv() {
                match event {
                    NetEvent::Connected { epoch, .. } => live = Some(epoch),
                    NetEvent::Disconnected { epoch, .. } if live == Some(epoch) => live = None,
                    _ => {}
                }
            }
            live
        };
        tokio::time::sleep(Duration::from_millis(400)).await;
        let ea = settle(&mut a).unwrap();
        settle(&mut b).unwrap();
        a.net.send(b.id(), ea, &text("here")).unwrap();
        assert_eq!(b.message().await, text("here"));
        a.nothing_for(100).await;
        a.net.shutdown();
        b.net.shutdown();
    }
}

#[tokio::test]
async fn a_wanted_peer_is_dialled_until_it_comes_back() {
    let (mut a, b) = (End::new(1), End::new(2));
    let address = b.listen().await;
    a.net.keep_connected(b.id(), vec![address.clone()]);
    let (_, first) = a.connected().await;
    b.net.shutdown();
    drop(b);
    assert_eq!(a.disconnected().await.0, first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut b = End::new(2);
    b.net.listen(&address).await.unwrap();
    let (peer, second) = a.connected().await;
    assert_eq!(peer, b.id());
    assert!(second > first);
    b.connected().await;
    a.net.stop_connecting(peer);
    b.net.disconnect(a.id(), Epoch(1), None);
    a.disconnected().await;
    a.nothing_for(500).await;
}

#[tokio::test]
async fn pings_are_answered_but_only_after_the_first_word_of_the_node() {
    let mut b = End::new(2);
    let address = b.listen().await;
    let mut raw = Raw::connect(&address, 1, b.id()).await;
    let (peer, epoch) = b.connected().await;
    let ping = |n| {
        Message::from(Ping {
            num_pong_bytes: n,
            ignored: vec![],
        })
        .encode()
    };
    raw.send(&ping(1)).await.unwrap();
    raw.send(&text("hello").encode()).await.unwrap();
    assert_eq!(b.message().await, text("hello"));
    b.net.send(peer, epoch, &text("init")).unwrap();
    assert_eq!(raw.receive().await.unwrap(), text("init").encode());
    raw.send(&ping(65_532)).await.unwrap();
    raw.send(&ping(9)).await.unwrap();
    assert_eq!(
        raw.receive().await.unwrap(),
        [&[0, 19, 0, 9][..], &[0; 9]].concat()
    );
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_left() {
    let config = NetConfig {
        ping_interval: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(300),
        ..NetConfig::default()
    };
    let mut b = End::with(2, config.clone());
    let address = b.listen().await;
    let mut raw = Raw::connect(&address, 1, b.id()).await;
    let (peer, epoch) = b.connected().await;
    b.net.send(peer, epoch, &text("init")).unwrap();
    raw.receive().await.unwrap();
    assert_eq!(raw.receive().await.unwrap()[..2], [0, 18]);
    // Single bytes of a message that never ends don't count as life.
    let mut out = Vec::new();
    raw.noise.encrypt(&[0; 1_000], &mut out).unwrap();
    for byte in out {
        if raw.socket.write_all(&[byte]).await.is_err() || !b.net.is_connected(peer) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(b.disconnected().await.1, "the peer went silent");
    // An honest one answers, and stays.
    let mut a = End::with(3, config);
    a.net.connect(b.id(), vec![address]);
    let (_, ea) = a.connected().await;
    let (_, eb) = b.connected().await;
    a.net.send(b.id(), ea, &text("init")).unwrap();
    b.net.send(a.id(), eb, &text("init")).unwrap();
    assert_eq!(b.message().await, text("init"));
    b.nothing_for(1_000).await;
}

#[tokio::test]
async fn garbage_and_slow_handshakes_end_and_give_their_place_back() {
    let config = NetConfig {
        handshake_timeout: Duration::from_millis(300),
        ..NetConfig::default()
    };
    let limits = ConnectConfig {
        max_handshakes: 2,
        ..quick()
    };
    let mut b = End::limited(2, config, limits);
    let address = b.listen().await;
    let mut garbage = TcpStream::connect(&address).await.unwrap();
    garbage.write_all(&[0x55; 50]).await.unwrap();
    let mut byte = [0];
    assert_eq!(
        garbage.read(&mut byte).await.unwrap_or(0),
        0,
        "garbage is closed at once"
    );

    let started = tokio::time::Instant::now();
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(&[0]).await.unwrap();
        slow.push(socket);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One of the first two had to give way to the third.
    let (one, two) = slow.split_at_mut(1);
    let mut bytes = ([0], [0]);
    tokio::select! {
        read = one[0].read(&mut bytes.0) => assert_eq!(read.unwrap_or(0), 0),
        read = two[0].read(&mut bytes.1) => assert_eq!(read.unwrap_or(0), 0),
    }
    assert!(started.elapsed() < Duration::from_millis(280));
    for mut socket in slow {
        assert_eq!(
            socket.read(&mut byte).await.unwrap_or(0),
            0,
            "slow ones time out"
        );
    }
    let _raw = Raw::connect(&address, 1, b.id()).await;
    b.connected().await;
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_the_connection() {
    let mut b = End::new(2);
    let address = b.listen().await;
    let mut raw = Raw::connect(&address, 1, b.id()).await;
    b.connected().await;
    raw.socket.write_all(&[0x55; 100]).await.unwrap();
    b.disconnected().await;

    // What decrypts but is no message is answered by a warning.
    let mut raw = Raw::connect(&address, 1, b.id()).await;
    let (peer, epoch) = b.connected().await;
    b.net.send(peer, epoch, &text("init")).unwrap();
    raw.receive().await.unwrap();
    raw.send(&[0x80, 0x00]).await.unwrap();
    assert_eq!(raw.receive().await.unwrap()[..2], [0, 1], "a warning");
    assert!(raw.receive().await.is_none());
    assert!(b.disconnected().await.1.contains("32768"));
}

#[tokio::test]
async fn who_does_not_read_is_left_and_memory_stays_bounded() {
    let config = NetConfig {
        send_queue_bytes: 1_000_000,
        ..NetConfig::default()
    };
    let mut b = End::with(2, config);
    let address = b.listen().await;
    let _raw = Raw::connect(&address, 1, b.id()).await;
    let (peer, epoch) = b.connected().await;
    let message = text(&"x".repeat(60_000));
    let mut most = 0;
    let refused = loop {
        if let Err(e) = b.net.send(peer, epoch, &message) {
            break e;
        }
        most = most.max(b.net.queued_bytes(peer, epoch).unwrap_or(0));
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, SendError::QueueFull);
    assert!(most <= 1_000_000);
    assert_eq!(b.disconnected().await.0, epoch);
}

#[tokio::test]
async fn a_slow_driver_stops_the_reading() {
    let config = NetConfig {
        event_queue: 4,
        ..NetConfig::default()
    };
    let mut b = End::with(2, config);
    let address = b.listen().await;
    let mut raw = Raw::connect(&address, 1, b.id()).await;
    b.connected().await;
    let message = text(&"x".repeat(60_000)).encode();
    let mut sent = 0u32;
    // Socket buffers take some; then the peer can't send any more.
    while sent < 5_000 {
        match timeout(Duration::from_millis(300), raw.send(&message)).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        sent += 1;
    }
    assert!(
        sent < 1_000,
        "{sent} messages were taken without anybody reading them"
    );
    for _ in 0..sent {
        b.message().await;
    }
}

#[tokio::test]
async fn strangers_have_a_limit_that_wanted_peers_have_not() {
    let limits = ConnectConfig {
        max_inbound: 2,
        ..quick()
    };
    let mut b = End::limited(2, NetConfig::default(), limits);
    let address = b.listen().await;
    let mut kept = Vec::new();
    for seed in [11, 12] {
        kept.push(Raw::connect(&address, seed, b.id()).await);
        b.connected().await;
    }
    let mut third = Raw::connect(&address, 13, b.id()).await;
    assert!(third.receive().await.is_none());
    b.net.keep_connected(End::new(14).id(), vec![]);
    let _fourth = Raw::connect(&address, 14, b.id()).await;
    assert_eq!(b.connected().await.0, End::new(14).id());
}

#[tokio::test]
async fn a_flood_of_a_thousand_connections_does_not_keep_a_friend_out() {
    let mut b = End::limited(2, NetConfig::default(), quick());
    let address = b.listen().await;
    b.net.keep_connected(End::new(1).id(), vec![]);
    // Silent ones, which hold places for handshakes, and strangers who shake hands.
    let (to, id) = (address.clone(), b.id());
    let silent = tokio::spawn(async move {
        let mut sockets = Vec::new();
        for _ in 0..800 {
            if let Ok(socket) = TcpStream::connect(&to).await {
                sockets.push(socket);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sockets
    });
    let to = address.clone();
    let strangers = tokio::spawn(async move {
        let mut raws = Vec::new();
        for number in 0..200u16 {
            let mut bytes = [9; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            let key = SecretKey::from_slice(&bytes).unwrap();
            if let Some(raw) = Raw::try_connect(&to, key, id).await {
                raws.push(raw);
            }
        }
        raws
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let friend = End::new(1);
    // It dials as any peer does that has a channel: until it is in.
    friend.net.keep_connected(b.id(), vec![address]);
    let mut strangers_in = 0usize;
    let came = timeout(Duration::from_secs(20), async {
        loop {
            match b.events.recv().await.unwrap() {
                NetEvent::Connected { peer, .. } if peer == friend.id() => return,
                NetEvent::Connected { .. } => strangers_in += 1,
                _ => {}
            }
        }
    });
    came.await.unwrap();
    let (_silent, _strangers) = (silent.await.unwrap(), strangers.await.unwrap());
    tokio::time::sleep(Duration::from_millis(200)).await;
    while let Ok(event) = b.events.try_recv() {
        strangers_in += usize::from(matches!(event, NetEvent::Connected { .. }));
        let is_friend = matches!(event, NetEvent::Disconnected { peer, .. } if peer == friend.id());
        assert!(!is_friend, "the friend was thrown out");
    }
    let view = b.net.view();
    let connected = view
        .peers
        .iter()
        .filter(|p| matches!(p.state, PeerState::Connected { .. }));
    assert!(connected.count() <= quick().max_inbound + 1);
    assert!(strangers_in > 0);
}

#[tokio::test]
async fn who_sends_garbage_is_banned_and_let_in_again_when_forgiven() {
    let mut b = End::new(2);
    let address = b.listen().await;
    for _ in 0..3 {
        let mut raw = Raw::connect(&address, 1, b.id()).await;
        b.connected().await;
        raw.socket.write_all(&[0x55; 100]).await.unwrap();
        b.disconnected().await;
    }
    let mut raw = Raw::connect(&address, 1, b.id()).await;
    assert!(raw.receive().await.is_none());
    b.nothing_for(100).await;
    let view = b.net.view();
    assert_eq!(view.bans.len(), 1);
    b.net.unban(End::new(1).id());
    let _raw = Raw::connect(&address, 1, b.id()).await;
    b.connected().await;
}

#[tokio::test]
async fn a_lost_peer_is_found_where_it_announces_itself() {
    struct Told(Mutex<Option<NodeAddresses>>);
    impl Directory for Told {
        fn ask(&self, question: Question) -> Work<Vec<NodeAddresses>> {
            let known = self.0.lock().unwrap().clone();
            Box::pin(async move {
                match question {
                    Question::Graph { nodes, .. } => known
                        .into_iter()
                        .filter(|k| nodes.contains(&k.node))
                        .collect(),
                    Question::Seeds { .. } => Vec::new(),
                }
            })
        }
    }
    let limits = ConnectConfig {
        ask_interval: 100,
        dial_private: true,
        ..quick()
    };
    let mut b = End::new(2);
    let old = b.listen().await;
    let told = Arc::new(Told(Mutex::new(None)));
    let connections = Connections {
        policy: Box::new(StandardPolicy::new(limits, [1; 32], &[])),
        directory: told.clone(),
    };
    let key = Arc::new(LocalKey::new(secret(1)));
    let (net, events) = Net::start(NetConfig::default(), key, connections);
    let mut a = End { net, events };
    a.net.keep_connected(b.id(), vec![old]);
    a.connected().await;
    b.connected().await;
    // It moves.
    b.net.shutdown();
    a.disconnected().await;
    let mut b = End::new(2);
    let new = b.listen().await;
    *told.0.lock().unwrap() = Some(NodeAddresses {
        node: b.id().into(),
        addresses: vec![new.clone()],
    });
    loop {
        match a.event().await {
            NetEvent::Connected { address, .. } => {
                assert_eq!(address, Some(new));
                break;
            }
            NetEvent::ConnectFailed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    b.connected().await;
}

#[tokio::test]
async fn a_peer_that_a_user_leaves_is_not_dialled_and_a_wish_that_ends_is_told() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let address = b.listen().await;
    a.net.keep_connected(b.id(), vec![address.clone()]);
    let (_, epoch) = a.connected().await;
    b.connected().await;
    a.net.rest(b.id());
    a.net.disconnect(b.id(), epoch, None);
    a.disconnected().await;
    b.disconnected().await;
    a.nothing_for(500).await;
    a.net.connect(b.id(), vec![]);
    a.connected().await;
    // A listener that never answers: the dial hangs in the handshake.
    let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hole = hole.local_addr().unwrap().to_string();
    let nobody = End::new(3).id();
    a.net.connect(nobody, vec![hole]);
    a.net.rest(nobody);
    match a.event().await {
        NetEvent::ConnectFailed { peer, .. } => assert_eq!(peer, nobody),
        other => panic!("{other:?}"),
    }
}

/// A policy of a user's own: it lets one peer in and looks for nobody.
struct OnlyOne(PublicKey);

impl ConnectionPolicy for OnlyOne {
    fn handle(&mut self, _now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Incoming { id, .. } => vec![Output::Accept { id }],
            Input::Connected { id, peer, .. } if peer == self.0.into() => {
                vec![Output::Accept { id }]
            }
            Input::Connected { id, .. } => {
                let why = Refusal::Unwanted;
                vec![Output::Refuse { id, why }]
            }
            _ => Vec::new(),
        }
    }

    fn next_wake(&self, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    fn view(&self, _now: Timestamp) -> View {
        View::default()
    }

    fn memory(&self, _now: Timestamp) -> Vec<u8> {
        b"one".to_vec()
    }
}

#[tokio::test]
async fn a_policy_of_ones_own_takes_the_place_of_the_standard_one() {
    let connections = Connections {
        policy: Box::new(OnlyOne(End::new(1).id())),
        directory: Arc::new(NoDirectory),
    };
    let key = Arc::new(LocalKey::new(secret(2)));
    let (net, events) = Net::start(NetConfig::default(), key, connections);
    let mut b = End { net, events };
    let address = b.listen().await;
    let mut stranger = Raw::connect(&address, 3, b.id()).await;
    assert!(stranger.receive().await.is_none());
    let _one = Raw::connect(&address, 1, b.id()).await;
    assert_eq!(b.connected().await.0, End::new(1).id());
    // It dials nobody, whoever asks.
    b.net.keep_connected(End::new(4).id(), vec![address]);
    b.nothing_for(200).await;
    assert_eq!(b.net.memory(), b"one");
}
