//! What every store must do. Each body takes a fresh, empty store of any dialect.

pub mod users;
pub mod keys;
pub mod lookups;
pub mod plans;
pub mod sessions;
pub mod secrets;
pub mod one_time_links;
pub mod second_factors;
pub mod external_identities;
pub mod erasure;
pub mod upgrades;
pub mod announcements;
pub mod audit;
pub mod stored_responses;
pub mod journal;
pub mod random_ledger;
pub mod reports;
pub mod near_limits;
pub mod retention;
pub mod adjustments;
pub mod older_schemas;
pub mod charge_histories;
pub mod sqlite;
pub mod postgres;

use domain::actor::{Actor, AuditContext};
use domain::cached_tokens::CachedTokenFraction;
use domain::charge::{Charge, Lease, Status, TokenCount};
use domain::day::Day;
use domain::id::{PlanId, UserId};
use domain::key::{KeyLimits, Pepper, PlainKey};
use domain::plan::{Plan, PlanLimits, PolicyChange, RequestPolicy, ServerTools, Window};
use domain::server_secret::ServerSecret;
use domain::user::{Role, User, UserStatus};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::sync::Arc;
use store::{Changed, NewKey, NewUser, PlanChange, Store, UserChange};

pub type Any = Arc<dyn Store>;

