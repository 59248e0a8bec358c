//! Machine rooms: which hosts lie in which one (`assignment.rooms`), where neither clients nor nodes can tell.

use std::net::IpAddr;

/// Some machine rooms, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rooms(Vec<Vec<Place>>);

/// What lies in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// All addresses that begin with the same bits.
    Network { first: u128, prefix_bits: u32 },
    /// A host by its name.
    Host(String),
}

impl Rooms {
    /// Reads `room=place,place; room=place`, where a place is an address, a network as `10.1.0.0/16` or a host name. `None` for
    /// anything else; the empty text has no rooms.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rooms = text.split(';').map(str::trim).filter(|room| !room.is_empty());
        rooms.map(places).collect::<Option<Vec<_>>>().map(Self)
    }

    /// The number of the room that a host lies in, by its address or name: the first one that has it.
    #[must_use]
    pub fn room_of(&self, host: &str) -> Option<usize> {
        let address = host.parse().ok().map(bits);
        let is_in = |place: &Place| match place {
            Place::Network { first, prefix_bits } => {
                address.is_some_and(|address| is_same(*first, address, *prefix_bits))
            }
            Place::Host(name) => name.eq_ignore_ascii_case(host),
        };
        self.0.iter().position(|places| places.iter().any(is_in))
    }
}

fn places(room: &str) -> Option<Vec<Place>> {
    let (name, places) = room.split_once('=')?;
    (!name.trim().is_empty()).then_some(())?;
    places.split(',').map(|place| place_of(place.trim())).collect()
}

fn place_of(text: &str) -> Option<Place> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Place::Network { first: bits(address), prefix_bits: 128 });
    }
    if let Some((address, prefix_bits)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let prefix_bits: u32 = prefix_bits.parse().ok()?;
        // As those of an address of IPv6.
        let prefix_bits = if address.is_ipv4() { prefix_bits.checked_add(96)? } else { prefix_bits };
        return (prefix_bits <= 128).then_some(Place::Network { first: bits(address), prefix_bits });
    }
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let is_name = !text.is_empty() && text.chars().all(is_of_name);
    is_name.then(|| Place::Host(text.to_owned()))
}

/// An address of IPv4 as the one of IPv6 that stands for it.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn is_same(one: u128, other: u128, prefix_bits: u32) -> bool {
    (one ^ other).checked_shr(128 - prefix_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_lies_in_the_first_room_that_has_it() {
        let rooms = Rooms::parse("east=10.1.0.0/16,10.9.9.9,fd00:1::/32; west = 10.0.0.0/8, node-2.example ;").unwrap();
        for (host, room) in [
            ("10.1.2.3", Some(0)),
            ("10.9.9.9", Some(0)),
            ("10.9.9.8", Some(1)),
            ("::ffff:10.1.2.3", Some(0)),
            ("fd00:1:2::3", Some(0)),
            ("fd00:2::1", None),
            ("11.1.2.3", None),
            ("Node-2.example", Some(1)),
            ("node-3.example", None),
            ("", None),
        ] {
            assert_eq!(rooms.room_of(host), room, "{host}");
        }
        let everywhere = Rooms::parse("all=0.0.0.0/0,::/0").unwrap();
        assert_eq!((everywhere.room_of("1.2.3.4"), everywhere.room_of("fd00::1")), (Some(0), Some(0)));
        assert_eq!(Rooms::parse("").unwrap().room_of("10.1.2.3"), None);
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in
            ["east", "=10.0.0.0/8", "east=", "east=10.0.0.0/33", "east=fd00::/129", "east=a b", "east=x/8", "e=::1/x"]
        {
            assert_eq!(Rooms::parse(text), None, "{text}");
        }
    }
}
