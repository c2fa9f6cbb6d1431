//! `knockx user`: adds, shows and changes users.

use super::session::{CliSession, CommonArgs, KeyRow, UserRow, print_json};
use crate::links::Links;
use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use domain::actor::AuditContext;
use domain::id::PlanId;
use domain::one_time_link::LinkPurpose;
use domain::password;
use domain::server_secret::ServerSecret;
use domain::user::{Role, User, UserStatus, new_email, normalised_username};
use serde::Serialize;
use std::io::Read;
use std::process::ExitCode;
use store::{Erased, NewUser, UserChange, UserError, UserFilter};
use system::clock;

/// Users listed in one reading.
const PAGE: u32 = 200;

/// Add, show and change users.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: knockx user add ada@example.com --plan leveler\n\n\
    USER is an e-mail address or a user id. Changes apply from the next request on, also in \
    running gateways.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user and print the first API key, once.
    #[command(
        after_help = "Example: knockx user add ada@example.com --plan leveler --role admin --password-stdin < password"
    )]
    Add(Add),
    /// Print a link by which a user sets a password, once; an earlier link ends.
    #[command(after_help = "Example: knockx user invite ada@example.com")]
    Invite { user: String },
    /// List all users.
    #[command(after_help = "Example: knockx user list --json")]
    List,
    /// Show a user.
    #[command(after_help = "Example: knockx user show ada@example.com")]
    Show { user: String },
    /// Move a user to another plan.
    #[command(after_help = "Example: knockx user set-plan ada@example.com high-max")]
    SetPlan { user: String, plan: String },
    /// Change a user's role.
    #[command(after_help = "Example: knockx user set-role ada@example.com admin")]
    SetRole { user: String, role: RoleArg },
    /// Suspend a user: disable the user's keys and end open streams.
    #[command(after_help = "Example: knockx user suspend ada@example.com")]
    Suspend { user: String },
    /// Remove a user's second factor, so that the password alone is enough to log in.
    #[command(after_help = "Example: knockx user remove-second-factor ada@example.com")]
    RemoveSecondFactor { user: String },
    /// Delete a user for good: the person is erased, the usage stays under the user's id.
    #[command(after_help = "Example: knockx user delete ada@example.com --yes")]
    Delete {
        user: String,
        /// Confirm: deletion cannot be undone.
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Reactivate a suspended user.
    #[command(after_help = "Example: knockx user resume ada@example.com")]
    Resume { user: String },
}

#[derive(Debug, clap::Args)]
struct Add {
    email: String,
    /// Plan id; defaults to `accounts.default_plan`, else the first plan.
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
    #[arg(long, value_enum, default_value = "user")]
    role: RoleArg,
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Read a password from standard input; without it, the user cannot log in.
    #[arg(long, conflicts_with = "invite")]
    password_stdin: bool,
    /// Print a link by which the user sets a password, valid for 7 days.
    #[arg(long)]
    invite: bool,
}

