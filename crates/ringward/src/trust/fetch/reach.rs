//! Which servers a URL may lead to.
//!
//! A certificate's issuer chooses the URLs in it, and we would fetch them from inside of the network: so such URLs reach the
//! hosts on an allow-list and no others, and a name on it reaches public addresses, unless the list holds the address too.
//! Hides the special address ranges. Asked after a name was resolved, about the very addresses that are then connected to, so a
//! name server that answers differently the second time gains nothing.
//!
//! | URL | host | may reach |
//! |---|---|---|
//! | of the configuration | address | that address |
//! | of the configuration | name | all but link-local addresses and those at which clouds serve their metadata |
//! | of our own certificate | address or name | the same |
//! | of a client's certificate | not on the list | nothing |
//! | of a client's certificate | listed address | that address |
//! | of a client's certificate | listed name | public addresses, and private ones that are on the list as well |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringward_config::HostName;

use super::url::{Url, address_of};

/// Where a URL came from, and so what it may reach.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// The operator wrote this very URL.
    Configured,
    /// It stands in a certificate of ours, which the operator put there, and the CA wrote.
    OwnCertificate,
    /// It stood in a certificate of a verified chain.
    Listed(Arc<AllowList>),
}

/// Hosts that URLs in certificates of clients may lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowList {
    hosts: Vec<HostName>,
}

/// Why a URL or an address is not connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The allow-list does not have it.
    #[error("host `{0}` of a certificate's URL is not allowed; list it if it is yours")]
    NotListed(String),
    /// It would lead into the own network, or to this machine.
    #[error(
        "`{host}` resolves to the private address {address}; list that address beside the name if it is meant"
    )]
    Private {
        /// The name.
        host: String,
        /// What it resolved to.
        address: IpAddr,
    },
    /// Nobody serves revocation data there.
    #[error("`{host}` resolves to {address}, which is never connected to by name")]
    Forbidden {
        /// The name.
        host: String,
        /// What it resolved to.
        address: IpAddr,
    },
}

impl AllowList {
    /// Of names and addresses. A name is allowed with every port.
    pub(crate) fn new(hosts: &[HostName]) -> AllowList {
        AllowList { hosts: hosts.to_vec() }
    }

    /// Whether it allows nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// What it allows.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.iter()
    }

    /// Whether a URL may be fetched, as far as its text tells.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        self.hosts.contains(url.host())
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.hosts.iter().any(|host| address_of(host).map(unmapped) == Some(address))
    }
}

impl Reach {
    /// Whether the URL may be fetched at all, before any name is resolved.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        match self {
            Reach::Listed(list) if !list.allows(url) => Err(Refusal::NotListed(url.authority())),
            Reach::Configured | Reach::OwnCertificate | Reach::Listed(_) => Ok(()),
        }
    }

    /// Whether an address that the URL's host stands for may be connected to.
    pub(crate) fn check_address(&self, url: &Url, address: IpAddr) -> Result<(), Refusal> {
        self.check_url(url)?;
        let address = unmapped(address);
        let host = || url.host().to_string();
        // Whoever writes an address means it.
        let is_literal = url.address().map(unmapped) == Some(address);
        let is_meant = is_literal && !matches!(self, Reach::OwnCertificate);
        match (Kind::of(address), self) {
            (Kind::Nobody, _) => Err(Refusal::Forbidden { host: host(), address }),
            (_, _) if is_meant => Ok(()),
            (Kind::Local, _) => Err(Refusal::Forbidden { host: host(), address }),
            (Kind::Private, Reach::Listed(list)) if !list.holds(address) => {
                Err(Refusal::Private { host: host(), address })
            }
            (Kind::Private | Kind::Public, _) => Ok(()),
        }
    }
}

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The world.
    Public,
    /// This machine, or the networks of whoever runs it.
    Private,
    /// The link, or the metadata of a cloud: reachable from here only, and trusting who reaches it.
    Local,
    /// No machine.
    Nobody,
}

impl Kind {
    fn of(address: IpAddr) -> Kind {
        match address {
            IpAddr::V4(address) => Kind::of_v4(address),
            IpAddr::V6(address) => Kind::of_v6(address),
        }
    }

