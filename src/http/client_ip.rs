//! Who is at the other end: the peer of the connection or, behind a proxy that is trusted, whom that
//! proxy names.

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address.
///
/// `X-Forwarded-For` is read from the right: each trusted proxy added the address it was called from,
/// and entries left of the first untrusted address may be forged.
#[must_use]
pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = plain(peer);
    if !is_trusted(client, trusted) {
        return client;
    }
    let values: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    for named in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        if !is_trusted(client, trusted) {
            break;
        }
        let Some(address) = read(named.trim()) else { break };
        client = plain(address);
    }
    client
}

/// True where the word of the one at `address` is taken for who its client is.
#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = plain(address);
    trusted.iter().any(|net| net.contains(&address))
}

/// An address, with a port where the proxy adds one.
fn read(named: &str) -> Option<IpAddr> {
    let with_port = || named.parse().ok().map(|socket: SocketAddr| socket.ip());
    named.parse().ok().or_else(with_port)
}

/// Key for limits per host: an IPv6 network of 64 bits, since one host has all of it.
#[must_use]
pub fn host(address: IpAddr) -> IpAddr {
    match plain(address) {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Key for limits per network: the /24 of an IPv4 address, the /48 of an IPv6 address, which are the
/// smallest that are routed on their own.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match plain(address) {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

/// An IPv4 address that came by way of IPv6 is an IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let check = |peer: &str, forwarded: &[&str], expected: &str| {
            let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            let found = address(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found.to_string(), expected, "{peer} {forwarded:?}");
        };
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["203.0.113.9"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.9"], "203.0.113.9");
        check("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9");
        check("10.0.0.1", &["198.51.100.7, 203.0.113.9"], "203.0.113.9");
        check("10.0.0.1", &["203.0.113.9, 10.1.1.1"], "203.0.113.9");
        check("10.0.0.1", &["198.51.100.7", "203.0.113.9,10.1.1.1"], "203.0.113.9");
        check("10.0.0.1", &["nonsense"], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.9, nonsense, 10.1.1.1"], "10.1.1.1");
        check("10.0.0.1", &["2001:db8::1"], "2001:db8::1");
        check("10.0.0.1", &["203.0.113.9:4567"], "203.0.113.9");
        check("10.0.0.1", &["[2001:db8::1]:4567"], "2001:db8::1");
    }

    #[test]
    fn hosts_and_networks_are_prefixes() {
        let check = |text: &str, of_host: &str, of_network: &str| {
            let address = text.parse().unwrap();
            assert_eq!(host(address).to_string(), of_host);
            assert_eq!(network(address).to_string(), of_network);
        };
        check("192.0.2.1", "192.0.2.1", "192.0.2.0");
        check("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::");
    }
}
