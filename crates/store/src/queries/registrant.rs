//! The person who registered an account may be another than the one who proves to own its address. What the first has
//! set up must then not lock out the second, sign in to the account, or call on it.

use super::dialect::Connection;
use super::{external_identities, keys, second_factors};
use crate::StoreError;
use crate::sessions::Credentials;
use domain::actor::AuditContext;

/// Removes the second factor, the identities and the keys of an account whose address is not verified. An account
/// without a password or an identity was added by an admin or the operator, who may have made a key for its user:
/// that key stays.
pub(super) async fn remove_access(
    tx: &mut Connection,
    found: &Credentials,
    by: &AuditContext,
) -> Result<(), StoreError> {
    let user = found.user.id;
    second_factors::remove_audited(tx, user, by).await?;
    let had_identity = external_identities::remove_all(tx, user, by).await?;
    if had_identity || found.password_hash.is_some() {
        keys::revoke_all(tx, user, by).await?;
    }
    Ok(())
}
