//! Users. Every change increments the user's version and takes the next change number, by which
//! [`changes`](crate::ChangeFeed::changes) reads.

use super::dialect::{self, Backend, Connection, Driver};
use super::dialect::{for_no_key_update, id_in, next_change, page_end, page_start};
use super::{audit, one_time_links, released_addresses, sessions};
use crate::StoreError;
use crate::audit::Change;
use crate::encode;
use crate::sessions::Credentials;
use crate::users::{NewUser, UserChange, UserError, UserFilter, Users};
use async_trait::async_trait;
use domain::actor::{Actor, AuditContext};
use domain::id::{PlanId, UserId};
use domain::server_secret::ServerSecret;
use domain::user::{Role, User, UserStatus};
use jiff::Timestamp;
use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::{Executor, QueryBuilder};
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// A user as it is stored, without the password's hash.
#[derive(sqlx_macros::FromRow)]
pub(super) struct UserRow {
    id: Uuid,
    email: String,
    username: Option<String>,
    role: String,
    status: String,
    plan_id: String,
    overrides: Option<String>,
    email_verified_at: Option<i64>,
    version: i64,
    created_at: i64,
}

/// A user as it is stored.
#[derive(sqlx_macros::FromRow)]
pub(super) struct CredentialsRow {
    #[sqlx(flatten)]
    user: UserRow,
    password_hash: Option<String>,
}

#[async_trait]
impl Users for Backend {
    async fn add_user(&self, user: &NewUser, by: &AuditContext) -> Result<User, UserError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            let added = insert(tx, user).await?;
            audit::append(tx, &Change::of_user(None, &added, false), by).await?;
            Ok(added)
        })
        .await
    }

    async fn register_user(
        &self,
        user: &NewUser,
        secret: &ServerSecret,
        by: &AuditContext,
    ) -> Result<User, UserError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            let added = insert(tx, user).await?;
            // Afterwards, because inserting waits for an account that gives the address up at this moment.
            released_addresses::check(tx, (None, &user.email), secret, by.at).await?;
            audit::append(tx, &Change::of_user(None, &added, false), by).await?;
            Ok(added)
        })
        .await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let found = self.read(StoreOp::Accounts, find(&self.pool, id)).await?;
        Ok(found.map(|found| found.user))
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        self.read(StoreOp::Accounts, async {
            let row: Option<UserRow> = sqlx::query_as(
                "select
                     id, email, username, role, status, plan_id, overrides, email_verified_at,
                     version, created_at
                 from users
                 where email = $1",
            )
            .bind(email)
            .fetch_optional(&self.pool)
            .await?;
            row.map(User::try_from).transpose()
        })
        .await
    }

    async fn users_by_ids(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        self.read(StoreOp::Accounts, by_ids(self, ids)).await
    }

    async fn users(
        &self,
        filter: &UserFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreError> {
        self.read(StoreOp::Accounts, page(self, filter, after, limit)).await
    }

    async fn change_user(
        &self,
        id: UserId,
        change: &UserChange,
        by: &AuditContext,
    ) -> Result<Option<User>, UserError> {
        let changed = self
            .transaction(StoreOp::Accounts, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                change_in(tx, id, change, by).await
            })
            .await?;
        self.handle.publish(Some(id)).await?;
        Ok(changed)
    }
}

