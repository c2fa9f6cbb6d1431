//! The program itself, as an operator runs it: commands, signals, exit codes.
//!
//! Every process is a child of its test and ends with it.

mod cluster;
mod commands;
mod demo;
mod first_admin;
mod hot_restart;
mod ipv6;
mod journal;
mod backend_outages;
mod postgres;
mod secret_rotation;
mod rolling_restart;
mod serve;
mod client_disconnect_load;
mod disk_full;

use crate::support::http_client::Call;
use crate::support::{SOON, soon};
use domain::charge::Charge;
use knockx::config::{Database, Durability};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::{self, Store};
use tempfile::TempDir;

const KNOCKX: &str = env!("CARGO_BIN_EXE_knockx");

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What `Host` says the model is called.
const MODEL: &str = "grok-4.3";

/// The program with nothing of this test's environment, and a backtrace asked for: none may come.
fn knockx() -> Command {
    bare(KNOCKX)
}

fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// A child process that does not outlive its test.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// The first line on a piped standard output, and a channel for what follows until its end.
    fn first_line(&mut self) -> (String, mpsc::Receiver<String>) {
        let mut output = BufReader::new(self.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let (rest, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            let _ = rest.send(text);
        });
        (line, told)
    }

    async fn exit(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(SOON, ended).await.expect("the process ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine with a simulator and a config file, on which gateways are started.
struct Host {
    folder: TempDir,
    simulator: String,
    _simulator: Process,
}

/// A gateway that `serve` runs.
struct Serving {
    process: Process,
    addr: SocketAddr,
    admin: SocketAddr,
}

impl Host {
    fn new() -> Self {
        Self::on("127.0.0.1:0")
    }

    /// With the simulator at this address.
    fn on(addr: &str) -> Self {
        let mut simulator =
            Process::spawn(knockx().args(["simulate", "--listen", addr]).stdout(Stdio::piped()));
        let (line, _) = simulator.first_line();
        let url = line.split_whitespace().last().expect("the simulator is ready").to_owned();
        let host = Self { folder: TempDir::new().unwrap(), simulator: url, _simulator: simulator };
        host.configure("");
        host
    }

    /// Writes the config file; `more` stands before its first section.
    fn configure(&self, more: &str) {
        let (url, data) = (&self.simulator, self.folder.path().join("data/knockx.db"));
        let database = format!("sqlite:{}", data.display());
        // Free now; should another take it meanwhile, `serve` says so and the test fails by that.
        let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "port = 0\nadmin_port = {}\n{more}\n[limits]\nshutdown_delay = 0\n[database]\nurl = {database:?}\n\
             [[upstreams]]\nname = \"simulator\"\nbase_url = \"{url}/v1\"\napi_key = \"sim-test-key\"\n\
             [[models]]\nid = \"{MODEL}\"\nupstreams = [{{ name = \"simulator\" }}]\ncontext_tokens = 1000000\n\
             prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}\n\
             [[plans]]\nid = \"wide\"\nname = \"Wide\"\nprice_cents = 0\nmax_tokens_per_day = 100000000\n\
             max_requests_per_day = 1000000\nrate_limit_requests = 100000\nconcurrent_streams = 1000\n",
            admin.port()
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("knockx.toml")
    }

    /// A command of the program on this host's config.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = knockx();
        command.args(words).arg("--config").arg(self.config());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// A new user's key.
    fn key(&self) -> String {
        let output = self.run(&["user", "add", "ada@example.com", "--plan", "wide", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["api_key"].as_str().unwrap().into()
    }

    fn another_key(&self, user: &str) -> String {
        let output = self.run(&["key", "add", user, "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["api_key"].as_str().unwrap().into()
    }

    async fn serve(&self) -> Serving {
        self.serve_as(&mut self.command(&["serve"])).await
    }

    async fn serve_as(&self, command: &mut Command) -> Serving {
        let log = || File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut process = Process::spawn(command.stdout(log()).stderr(log()));
        let pid = process.0.id();
        let folder = self.folder.path().join("data");
        let announced = async {
            loop {
                assert!(process.0.try_wait().unwrap().is_none(), "{}", self.log());
                let told = fs::read(folder.join("instance.json")).unwrap_or_default();
                let told: Value = serde_json::from_slice(&told).unwrap_or_default();
                if told["pid"] == pid {
                    return told;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let told = tokio::time::timeout(SOON, announced).await.expect("the gateway starts");
        let addr = |name: &str| told[name].as_str().unwrap().parse().unwrap();
        Serving { process, addr: addr("public_addr"), admin: addr("admin_addr") }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("gateway.log")
    }

    /// What all gateways here have said so far.
    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The store, beside whatever runs on it.
    async fn store(&self) -> Arc<dyn Store> {
        let path = self.folder.path().join("data/knockx.db");
        let database = Database::Sqlite { path, durability: Durability::Process };
        store::open(&database).await.unwrap()
    }

    /// The recent ledger while a gateway runs, as soon as it has a row.
    async fn ledger_now(&self) -> Vec<Charge> {
        let store = self.store().await;
        let charges = || async { crate::support::recent_charges(&store).await };
        soon("the ledger has a row", || async { !charges().await.is_empty() }).await;
        charges().await
    }

    /// The recent ledger.
    async fn ledger(&self) -> Vec<Charge> {
        let store = self.store().await;
        let charges = crate::support::recent_charges(&store).await;
        store.close().await;
        charges
    }
}

impl Serving {
    /// A chat completion's call, not yet sent.
    fn chat(&self, key: &str, members: &str) -> Call {
        let body = crate::support::body("hello", members);
        Call::post(self.addr, "/v1/chat/completions").key(key).body(body)
    }

    async fn ends_well(mut self) {
        self.process.signal("TERM");
        assert!(self.process.exit().await.success());
    }
}

/// One plain sentence on standard error, exit code 1, nothing of how the program is made.
fn refused(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("knockx: ") && told.lines().count() == 1, "{told}");
    for word in ["panicked", "backtrace", ".rs:"] {
        assert!(!told.contains(word), "{told}");
    }
    told
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
