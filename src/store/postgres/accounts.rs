//! Users. Every change takes the next number of the sequence that `changes` reads, before it
//! touches any other row: see `change_number` in the migrations.

use super::PostgresStore;
use crate::account::id::{PlanId, UserId};
use crate::account::user::{Role, User, UserStatus};
use crate::store::columns;
use crate::store::{AddUserError, NewUser, StoreError, UserChange};
use sqlx::PgConnection;
use sqlx::error::ErrorKind;
use uuid::Uuid;

/// A user as it is stored, without the password's hash.
#[derive(sqlx::FromRow)]
struct UserRow {
    id: Uuid,
    email: String,
    username: Option<String>,
    role: String,
    status: String,
    plan_id: String,
    version: i64,
    created_at: i64,
}

pub(super) async fn add(store: &PostgresStore, user: &NewUser) -> Result<User, AddUserError> {
    let row: Result<UserRow, sqlx::Error> = sqlx::query_as(
        "with number as (
             update change_number set last = last + 1 returning last
         )
         insert into users (
             id, email, username, password_hash, role, status, plan_id, change_seq, created_at
         )
         select $1, $2, $3, $4, $5, $6, $7, number.last, $8
         from number
         returning id, email, username, role, status, plan_id, version, created_at",
    )
    .bind(UserId::new().0)
    .bind(&user.email)
    .bind(&user.username)
    .bind(&user.password_hash)
    .bind(user.role.as_str())
    .bind(UserStatus::Active.as_str())
    .bind(user.plan.as_str())
    .bind(user.created_at.as_millisecond())
    .fetch_one(&store.pool)
    .await;
    match row {
        Ok(row) => Ok(row.try_into()?),
        Err(e) => Err(match constraint(&e) {
            Some(ErrorKind::UniqueViolation) => AddUserError::EmailTaken,
            Some(ErrorKind::ForeignKeyViolation) => AddUserError::NoSuchPlan(user.plan.clone()),
            _ => AddUserError::Store(e.into()),
        }),
    }
}

pub(super) async fn by_id(store: &PostgresStore, id: UserId) -> Result<Option<User>, StoreError> {
    let row: Option<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where id = $1",
    )
    .bind(id.0)
    .fetch_optional(&store.pool)
    .await?;
    row.map(User::try_from).transpose()
}

/// Those of the users that there are, in no order.
pub(super) async fn by_ids(store: &PostgresStore, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where id = any($1)",
    )
    .bind(ids)
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

pub(super) async fn by_email(
    store: &PostgresStore,
    email: &str,
) -> Result<Option<User>, StoreError> {
    let row: Option<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where email = $1",
    )
    .bind(email)
    .fetch_optional(&store.pool)
    .await?;
    row.map(User::try_from).transpose()
}

pub(super) async fn page(
    store: &PostgresStore,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<User>, StoreError> {
    let rows: Vec<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, version, created_at
         from users
         where id > $1
         order by id
         limit $2",
    )
    // No user has the nil id, and it sorts before every other.
    .bind(after.map_or(Uuid::nil(), |id| id.0))
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

pub(super) async fn change(
    store: &PostgresStore,
    id: UserId,
    change: &UserChange,
) -> Result<Option<User>, StoreError> {
    let row: Result<Option<UserRow>, sqlx::Error> = sqlx::query_as(
        "with number as (
             update change_number set last = last + 1 returning last
         )
         update users set
             plan_id = coalesce($2, plan_id),
             role = coalesce($3, role),
             status = coalesce($4, status),
             password_hash = coalesce($5, password_hash),
             version = version + 1,
             change_seq = number.last
         from number
         where id = $1
         returning id, email, username, role, status, plan_id, version, created_at",
    )
    .bind(id.0)
    .bind(change.plan.as_ref().map(PlanId::as_str))
    .bind(change.role.map(Role::as_str))
    .bind(change.status.map(UserStatus::as_str))
    .bind(&change.password_hash)
    .fetch_optional(&store.pool)
    .await;
    match row {
        Ok(row) => row.map(User::try_from).transpose(),
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

/// Makes later changes to users wait until the transaction ends; see the module.
pub(super) async fn hold_changes(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("select last from change_number for update").execute(tx).await?;
    Ok(())
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: UserId(row.id),
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