async fn page(
    store: &Backend,
    filter: &UserFilter,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<User>, StoreError> {
    let mut query = QueryBuilder::<Driver>::new(concat!(
        "select
                     id, email, username, role, status, plan_id, overrides, email_verified_at,
                     version, created_at
         from users
         where ",
        page_start!()
    ));
    if let Some(after) = after {
        query.push(" and id > ").push_bind(after.0);
    }
    if let Some(search) = &filter.search {
        dialect::push_search(&mut query, &encode::searched(&search.to_lowercase()));
    }
    if let Some(plan) = &filter.plan {
        query.push(" and plan_id = ").push_bind(plan.as_str());
    }
    if let Some(status) = filter.status {
        query.push(" and status = ").push_bind(status.as_str());
    }
    if let Some(role) = filter.role {
        query.push(" and role = ").push_bind(role.as_str());
    }
    if filter.role.is_some_and(|role| role != Role::User) {
        // The condition of the partial index, which is not used without it.
        query.push(" and role <> 'user'");
    }
    query.push(" order by id limit ").push_bind(i64::from(limit)).push(page_end!());
    let rows: Vec<UserRow> = query.build_query_as().fetch_all(&store.pool).await?;
    rows.into_iter().map(User::try_from).collect()
}

pub(super) async fn insert(tx: &mut Connection, user: &NewUser) -> Result<User, UserError> {
    let row: Result<UserRow, sqlx::Error> = sqlx::query_as(concat!(
        next_change!(),
        "insert into users (
             id, email, username, password_hash, role, status, plan_id, change_seq, created_at,
             email_verified_at
         )
         select $1, $2, $3, $4, $5, $6, $7, number.last, $8, $9
         from number
         returning
             id, email, username, role, status, plan_id, overrides, email_verified_at, version,
             created_at",
    ))
    .bind(UserId::new().0)
    .bind(&user.email)
    .bind(&user.username)
    .bind(&user.password_hash)
    .bind(user.role.as_str())
    .bind(UserStatus::Active.as_str())
    .bind(user.plan.as_str())
    .bind(user.created_at.as_millisecond())
    .bind(user.email_verified.then(|| user.created_at.as_millisecond()))
    .fetch_one(tx)
    .await;
    Ok(row.map_err(|e| refused(e, &user.plan))?.try_into()?)
}

pub(super) async fn find(
    executor: impl Executor<'_, Database = Driver>,
    id: UserId,
) -> Result<Option<Credentials>, StoreError> {
    let row: Option<CredentialsRow> = sqlx::query_as(
        "select
             id, email, username, role, status, plan_id, overrides, email_verified_at, version,
             created_at, password_hash
         from users
         where id = $1",
    )
    .bind(id.0)
    .fetch_optional(executor)
    .await?;
    row.map(Credentials::try_from).transpose()
}

/// The user, locked until the transaction ends; log-ins wait as well.
pub(super) async fn lock(
    tx: &mut Connection,
    id: UserId,
) -> Result<Option<Credentials>, StoreError> {
    let row: Option<CredentialsRow> = sqlx::query_as(concat!(
        "select
             id, email, username, role, status, plan_id, overrides, email_verified_at, version,
             created_at, password_hash
         from users
         where id = $1",
        for_no_key_update!()
    ))
    .bind(id.0)
    .fetch_optional(tx)
    .await?;
    row.map(Credentials::try_from).transpose()
}

