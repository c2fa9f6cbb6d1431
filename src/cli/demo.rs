//! `knockx demo`: the gateway with nothing to set up, and the simulator as its upstream.

use crate::app::{self, Running};
use crate::cli::serve::{SignalEvent, Signals};
use crate::config;
use crate::logging;
use anyhow::Context;
use domain::actor::AuditContext;
use domain::id::PlanId;
use domain::key::PlainKey;
use domain::user::{Role, User};
use mock_xai::Simulator;
use mock_xai::settings::Settings;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::{NewKey, NewUser, UserChange};
use system::clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The demo's settings; the simulator's address and the data directory are added to them.
const SETTINGS: &str = include_str!("../../config/demo.toml");
const CALLER: &str = "demo@knockx.example";
const ADMIN: &str = "admin@knockx.example";
const PLAN: &str = "high-max";

/// Run a gateway without any setup: embedded stores, a simulated Grok, a user and an admin.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: knockx demo\n         knockx demo --json --listen 127.0.0.1:0")]
pub struct Args {
    /// Address of the public port; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: Option<SocketAddr>,
    /// Data directory; defaults to a temporary folder that is deleted at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one line of JSON when ready, for scripts.
    #[arg(long)]
    json: bool,
}

/// Addresses and credentials of the demo, for scripts.
#[derive(Serialize)]
struct Ready {
    base_url: String,
    api_key: String,
    admin_api_key: String,
    admin_email: &'static str,
    admin_password: String,
    metrics_url: String,
    simulator_url: String,
    pid: u32,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let folder = Folder::of(args.data_dir)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let simulator = simulator(&tasks, stop.clone()).await?;
    let listen = args.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8000)));
    let settings = settings(listen, folder.path(), &simulator.url());
    let mut config =
        config::load_from(Some(("demo.toml", &settings)), &config::logging_variables())?;
    // Written as 0 it would mean "none"; the demo wants any free port.
    config.admin_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    logging::init(&config.log)?;
    let running = app::start(config, None).await?;
    let ready = people(&running, simulator.url()).await?;
    if args.json {
        println!("{}", serde_json::to_string(&ready)?);
    } else {
        print!("{}", welcome(&ready));
    }
    loop {
        tokio::select! {
            event = signals.next() => if matches!(event, SignalEvent::Stop) { break },
            request = running.next_reload_request() => {
                let _ = request.reply.send(Err("The demo has no configuration file to reload.".to_owned()));
            }
            // The simulator ends with this process.
            () = running.handed_over() => break,
        }
    }
    running.stop().await;
    stop.cancel();
    Ok(ExitCode::SUCCESS)
}

async fn simulator(
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<mock_xai::RunningSimulator> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("cannot open a port for the simulator")?;
    Simulator::start(Settings::default(), listener, tasks, stop)
        .context("cannot start the simulator")
}

/// The demo's configuration, as a file would hold it.
fn settings(listen: SocketAddr, folder: &Path, simulator: &str) -> String {
    let database = format!("sqlite:{}", folder.join("knockx.db").display());
    let text = SETTINGS.replace("http://simulator.invalid/v1", &format!("{simulator}/v1"));
    let mut head = String::new();
    let _ = writeln!(head, "host = {:?}\nport = {}", listen.ip().to_string(), listen.port());
    format!("{head}{text}\n[database]\nurl = {database:?}\n")
}

/// Makes sure of the demo's two users and gives each a new key.
async fn people(running: &Running, simulator_url: String) -> anyhow::Result<Ready> {
    let password = format!("demo-{}", PlainKey::generate()?.id());
    let caller = person(running, CALLER, Role::User, None).await?;
    let admin = person(running, ADMIN, Role::Admin, Some(&password)).await?;
    let base = format!("http://{}", running.public_addr);
    Ok(Ready {
        base_url: format!("{base}/v1"),
        api_key: key(running, &caller).await?,
        admin_api_key: key(running, &admin).await?,
        admin_email: ADMIN,
        admin_password: password,
        metrics_url: running
            .admin_addr
            .map(|addr| format!("http://{addr}/metrics"))
            .unwrap_or_default(),
        simulator_url,
        pid: std::process::id(),
    })
}

/// The user with this e-mail, made when there is none. One who is there keeps all but the password:
/// what is printed has to be the one that holds.
async fn person(
    running: &Running,
    email: &str,
    role: Role,
    password: Option<&str>,
) -> anyhow::Result<User> {
    let password_hash = password.map(domain::password::hash).transpose()?;
    let by = AuditContext::operator(clock::now());
    if let Some(user) = running.store.user_by_email(email).await? {
        let change = UserChange { password_hash, ..UserChange::default() };
        return Ok(running.store.change_user(user.id, &change, &by).await?.unwrap_or(user));
    }
    let user = NewUser {
        email: email.to_owned(),
        username: None,
        password_hash,
        email_verified: true,
        role,
        plan: PlanId::from(PLAN),
        created_at: by.at,
    };
    Ok(running.store.add_user(&user, &by).await?)
}

async fn key(running: &Running, user: &User) -> anyhow::Result<String> {
    let plain = PlainKey::generate()?;
    let by = AuditContext::operator(clock::now());
    let key = NewKey::of(&plain, &running.pepper, "demo", by.at);
    running.store.add_key(user.id, &key, &by).await?;
    Ok(plain.reveal().to_owned())
}

fn welcome(ready: &Ready) -> String {
    let Ready { base_url, api_key, metrics_url, simulator_url, .. } = ready;
    let Ready { admin_email, admin_password, .. } = ready;
    let base = base_url.trim_end_matches("/v1");
    format!(
        r#"
KnockXPrime is running. Its upstream is a simulated Grok that generates random words; the token counts are exact.
From another terminal:

  export KNOCKX_KEY={api_key}

  curl -N {base_url}/chat/completions \
    -H "Authorization: Bearer $KNOCKX_KEY" -H "Content-Type: application/json" \
    -d '{{"model":"grok-4.3","stream":true,"messages":[{{"role":"user","content":"Hello! [sim tokens=60 token-ms=50]"}}]}}'

or with the OpenAI SDK:

  import os
  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key=os.environ["KNOCKX_KEY"])
  for chunk in client.chat.completions.create(model="grok-4.3", stream=True,
          messages=[{{"role": "user", "content": "Hello! [sim tokens=60 token-ms=50]"}}]):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

([sim ...] tells the simulator to send 60 tokens, one every 50 ms.) To see usage, metrics and the simulator's statistics:

  curl {base}/api/v1/chat/usage -H "Authorization: Bearer $KNOCKX_KEY"
  curl {metrics_url}
  curl {simulator_url}/sim/stats

An admin account exists too. Its access token manages users, keys and plans (docs/api.md):

  curl {base}/api/v1/users/login -H "Content-Type: application/json" \
    -d '{{"email":"{admin_email}","password":"{admin_password}"}}'

Press Ctrl-C to stop.
"#
    )
}

/// The data directory: the caller's, or a temporary one that goes when the demo ends.
enum Folder {
    Kept(PathBuf),
    Temporary(PathBuf),
}

impl Folder {
    fn of(kept: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = kept {
            return Ok(Self::Kept(path));
        }
        let name = format!("knockx-demo-{}", PlainKey::generate()?.id());
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self::Temporary(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Temporary(path) => path,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
