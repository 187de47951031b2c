//! The checks. The name of each is a requirement.

use std::future::Future;
use std::pin::Pin;

use super::run::{CheckResult, Run};

mod capabilities;
mod events;
mod files;
mod malformed;
mod outcomes;
mod output;
mod queries;
mod receiving;
mod recordings;
mod sending;
mod signatures;

pub(super) struct Check {
    pub(super) name: &'static str,
    module: &'static str,
    pub(super) run: for<'r> fn(&'r Run<'_>) -> Running<'r>,
}

impl Check {
    /// Returns `true` if the check says nothing unless calls reach the fake gateway.
    pub(super) fn needs_calls(&self) -> bool {
        matches!(self.module, "files" | "outcomes" | "output" | "queries" | "sending")
            || self.name == "credentials_are_named_and_sent"
    }
}

type Running<'r> = Pin<Box<dyn Future<Output = CheckResult> + 'r>>;

/// Makes the table of the checks, the list of their names, and the macro that makes a test of each. The dollar is handed
/// in because a macro cannot write one.
macro_rules! checks {
    ($dollar:tt $($module:ident { $($name:ident)* })*) => {
        pub(super) const TABLE: &[Check] =
            &[$($(Check { name: stringify!($name), module: stringify!($module), run: |run| Box::pin($module::$name(run)) },)*)*];

        /// The names of the checks, in their order:
        ///
        $($(#[doc = concat!("- `", stringify!($name), "`")])*)*
        pub const CHECKS: &[&str] = &[$($(stringify!($name),)*)*];

        #[doc(hidden)]
        #[macro_export]
        macro_rules! __conformance_checks {
            ($dollar subject:expr) => {
                $($(
                    #[test]
                    fn $name() {
                        $dollar crate::testing::assert_check(&$dollar subject, stringify!($name));
                    }
                )*)*
            };
        }
    };
}

checks! { $
    recordings {
        requests_reach_the_fake_gateway
        results_match_their_snapshot
        common_cases_are_recorded
        credentials_are_named_and_sent
    }
    capabilities {
        declared_capabilities_are_recorded
        undeclared_capabilities_are_refused_offline
    }
    sending {
        send_makes_the_recorded_requests
        send_keeps_every_id
        rejection_maps_to_the_recorded_error
        text_is_sent_unchanged
        text_over_the_limit_is_refused_offline
        invalid_address_is_refused_offline
        key_of_any_length_is_sent_as_a_reference
        check_plan_and_send_agree
        repeated_send_carries_the_same_key
        expired_message_is_not_sent
        options_of_other_gateways_are_ignored
        send_makes_one_request
        concurrent_sends_do_not_mix
    }
    outcomes {
        refused_connection_is_not_sent
        truncated_request_is_unknown
        reset_before_the_response_is_unknown
        timeout_is_unknown
        slow_response_is_unknown
        truncated_response_is_unknown
        unreadable_success_is_unknown
        success_without_an_id_is_unknown
        partial_success_is_unknown_or_the_same
        acceptance_is_not_above_accepted
        server_error_is_unknown
        client_error_is_rejected
        redirect_is_not_followed
        rate_limit_reports_its_wait
        closed_connections_double_no_message
        cancelled_send_is_sent_at_most_once
    }
    receiving {
        webhook_returns_the_recorded_events
        event_names_its_origin
        batch_keeps_its_order
        redelivered_event_keeps_its_id
        event_round_trips_through_serde
        status_names_its_message
        statuses_are_reported_in_any_order
        unrecognised_webhook_is_kept
        truncated_body_is_no_error
        body_over_the_limit_is_refused
        random_bytes_never_panic
        handshake_gets_the_recorded_response
    }
    events {
        event_ids_are_unique_across_webhooks
        edit_has_an_event_id_of_its_own
        selection_and_file_have_an_id
        group_message_is_answered_to_the_group
        failed_delivery_has_a_kind
        event_time_follows_the_webhook
    }
    malformed {
        malformed_value_costs_no_other_event
        malformed_webhook_of_others_returns_nothing
        half_a_character_costs_one_character
        event_id_ignores_formatting
        batch_cost_is_linear
    }
    signatures {
        webhook_without_signature_is_refused
        wrong_signature_is_refused
        changed_webhook_is_refused
        stale_webhook_is_refused
        missing_secret_verifies_nothing
        both_secrets_verify_during_a_rotation
        secret_is_limited_to_its_accounts
    }
    queries {
        poll_returns_the_recorded_events
        cursor_moves_with_the_events
        poll_and_webhook_return_the_same_event
        look_up_returns_the_recorded_outcome
        failed_look_up_is_inconclusive
        look_up_finds_no_other_message
        indicator_makes_the_recorded_request
        health_returns_the_recorded_result
    }
    files {
        upload_is_complete
        oversized_upload_is_refused
        download_is_complete
        file_is_fetched_from_the_gateway_only
        credential_is_sent_to_the_gateway_only
        oversized_or_altered_download_is_an_error
    }
    output {
        output_has_no_secret_or_personal_data
        only_the_gateway_is_contacted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_check_is_there_twice() {
        let names: std::collections::BTreeSet<_> = CHECKS.iter().collect();
        assert_eq!((names.len(), TABLE.len()), (CHECKS.len(), CHECKS.len()));
    }
}
