//! Users. Every change takes the next number of the sequence that `changes` reads.
//!
//! The next number is one more than the largest: users are never removed and there is one writer
//! at a time, so it only rises.

use super::{SqliteStore, audit, sessions};
use crate::account::by::By;
use crate::account::id::{PlanId, UserId};
use crate::account::user::{Role, User, UserStatus};
use crate::store::audit::Change;
use crate::store::columns;
use crate::store::sessions::Credentials;
use crate::store::{NewUser, StoreError, UserChange, UserError, UserFilter};
use sqlx::error::ErrorKind;
use sqlx::{QueryBuilder, SqliteConnection, SqliteExecutor};

/// A user as it is stored, without the password's hash.
#[derive(sqlx::FromRow)]
pub(super) struct UserRow {
    id: Vec<u8>,
    email: String,
    username: Option<String>,
    role: String,
    status: String,
    plan_id: String,
    overrides: Option<String>,
    version: i64,
    created_at: i64,
}

/// A user as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct CredentialsRow {
    #[sqlx(flatten)]
    user: UserRow,
    password_hash: Option<String>,
}

pub(super) async fn add(store: &SqliteStore, user: &NewUser, by: &By) -> Result<User, UserError> {
    let mut turn = store.writer.turn().await?;
    // Its commit is the answer: a row that is returned is not yet one that is written.
    let mut tx = turn.begin().await?;
    let added = insert(&mut tx, user).await?;
    audit::write(&mut tx, &Change::of_user(None, &added, false), by).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(added)
}

async fn insert(tx: &mut SqliteConnection, user: &NewUser) -> Result<User, UserError> {
    let row: Result<UserRow, sqlx::Error> = sqlx::query_as(
        "insert into users (
             id, email, username, password_hash, role, status, plan_id, change_seq, created_at
         )
         values (
             ?1, ?2, ?3, ?4, ?5, ?6, ?7,
             (select coalesce(max(change_seq), 0) + 1 from users), ?8
         )
         returning id, email, username, role, status, plan_id, overrides, version, created_at",
    )
    .bind(columns::blob(UserId::new().0))
    .bind(&user.email)
    .bind(&user.username)
    .bind(&user.password_hash)
    .bind(user.role.as_str())
    .bind(UserStatus::Active.as_str())
    .bind(user.plan.as_str())
    .bind(user.created_at.as_millisecond())
    .fetch_one(tx)
    .await;
    Ok(row.map_err(|e| refused(e, &user.plan))?.try_into()?)
}

pub(super) async fn by_id(store: &SqliteStore, id: UserId) -> Result<Option<User>, StoreError> {
    Ok(find(&store.readers, id).await?.map(|found| found.user))
}

pub(super) async fn find(
    executor: impl SqliteExecutor<'_>,
    id: UserId,
) -> Result<Option<Credentials>, StoreError> {
    let row: Option<CredentialsRow> = sqlx::query_as(
        "select
             id, email, username, role, status, plan_id, overrides, version, created_at,
             password_hash
         from users
         where id = ?1",
    )
    .bind(columns::blob(id.0))
    .fetch_optional(executor)
    .await?;
    row.map(Credentials::try_from).transpose()
}

