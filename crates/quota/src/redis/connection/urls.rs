//! Parses `REDIS_URL`.

use redis::cluster::ClusterClientBuilder;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::fmt;

const SENTINEL_PORT: u16 = 26379;
const FORMS: &str = "expected redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, \
    comma-separated addresses for a cluster, or redis+sentinel://HOST,HOST,HOST/MASTER";

/// Addresses of Redis. `Debug` prints only the hosts, because the addresses may contain passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrls(pub(super) Topology);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// A single server, by its address.
    Single(String),
    /// A cluster, by the addresses of some of its nodes.
    Cluster(Vec<String>),
    /// A primary that sentinels monitor, and replace when it fails.
    Sentinel(SentinelGroup),
}

/// Sentinels, and the name of the primary that they monitor.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SentinelGroup {
    pub name: String,
    /// Host and port of each sentinel.
    pub sentinels: Vec<(String, u16)>,
    /// Part of an address before the host: `redis://` or `rediss://`, and the login with its `@`.
    before_host: String,
    database: String,
}

impl RedisUrls {
    /// Creates the addresses of a server from one URL, or of a cluster from several.
    #[must_use]
    pub fn new(urls: Vec<String>) -> Self {
        match <[String; 1]>::try_from(urls) {
            Ok([url]) => Self(Topology::Single(url)),
            Err(urls) => Self(Topology::Cluster(urls)),
        }
    }

    /// Parses the value of the configuration.
    ///
    /// # Errors
    /// One sentence that contains nothing of the value, since that may contain a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        for (scheme, of_servers) in
            [("redis+sentinel://", "redis://"), ("rediss+sentinel://", "rediss://")]
        {
            if let Some(rest) = text.strip_prefix(scheme) {
                return SentinelGroup::read(of_servers, rest)
                    .map(|group| Self(Topology::Sentinel(group)));
            }
        }
        let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
        let nodes: Vec<ConnectionInfo> =
            urls.iter().map(|url| server(url)).collect::<Result<_, _>>()?;
        if nodes.len() > 1 {
            check_cluster(&nodes)?;
        }
        Ok(Self::new(urls))
    }
}

impl SentinelGroup {
    fn read(scheme: &str, rest: &str) -> Result<Self, String> {
        let after_login = rest.rfind('@').map_or(0, |at| at + 1);
        let (login, path) = rest.split_at(after_login);
        let mut parts = path.trim_end_matches('/').split('/');
        let hosts = parts.next().unwrap_or_default();
        let name = parts.next().unwrap_or_default();
        if name.is_empty() {
            return Err("sentinel addresses need the name of the master, as in \
                        redis+sentinel://HOST,HOST,HOST/MASTER"
                .to_owned());
        }
        let database = parts.next().unwrap_or("0");
        if parts.next().is_some() || database.parse::<u16>().is_err() {
            return Err("only a database number may follow the name of the master, \
                        as in redis+sentinel://HOST/MASTER/0"
                .to_owned());
        }
        let before_host = format!("{scheme}{login}");
        let mut sentinels = Vec::new();
        for host in hosts.split(',').map(str::trim) {
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
            let info = server(&format!("{before_host}{host}{port}"))?;
            match info.addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    sentinels.push((host.clone(), *port));
                }
                _ => return Err(FORMS.to_owned()),
            }
        }
        let (name, database) = (name.to_owned(), database.to_owned());
        Ok(Self { name, sentinels, before_host, database })
    }

    /// Returns the address of the master at this host and port.
    pub(super) fn master(&self, (host, port): &(String, u16)) -> Result<ConnectionInfo, String> {
        server(&format!("{}{}/{}", self.before_host, address(host, *port), self.database))
    }

    /// Returns the addresses of a sentinel without a login, and with the login of the servers.
    pub(super) fn sentinel(
        &self,
        (host, port): &(String, u16),
    ) -> Result<[ConnectionInfo; 2], String> {
        let address = address(host, *port);
        let scheme = self.before_host.split_inclusive("//").next().unwrap_or_default();
        let with_login = server(&format!("{}{address}", self.before_host))?;
        Ok([server(&format!("{scheme}{address}"))?, with_login])
    }
}

impl fmt::Debug for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &String| match server(url) {
            Ok(info) => match info.addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    address(host, *port)
                }
                other => other.to_string(),
            },
            Err(_) => "?".to_owned(),
        };
        match &self.0 {
            Topology::Single(url) => f.write_str(&host(url)),
            Topology::Cluster(urls) => {
                write!(f, "cluster {}", urls.iter().map(host).collect::<Vec<_>>().join(","))
            }
            Topology::Sentinel(SentinelGroup { name, sentinels, .. }) => {
                let hosts: Vec<String> =
                    sentinels.iter().map(|(host, port)| address(host, *port)).collect();
                write!(f, "{name} of sentinels {}", hosts.join(","))
            }
        }
    }
}

