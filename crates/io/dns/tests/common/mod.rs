//! A name server on localhost that says whatever a test wants, over UDP and TCP on one port.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;

/// A query as it came.
pub(crate) struct Asked {
    pub(crate) bytes: Vec<u8>,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) over_tcp: bool,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) queries: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each query with the messages that `answer` makes of it.
    pub(crate) async fn start(
        answer: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        // The same port for both: the first that is free for TCP as well.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let address = udp.local_addr().expect("bound");
            if let Ok(tcp) = TcpListener::bind(address).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("bound");
        let answer = Arc::new(answer);
        let queries = Arc::new(AtomicUsize::new(0));
        let (over_udp, counted) = (answer.clone(), queries.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                counted.fetch_add(1, Ordering::Relaxed);
                for message in over_udp(&asked(&buffer[..length], false)) {
                    let _ = udp.send_to(&message, from).await;
                }
            }
        });
        let counted = queries.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = tcp.accept().await {
                let (answer, counted) = (answer.clone(), counted.clone());
                tokio::spawn(async move {
                    while let Ok(length) = socket.read_u16().await {
                        let mut query = vec![0; usize::from(length)];
                        if socket.read_exact(&mut query).await.is_err() {
                            return;
                        }
                        counted.fetch_add(1, Ordering::Relaxed);
                        for message in answer(&asked(&query, true)) {
                            let length = u16::try_from(message.len()).expect("short enough");
                            let _ = socket.write_u16(length).await;
                            let _ = socket.write_all(&message).await;
                        }
                    }
                });
            }
        });
        Self { address, queries }
    }

    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

fn asked(bytes: &[u8], over_tcp: bool) -> Asked {
    let mut labels = Vec::new();
    let mut at = 12;
    while bytes[at] != 0 {
        let length = usize::from(bytes[at]);
        labels.push(String::from_utf8_lossy(&bytes[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    Asked {
        name: labels.join("."),
        kind: u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]),
        bytes: bytes[..at + 5].to_vec(),
        over_tcp,
    }
}

/// One record of an answer.
pub(crate) struct Record {
    name: String,
    kind: u16,
    data: Vec<u8>,
}

pub(crate) fn record(name: &str, kind: u16, data: Vec<u8>) -> Record {
    Record {
        name: name.into(),
        kind,
        data,
    }
}

pub(crate) fn a(name: &str, ip: Ipv4Addr) -> Record {
    record(name, A, ip.octets().to_vec())
}

pub(crate) fn aaaa(name: &str, ip: Ipv6Addr) -> Record {
    record(name, AAAA, ip.octets().to_vec())
}

pub(crate) fn cname(name: &str, target: &str) -> Record {
    record(name, CNAME, wire_name(target))
}

pub(crate) fn srv(name: &str, port: u16, target: &str) -> Record {
    let mut data = vec![0, 10, 0, 10];
    data.extend_from_slice(&port.to_be_bytes());
    data.extend(wire_name(target));
    record(name, SRV, data)
}

pub(crate) fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        out.push(u8::try_from(label.len()).expect("short labels"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

impl Asked {
    /// The answer with these records.
    pub(crate) fn with(&self, records: &[Record]) -> Vec<u8> {
        let mut message = self.bytes.clone();
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        let count = u16::try_from(records.len()).expect("not so many");
        message[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        message[6..8].copy_from_slice(&count.to_be_bytes());
        for record in records {
            message.extend(wire_name(&record.name));
            message.extend_from_slice(&record.kind.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            let length = u16::try_from(record.data.len()).expect("not so long");
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(&record.data);
        }
        message
    }

    /// The empty answer with the flag that there is more over TCP.
    pub(crate) fn truncated(&self) -> Vec<u8> {
        let mut message = self.with(&[]);
        message[2] |= 0x02;
        message
    }

    /// That there is no such name.
    pub(crate) fn no_such_name(&self) -> Vec<u8> {
        let mut message = self.with(&[]);
        message[3] |= 3;
        message
    }
}
