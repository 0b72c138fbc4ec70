//! Endpoints over loopback, honest and not.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{sync::Arc, time::Duration};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_net_tokio::{Epoch, Initiator, Net, NetConfig, NetEvent, SendError};
use fulmen_noise::{Handshake, LocalKey, Progress, Transport};
use fulmen_types::ChannelId;
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
        Self::with(
            seed,
            NetConfig {
                min_backoff: Duration::from_millis(50),
                ..NetConfig::default()
            },
        )
    }

    fn with(seed: u8, config: NetConfig) -> Self {
        let (net, events) = Net::start(config, Arc::new(LocalKey::new(secret(seed))));
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

    async fn connected(&mut self) -> (PublicKey, Epoch) {
        match self.event().await {
            NetEvent::Connected { peer, epoch, .. } => (peer, epoch),
            other => panic!("{other:?}"),
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
        let mut socket = TcpStream::connect(address).await.unwrap();
        let key = LocalKey::new(secret(seed));
        let (mut handshake, act) = Handshake::initiator(key, secret(77), remote).unwrap();
        socket.write_all(&act).await.unwrap();
        let mut act_two = [0; 50];
        socket.read_exact(&mut act_two).await.unwrap();
        let Progress::Done(session) = handshake.receive(&mut &act_two[..]).unwrap() else {
            panic!()
        };
        socket.write_all(&session.send).await.unwrap();
        Self {
            socket,
            noise: session.transport,
        }
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
    a.net.disconnect(b.id(), ea);
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
        a.net.want(b.id(), vec![to_b]);
        b.net.want(a.id(), vec![to_a]);
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
    a.net.want(b.id(), vec![address.clone()]);
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
    a.net.unwant(peer);
    b.net.disconnect(a.id(), Epoch(1));
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
        max_handshakes: 2,
        ..NetConfig::default()
    };
    let mut b = End::with(2, config);
    let address = b.listen().await;
    let mut garbage = TcpStream::connect(&address).await.unwrap();
    garbage.write_all(&[0x55; 50]).await.unwrap();
    let mut byte = [0];
    assert_eq!(
        garbage.read(&mut byte).await.unwrap_or(0),
        0,
        "garbage is closed at once"
    );

    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(&[0]).await.unwrap();
        slow.push(socket);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut third = TcpStream::connect(&address).await.unwrap();
    assert_eq!(
        third.read(&mut byte).await.unwrap_or(0),
        0,
        "a third handshake is not begun"
    );
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
    let config = NetConfig {
        max_inbound: 2,
        ..NetConfig::default()
    };
    let mut b = End::with(2, config);
    let address = b.listen().await;
    let mut kept = Vec::new();
    for seed in [11, 12] {
        kept.push(Raw::connect(&address, seed, b.id()).await);
        b.connected().await;
    }
    let mut third = Raw::connect(&address, 13, b.id()).await;
    assert!(third.receive().await.is_none());
    b.net.want(End::new(14).id(), vec![]);
    assert!(matches!(b.event().await, NetEvent::ConnectFailed { .. }));
    let _fourth = Raw::connect(&address, 14, b.id()).await;
    assert_eq!(b.connected().await.0, End::new(14).id());
}
