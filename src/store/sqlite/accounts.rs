//! Users. Every change takes the next number of the sequence that `changes` reads.
//!
//! The next number is one more than the largest: users are never removed and there is one writer
//! at a time, so it only rises.

use super::SqliteStore;
use crate::account::id::{PlanId, UserId};
use crate::account::user::{Role, User, UserStatus};
use crate::store::columns;
use crate::store::{AddUserError, NewUser, StoreError, UserChange};
use sqlx::error::ErrorKind;

/// A user as it is stored, without the password's hash.
#[derive(sqlx::FromRow)]
struct UserRow {
    id: Vec<u8>,
    email: String,
    username: Option<String>,
    role: String,
    status: String,
    plan_id: String,
    version: i64,
    created_at: i64,
}

pub(super) async fn add(store: &SqliteStore, user: &NewUser) -> Result<User, AddUserError> {
    let mut turn = store.writer.turn().await?;
    // Its commit is the answer: a row that is returned is not yet one that is written.
    let mut tx = turn.begin().await?;
    let row: Result<UserRow, sqlx::Error> = sqlx::query_as(
        "insert into users (
             id, email, username, password_hash, role, status, plan_id, change_seq, created_at
         )
         values (
             ?1, ?2, ?3, ?4, ?5, ?6, ?7,
             (select coalesce(max(change_seq), 0) + 1 from users), ?8
         )
         returning id, email, username, role, status, plan_id, version, created_at",
    )
    .bind(columns::blob(UserId::new().0))
    .bind(&user.email)
    .bind(&user.username)
    .bind(&user.password_hash)
    .bind(user.role.as_str())
    .bind(UserStatus::Active.as_str())
    .bind(user.plan.as_str())
    .bind(user.created_at.as_millisecond())
    .fetch_one(&mut *tx)
    .await;
    match row {
        Ok(row) => {
            tx.commit().await.map_err(StoreError::from)?;
            Ok(row.try_into()?)
        }
        Err(e) => Err(match constraint(&e) {
            Some(ErrorKind::UniqueViolation) => AddUserError::EmailTaken,
            Some(ErrorKind::ForeignKeyViolation) => AddUserError::NoSuchPlan(user.plan.clone()),
            _ => AddUserError::Store(e.into()),
        }),
    }
}

pub(super) async fn by_id(store: &SqliteStore, id: UserId) -> Result<Option<User>, StoreError> {
    let row: Option<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where id = ?1",
    )
    .bind(columns::blob(id.0))
    .fetch_optional(&store.readers)
    .await?;
    row.map(User::try_from).transpose()
}

/// Those of the users that there are, in no order.
pub(super) async fn by_ids(store: &SqliteStore, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
    let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
    let rows: Vec<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where id in (select unhex(value) from json_each(?1))",
    )
    .bind(serde_json::json!(ids).to_string())
    .fetch_all(&store.readers)
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

pub(super) async fn by_email(store: &SqliteStore, email: &str) -> Result<Option<User>, StoreError> {
    let row: Option<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where email = ?1",
    )
    .bind(email)
    .fetch_optional(&store.readers)
    .await?;
    row.map(User::try_from).transpose()
}

pub(super) async fn page(
    store: &SqliteStore,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<User>, StoreError> {
    let rows: Vec<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where id > ?1
         order by id
         limit ?2",
    )
    // The empty blob sorts before every id.
    .bind(after.map_or_else(Vec::new, |id| columns::blob(id.0)))
    .bind(limit)
    .fetch_all(&store.readers)
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

pub(super) async fn change(
    store: &SqliteStore,
    id: UserId,
    change: &UserChange,
) -> Result<Option<User>, StoreError> {
    let mut turn = store.writer.turn().await?;
    // Its commit is the answer: a row that is returned is not yet one that is written.
    let mut tx = turn.begin().await?;
    let row: Result<Option<UserRow>, sqlx::Error> = sqlx::query_as(
        "update users set
             plan_id = coalesce(?2, plan_id),
             role = coalesce(?3, role),
             status = coalesce(?4, status),
             password_hash = coalesce(?5, password_hash),
             version = version + 1,
             change_seq = (select coalesce(max(change_seq), 0) + 1 from users)
         where id = ?1
         returning id, email, username, role, status, plan_id, version, created_at",
    )
    .bind(columns::blob(id.0))
    .bind(change.plan.as_ref().map(PlanId::as_str))
    .bind(change.role.map(Role::as_str))
    .bind(change.status.map(UserStatus::as_str))
    .bind(&change.password_hash)
    .fetch_optional(&mut *tx)
    .await;
    match row {
        Ok(row) => {
            tx.commit().await?;
            row.map(User::try_from).transpose()
        }
        Err(e) if constraint(&e) == Some(ErrorKind::ForeignKeyViolation) => {
            Err(StoreError::Missing("plan"))
        }
        Err(e) => Err(e.into()),
    }
}

/// Which constraint a statement ran against.
pub(super) fn constraint(error: &sqlx::Error) -> Option<ErrorKind> {
    error.as_database_error().map(sqlx::error::DatabaseError::kind)
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: columns::user_id(&row.id)?,
            email: row.email,
            username: row.username,
            role: columns::role(&row.role)?,
            status: columns::user_status(&row.status)?,
            plan: PlanId(row.plan_id.into()),
            version: columns::count(row.version)?,
            created_at: columns::instant(row.created_at)?,
        })
    }
}