    /// RFC 6890 and its registry.
    fn of_v4(address: Ipv4Addr) -> Kind {
        match address.octets() {
            // Linux connects to this machine for 0.0.0.0.
            [0 | 224..=255, ..] => Kind::Nobody,
            [169, 254, ..] => Kind::Local,
            _ if METADATA_V4.contains(&address) => Kind::Local,
            [10, ..]
            | [127, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            // Shared by carriers (RFC 6598), for protocols, documentation and benchmarks.
            | [100, 64..=127, ..]
            | [192, 0, 0, _]
            | [192, 0, 2, _]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => Kind::Private,
            _ => Kind::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Kind {
        let segments = address.segments();
        match segments {
            _ if address.is_loopback() => Kind::Private,
            // NAT64 (RFC 6052), 6to4 (RFC 3056): wherever the address within leads.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                Kind::of_v4(embedded(high, low))
            }
            // NAT64 of the own network (RFC 8215).
            [0x64, 0xff9b, 1, ..] => Kind::Private,
            // Metadata of a cloud.
            [0xfd00, 0xec2, ..] => Kind::Local,
            [0xfe80..=0xfebf, ..] => Kind::Local,
            // Unique local (RFC 4193), site-local (RFC 3879), documentation.
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x2001, 0xdb8, ..] => Kind::Private,
            // Teredo (RFC 4380) leads through others' tunnels.
            [0x2001, 0, ..] => Kind::Nobody,
            [0x2000..=0x3fff, ..] => Kind::Public,
            // Unspecified, multicast, and what was never handed out.
            _ => Kind::Nobody,
        }
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// `::ffff:a.b.c.d` connects to a.b.c.d (RFC 4291 §2.5.5.2).
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Where clouds serve credentials of the machine, outside of the link-local range.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn listed(hosts: &[&str]) -> Reach {
        let hosts: Vec<HostName> = hosts.iter().map(|host| HostName::parse(host).unwrap()).collect();
        Reach::Listed(Arc::new(AllowList::new(&hosts)))
    }

    fn reaches(reach: &Reach, from: &str, to: &str) -> bool {
        reach.check_address(&url(from), to.parse().unwrap()).is_ok()
    }

    const PRIVATE: &[&str] = &[
        "127.0.0.1",
        "127.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
        "::1",
        "fc00::1",
        "fdff::1",
        "fec0::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:a00:1::",
        "2001:db8::1",
    ];
    const LOCAL: &[&str] = &[
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
    ];
    const NOBODY: &[&str] =
        &["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1", "::127.0.0.1"];
    const PUBLIC: &[&str] =
        &["1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1"];

    #[test]
    fn a_name_in_a_certificate_reaches_public_addresses_only() {
        let reach = listed(&["crl.example.com"]);
        for address in PUBLIC {
            assert!(reaches(&reach, "http://crl.example.com/", address), "{address}");
        }
        for address in [PRIVATE, LOCAL, NOBODY].concat() {
            assert!(!reaches(&reach, "http://crl.example.com/", address), "{address}");
        }
    }

    #[test]
    fn a_name_reaches_private_addresses_that_are_listed_too() {
        let reach = listed(&["crl.example.com", "10.1.0.1", "127.0.0.1", "[fd12::7]"]);
        for address in ["10.1.0.1", "127.0.0.1", "::ffff:127.0.0.1", "fd12::7", "1.1.1.1"] {
            assert!(reaches(&reach, "http://crl.example.com/", address), "{address}");
        }
        for address in ["10.1.0.2", "127.0.0.2", "fd12::8", "192.168.0.1"] {
            assert!(!reaches(&reach, "http://crl.example.com/", address), "{address}");
        }
        // Not even if it is listed: by name nobody means it.
        let reach = listed(&["crl.example.com", "169.254.169.254"]);
        assert!(!reaches(&reach, "http://crl.example.com/", "169.254.169.254"));
    }

    #[test]
    fn a_host_that_is_not_listed_is_not_reached() {
        let reach = listed(&["crl.example.com", "127.0.0.1", "[::1]"]);
        let table = [
            ("http://crl.example.com/x", true),
            ("http://CRL.example.com.:99/x", true),
            ("http://127.0.0.1:12345/", true),
            ("http://127.0.0.2/", false),
            ("http://[::1]:81/", true),
            ("http://[::2]/", false),
            ("http://xcrl.example.com/", false),
            ("http://crl.example.com.evil.example/", false),
            ("http://example.com/", false),
        ];
        for (text, allowed) in table {
            assert_eq!(reach.check_url(&url(text)).is_ok(), allowed, "{text}");
            // Asked again about addresses, should somebody forget the first question.
            assert!(allowed || !reaches(&reach, text, "1.1.1.1"), "{text}");
        }
    }

    #[test]
    fn an_address_that_was_written_down_is_meant() {
        for address in [PRIVATE, LOCAL, PUBLIC].concat() {
            let address: IpAddr = address.parse().unwrap();
            let host = if address.is_ipv4() { address.to_string() } else { format!("[{address}]") };
            let url = url(&format!("http://{host}/"));
            assert_eq!(Reach::Configured.check_address(&url, address), Ok(()), "{url}");
            assert_eq!(listed(&[host.as_str()]).check_address(&url, address), Ok(()), "{url}");
        }
        assert!(!reaches(&Reach::Configured, "http://0.0.0.0/", "0.0.0.0"));
    }

    #[test]
    fn ours_may_be_private_but_never_the_link_or_metadata() {
        for reach in [Reach::Configured, Reach::OwnCertificate] {
            for address in [PRIVATE, PUBLIC].concat() {
                assert!(reaches(&reach, "http://crl.corp.example/", address), "{address}");
            }
            for address in [LOCAL, NOBODY].concat() {
                assert!(!reaches(&reach, "http://crl.corp.example/", address), "{address}");
            }
        }
        // The CA wrote it, not the operator.
        assert!(!reaches(&Reach::OwnCertificate, "http://169.254.169.254/", "169.254.169.254"));
        assert!(reaches(&Reach::OwnCertificate, "http://127.0.0.1:81/", "127.0.0.1"));
    }
}