/// Runs every body over the stores that `$open` makes: an async function that returns the store
/// and whatever must live as long as it does.
macro_rules! suite {
    ($open:path: $($noun:ident { $($body:ident)* })*) => {
        $($(#[tokio::test]
        async fn $body() {
            let (store, _guard) = $open().await;
            crate::backends::store::$noun::$body(store).await;
        })*)*
    };
    ($open:path) => {
        $crate::backends::store::suite!($open:
            users {
                a_user_is_found_by_id_and_by_email
                an_email_is_taken_once
                of_two_concurrent_registrations_only_one_succeeds
                a_username_is_taken_once_in_any_case
                a_user_needs_a_plan_that_exists
                a_change_updates_only_the_named_fields
                a_refused_change_changes_nothing
                users_come_in_pages
                users_are_found_by_part_of_email_or_username
                users_are_filtered_by_role_status_and_plan
                two_admins_cannot_demote_each_other
                an_address_that_was_given_up_is_reserved_for_a_day
                every_change_raises_the_version_and_is_published_once
                limits_of_a_user_can_be_set_and_removed
                a_change_of_time_zone_keeps_the_current_day
                lookups_in_an_empty_store_return_nothing
            }
            keys {
                a_key_added_twice_is_added_once
                keys_are_found_by_id_and_by_last_four
                keys_are_listed_the_oldest_first
                keys_come_in_pages_and_are_one_users
                revoked_keys_of_a_user_are_bounded
                what_is_past_its_time_is_pruned
                pruning_goes_on_until_nothing_is_left
                a_key_is_changed_while_it_lives
                a_replaced_key_takes_the_place_of_its_namesakes
                replacing_again_revokes_nothing_more
                a_rotated_key_takes_the_place_of_one_key
                revoking_twice_keeps_the_first_time
                the_caller_record_holds_key_user_and_plan
                the_callers_limits_are_the_users_own_over_the_plans
            }
            plans {
                plans_come_back_as_they_were_put
                only_a_changed_plan_makes_records_stale
                a_plan_is_added_once
                a_changed_plan_keeps_its_position
                changes_of_several_fields_at_once_are_all_kept
                a_value_that_an_admin_changed_is_not_reset
            }
            sessions {
                credentials_hold_the_hash
                a_hash_is_replaced_unless_it_was_changed
                a_session_lives_until_it_ends
                a_factor_that_was_enabled_during_a_log_in_is_needed
                a_console_session_is_found_by_its_cookie_alone
                a_session_needs_the_password_that_was_checked
                a_session_continues_with_each_new_refresh_token
                a_token_used_twice_ends_the_session
                of_two_concurrent_exchanges_one_ends_the_session
                a_token_exchange_with_a_lost_reply_can_be_repeated
                a_new_password_or_a_suspension_ends_sessions
                a_user_has_a_hundred_sessions
                sessions_that_expired_make_room
                sessions_are_listed_with_their_clients
                sessions_are_ended_by_their_user_alone
            }
            secrets {
                another_secret_ends_all_sessions
                sessions_from_before_the_first_secret_go_on
                of_concurrent_first_starts_one_sets_the_secret
                a_command_learns_which_secret_is_in_use
            }
            one_time_links {
                a_link_is_used_once_and_applies_its_change
                a_reset_of_an_unverified_account_removes_the_second_factor
                a_reset_of_an_unverified_account_revokes_its_keys
                an_invitation_of_a_registered_unverified_account_takes_it_over
                only_the_right_token_purpose_and_time_open_a_link
                a_newer_link_of_the_same_purpose_ends_the_earlier
                a_password_a_suspension_or_another_address_ends_links
                a_reset_ends_all_sessions_and_links
                a_refused_change_leaves_the_link
                of_concurrent_uses_one_succeeds
                expired_links_are_pruned
                the_last_setup_link_creates_the_first_admin_once
                no_first_admin_is_created_beside_another
                of_concurrent_first_admins_one_is_created
            }
            second_factors {
                a_second_factor_is_enabled_by_the_secret_that_was_begun
                enabling_ends_the_other_sessions
                a_time_step_is_accepted_once
                a_recovery_code_is_accepted_once_from_its_user
                recovery_codes_are_replaced_together
                a_removed_second_factor_is_gone
                a_suspended_user_sets_up_none
                second_factors_are_audited
            }
            external_identities {
                an_identity_belongs_to_one_user
                of_concurrent_links_one_succeeds
                a_new_user_comes_with_the_identity_or_not_at_all
                a_verified_address_links_only_while_it_is_the_users
                a_take_over_leaves_nothing_of_who_registered
                a_take_over_ends_sessions_and_spares_admins
                a_take_over_keeps_the_key_that_an_admin_made
                a_reset_of_an_unverified_account_unlinks_its_identities
                the_only_way_in_is_not_unlinked
                a_token_is_used_once_and_pruned
            }
            erasure {
                a_deleted_user_keeps_its_id_and_usage_alone
                a_user_is_deleted_once
                a_deleted_user_can_never_be_changed
                the_last_admin_is_not_deleted
                a_long_history_is_visited_in_steps_and_once_more
            }
            upgrades {
                a_repeated_upgrade_request_is_one_request
                the_latest_request_of_a_user_is_found
                a_request_for_another_plan_replaces_the_first
                an_upgrade_request_needs_an_open_plan
                an_approved_request_changes_the_plan
                a_rejected_request_changes_nothing
                the_first_of_two_decisions_wins
                requests_come_in_pages_the_newest_first
                concurrent_requests_leave_one_pending
            }
            stored_responses {
                an_id_recorded_for_two_users_belongs_to_neither
                an_unsettled_charge_is_recorded_until_it_is_settled
                recording_again_only_raises_tokens
                a_stored_response_expires
                of_concurrent_claims_one_succeeds
                a_deleted_response_is_gone
            }
            audit {
                changes_of_users_are_logged_with_old_values
                changes_of_keys_are_logged_with_old_values
                changes_of_plans_are_logged_with_old_values
                decisions_are_logged_with_old_values
                a_change_without_effect_is_not_logged
                a_rejected_change_is_not_logged
                an_audit_entry_reads_back_as_written
                entries_come_in_pages_the_newest_first
                entries_are_found_by_subject_and_by_actor
                entries_are_found_by_action_and_time
            }
            announcements {
                an_announcement_added_twice_is_added_once
                announcements_are_shown_while_they_run
                changes_of_announcements_are_logged_with_old_values
                announcements_come_in_pages_the_newest_first
            }
            adjustments {
                an_adjustment_counts_once
                adjustments_are_listed_by_key_and_day
                sums_never_go_below_zero
                an_adjustment_commits_with_its_batch
            }
            reports {
                sums_match_the_ledger
                latency_counts_calls_by_their_time
                history_comes_in_pages
                history_of_few_calls_over_years
                keys_report_their_last_use
                a_key_is_written_at_most_once_a_minute
                a_deleted_key_has_no_last_use
                users_are_counted_by_plan_and_status
                totals_are_the_sums_of_all_users
                top_users_come_in_order
                a_store_reports_its_connections
                reports_on_nothing_are_empty
            }
            near_limits {
                users_near_a_limit_are_found_whoever_used_most
            }
            lookups {
                calls_are_found_by_request
                history_is_found_by_request
                usage_of_users_comes_in_pages
                usage_of_few_users_among_many
            }
            retention {
                pruned_days_keep_their_rollups_and_are_recorded
                more_rows_than_a_batch_are_pruned
                recorded_charges_are_distinguished_from_others
            }
            journal {
                settling_twice_charges_once
                batches_of_any_size_add_up
                a_batch_whose_sum_overflows_is_refused
                reported_usage_replaces_counted_usage
                a_late_charge_replaces_the_estimate
                an_estimate_never_replaces_a_charge
                charges_of_one_request_in_one_batch_end_as_the_real_one
                a_charge_reads_back_as_written
                sums_are_per_user_and_per_key
                a_large_batch_is_one_batch
                a_charge_that_cannot_be_stored_changes_nothing
                partitions_can_be_created_before_and_after_their_charges
                a_dead_letter_is_stored_once
                the_watermark_commits_with_its_batch_and_never_goes_back
            }
        );
    };
}
pub(crate) use suite;