/// An invitation link, as it is printed.
#[derive(Serialize)]
struct Invitation {
    path: String,
    /// `null` if `public_url` is not configured.
    url: Option<String>,
    expires_at: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Uses the gateway, and sees only their own account.
    User,
    /// Sees what admins see, and changes nothing.
    Auditor,
    /// Sees and changes everything.
    Admin,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let session = match args.action {
        Action::Add(_) => CliSession::open_or_create(&args.common).await?,
        _ => CliSession::open(&args.common).await?,
    };
    let json = args.common.json;
    match args.action {
        Action::Add(add) => add_user(&session, add, json).await?,
        Action::Invite { user } => {
            let user = session.user(&user).await?;
            let link = invite(&session, &user).await?;
            if json {
                print_json(&link)?;
            } else {
                println!("{}", link.line());
            }
        }
        Action::List => list(&session, json).await?,
        Action::Show { user } => show(&session.user(&user).await?, json)?,
        Action::SetPlan { user, plan } => {
            let plan = Some(PlanId::from(&*plan));
            change(&session, &user, UserChange { plan, ..UserChange::default() }, json).await?;
        }
        Action::SetRole { user, role } => {
            let role = Some(role.into());
            change(&session, &user, UserChange { role, ..UserChange::default() }, json).await?;
        }
        Action::Suspend { user } => {
            set_status(&session, &user, UserStatus::Suspended, json).await?;
        }
        Action::RemoveSecondFactor { user } => {
            remove_second_factor(&session, &user, json).await?;
        }
        Action::Delete { user, yes: _ } => delete(&session, &user).await?,
        Action::Resume { user } => set_status(&session, &user, UserStatus::Active, json).await?,
    }
    session.store.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn add_user(session: &CliSession, add: Add, json: bool) -> anyhow::Result<()> {
    let now = clock::now();
    let wanted = match &add.plan {
        Some(plan) => PlanId::from(&**plan),
        None => {
            session.config.accounts.default_plan.clone().context("no plan exists; pass --plan")?
        }
    };
    let new = NewUser {
        email: new_email(&add.email)?,
        username: add.username.as_deref().map(normalised_username).transpose()?,
        password_hash: if add.password_stdin { Some(read_password_hash()?) } else { None },
        // The operator vouches for the address, unless the user is yet to be invited.
        email_verified: !add.invite,
        role: add.role.into(),
        plan: wanted,
        created_at: now,
    };
    // Checked first, so that no user is left without a key.
    session.pepper(now).await?;
    let user = match session.store.add_user(&new, &AuditContext::operator(now)).await {
        Ok(user) => user,
        Err(UserError::NoSuchPlan(plan)) => return no_such_plan(session, &plan).await,
        Err(e) => return Err(e.into()),
    };
    let (plain, key) = session.add_key(&user, |_| {}, now).await?;
    let link = if add.invite { Some(invite(session, &user).await?) } else { None };
    if json {
        let mut shown = serde_json::json!({
            "user": UserRow::from(&user),
            "key": KeyRow::from(&key),
            "api_key": plain.reveal(),
        });
        if let Some(link) = &link {
            shown["invitation"] = serde_json::json!(link);
        }
        return print_json(&shown);
    }
    println!("{}", UserRow::from(&user).line());
    println!("API key, shown only once: {}", plain.reveal());
    if let Some(link) = &link {
        println!("{}", link.line());
    }
    Ok(())
}

/// A link by which the user sets a password.
async fn invite(session: &CliSession, user: &User) -> anyhow::Result<Invitation> {
    let now = clock::now();
    let links = Links::new(&session.pepper(now).await?, session.config.public_url.clone());
    let by = AuditContext::operator(now);
    let link = links.issue(&*session.store, user, LinkPurpose::Invitation, &by).await?;
    let expires_at = link.expires_at.map(|end| end.to_string());
    Ok(Invitation { path: link.path, url: link.url, expires_at })
}

impl Invitation {
    fn line(&self) -> String {
        match &self.url {
            Some(url) => format!("Invitation link, valid for 7 days, shown only once: {url}"),
            None => format!(
                "Invitation link, valid for 7 days, shown only once; put the address of the gateway before it \
                 (`public_url` is not set): {}",
                self.path
            ),
        }
    }
}

async fn list(session: &CliSession, json: bool) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = session.store.users(&UserFilter::default(), after, PAGE).await?;
        for user in &page {
            show(user, json)?;
        }
        match page.last() {
            Some(last) => after = Some(last.id),
            None => return Ok(()),
        }
    }
}

/// Prints a user on one line; lists are JSON lines.
fn show(user: &User, json: bool) -> anyhow::Result<()> {
    let shown = UserRow::from(user);
    if json {
        return print_json(&shown);
    }
    println!("{}", shown.line());
    Ok(())
}

async fn set_status(
    session: &CliSession,
    who: &str,
    status: UserStatus,
    json: bool,
) -> anyhow::Result<()> {
    let status = Some(status);
    change(session, who, UserChange { status, ..UserChange::default() }, json).await
}

async fn change(
    session: &CliSession,
    who: &str,
    change: UserChange,
    json: bool,
) -> anyhow::Result<()> {
    let user = session.user(who).await?;
    let by = AuditContext::operator(clock::now());
    let changed = match session.store.change_user(user.id, &change, &by).await {
        Err(UserError::NoSuchPlan(plan)) => return no_such_plan(session, &plan).await,
        changed => changed?,
    };
    show(&changed.with_context(|| format!("there is no user `{who}`"))?, json)
}

async fn remove_second_factor(session: &CliSession, who: &str, json: bool) -> anyhow::Result<()> {
    let user = session.user(who).await?;
    let by = AuditContext::operator(clock::now());
    if !session.store.remove_second_factor(user.id, &by).await? {
        anyhow::bail!("`{who}` has no second factor");
    }
    show(&user, json)
}

async fn delete(session: &CliSession, who: &str) -> anyhow::Result<()> {
    let user = session.user(who).await?;
    let now = clock::now();
    let secret = ServerSecret::of(&session.pepper(now).await?);
    let by = AuditContext::operator(now);
    match session.store.erase_user(user.id, &secret, &by).await? {
        Erased::Done => println!("deleted {}; the usage stays under this id", user.id),
        Erased::Absent => anyhow::bail!("there is no user `{who}`"),
        Erased::LastAdmin => {
            anyhow::bail!("`{who}` is the last admin; give another user the role admin first")
        }
    }
    Ok(())
}

async fn no_such_plan(session: &CliSession, plan: &PlanId) -> anyhow::Result<()> {
    let plans = session.store.plans().await?;
    let ids: Vec<&str> = plans.iter().map(|plan| plan.id.as_str()).collect();
    anyhow::bail!("there is no plan `{plan}`; the plans are {}", ids.join(", "))
}

fn read_password_hash() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the password")?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.chars().count() < password::MIN_CHARACTERS {
        anyhow::bail!("a password needs at least {} characters", password::MIN_CHARACTERS);
    }
    Ok(password::hash(password)?)
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::User => Self::User,
            RoleArg::Auditor => Self::Auditor,
            RoleArg::Admin => Self::Admin,
        }
    }
}
