//! BOLT 7 address descriptors, their text forms, and what else is read from a few bytes or letters.

use fulmen_offers::Bip353Name;
use fulmen_types::{
    Features, ShortChannelId,
    codec::{BigSize, Decode, Encode, Reader, Truncated, Utf8},
};
use fulmen_wire::NetAddress;
use lightning::util::ser::{Readable, Writeable};

use crate::choice;

/// The first byte chooses the type.
pub(crate) fn addresses(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    match which % 8 {
        0 => descriptor(data),
        1 => text(data),
        2 => {
            if let Some(big) = again::<BigSize>(data) {
                let theirs = lightning::util::ser::BigSize::read(&mut &data[..]);
                assert_eq!(theirs.map(|n| n.0), Ok(big.0));
            } else {
                let mut rest = data;
                let theirs = lightning::util::ser::BigSize::read(&mut rest);
                assert!(theirs.is_err() || !rest.is_empty());
            }
        }
        3 => drop(again::<Truncated<u64>>(data)),
        4 => drop(again::<Truncated<u32>>(data)),
        5 => {
            let features = Features::from_be_bytes(data);
            assert_eq!(Features::from_be_bytes(&features.to_be_bytes()), features);
            let _ = (features.check().is_ok(), features.bits().count());
            let _ = (
                Features::empty().check_peer(&features).is_ok(),
                format!("{features:?}"),
            );
        }
        6 => drop(again::<Utf8>(data)),
        _ => drop(again::<Bip353Name>(data)),
    }
}

fn again<T: Encode + Decode>(data: &[u8]) -> Option<T> {
    let value = T::from_bytes(data).ok()?;
    assert_eq!(value.to_bytes(), data, "there is one encoding");
    Some(value)
}

fn descriptor(data: &[u8]) {
    let mut r = Reader::new(data);
    let ours = NetAddress::decode(&mut r);
    let read = &data[..data.len() - r.remaining().len()];
    let mut rest = data;
    let theirs: Result<Result<lightning::ln::msgs::SocketAddress, u8>, _> =
        Readable::read(&mut rest);
    let Ok(address) = ours else {
        assert!(
            !matches!(theirs, Ok(Ok(_))),
            "only LDK reads it: {theirs:?}"
        );
        return;
    };
    assert_eq!(address.to_bytes(), read, "signatures cover every byte");
    match (&address, theirs) {
        // Tor v2, unknown types, names that are none.
        (NetAddress::Unknown(_), _) => {}
        (_, Ok(Ok(theirs))) => {
            assert_eq!(theirs.encode(), read);
            assert!(fulmen_compare::Same::same(&address, &theirs));
            // A host name that looks like one of Tor's is none that the DNS has: as a text it is Tor's.
            if !matches!(&address, NetAddress::DnsHostname { hostname, .. } if hostname.as_str().ends_with(".onion"))
            {
                assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
            }
        }
        (_, theirs) => panic!("only Fulmen reads {address}: {theirs:?}"),
    }
}

fn text(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = text.parse::<NetAddress>() {
        assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
        assert_eq!(NetAddress::from_bytes(&address.to_bytes()), Ok(address));
    }
    if let Ok(scid) = text.parse::<ShortChannelId>() {
        assert_eq!(scid.to_string().parse(), Ok(scid));
    }
    if let Ok(name) = text.parse::<Bip353Name>() {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    let shown = fulmen_types::Printable(data).to_string();
    assert!(!shown.chars().any(char::is_control));
}