pub fn day(text: &str) -> Day {
    text.parse().unwrap()
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_767_312_000 + seconds, 0).unwrap()
}

/// Whoever changes something when it does not matter who.
/// The secret of the gateway that uses the store.
pub fn server_secret() -> ServerSecret {
    ServerSecret::of(&Pepper::new(b"pepper"))
}

pub fn by() -> AuditContext {
    AuditContext::operator(at(9))
}

/// An admin who changes something.
fn admin() -> AuditContext {
    let actor = Actor::User(UserId::new());
    AuditContext { actor, at: at(9), request_id: Some("req_1".to_owned()) }
}

/// The change that makes a plan this one.
pub fn to(plan: &Plan) -> PlanChange {
    let Plan { name, price_cents, retired, limits, .. } = plan.clone();
    PlanChange {
        name: Some(name),
        price_cents: Some(price_cents),
        retired: Some(retired),
        tokens_per_day: Some(limits.tokens_per_day),
        cached_token_fraction: Some(limits.cached_token_fraction),
        requests_per_day: Some(limits.requests_per_day),
        window: Some(limits.window),
        concurrent_streams: Some(limits.concurrent_streams),
        models: Some(limits.models),
        time_zone: Some(limits.time_zone),
        policy: PolicyChange {
            server_tools: Some(limits.policy.server_tools),
            max_tool_calls: Some(limits.policy.max_tool_calls),
            service_tiers: Some(limits.policy.service_tiers),
            image_sizes: Some(limits.policy.image_sizes),
            image_qualities: Some(limits.policy.image_qualities),
            account_references: Some(limits.policy.account_references),
        },
    }
}

pub fn plan(id: &str) -> Plan {
    Plan {
        id: PlanId::from(id),
        name: format!("Plan {id}"),
        price_cents: 400,
        retired: false,
        limits: PlanLimits {
            tokens_per_day: 1_000,
            cached_token_fraction: CachedTokenFraction::from_thousandths(125).unwrap(),
            requests_per_day: 10,
            window: Window { capacity: 5, refill_seconds: 60 },
            concurrent_streams: 3,
            models: Some(["grok-4".into(), "grok-3".into()].into()),
            time_zone: TimeZone::get("Europe/Berlin").unwrap(),
            policy: RequestPolicy {
                server_tools: ServerTools::Strip,
                max_tool_calls: 7,
                account_references: true,
                ..RequestPolicy::default()
            },
        },
    }
}

/// What is told of a user after so many more changes.
pub const fn changed(user: &User, times: u64) -> Changed {
    Changed { user: user.id, version: user.version + times }
}

pub async fn add_user(store: &Any, email: &str) -> User {
    store.sync_plans(&[plan("basic")], &by()).await.unwrap();
    store.add_user(&new_user(email, "basic"), &by()).await.unwrap()
}

pub fn new_user(email: &str, plan: &str) -> NewUser {
    NewUser {
        email: email.to_owned(),
        username: None,
        password_hash: None,
        email_verified: false,
        role: Role::User,
        plan: PlanId::from(plan),
        created_at: at(0),
    }
}

pub fn new_key(name: &str) -> NewKey {
    let plain = PlainKey::generate().unwrap();
    NewKey {
        id: plain.id(),
        digest: plain.digest(&Pepper::new(b"pepper")),
        last_four: plain.last_four().to_owned(),
        name: name.to_owned(),
        created_at: at(0),
        expires_at: Some(at(60)),
        limits: KeyLimits {
            tokens_per_day: Some(7),
            requests_per_day: None,
            models: Some(["grok-4".into()].into()),
        },
    }
}

pub fn lease(user: &User, key: &str, reserved: u64) -> Lease {
    let lease = domain::testing::lease(user.id, key, day("2026-01-02"), at(1));
    Lease { version: user.version, model: "grok-4".into(), reserved, ..lease }
}

pub fn charge(lease: &Lease, prompt: u64, completion: u64) -> Charge {
    let tokens = TokenCount { prompt, cached: prompt / 2, completion, reasoning: 1 };
    Charge {
        cost_micro_dollars: -3,
        status: Status::CutByClient,
        first_token_ms: Some(20),
        total_ms: 300,
        client_request_id: Some("caller-1".into()),
        ..domain::testing::charge(lease, tokens)
    }
}

async fn suspend(store: &Any, user: UserId) -> User {
    let change = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    store.change_user(user, &change, &by()).await.unwrap().unwrap()
}
