//! The checks. The name of each is a requirement.

use std::future::Future;
use std::pin::Pin;

use super::run::{CheckResult, Run};

mod asking;
mod describing;
mod files;
mod malformed;
mod outcomes;
mod proofs;
mod receiving;
mod sending;
mod showing;

pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) run: for<'r> fn(&'r Run<'_>) -> Running<'r>,
}

type Running<'r> = Pin<Box<dyn Future<Output = CheckResult> + 'r>>;

/// Makes the table of the checks, the list of their names, and the macro that makes a test of each. The dollar is handed
/// in because a macro cannot write one.
macro_rules! checks {
    ($dollar:tt $($module:ident { $($name:ident)* })*) => {
        pub(super) const TABLE: &[Check] =
            &[$($(Check { name: stringify!($name), run: |run| Box::pin($module::$name(run)) },)*)*];

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
    describing {
        what_is_declared_is_recorded
        what_is_not_declared_is_refused_before_the_network
    }
    sending {
        a_message_is_written_as_it_was_recorded
        every_id_is_kept
        a_refusal_means_what_was_recorded
        a_text_arrives_whole
        a_text_over_the_limit_is_refused_before_the_network
        a_wrong_address_is_refused_before_the_network
        key_of_any_length_goes_as_its_reference
        a_message_whose_time_has_passed_is_not_sent
        options_of_another_gateway_are_ignored
        one_send_is_one_request
        sends_side_by_side_do_not_mix
    }
    outcomes {
        a_refused_connection_is_not_sent
        a_request_cut_short_is_unknown
        a_reset_before_the_answer_is_unknown
        no_answer_in_time_is_unknown
        an_answer_that_drips_is_unknown
        an_answer_cut_short_is_unknown
        a_yes_that_cannot_be_read_is_unknown
        a_yes_without_an_id_is_unknown
        a_fault_of_the_gateway_is_unknown
        a_definite_no_is_rejected
        a_redirect_is_not_followed
        too_many_requests_says_how_long_to_wait
        connections_that_close_between_sends_double_nothing
        a_send_that_is_given_up_goes_at_most_once
    }
    receiving {
        a_webhook_brings_what_was_recorded
        an_event_says_where_it_comes_from
        a_batch_keeps_its_order
        a_repeated_event_has_the_same_id
        an_event_survives_a_store
        a_status_names_its_message
        statuses_in_any_order_are_all_told
        what_is_not_known_is_kept
        a_body_cut_short_is_no_error
        a_body_over_the_limit_is_refused
        no_bytes_make_it_panic
        a_handshake_is_answered_exactly
    }
    malformed {
        a_malformed_value_costs_no_event_beside_it
        a_malformed_webhook_of_another_account_brings_nothing
        half_a_character_costs_that_character
        an_id_ignores_white_space_and_order
        a_batch_twice_as_long_is_twice_as_much
    }
    proofs {
        a_webhook_without_proof_is_refused
        a_wrong_proof_is_refused
        a_changed_webhook_is_refused
        a_stale_webhook_is_refused
        no_secret_opens_nothing
        old_and_new_secret_open_during_a_rotation
        a_secret_makes_events_of_its_own_accounts_only
    }
    asking {
        a_poll_brings_what_was_recorded
        a_poll_and_a_webhook_bring_one_event
        a_look_up_says_what_was_recorded
        a_look_up_that_fails_proves_nothing
        a_signal_is_shown_as_it_was_recorded
        health_is_told_as_it_was_recorded
    }
    files {
        a_file_goes_up_whole
        a_file_over_its_limit_does_not_go_up
        a_file_comes_down_whole
        a_file_is_fetched_from_the_gateway_only
        a_credential_stays_at_the_gateway
        a_file_over_its_cap_or_with_a_wrong_hash_is_an_error
    }
    showing {
        nothing_secret_or_personal_is_shown
        it_connects_to_nobody_else
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