/// Those of the users that there are, in no order.
pub(super) async fn by_ids(store: &SqliteStore, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
    let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
    let rows: Vec<UserRow> = sqlx::query_as(
        "select id, email, username, role, status, plan_id, overrides, version, created_at
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
        "select id, email, username, role, status, plan_id, overrides, version, created_at
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
    filter: &UserFilter,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<User>, StoreError> {
    // The page is found in the index of names alone, and only then are its rows read.
    let mut query = QueryBuilder::new(
        "select id, email, username, role, status, plan_id, overrides, version, created_at
         from users
         where id in (select id from users where true",
    );
    if let Some(after) = after {
        query.push(" and id > ").push_bind(columns::blob(after.0));
    }
    if let Some(search) = &filter.search {
        // `like` takes A to Z for a to z, which spares us a lower-case copy of each name.
        let pattern = columns::searched(&search.to_lowercase());
        query.push(" and (email like ").push_bind(pattern.clone()).push(" escape '\\'");
        query.push(" or username like ").push_bind(pattern).push(" escape '\\')");
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
    if filter.role == Some(Role::Admin) {
        // Said as the index says it, or it would not be used.
        query.push(" and role <> 'user'");
    }
    query.push(" order by id limit ").push_bind(limit).push(") order by id");
    let rows: Vec<UserRow> = query.build_query_as().fetch_all(&store.readers).await?;
    rows.into_iter().map(User::try_from).collect()
}

pub(super) async fn change(
    store: &SqliteStore,
    id: UserId,
    change: &UserChange,
    by: &By,
) -> Result<Option<User>, UserError> {
    let mut turn = store.writer.turn().await?;
    // Its commit is the answer: a row that is returned is not yet one that is written.
    let mut tx = turn.begin().await?;
    let changed = change_in(&mut tx, id, change, by).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(changed)
}

/// A change as a part of a transaction.
pub(super) async fn change_in(
    tx: &mut SqliteConnection,
    id: UserId,
    change: &UserChange,
    by: &By,
) -> Result<Option<User>, UserError> {
    let Some(Credentials { user: before, password_hash }) = find(&mut *tx, id).await? else {
        return Ok(None);
    };
    let new_password = change.password_hash.is_some() && change.password_hash != password_hash;
    let password_hash = change.password_hash.clone().or(password_hash);
    let mut after = change.applied_to(before.clone());
    if let Some((from, to)) = zones(tx, &before.plan, &after.plan).await? {
        after.overrides.time_zone = before.overrides.zone_after(&from, &to, by.at);
    }
    let after = update(tx, &after, password_hash).await?;
    if change.ends_sessions() {
        sessions::end_all(tx, id).await?;
    }
    audit::write(tx, &Change::of_user(Some(&before), &after, new_password), by).await?;
    Ok(Some(after))
}

/// The zones of two plans, if they are two and both there.
async fn zones(
    tx: &mut SqliteConnection,
    from: &PlanId,
    to: &PlanId,
) -> Result<Option<(String, String)>, StoreError> {
    if from == to {
        return Ok(None);
    }
    let found = sqlx::query_as(
        "select a.time_zone, b.time_zone
         from plan a
         join plan b on b.id = ?2
         where a.id = ?1",
    );
    Ok(found.bind(from.as_str()).bind(to.as_str()).fetch_optional(tx).await?)
}

/// Makes the user what is given, of a version that follows.
async fn update(
    tx: &mut SqliteConnection,
    user: &User,
    password_hash: Option<String>,
) -> Result<User, UserError> {
    let row: Result<UserRow, sqlx::Error> = sqlx::query_as(
        "update users set
             email = ?2,
             username = ?3,
             password_hash = ?4,
             role = ?5,
             status = ?6,
             plan_id = ?7,
             overrides = ?8,
             version = version + 1,
             change_seq = (select coalesce(max(change_seq), 0) + 1 from users)
         where id = ?1
         returning id, email, username, role, status, plan_id, overrides, version, created_at",
    )
    .bind(columns::blob(user.id.0))
    .bind(&user.email)
    .bind(&user.username)
    .bind(password_hash)
    .bind(user.role.as_str())
    .bind(user.status.as_str())
    .bind(user.plan.as_str())
    .bind(columns::overrides_text(&user.overrides))
    .fetch_one(tx)
    .await;
    Ok(row.map_err(|e| refused(e, &user.plan))?.try_into()?)
}

/// Which rule a user was written against.
fn refused(error: sqlx::Error, plan: &PlanId) -> UserError {
    let is_the_username =
        error.as_database_error().is_some_and(|e| e.message().contains("users_by_username"));
    match constraint(&error) {
        Some(ErrorKind::UniqueViolation) if is_the_username => UserError::UsernameTaken,
        Some(ErrorKind::UniqueViolation) => UserError::EmailTaken,
        Some(ErrorKind::ForeignKeyViolation) => UserError::NoSuchPlan(plan.clone()),
        _ => UserError::Store(error.into()),
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
            overrides: columns::overrides(row.overrides.as_deref())?,
            version: columns::count(row.version)?,
            created_at: columns::instant(row.created_at)?,
        })
    }
}

impl TryFrom<CredentialsRow> for Credentials {
    type Error = StoreError;

    fn try_from(row: CredentialsRow) -> Result<Self, StoreError> {
        Ok(Self { user: row.user.try_into()?, password_hash: row.password_hash })
    }
}
