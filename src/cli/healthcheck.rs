//! `knockx healthcheck`: whether the instance on this machine is ready, for container checks.

use super::config_arg::ConfigArg;
use crate::config::Config;
use crate::data_dir::DataDir;
use anyhow::{Context, bail};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Exit with code 0 if the local instance is ready, 1 otherwise.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example, in a Dockerfile: HEALTHCHECK CMD [\"knockx\", \"healthcheck\"]")]
pub struct Args {
    #[command(flatten)]
    pub(super) config: ConfigArg,
}

/// Time for the whole check; container health checks run every few seconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// `HTTP/1.1 200`: the status is all that matters.
const STATUS_BYTES: usize = 12;

/// Requests `/health/ready` of the running instance.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let addr = instance_addr(&args.config.load()?)?;
    let response = tokio::time::timeout(CHECK_TIMEOUT, ask(addr)).await;
    let status = response
        .with_context(|| format!("no response from {addr} in 3 s"))?
        .with_context(|| format!("no knockx responds on {addr}"))?;
    match status {
        200 => Ok(ExitCode::SUCCESS),
        503 => bail!("the instance on {addr} is starting or draining"),
        other => bail!("{addr} responded with status {other}; check that it is a knockx instance"),
    }
}

/// The published address of the instance, or else the configured one. The admin listener
/// where the public one has TLS: its certificate is for another name than this machine's.
fn instance_addr(config: &Config) -> anyhow::Result<SocketAddr> {
    let folder = config.database.folder().filter(|folder| folder.is_dir());
    let data_folder = folder.and_then(|folder| DataDir::open(folder).ok());
    let announced = data_folder.and_then(|folder| folder.running_instance());
    let addr = if config.listener.tls.is_some() {
        let admin = announced.map_or(config.admin_addr, |it| it.admin_addr);
        admin.context(
            "with TLS on the public port, the health check uses the admin listener; set ADMIN_PORT",
        )?
    } else {
        announced.map_or(config.listener.addr, |it| it.public_addr)
    };
    Ok(reachable(addr))
}

/// The loopback address for a listener on all addresses.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

async fn ask(addr: SocketAddr) -> anyhow::Result<u16> {
    let mut connection = TcpStream::connect(addr).await?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut head = [0; STATUS_BYTES];
    connection.read_exact(&mut head).await?;
    let head = String::from_utf8_lossy(&head);
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.parse().ok());
    status.context("the response is not HTTP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answered(reply: &'static str) -> anyhow::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let length = connection.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /health/ready HTTP/1.1\r\n"));
            connection.write_all(reply.as_bytes()).await.unwrap();
        };
        tokio::join!(ask(addr), server).0
    }

    #[tokio::test]
    async fn reads_the_status_of_an_answer() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\n\r\n{}").await.unwrap(), 200);
        assert_eq!(answered("HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap(), 503);
        assert!(answered("SSH-2.0\r\n").await.is_err());
    }

    #[test]
    fn an_address_for_all_is_reached_on_this_machine() {
        let reached = |addr: &str| reachable(addr.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8000"), "127.0.0.1:8000");
        assert_eq!(reached("[::]:8000"), "[::1]:8000");
        assert_eq!(reached("10.0.0.1:8000"), "10.0.0.1:8000");
    }
}