/// Those of the users that there are, in no order.
pub(super) async fn by_ids(store: &Backend, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<UserRow> = sqlx::query_as(concat!(
        "select
                     id, email, username, role, status, plan_id, overrides, email_verified_at,
                     version, created_at
         from users
         where id ",
        id_in!("$1")
    ))
    .bind(dialect::ids(ids))
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

/// A change within a transaction that has locked the change sequence.
pub(super) async fn change_in(
    tx: &mut Connection,
    id: UserId,
    change: &UserChange,
    by: &AuditContext,
) -> Result<Option<User>, UserError> {
    let found = lock(&mut *tx, id).await?;
    let found = found.filter(|found| found.user.status != UserStatus::Deleted);
    let Some(Credentials { user: before, password_hash }) = found else { return Ok(None) };
    let new_password = change.password_hash.is_some() && change.password_hash != password_hash;
    let password_hash = change.password_hash.clone().or(password_hash);
    let mut after = change.applied_to(before.clone());
    if let Some((from, to)) = zones(tx, &before.plan, &after.plan).await? {
        after.overrides.time_zone = before.overrides.zone_after(&from, &to, by.at);
    }
    if by.actor != Actor::Operator && ends_last_admin(tx, &before, &after).await? {
        return Err(UserError::LastAdmin);
    }
    if let Some(secret) = &change.secret {
        released_addresses::exchange(tx, (&before, &after), secret, by).await?;
    }
    let after = update(tx, &after, password_hash).await?;
    if change.ends_sessions() {
        sessions::end_all(tx, id).await?;
    }
    if change.ends_links(&before) {
        one_time_links::end_all(tx, id).await?;
    }
    audit::append(tx, &Change::of_user(Some(&before), &after, new_password), by).await?;
    Ok(Some(after))
}

/// True if the change leaves no active admin. Changes wait for each other, so that two admins cannot demote one
/// another.
async fn ends_last_admin(
    tx: &mut Connection,
    before: &User,
    after: &User,
) -> Result<bool, StoreError> {
    if after.role == Role::Admin && after.status == UserStatus::Active {
        return Ok(false);
    }
    is_last_admin(tx, before).await
}

/// True if the user is an active admin, and no other is.
pub(super) async fn is_last_admin(tx: &mut Connection, user: &User) -> Result<bool, StoreError> {
    if user.role != Role::Admin || user.status != UserStatus::Active {
        return Ok(false);
    }
    let other: Option<i32> = sqlx::query_scalar(
        "select 1
         from users
         where role = 'admin'
           and role <> 'user'
           and status = 'active'
           and id <> $1
         limit 1",
    )
    .bind(user.id.0)
    .fetch_optional(tx)
    .await?;
    Ok(other.is_none())
}

/// The time zones of two plans, if the plans differ and both exist.
async fn zones(
    tx: &mut Connection,
    from: &PlanId,
    to: &PlanId,
) -> Result<Option<(String, String)>, StoreError> {
    if from == to {
        return Ok(None);
    }
    let found = sqlx::query_as(
        "select a.time_zone, b.time_zone
         from plan a
         join plan b on b.id = $2
         where a.id = $1",
    );
    Ok(found.bind(from.as_str()).bind(to.as_str()).fetch_optional(tx).await?)
}

/// Writes all fields of the user, with the next version.
async fn update(
    tx: &mut Connection,
    user: &User,
    password_hash: Option<String>,
) -> Result<User, UserError> {
    let row: Result<UserRow, sqlx::Error> = sqlx::query_as(concat!(
        next_change!(),
        "update users set
             email = $2,
             username = $3,
             password_hash = $4,
             role = $5,
             status = $6,
             plan_id = $7,
             overrides = $8,
             email_verified_at = $9,
             version = version + 1,
             change_seq = number.last
         from number
         where id = $1
         returning
             id, email, username, role, status, plan_id, overrides, email_verified_at, version,
             created_at",
    ))
    .bind(user.id.0)
    .bind(&user.email)
    .bind(&user.username)
    .bind(password_hash)
    .bind(user.role.as_str())
    .bind(user.status.as_str())
    .bind(user.plan.as_str())
    .bind(encode::overrides_text(&user.overrides))
    .bind(user.email_verified_at.map(Timestamp::as_millisecond))
    .fetch_one(tx)
    .await;
    Ok(row.map_err(|e| refused(e, &user.plan))?.try_into()?)
}

/// The error of a user that breaks a constraint.
fn refused(error: sqlx::Error, plan: &PlanId) -> UserError {
    // Not `constraint()`, which SQLite leaves out; both name it in the message.
    let broken = error.as_database_error().map(DatabaseError::message);
    let is_the_username = broken.is_some_and(|message| message.contains("users_by_username"));
    match constraint(&error) {
        Some(ErrorKind::UniqueViolation) if is_the_username => UserError::UsernameTaken,
        Some(ErrorKind::UniqueViolation) => UserError::EmailTaken,
        Some(ErrorKind::ForeignKeyViolation) => UserError::NoSuchPlan(plan.clone()),
        _ => UserError::Store(error.into()),
    }
}

/// The kind of constraint that a statement violated.
pub(super) fn constraint(error: &sqlx::Error) -> Option<ErrorKind> {
    error.as_database_error().map(DatabaseError::kind)
}

/// Increments the user's version: cached records of the user's keys have to be loaded again.
pub(super) async fn bump_user_version(tx: &mut Connection, user: UserId) -> Result<(), StoreError> {
    sqlx::query(concat!(
        next_change!(),
        "update users set
             version = version + 1,
             change_seq = number.last
         from number
         where id = $1",
    ))
    .bind(user.0)
    .execute(tx)
    .await?;
    Ok(())
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: UserId(row.id),
            email: row.email,
            username: row.username,
            role: encode::role(&row.role)?,
            status: encode::user_status(&row.status)?,
            plan: PlanId(row.plan_id.into()),
            overrides: encode::overrides(row.overrides.as_deref())?,
            email_verified_at: row.email_verified_at.map(encode::instant).transpose()?,
            version: encode::count(row.version)?,
            created_at: encode::instant(row.created_at)?,
        })
    }
}

impl TryFrom<CredentialsRow> for Credentials {
    type Error = StoreError;

    fn try_from(row: CredentialsRow) -> Result<Self, StoreError> {
        Ok(Self { user: row.user.try_into()?, password_hash: row.password_hash })
    }
}