/// Parses and checks one address. The error of the driver is not passed on, because it repeats parts of the address.
fn server(url: &str) -> Result<ConnectionInfo, String> {
    if !url.starts_with("redis://") && !url.starts_with("rediss://") {
        return Err(FORMS.to_owned());
    }
    if url.contains('#') {
        return Err(
            "a Redis address must not contain `#`: TLS is always verified; write `#` in a \
                    password as %23"
                .to_owned(),
        );
    }
    let info = url.into_connection_info().map_err(|_| FORMS.to_owned())?;
    if info.redis_settings().db() < 0 {
        return Err(FORMS.to_owned());
    }
    Ok(info)
}

fn check_cluster(nodes: &[ConnectionInfo]) -> Result<(), String> {
    if nodes.iter().any(|node| node.redis_settings().db() != 0) {
        return Err("a cluster only has database 0; remove the database number".to_owned());
    }
    let is_tls = |node: &ConnectionInfo| matches!(node.addr(), ConnectionAddr::TcpTls { .. });
    if nodes.iter().any(is_tls) && !nodes.iter().all(is_tls) {
        return Err(
            "all nodes of a cluster must use the same scheme, redis:// or rediss://".to_owned()
        );
    }
    let built = ClusterClientBuilder::new(nodes.to_vec()).build();
    built
        .map(drop)
        .map_err(|_| "all nodes of a cluster must have the same user and password".to_owned())
}

/// Formats a host and port as in an address.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_prints_hosts_only() {
        for (text, printed) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            (" redis://:hunter2@h:7/2 ", "h:7"),
            ("rediss://user:hunter2@h.example:6380", "h.example:6380"),
            ("redis://user:hunter2%2C%40%23@h", "h:6379"),
            ("redis://[::1]:6379", "[::1]:6379"),
            ("redis://a:1,redis://[fd00::2]:7", "cluster a:1,[fd00::2]:7"),
            ("redis://a:1,redis://b:2, redis://c:3", "cluster a:1,b:2,c:3"),
            ("rediss://u:hunter2@a,rediss://u:hunter2@b", "cluster a:6379,b:6379"),
            ("redis+sentinel://a:1,b,c:3/main", "main of sentinels a:1,b:26379,c:3"),
            ("redis+sentinel://u:hunter2@a:1/main/4/", "main of sentinels a:1"),
            ("rediss+sentinel://:hunter2@[::1],b/m", "m of sentinels [::1]:26379,b:26379"),
        ] {
            let urls = RedisUrls::parse(text).unwrap();
            assert_eq!(format!("{urls:?}"), printed, "{text}");
        }
    }

    #[test]
    fn a_bad_form_is_refused_in_one_sentence_without_its_password() {
        for (text, word) in [
            ("", "expected redis://"),
            ("hunter2", "expected redis://"),
            ("http://u:hunter2@h", "expected redis://"),
            ("redis://", "expected redis://"),
            ("redis://u:hunter2@", "expected redis://"),
            ("redis://u:hunter2@h/x", "expected redis://"),
            ("redis://u:hunter2@h/-1", "expected redis://"),
            ("redis://u:hunter2@h:port", "expected redis://"),
            ("redis://u:hunt,er2@h", "expected redis://"),
            ("redis+unix:///hunter2", "expected redis://"),
            ("rediss://u:hunter2@h#insecure", "always verified"),
            ("redis://u:hunter2@a,b", "expected redis://"),
            ("redis://a,", "expected redis://"),
            ("redis://a,rediss://b", "same scheme"),
            ("redis://a,redis://b/1", "only has database 0"),
            ("redis://u:hunter2@a,redis://u:hunter3@b", "same user and password"),
            ("redis+sentinel://u:hunter2@a,b", "name of the master"),
            ("redis+sentinel://a/", "name of the master"),
            ("redis+sentinel:///m", "expected redis://"),
            ("redis+sentinel://a,,b/m", "expected redis://"),
            ("redis+sentinel://a/m/x", "database number"),
            ("redis+sentinel://a/m/1/2", "database number"),
            ("redis+sentinel://u:hunter2@a:99999/m", "expected redis://"),
        ] {
            let Err(error) = RedisUrls::parse(text) else { panic!("{text} is accepted") };
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains("hunt") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn sentinels_and_the_master_they_name_are_reached_alike() {
        let text = "rediss+sentinel://u:p%40@a:1,b:2/main/3";
        let Topology::Sentinel(group) = RedisUrls::parse(text).unwrap().0 else { panic!() };
        let master = group.master(&("10.0.0.1".into(), 7)).unwrap();
        let tls =
            |addr: &ConnectionAddr| matches!(addr, ConnectionAddr::TcpTls { insecure: false, .. });
        assert!(tls(master.addr()));
        let settings = master.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("u"), Some("p@")));
        assert_eq!(settings.db(), 3);
        let [open, with_login] = group.sentinel(&group.sentinels[1]).unwrap();
        assert!(tls(open.addr()) && open.addr().to_string() == "b:2");
        assert_eq!((open.redis_settings().password(), open.redis_settings().db()), (None, 0));
        assert_eq!(with_login.redis_settings().password(), Some("p@"));
    }
}
