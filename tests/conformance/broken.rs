//! Shows that the suite can fail, with a complete adapter that has one fault at a time.
//!
//! "Brittle" is an invented gateway. Without a fault it passes every check. With one [`Wrong`] it must fail the check
//! for that fault and no unrelated one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use civic_messaging::adapter::json::{Json, List, Piece};
use civic_messaging::adapter::{Answer, Endpoint, FetchLimits, VendorError, bearer};
use civic_messaging::capability::TextLimit;
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{Envelope, Failure, InboundContent, OptOut, OptOutScope, Raw, Selection, Unrecognised};
use civic_messaging::health::{CheckStatus, Health};
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::media::{Digest, HostRules, MediaStream};
use civic_messaging::message::{Credits, Media, MediaKind, MediaRef, Money, Price};
use civic_messaging::poll::{Cursor, Page};
use civic_messaging::testing::{self, Exchange, ExpectedEvent, Part, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::transport::{Body, Multipart};
use civic_messaging::webhook::{
    self, Opened, Received, Refusal, Response, Scheme, SignatureCoverage, SigningSecret, Unverified, Verification,
    Verified,
};
use civic_messaging::{
    Accepted, Address, Channel, Content, Context, Delivery, DeliveryState, Error, ErrorKind, Event, Inbound, Indicator,
    Info, Medium, Message, MessageId, Outcome, Result, Secret, Timestamp, async_trait,
};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

/// A fault of the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    AcceptsAnEmptySecret,
    AnswersAHandshakeItsOwnWay,
    AnswersUnknownEventsWith400,
    CallsA429Final,
    CallsA500Rejected,
    CallsABrokenAnswerNotSent,
    CallsABrokenConnectionRejected,
    CallsADrippingAnswerRejected,
    CallsANoUnknown,
    CallsARefusedConnectionUnknown,
    CallsAResetNotSent,
    CallsATimeOutRejected,
    ComparesAPrefix,
    CrashesOnAWebhookThatIsNotJson,
    CutsLongKeys,
    DeclaresAPollThatIsNotThere,
    DeclaresTemplates,
    DoublesWhenConnectionsClose,
    DownloadsHalf,
    DropsARepeatedStatus,
    DropsUnknownEvents,
    FetchesFromAnywhere,
    FindsNothing,
    FollowsRedirects,
    ForgetsTheCode,
    ForgetsTheKey,
    ForgetsTheOldSecret,
    ForgetsTheTimeOfAProof,
    GivesAwayTheCredential,
    GivesEventsARandomId,
    GoesRoundTheTransport,
    IgnoresAHash,
    IgnoresAStatusThatItDoesNotKnow,
    IgnoresNotAfter,
    IgnoresRetryAfter,
    IsAlwaysHealthy,
    IsStuckOnceGivenUp,
    KeepsNothingOfAWebhook,
    KeepsRepairedBytes,
    KeepsTheWholeBodyForEachEvent,
    LetsAnyAccountIn,
    LetsMalformedBodiesOfOthersIn,
    LogsTheNumber,
    LosesTheIdOfAStatus,
    LosesABatchToAMalformedValue,
    LosesABatchToHalfACharacter,
    LosesAnEventInAStore,
    LosesTheKey,
    LosesTheSecondId,
    MistakesSilenceForAbsence,
    MistakesTheWriter,
    KeepsTheSecretOfAWebhook,
    MixesSendsSideBySide,
    NamesEventsByTheirBytes,
    ParsesAFloatId,
    PollsOtherEventsThanItReceives,
    PutsTheAnswerIntoAnError,
    PutsTheTokenIntoDebug,
    ReadsForeignOptions,
    RefusesLongKeys,
    RefusesWhatItCannotRead,
    RetriesByItself,
    ReversesABatch,
    SendsAgainAfterAReset,
    SendsBeforeItChecks,
    SendsToAnyAddress,
    ShowsNoSignal,
    SignsTheRereadBody,
    SkipsTheSignature,
    StripsAccents,
    TakesAnythingForAYes,
    TakesFilesOfAnySize,
    TruncatesTexts,
    UploadsHalf,
    TakesAnEmptyId,
    PutsTheCodeIntoAnError,
    AcceptsAsDelivered,
    AnswersTheWriterOfAGroup,
    EditsUnderTheOriginalsId,
    FailsWithoutAKind,
    FindsAnyMessage,
    ForgetsTheCursor,
    IgnoresTheBaseUrl,
    IgnoresTheCursor,
    IgnoresTheTime,
    IgnoresTheZone,
    InventsTheIdOfASelection,
    LosesTheIdOfAFile,
    LosesTheIdOfASelection,
    LosesTheName,
    MarksEverythingAsForwarded,
    MistakesUnblockedForBlocked,
    MovesTheCursorByTheClock,
    NamesASecretThatIsNotSent,
    NumbersEventsInTheirWebhook,
    OmitsASecret,
    PutsHalfTheTokenIntoAnError,
    ReadsSecondsAsMilliseconds,
    RecordsNoBatch,
    RecordsNoStop,
    RecordsNoUnknownStatus,
    RejectsAPartialAnswer,
    ExcludesAPollThatIsNotThere,
    MisnamesAPart,
    MistakesCreditsForPounds,
    MistakesPoundsForEuros,
    CutsTheIdempotencyKey,
    OmitsTheIdempotencyKey,
    SendsARandomIdempotencyKey,
    DatesTheIdempotencyKey,
    RefusesEmojiInSendOnly,
    RefusesReferencesOf36Bytes,
}

use Wrong::*;

/// Each fault, the check that catches it, and the checks that necessarily fail with it.
const CASES: &[(Wrong, &str, &[&str])] = &[
    (AcceptsAsDelivered, "acceptance_is_not_above_accepted", &[]),
    (AnswersTheWriterOfAGroup, "group_message_is_answered_to_the_group", &[]),
    (EditsUnderTheOriginalsId, "edit_has_an_event_id_of_its_own", &["event_ids_are_unique_across_webhooks"]),
    (FailsWithoutAKind, "failed_delivery_has_a_kind", &[]),
    (FindsAnyMessage, "look_up_finds_no_other_message", &[]),
    (ForgetsTheCursor, "cursor_moves_with_the_events", &[]),
    (IgnoresTheBaseUrl, "requests_reach_the_fake_gateway", &[]),
    (IgnoresTheCursor, "cursor_moves_with_the_events", &[]),
    (IgnoresTheTime, "event_time_follows_the_webhook", &[]),
    (IgnoresTheZone, "event_time_follows_the_webhook", &[]),
    (InventsTheIdOfASelection, "selection_and_file_have_an_id", &[]),
    (LosesTheIdOfAFile, "selection_and_file_have_an_id", &[]),
    (LosesTheIdOfASelection, "selection_and_file_have_an_id", &[]),
    (LosesTheName, SNAPSHOT, &[]),
    (MarksEverythingAsForwarded, SNAPSHOT, &[]),
    (MistakesUnblockedForBlocked, "webhook_returns_the_recorded_events", &[]),
    (MovesTheCursorByTheClock, "cursor_moves_with_the_events", &[]),
    (NamesASecretThatIsNotSent, "credentials_are_named_and_sent", &[]),
    (
        NumbersEventsInTheirWebhook,
        "event_ids_are_unique_across_webhooks",
        &[
            "event_id_ignores_formatting",
            "half_a_character_costs_one_character",
            "poll_and_webhook_return_the_same_event",
        ],
    ),
    (OmitsASecret, "credentials_are_named_and_sent", &[]),
    (PutsHalfTheTokenIntoAnError, "output_has_no_secret_or_personal_data", &[]),
    (
        ReadsSecondsAsMilliseconds,
        "event_time_follows_the_webhook",
        &["webhook_returns_the_recorded_events", "output_has_no_secret_or_personal_data"],
    ),
    (RecordsNoBatch, "common_cases_are_recorded", &["declared_capabilities_are_recorded"]),
    (RecordsNoStop, "common_cases_are_recorded", &[]),
    (RecordsNoUnknownStatus, "common_cases_are_recorded", &["declared_capabilities_are_recorded"]),
    (RejectsAPartialAnswer, "partial_success_is_unknown_or_the_same", &[]),
    (MisnamesAPart, "upload_is_complete", &[]),
    (ExcludesAPollThatIsNotThere, "declared_capabilities_are_recorded", &[]),
    (MistakesCreditsForPounds, SNAPSHOT, &[]),
    (MistakesPoundsForEuros, SNAPSHOT, &[]),
    (CutsTheIdempotencyKey, "repeated_send_carries_the_same_key", &[]),
    (DatesTheIdempotencyKey, "repeated_send_carries_the_same_key", &[]),
    (
        OmitsTheIdempotencyKey,
        "repeated_send_carries_the_same_key",
        &["send_makes_the_recorded_requests", "key_of_any_length_is_sent_as_a_reference"],
    ),
    (RefusesEmojiInSendOnly, "check_plan_and_send_agree", &[]),
    (RefusesReferencesOf36Bytes, "check_plan_and_send_agree", &[]),
    (SendsARandomIdempotencyKey, "repeated_send_carries_the_same_key", &[]),
    (AcceptsAnEmptySecret, "missing_secret_verifies_nothing", &[]),
    (
        AnswersUnknownEventsWith400,
        "unrecognised_webhook_is_kept",
        &["webhook_returns_the_recorded_events", "truncated_body_is_no_error", "random_bytes_never_panic"],
    ),
    (CallsA429Final, "rate_limit_reports_its_wait", &[]),
    (CallsA500Rejected, "server_error_is_unknown", &[]),
    (CallsABrokenAnswerNotSent, "truncated_response_is_unknown", &["slow_response_is_unknown"]),
    (
        CallsANoUnknown,
        "client_error_is_rejected",
        &["redirect_is_not_followed", "rejection_maps_to_the_recorded_error", "rate_limit_reports_its_wait"],
    ),
    (
        CallsAResetNotSent,
        "reset_before_the_response_is_unknown",
        &[
            "truncated_request_is_unknown",
            "timeout_is_unknown",
            "truncated_response_is_unknown",
            "slow_response_is_unknown",
            "closed_connections_double_no_message",
        ],
    ),
    (ComparesAPrefix, "wrong_signature_is_refused", &[]),
    (
        CrashesOnAWebhookThatIsNotJson,
        "random_bytes_never_panic",
        &[
            "unrecognised_webhook_is_kept",
            "truncated_body_is_no_error",
            "malformed_value_costs_no_other_event",
            "malformed_webhook_of_others_returns_nothing",
            "half_a_character_costs_one_character",
        ],
    ),
    (DeclaresAPollThatIsNotThere, "poll_returns_the_recorded_events", &["poll_and_webhook_return_the_same_event"]),
    (
        DropsARepeatedStatus,
        "statuses_are_reported_in_any_order",
        &[
            "malformed_value_costs_no_other_event",
            "event_id_ignores_formatting",
            "half_a_character_costs_one_character",
        ],
    ),
    (
        DropsUnknownEvents,
        "unrecognised_webhook_is_kept",
        &[
            "declared_capabilities_are_recorded",
            "webhook_returns_the_recorded_events",
            "malformed_value_costs_no_other_event",
        ],
    ),
    (FetchesFromAnywhere, "file_is_fetched_from_the_gateway_only", &[]),
    (FollowsRedirects, "redirect_is_not_followed", &[]),
    (ForgetsTheOldSecret, "both_secrets_verify_during_a_rotation", &[]),
    (ForgetsTheTimeOfAProof, "stale_webhook_is_refused", &[]),
    (GivesAwayTheCredential, "credential_is_sent_to_the_gateway_only", &[]),
    (
        GivesEventsARandomId,
        "redelivered_event_keeps_its_id",
        &[
            "cursor_moves_with_the_events",
            "malformed_value_costs_no_other_event",
            "event_id_ignores_formatting",
            "half_a_character_costs_one_character",
            "webhook_returns_the_recorded_events",
            "batch_keeps_its_order",
            "poll_returns_the_recorded_events",
            "poll_and_webhook_return_the_same_event",
        ],
    ),
    (GoesRoundTheTransport, "only_the_gateway_is_contacted", &["health_returns_the_recorded_result"]),
    (IgnoresAHash, "oversized_or_altered_download_is_an_error", &[]),
    (
        IgnoresAStatusThatItDoesNotKnow,
        "webhook_returns_the_recorded_events",
        &[
            "statuses_are_reported_in_any_order",
            "batch_keeps_its_order",
            "common_cases_are_recorded",
            "malformed_value_costs_no_other_event",
        ],
    ),
    (IgnoresNotAfter, "expired_message_is_not_sent", &[]),
    (IgnoresRetryAfter, "rate_limit_reports_its_wait", &[]),
    (LetsAnyAccountIn, "secret_is_limited_to_its_accounts", &["malformed_webhook_of_others_returns_nothing"]),
    (LogsTheNumber, "output_has_no_secret_or_personal_data", &[]),
    (
        LosesTheKey,
        "webhook_returns_the_recorded_events",
        &["declared_capabilities_are_recorded", "look_up_returns_the_recorded_outcome"],
    ),
    (MistakesTheWriter, "webhook_returns_the_recorded_events", &["poll_returns_the_recorded_events"]),
    (
        KeepsTheSecretOfAWebhook,
        "event_names_its_origin",
        &["redelivered_event_keeps_its_id", "batch_cost_is_linear", "event_id_ignores_formatting"],
    ),
    (LosesTheSecondId, "send_keeps_every_id", &["partial_success_is_unknown_or_the_same"]),
    (LosesAnEventInAStore, "event_round_trips_through_serde", &["webhook_returns_the_recorded_events"]),
    (MistakesSilenceForAbsence, "failed_look_up_is_inconclusive", &[]),
    (ParsesAFloatId, "send_keeps_every_id", &["partial_success_is_unknown_or_the_same"]),
    (PollsOtherEventsThanItReceives, "poll_and_webhook_return_the_same_event", &[]),
    (PutsTheAnswerIntoAnError, "output_has_no_secret_or_personal_data", &[]),
    (PutsTheTokenIntoDebug, "output_has_no_secret_or_personal_data", &[]),
    (ReadsForeignOptions, "options_of_other_gateways_are_ignored", &[]),
    (RetriesByItself, "send_makes_one_request", &["server_error_is_unknown"]),
    (
        ReversesABatch,
        "batch_keeps_its_order",
        &["webhook_returns_the_recorded_events", "statuses_are_reported_in_any_order"],
    ),
    (
        SendsBeforeItChecks,
        "undeclared_capabilities_are_refused_offline",
        &[
            "invalid_address_is_refused_offline",
            "expired_message_is_not_sent",
            "text_over_the_limit_is_refused_offline",
            "check_plan_and_send_agree",
        ],
    ),
    (
        SendsAgainAfterAReset,
        "send_makes_one_request",
        &[
            "reset_before_the_response_is_unknown",
            "truncated_request_is_unknown",
            "truncated_response_is_unknown",
            "slow_response_is_unknown",
            "timeout_is_unknown",
        ],
    ),
    (
        SignsTheRereadBody,
        "changed_webhook_is_refused",
        &["unrecognised_webhook_is_kept", "truncated_body_is_no_error", "random_bytes_never_panic"],
    ),
    (
        SkipsTheSignature,
        "webhook_without_signature_is_refused",
        &[
            "malformed_webhook_of_others_returns_nothing",
            "wrong_signature_is_refused",
            "changed_webhook_is_refused",
            "stale_webhook_is_refused",
            "missing_secret_verifies_nothing",
            "both_secrets_verify_during_a_rotation",
            "secret_is_limited_to_its_accounts",
        ],
    ),
    (
        TakesAnythingForAYes,
        "unreadable_success_is_unknown",
        &[
            "truncated_response_is_unknown",
            "success_without_an_id_is_unknown",
            "partial_success_is_unknown_or_the_same",
        ],
    ),
    (TakesFilesOfAnySize, "oversized_upload_is_refused", &[]),
    (TruncatesTexts, "text_over_the_limit_is_refused_offline", &["check_plan_and_send_agree"]),
    (UploadsHalf, "upload_is_complete", &[]),
    (CallsATimeOutRejected, "timeout_is_unknown", &["slow_response_is_unknown"]),
    (MixesSendsSideBySide, "concurrent_sends_do_not_mix", &[]),
    (IsStuckOnceGivenUp, "cancelled_send_is_sent_at_most_once", &["concurrent_sends_do_not_mix"]),
    (CallsARefusedConnectionUnknown, "refused_connection_is_not_sent", &[]),
    (KeepsTheWholeBodyForEachEvent, "batch_cost_is_linear", &[]),
    (LetsMalformedBodiesOfOthersIn, "malformed_webhook_of_others_returns_nothing", &[]),
    (LosesABatchToAMalformedValue, "malformed_value_costs_no_other_event", &["webhook_returns_the_recorded_events"]),
    (LosesABatchToHalfACharacter, "half_a_character_costs_one_character", &["malformed_value_costs_no_other_event"]),
    (NamesEventsByTheirBytes, "event_id_ignores_formatting", &[]),
    (
        KeepsNothingOfAWebhook,
        "event_names_its_origin",
        &[
            "redelivered_event_keeps_its_id",
            "event_id_ignores_formatting",
            "half_a_character_costs_one_character",
            "event_ids_are_unique_across_webhooks",
        ],
    ),
    (KeepsRepairedBytes, "half_a_character_costs_one_character", &[]),
    (
        LosesTheIdOfAStatus,
        "status_names_its_message",
        &[
            "webhook_returns_the_recorded_events",
            "batch_keeps_its_order",
            "redelivered_event_keeps_its_id",
            "statuses_are_reported_in_any_order",
        ],
    ),
    (
        RefusesWhatItCannotRead,
        "truncated_body_is_no_error",
        &[
            "unrecognised_webhook_is_kept",
            "random_bytes_never_panic",
            "malformed_value_costs_no_other_event",
            "half_a_character_costs_one_character",
        ],
    ),
    (AnswersAHandshakeItsOwnWay, "handshake_gets_the_recorded_response", &[]),
    (StripsAccents, "text_is_sent_unchanged", &[]),
    (SendsToAnyAddress, "invalid_address_is_refused_offline", &["undeclared_capabilities_are_refused_offline"]),
    (CutsLongKeys, "key_of_any_length_is_sent_as_a_reference", &[]),
    (RefusesLongKeys, "key_of_any_length_is_sent_as_a_reference", &["check_plan_and_send_agree"]),
    (ForgetsTheKey, "send_makes_the_recorded_requests", &["key_of_any_length_is_sent_as_a_reference"]),
    (ForgetsTheCode, "rejection_maps_to_the_recorded_error", &[]),
    (DownloadsHalf, "download_is_complete", &[]),
    (ShowsNoSignal, "indicator_makes_the_recorded_request", &[]),
    (IsAlwaysHealthy, "health_returns_the_recorded_result", &[]),
    (FindsNothing, "look_up_returns_the_recorded_outcome", &[]),
    (DeclaresTemplates, "declared_capabilities_are_recorded", &[]),
    (
        CallsABrokenConnectionRejected,
        "truncated_request_is_unknown",
        &["reset_before_the_response_is_unknown", "truncated_response_is_unknown"],
    ),
    (CallsADrippingAnswerRejected, "slow_response_is_unknown", &[]),
    (DoublesWhenConnectionsClose, "closed_connections_double_no_message", &["concurrent_sends_do_not_mix"]),
    (TakesAnEmptyId, "success_without_an_id_is_unknown", &[]),
    (PutsTheCodeIntoAnError, "output_has_no_secret_or_personal_data", &[]),
];

/// Fails beside most checks: it compares everything.
const SNAPSHOT: &str = "results_match_their_snapshot";

#[test]
fn correct_adapter_passes_every_check() {
    let report = tokio::runtime::Runtime::new().unwrap().block_on(testing::conformance(&Brittle { wrong: None }));
    report.assert_good();
    let left_out: Vec<_> =
        report.findings.iter().filter(|f| matches!(f.verdict, testing::CheckOutcome::DoesNotApply(_))).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[test]
fn broken_adapter_fails_the_check_for_its_fault() {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        println!("skipped: a broken adapter must not write the snapshot of the correct one");
        return;
    }
    // Concurrent, because each case spends most of its time waiting.
    let reports: Vec<_> = std::thread::scope(|scope| {
        let half = |half: usize| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let cases = CASES.iter().skip(half).step_by(2);
            let report = |case: &'static (Wrong, &'static str, &'static [&'static str])| {
                // Leaked, because a subject is `'static`; there are few.
                let subject: &'static Brittle = Box::leak(Box::new(Brittle { wrong: Some(case.0) }));
                (case, runtime.block_on(testing::conformance(subject)))
            };
            cases.map(report).collect::<Vec<_>>()
        };
        let halves = [0, 1].map(|nth| scope.spawn(move || half(nth)));
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let mut caught = 0;
    let mut failures = Vec::new();
    let mut catching = BTreeSet::new();
    for ((wrong, named, related), report) in &reports {
        let failed: BTreeMap<_, _> = report.failed().collect();
        let unrelated: Vec<_> =
            failed.keys().filter(|check| ![*named, SNAPSHOT].contains(*check) && !related.contains(*check)).collect();
        match failed.get(named) {
            Some(why) if unrelated.is_empty() => {
                println!("{wrong:?}: {named}: {why}");
                catching.insert(*named);
                caught += 1;
            }
            Some(_) => failures.push(format!("{wrong:?} fails unrelated checks: {unrelated:?}\n{report}")),
            None => failures.push(format!("{wrong:?} is not caught by {named}, but by {failed:#?}")),
        }
    }
    println!("{caught} of {} broken adapters caught, by {} checks", CASES.len(), catching.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(caught >= 100, "only {caught} broken adapters");
    // No adapter can fail this check: the core enforces it.
    let by_construction = ["body_over_the_limit_is_refused"];
    let named: BTreeSet<_> = CASES.iter().map(|(_, named, _)| *named).chain(by_construction).collect();
    let never: Vec<_> = testing::CHECKS.iter().filter(|check| !named.contains(*check)).collect();
    assert!(never.is_empty(), "no broken adapter shows that these can fail: {never:?}");
}

/// The gateway, correct except for one fault.
struct Brittle {
    wrong: Option<Wrong>,
}

#[derive(Debug)]
struct Adapter {
    wrong: Option<Wrong>,
    info: Info,
    endpoint: Endpoint,
    context: Context,
    token: Token,
    scheme: Proof,
    is_repeat: AtomicBool,
    busy: AtomicBool,
    last: Mutex<Option<Message>>,
}

struct Token(Secret, bool);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.1 { f.write_str(self.0.expose()) } else { f.write_str("Token(masked)") }
    }
}

const TOKEN: &str = "brittle-api-token";
const KEY: &str = "brittle-second-credential";
const MAX: u64 = 1_000;

impl Adapter {
    fn new(wrong: Option<Wrong>, setup: &Setup) -> Result<Self> {
        let info = Info::new("brittle", Medium::other("pager")?, "brittle-desk").with_capability(|can| {
            can.receive = true;
            can.poll = wrong != Some(ExcludesAPollThatIsNotThere);
            can.webhook_excludes_poll = !can.poll;
            can.look_up = true;
            can.upload_media = true;
            can.fetch_media = true;
            can.health = true;
            can.read = true;
            can.key = true;
            can.idempotency_window = Some(Duration::from_secs(12 * 3600));
            can.text = Some(TextLimit::characters(300));
            if wrong == Some(DeclaresTemplates) {
                let named = civic_messaging::capability::TemplateLimits {
                    language: false,
                    positional: true,
                    named: true,
                    components: false,
                };
                can.template = Some(named);
            }
            can.media = Some(civic_messaging::capability::MediaLimits {
                per_message: 1,
                link: false,
                stored: false,
                gateway: true,
                kinds: vec![civic_messaging::capability::MediaRule::new(MediaKind::Image, MAX, &[], 0)],
            });
        });
        let base = match wrong {
            Some(IgnoresTheBaseUrl) => "http://127.0.0.1:9".parse()?,
            _ => setup.base_url.parse()?,
        };
        let mut secrets = setup.webhook_secrets.clone();
        if wrong == Some(ForgetsTheOldSecret) {
            secrets.truncate(1);
        }
        let owned = std::slice::from_ref(&info.account);
        let secrets = secrets.into_iter().map(|secret| secret.or_owns(owned)).collect();
        Ok(Self {
            wrong,
            endpoint: Endpoint::new("brittle", base, &setup.context, ERRORS, move |answer| match wrong {
                Some(ForgetsTheCode) => VendorError::default(),
                _ => vendor_error(answer),
            }),
            context: setup.context.clone(),
            token: Token(Secret::new(TOKEN)?, wrong == Some(PutsTheTokenIntoDebug)),
            scheme: Proof { wrong, secrets, own: owned.to_vec() },
            info,
            is_repeat: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            last: Mutex::new(None),
        })
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    fn headers(&self) -> Result<HeaderMap> {
        let key = (HeaderName::from_static("x-api-key"), HeaderValue::from_static(KEY));
        Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer(&self.token.0)?), key]))
    }

    fn written(&self, message: &Message) -> Result<Request<Body>> {
        let mut body = match &message.content {
            Content::Text(text) if self.is(TruncatesTexts) => {
                json!({ "to": message.to.expose(), "text": text.chars().take(300).collect::<String>() })
            }
            Content::Text(text) => json!({ "to": message.to.expose(), "text": text }),
            Content::Media(media) => match media.first().map(|media| &media.source) {
                Some(civic_messaging::message::MediaSource::Gateway { id, .. }) => {
                    json!({ "to": message.to.expose(), "file": id })
                }
                _ => return Err(Error::unsupported("no such file")),
            },
            _ => json!({ "to": message.to.expose() }),
        };
        if !self.is(ForgetsTheKey) && !self.is(OmitsTheIdempotencyKey) {
            body["key"] = json!(message.key);
        }
        if self.is(StripsAccents)
            && let Some(text) = body["text"].as_str()
        {
            body["text"] = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect::<String>().into();
        }
        if self.is(ReadsForeignOptions) {
            let stored = serde_json::to_value(message).unwrap_or_default();
            if let Some(options) = stored.get("options") {
                body["options"] = options.clone();
            }
        }
        let mut headers = self.headers()?;
        if let Some(key) = message.key.as_deref().filter(|_| !self.is(OmitsTheIdempotencyKey)) {
            let key = match self.wrong {
                Some(CutsTheIdempotencyKey) => key.chars().take(8).collect(),
                Some(DatesTheIdempotencyKey) => format!("{key} {}", self.context.clock.now().as_secs() / 60),
                Some(SendsARandomIdempotencyKey) => {
                    let mut random = [0; 8];
                    getrandom(&mut random);
                    format!("{random:?}")
                }
                _ => key.to_owned(),
            };
            let key = Digest::sha256(key.as_bytes()).to_string();
            headers
                .insert("idempotency-key", HeaderValue::from_str(&key).map_err(|_| Error::invalid("key", "is none"))?);
        }
        self.endpoint.json("/send", headers, &body)
    }

    async fn made(&self, message: &Message) -> Result<Answer> {
        let answer = self.endpoint.send(self.written(message)?).await;
        let took_too_long = |error: &Error| error.to_string().contains("timed out");
        match answer {
            Err(error) if self.is(RetriesByItself) && error.status().is_some_and(|s| s.is_server_error()) => {
                self.endpoint.send(self.written(message)?).await
            }
            Err(error)
                if self.is(SendsAgainAfterAReset)
                    && error.status().is_none()
                    && error.outcome() == Outcome::Unknown =>
            {
                self.endpoint.send(self.written(message)?).await
            }
            Err(error) if self.is(FollowsRedirects) && error.status().is_some_and(|s| s.is_redirection()) => {
                self.endpoint.send(self.written(message)?).await
            }
            Ok(_) if self.is(DoublesWhenConnectionsClose) && self.is_repeat.swap(true, Ordering::SeqCst) => {
                // Assumes that the second send used a closed connection.
                self.is_repeat.store(false, Ordering::SeqCst);
                self.endpoint.send(self.written(message)?).await
            }
            Err(error)
                if self.is(CallsABrokenConnectionRejected)
                    && error.status().is_none()
                    && error.outcome() == Outcome::Unknown
                    && !took_too_long(&error) =>
            {
                Err(error.with_outcome(Outcome::Rejected))
            }
            Err(error)
                if self.is(CallsADrippingAnswerRejected) && took_too_long(&error) && error.status().is_some() =>
            {
                Err(error.with_outcome(Outcome::Rejected))
            }
            Err(error) if self.is(CallsATimeOutRejected) && took_too_long(&error) => {
                Err(error.with_outcome(Outcome::Rejected))
            }
            Err(error) if self.is(CallsARefusedConnectionUnknown) && error.outcome() == Outcome::NotSent => {
                Err(error.with_outcome(Outcome::Unknown))
            }
            Err(error) if self.is(CallsAResetNotSent) && error.status().is_none() => {
                Err(error.with_outcome(Outcome::NotSent))
            }
            Err(error) if self.is(CallsABrokenAnswerNotSent) && error.status().is_some_and(|s| s.is_success()) => {
                Err(error.with_outcome(Outcome::NotSent))
            }
            Err(error) if self.is(CallsA500Rejected) && error.status().is_some_and(|s| s.as_u16() == 500) => {
                Err(error.with_outcome(Outcome::Rejected))
            }
            Err(error) if self.is(CallsANoUnknown) && error.outcome() == Outcome::Rejected => {
                Err(error.with_outcome(Outcome::Unknown))
            }
            Err(error) if self.is(CallsA429Final) && error.status() == Some(StatusCode::TOO_MANY_REQUESTS) => {
                let after = error.retry_after();
                Err(error.with_retry(false, after))
            }
            Err(error) if self.is(IgnoresRetryAfter) => {
                let again = error.is_retryable();
                Err(error.with_retry(again, None))
            }
            Err(error) if self.is(PutsTheAnswerIntoAnError) => {
                let words = error.raw().map(|raw| String::from_utf8_lossy(raw).into_owned()).unwrap_or_default();
                Err(error.with_field(words))
            }
            Err(error) if self.is(PutsHalfTheTokenIntoAnError) => {
                Err(error.with_field(TOKEN[TOKEN.len() / 2..].to_owned()))
            }
            Err(error) if self.is(PutsTheCodeIntoAnError) => {
                let raw = error.raw().and_then(|raw| serde_json::from_slice::<Value>(raw).ok()).unwrap_or_default();
                Err(match raw["code"].as_str() {
                    Some(code) => error.with_field(code.to_owned()),
                    None => error,
                })
            }
            answer => answer,
        }
    }

    fn event(&self, hook: &Value, envelope: Envelope) -> Option<Event> {
        let text = |name: &str| hook.get(name).and_then(Value::as_str);
        let envelope = self.placed(hook, envelope);
        if let Some(event) = self.rarer(hook, &envelope) {
            return Some(event);
        }
        Some(match (text("id"), text("from"), text("text"), text("status")) {
            (Some(id), Some(from), Some(text), _) => {
                let Ok(from) = Address::other(self.info.medium.clone(), from) else {
                    return Some(Unrecognised::new(envelope, "text").into());
                };
                let id = if self.is(GivesEventsARandomId) {
                    let mut random = [0; 8];
                    getrandom(&mut random);
                    format!("{id}-{random:?}")
                } else {
                    id.to_owned()
                };
                let content = match text {
                    // JSON cannot represent it.
                    "second" if self.is(LosesAnEventInAStore) => {
                        InboundContent::Location(civic_messaging::message::Location::new(f64::NAN, 0.0))
                    }
                    text => InboundContent::Text(text.to_owned()),
                };
                let from = match self.is(MistakesTheWriter) {
                    true => Address::other(self.info.medium.clone(), "pager-000-999").unwrap(),
                    false => from,
                };
                let mut inbound = Inbound::new(envelope, id, from, content);
                inbound.profile.name = hook["name"].as_str().filter(|_| !self.is(LosesTheName)).map(str::to_owned);
                inbound.forwarded = self.is(MarksEverythingAsForwarded);
                inbound.into()
            }
            (Some(id), None, _, Some(status)) => {
                let state = match status {
                    "sent" => DeliveryState::Sent,
                    "delivered" => DeliveryState::Delivered,
                    "failed" => DeliveryState::Failed,
                    _ if self.is(IgnoresAStatusThatItDoesNotKnow) => return None,
                    _ => DeliveryState::Unrecognised,
                };
                if self.is(DropsARepeatedStatus)
                    && state == DeliveryState::Sent
                    && self.is_repeat.swap(true, Ordering::SeqCst)
                {
                    return None;
                }
                let key = hook.get("key").and_then(Value::as_str).map(str::to_owned);
                let key = key.filter(|_| !self.is(LosesTheKey));
                let id = if self.is(LosesTheIdOfAStatus) { "" } else { id };
                let mut delivery = Delivery::new(envelope, id, state, status).with_key(key);
                if state == DeliveryState::Failed && !self.is(FailsWithoutAKind) {
                    delivery.failure = Some(Failure::new(ErrorKind::InvalidRecipient));
                }
                let pounds = hook["pounds"].as_str();
                let unit = if self.is(MistakesPoundsForEuros) { "EUR" } else { "GBP" };
                let credits = hook["credits"].as_str().and_then(|credits| match self.is(MistakesCreditsForPounds) {
                    true => Money::parse(credits, "GBP").ok().map(Price::from),
                    false => Credits::parse(credits).ok().map(Price::from),
                });
                delivery.price = pounds.and_then(|pounds| Money::parse(pounds, unit).ok()).map(Price::from).or(credits);
                delivery.into()
            }
            _ if self.is(DropsUnknownEvents) => return None,
            _ => Unrecognised::new(envelope, "event").into(),
        })
    }

    /// The time and the group of an event.
    fn placed(&self, hook: &Value, envelope: Envelope) -> Envelope {
        let seconds = hook["at"].as_i64().map(match self.wrong {
            Some(ReadsSecondsAsMilliseconds) => Timestamp::from_millis,
            _ => Timestamp::from_secs,
        });
        let iso = hook["time"].as_str().and_then(|time| match self.is(IgnoresTheZone) {
            true => format!("{}Z", time.get(..19)?).parse().ok(),
            false => time.parse().ok(),
        });
        let room = hook["room"].as_str().filter(|_| !self.is(AnswersTheWriterOfAGroup));
        let room = room.and_then(|room| Address::conversation(self.info.medium.clone(), room).ok());
        let envelope = envelope.with_conversation(room);
        if self.is(IgnoresTheTime) { envelope } else { envelope.dated(seconds.or(iso)) }
    }

    /// Selections, files, edits and blocks.
    fn rarer(&self, hook: &Value, envelope: &Envelope) -> Option<Event> {
        let from = Address::other(self.info.medium.clone(), hook["from"].as_str()?).ok()?;
        if let Some(blocked) = hook["blocked"].as_bool() {
            let opt_out = OptOut::new(envelope.clone(), from, OptOutScope::All);
            let blocked = blocked || self.is(MistakesUnblockedForBlocked);
            return Some(if blocked { opt_out } else { opt_out.resumed() }.into());
        }
        let (id, mut envelope) = (hook["id"].as_str()?, envelope.clone());
        let mut own = id;
        let content = if let Some(title) = hook["choice"]["title"].as_str() {
            let id = match self.wrong {
                Some(LosesTheIdOfASelection) => "",
                Some(InventsTheIdOfASelection) => "option-9",
                _ => hook["choice"]["id"].as_str()?,
            };
            InboundContent::Selection(Selection { id: id.to_owned(), title: title.to_owned() })
        } else if let Some(file) = hook["file"].as_str() {
            let file = if self.is(LosesTheIdOfAFile) { "" } else { file };
            InboundContent::Media { text: None, media: vec![MediaRef::new("brittle", file)] }
        } else {
            let (edited, text) = (hook["edits"].as_str()?, hook["text"].as_str()?);
            if self.is(EditsUnderTheOriginalsId) {
                own = edited;
                envelope = envelope.identified(Some(edited));
            }
            InboundContent::Edited { id: edited.into(), content: Box::new(InboundContent::Text(text.to_owned())) }
        };
        Some(Inbound::new(envelope, own, from, content).into())
    }

    fn events(&self, body: &Bytes, account: &civic_messaging::AccountId, at: civic_messaging::Timestamp) -> Vec<Event> {
        let envelope = |raw| Envelope::new("brittle", self.info.medium.clone(), account.clone(), at, raw);
        let json = Json::new(body);
        let strict = serde_json::from_str::<Vec<BTreeMap<String, String>>>(json.text()).is_ok();
        let whole_characters = serde_json::from_slice::<Value>(body).is_ok();
        let lost = self.is(LosesABatchToAMalformedValue) && !strict
            || self.is(LosesABatchToHalfACharacter) && !whole_characters;
        let Some(pieces) = json.read::<List<Piece<'_>>>().filter(|_| !lost) else {
            let whole = envelope(Raw::new(body.clone()));
            return vec![Unrecognised::new(whole, "body").into()];
        };
        let read = |piece: &Piece<'_>| serde_json::from_str(piece.get()).unwrap_or_default();
        let hooks: Vec<Value> = pieces.iter().map(read).collect();
        let piece = |n| match self.is(KeepsNothingOfAWebhook) {
            true => envelope(Raw::default()),
            false if self.is(NumbersEventsInTheirWebhook) => {
                let raw = pieces.get(n).map(|piece: &Piece<'_>| json.raw(piece.get())).unwrap_or_default();
                envelope(Raw::new(raw)).identified(Some(&format!("event-{n}")))
            }
            false if self.is(KeepsTheWholeBodyForEachEvent) => envelope(Raw::new(body.clone())),
            false if self.is(NamesEventsByTheirBytes) => {
                let raw = json.raw(pieces.get(n).map(|piece: &Piece<'_>| piece.get()).unwrap_or_default());
                let id = Digest::sha256(&raw).to_string();
                envelope(Raw::new(raw)).identified(Some(&id))
            }
            false if self.is(KeepsRepairedBytes) => {
                envelope(Raw::new(pieces.get(n).map(|piece: &Piece<'_>| piece.get().to_owned()).unwrap_or_default()))
            }
            false if self.is(KeepsTheSecretOfAWebhook) => {
                let secret = self.scheme.secrets.first().map_or("", |secret| secret.secret().expose());
                envelope(Raw::new([body, secret.as_bytes()].concat()))
            }
            false => {
                envelope(Raw::new(pieces.get(n).map(|piece: &Piece<'_>| json.raw(piece.get())).unwrap_or_default()))
            }
        };
        let mut events: Vec<_> = hooks.iter().enumerate().filter_map(|(n, hook)| self.event(hook, piece(n))).collect();
        if hooks.is_empty() {
            events.push(Unrecognised::new(envelope(Raw::new(body.clone())), "nothing").into());
        }
        if self.is(ReversesABatch) {
            events.reverse();
        }
        events
    }
}

fn getrandom(bytes: &mut [u8]) {
    civic_messaging::random::Random::fill(&civic_messaging::random::SystemRandom, bytes).unwrap();
}

#[async_trait]
impl Channel for Adapter {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let now = match self.wrong {
            Some(IgnoresNotAfter) => civic_messaging::Timestamp::default(),
            _ => self.context.clock.now(),
        };
        let long = matches!(&message.content, Content::Text(text) if text.chars().count() > 300);
        let key = message.key.as_deref().unwrap_or_default();
        if self.is(RefusesLongKeys) && key.len() > 20 {
            return Err(Error::invalid("key", "is over 20 bytes"));
        }
        if self.is(RefusesReferencesOf36Bytes) && key.len() == 36 {
            return Err(Error::invalid("key", "is that of a UUID"));
        }
        if self.is(RefusesEmojiInSendOnly)
            && matches!(&message.content, Content::Text(text) if text.chars().any(|c| c > '\u{1f000}'))
        {
            return Err(Error::invalid("text", "has an emoji"));
        }
        let message = match self.info.prepare(message, now) {
            Ok(message) if self.is(CutsLongKeys) && key.len() > 20 => {
                message.into_owned().key(key.chars().take(20).collect::<String>())
            }
            Ok(message) => message.into_owned(),
            Err(error) if self.is(SendsBeforeItChecks) => {
                _ = self.made(message).await;
                return Err(error);
            }
            Err(_) if self.is(TruncatesTexts) && long => message.clone(),
            Err(error) if self.is(SendsToAnyAddress) && error.kind() == ErrorKind::InvalidRecipient => message.clone(),
            Err(error) => return Err(error),
        };
        if self.is(LogsTheNumber) {
            tracing::debug!(to = message.to.expose(), "sending");
        }
        if self.is(IsStuckOnceGivenUp) && self.busy.swap(true, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "another send is under way"));
        }
        let message = match self.is(MixesSendsSideBySide) {
            true => {
                *self.last.lock().unwrap() = Some(message);
                tokio::task::yield_now().await;
                self.last.lock().unwrap().clone().unwrap()
            }
            false => message,
        };
        let made = self.made(&message).await;
        self.busy.store(false, Ordering::SeqCst);
        let answer = made?;
        if self.is(TakesAnythingForAYes) {
            let id = serde_json::from_slice::<Value>(&answer.body).ok();
            let ids =
                id.as_ref().and_then(|id| id["ids"].as_array().cloned()).unwrap_or_else(|| vec![json!("made-up")]);
            return Ok(accepted(&ids, &answer.body));
        }
        let body: Value = answer.json()?;
        let ids = body["ids"].as_array().filter(|ids| !ids.is_empty()).ok_or_else(|| answer.unreadable())?;
        if !self.is(TakesAnEmptyId) {
            answer.accepted(ids.iter().map(|id| id.as_str().unwrap_or_default()))?;
        }
        if self.is(RejectsAPartialAnswer) && !body["queue"].is_string() {
            return Err(Error::new(ErrorKind::Rejected, "no queue took it").with_outcome(Outcome::Rejected));
        }
        match self.wrong {
            Some(AcceptsAsDelivered) => {
                let mut accepted = accepted(ids, &answer.body);
                accepted.state = DeliveryState::Delivered;
                Ok(accepted)
            }
            Some(LosesTheSecondId) => Ok(accepted(&ids[..1], &answer.body)),
            Some(ParsesAFloatId) => {
                let float = |id: &Value| {
                    json!(
                        id.as_str()
                            .and_then(|id| id.parse::<f64>().ok())
                            .map_or_else(|| id.as_str().unwrap_or_default().to_owned(), |id| id.to_string())
                    )
                };
                let ids: Vec<_> = ids.iter().map(float).collect();
                Ok(accepted(&ids, &answer.body))
            }
            _ => Ok(accepted(ids, &answer.body)),
        }
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let verified = match request.open(&self.scheme)? {
            Opened::Verified(verified) => verified,
            Opened::Handshake(received) => return Ok(received),
            _ => return Err(Error::unsupported("no key is needed")),
        };
        let body = verified.body();
        if self.is(RefusesWhatItCannotRead) && serde_json::from_slice::<Value>(body).is_err() {
            return Err(Error::new(ErrorKind::Unexpected, "the webhook cannot be read"));
        }
        if self.is(CrashesOnAWebhookThatIsNotJson) {
            serde_json::from_slice::<Value>(body).unwrap();
        }
        let well_formed = serde_json::from_slice::<Vec<BTreeMap<String, Value>>>(body).is_ok();
        let unchecked = self.is(LetsAnyAccountIn) || self.is(LetsMalformedBodiesOfOthersIn) && !well_formed;
        if !verified.owns(self.info.account.as_str()) && !unchecked {
            return Ok(Received::new(Vec::new()).with_discarded(Some(self.info.account.clone()), 1));
        }
        let received = Received::new(self.events(body, &self.info.account, self.context.clock.now()));
        let unknown = received.events.iter().any(|event| matches!(event, Event::Unrecognised(_)));
        Ok(match self.is(AnswersUnknownEventsWith400) && unknown && !self.is(SkipsTheSignature) {
            true if body.starts_with(b"[{") => received.with_response(Response::status(StatusCode::BAD_REQUEST)),
            _ => received,
        })
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        if self.is(DeclaresAPollThatIsNotThere) || self.is(ExcludesAPollThatIsNotThere) {
            return Err(Error::unsupported("not there"));
        }
        let after = after.filter(|_| !self.is(IgnoresTheCursor));
        let path = format!("/events?after={}", after.map_or("", Cursor::as_str));
        let answer = self.endpoint.get(&path, self.headers()?).await?;
        if serde_json::from_slice::<Vec<Value>>(&answer.body).is_err() {
            return Err(answer.unreadable());
        }
        let mut events = self.events(&answer.body, &self.info.account, self.context.clock.now());
        if self.is(PollsOtherEventsThanItReceives) {
            for event in &mut events {
                if let Event::Inbound(inbound) = event {
                    inbound.forwarded = true;
                }
            }
        }
        let next = match self.wrong {
            Some(ForgetsTheCursor) => None,
            Some(MovesTheCursorByTheClock) => Some(self.context.clock.now().to_string()),
            _ => events.iter().filter_map(Event::as_inbound).next_back().map(|last| last.id.as_str().to_owned()),
        };
        Ok(Page::new(events, next.map(Cursor::new)))
    }

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let key = sent.message.key.as_deref().unwrap_or_default();
        if self.is(FindsNothing) {
            self.endpoint.get(&format!("/sent/{key}"), self.headers()?).await.ok();
            return Ok(LookupOutcome::Inconclusive);
        }
        let answer = match self.endpoint.get(&format!("/sent/{key}"), self.headers()?).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LookupOutcome::NotFound),
            Err(_) if self.is(MistakesSilenceForAbsence) => return Ok(LookupOutcome::NotFound),
            answer => answer?,
        };
        let found = self.events(&answer.body, &self.info.account, self.context.clock.now());
        let found: Vec<_> = found.iter().filter_map(Event::as_delivery).cloned().collect();
        if found.is_empty() {
            return Err(answer.unreadable());
        }
        let asked = |delivery: &Delivery| delivery.key() == Some(key) || self.is(FindsAnyMessage);
        let found: Vec<_> = found.into_iter().filter(asked).collect();
        Ok(if found.is_empty() { LookupOutcome::Inconclusive } else { LookupOutcome::Found(found) })
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        if media.kind != MediaKind::Image {
            return Err(Error::unsupported("images only"));
        }
        let bytes = if self.is(TakesFilesOfAnySize) { bytes } else { bytes.capped(MAX)? };
        let bytes = bytes.bytes().await?;
        let half = if self.is(UploadsHalf) { bytes.len() / 2 } else { bytes.len() };
        let form = Multipart::new(&*self.context.random)?.text("kind", "image");
        let name = if self.is(MisnamesAPart) { "media" } else { "file" };
        let (content_type, body) = form.bytes(name, "picture.png", "image/png", &bytes[..half]);
        let mut headers = self.headers()?;
        headers.insert(CONTENT_TYPE, content_type);
        let request = self.endpoint.request(Method::POST, "/files", headers, body.into())?;
        let body: Value = self.endpoint.call(request).await?.json()?;
        Ok(MediaRef::new("brittle", body["id"].as_str().unwrap_or_default()))
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let url = media.url.as_deref().unwrap_or_default();
        let limits = FetchLimits { cap: MAX, time: Duration::from_secs(5) };
        if self.is(FetchesFromAnywhere) || self.is(GivesAwayTheCredential) {
            let mut url = url.to_owned();
            for _ in 0..3 {
                let mut request = Request::new(Body::empty());
                *request.uri_mut() = url.parse().map_err(|_| Error::invalid("url", "is none"))?;
                let away = request.uri().host() != Some("127.0.0.1");
                if away && self.is(GivesAwayTheCredential) {
                    return Err(Error::new(ErrorKind::Forbidden, "is of another host"));
                }
                if self.is(GivesAwayTheCredential) {
                    *request.headers_mut() = self.headers()?;
                }
                let answer = self.context.transport.call(request).await;
                let answer = answer.map_err(|_| Error::new(ErrorKind::Unavailable, "it broke"))?;
                if let Some(to) = answer.headers().get("location").and_then(|to| to.to_str().ok()) {
                    to.clone_into(&mut url);
                    continue;
                }
                let (mut body, mut bytes) = (answer.into_body(), Vec::new());
                if body.len().is_none_or(|len| len > MAX) {
                    return Err(Error::new(ErrorKind::TooLarge, "is too large"));
                }
                while let Some(piece) = body.chunk().await {
                    bytes.extend_from_slice(&piece?);
                }
                let body = MediaStream::from_bytes("image/png", bytes);
                return Ok(match media.sha256 {
                    Some(sha256) => body.hashed(sha256),
                    None => body,
                });
            }
        }
        const HOSTS: HostRules = HostRules { trusted: &[], open: &[] };
        let credential = self.headers()?.get(AUTHORIZATION).cloned();
        let file = self.endpoint.fetch(url, &HOSTS, credential, limits).await?;
        if self.is(DownloadsHalf) {
            let bytes = file.hashed(media.sha256.unwrap()).bytes().await?;
            return Ok(MediaStream::from_bytes("image/png", bytes.slice(..bytes.len() / 2)));
        }
        Ok(match media.sha256 {
            Some(sha256) if !self.is(IgnoresAHash) => file.hashed(sha256),
            _ => file,
        })
    }

    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        if signal == Indicator::Typing {
            return Err(Error::unsupported("no typing"));
        }
        if self.is(ShowsNoSignal) {
            return Ok(());
        }
        let body = json!({ "read": inbound.id.as_str() });
        self.endpoint.call(self.endpoint.json("/read", self.headers()?, &body)?).await.map(|_| ())
    }

    async fn health(&self) -> Result<Health> {
        if self.is(GoesRoundTheTransport) {
            let transport = civic_messaging::transport::ReqwestTransport::from_settings(|builder| builder.no_proxy());
            let around = Context::with_transport(transport);
            let base = self.endpoint.base().clone();
            Endpoint::new("brittle", base, &around, ERRORS, vendor_error).get("/health", self.headers()?).await?;
        } else if !self.is(IsAlwaysHealthy) {
            self.endpoint.get("/health", self.headers()?).await?;
        }
        Ok(Health::default().check_result("credentials", CheckStatus::Pass, "they are good"))
    }
}

fn accepted(ids: &[Value], raw: &Bytes) -> Accepted {
    let mut ids = ids.iter().map(|id| id.as_str().unwrap_or_default());
    let first = Accepted::new("brittle", ids.next().unwrap_or_default(), raw.clone());
    ids.fold(first, |accepted, id| accepted.and(MessageId::from(id)))
}

const ERRORS: &[(&str, ErrorClass)] = &[("STOP", ErrorClass::new(ErrorKind::OptedOut))];

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let refused: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    refused["code"].as_str().map(|code| VendorError::new(code.to_owned())).unwrap_or_default()
}

/// HMAC-SHA256 of the timestamp and the body, valid for five minutes.
#[derive(Debug)]
struct Proof {
    wrong: Option<Wrong>,
    secrets: Vec<SigningSecret>,
    own: Vec<civic_messaging::AccountId>,
}

const TOLERANCE: Duration = Duration::from_secs(300);

fn mac(secret: &str, time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(time.as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

impl Scheme for Proof {
    fn verify(&self, sealed: Unverified<'_>) -> Verification {
        let any = SigningSecret::for_accounts(Secret::new("any-secret").unwrap(), self.own.clone());
        let open = |secret: &SigningSecret| Verification::Open(Verified::new(&sealed, sealed.body().clone(), secret));
        if sealed.method() == Method::GET {
            return match sealed.query_parameter("hello") {
                Some(_) if self.wrong == Some(AnswersAHandshakeItsOwnWay) => Verification::Answer(Response::ok()),
                Some(word) => Verification::Answer(Response::body("text/plain", word.into_owned())),
                None => Verification::Refused(Refusal::Missing),
            };
        }
        if self.wrong == Some(SkipsTheSignature) {
            return open(&any);
        }
        let header = |name| sealed.header(&HeaderName::from_static(name));
        let (Some(time), Some(proof)) = (header("x-time"), header("x-proof")) else {
            return Verification::Refused(Refusal::Missing);
        };
        let body = match self.wrong {
            Some(SignsTheRereadBody) => {
                let read = serde_json::from_slice::<Value>(sealed.body());
                read.map_or_else(|_| Vec::new(), |json| serde_json::to_vec(&json).unwrap())
            }
            _ => sealed.body().to_vec(),
        };
        if self.wrong == Some(AcceptsAnEmptySecret) && self.secrets.is_empty() && mac("", time, &body) == proof {
            return open(&any);
        }
        let good = |secret: &&SigningSecret| {
            let good = mac(secret.secret().expose(), time, &body);
            match self.wrong {
                Some(ComparesAPrefix) => !proof.is_empty() && good.starts_with(proof),
                _ => good == proof,
            }
        };
        let Some(secret) = self.secrets.iter().find(good) else { return Verification::Refused(Refusal::Wrong) };
        let signed = time.parse().map(civic_messaging::Timestamp::from_secs).unwrap_or_default();
        let (old, new) = (sealed.arrived().since(signed), signed.since(sealed.arrived()));
        if old.max(new) > TOLERANCE && self.wrong != Some(ForgetsTheTimeOfAProof) {
            return Verification::Refused(Refusal::Stale);
        }
        open(secret)
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Body
    }
}

impl Subject for Brittle {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Adapter::new(self.wrong, setup)?))
    }

    fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![TOKEN.to_owned(), KEY.to_owned()];
        match self.wrong {
            Some(OmitsASecret) => secrets.truncate(1),
            Some(NamesASecretThatIsNotSent) => secrets.push("brittle-forgotten-secret".to_owned()),
            _ => {}
        }
        secrets
    }

    fn signer(&self) -> Signer {
        let reread = self.wrong == Some(SignsTheRereadBody);
        let sign = move |request: &mut Request<Bytes>, secret: &str, now: civic_messaging::Timestamp| {
            let time = now.as_secs().to_string();
            let again = serde_json::from_slice::<Value>(request.body()).map(|json| serde_json::to_vec(&json).unwrap());
            let body = if reread { again.unwrap_or_default() } else { request.body().to_vec() };
            let proof = mac(secret, &time, &body);
            request.headers_mut().insert("x-time", HeaderValue::from_str(&time).unwrap());
            request.headers_mut().insert("x-proof", HeaderValue::from_str(&proof).unwrap());
        };
        Signer::new(SignatureCoverage::Body, sign).tolerance(TOLERANCE)
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let to = || Address::other(Medium::other("pager").unwrap(), "pager-000-123").unwrap();
        let text = || Message::text(to(), "Your collection is on Tuesday.").key("case-4711");
        let written = json!({ "to": "pager-000-123", "text": "Your collection is on Tuesday.", "key": "case-4711" });
        let sent = LookupQuery::new(text(), self.now());
        let file = || MediaRef::new("brittle", "file-0001");
        let mut held = file();
        held.url = Some("{base}/files/file-0001".to_owned());
        held.sha256 = Some(Digest::sha256(b"the whole picture"));
        let envelope = Envelope::new(
            "brittle",
            Medium::other("pager").unwrap(),
            "brittle-desk".into(),
            self.now(),
            Raw::default(),
        );
        let inbound = Inbound::new(envelope, "in-000001", to(), InboundContent::Text("Hello there".to_owned()));
        let delivered = r#"[{"id":"9007199254740993","status":"delivered","key":"case-4711"}]"#;
        vec![
            Exchange::send(text())
                .step(
                    Step::post("/send")
                        .json(written.to_string())
                        .answers(200, r#"{"ids":["9007199254740993","out-000002"],"queue":"fast"}"#),
                )
                .accepts(["9007199254740993", "out-000002"]),
            Exchange::send(Message::media(to(), [Media::image(file())]))
                .step(Step::post("/send").answers(200, r#"{"ids":["out-000003"],"queue":"fast"}"#))
                .accepts(["out-000003"]),
            Exchange::send(text())
                .step(Step::any().answers(403, r#"{"code":"STOP"}"#))
                .fails(ErrorKind::OptedOut)
                .code("STOP"),
            Exchange::poll(None)
                .step(Step::get("/events?after=").answers(200, TEXT))
                .returns_events([ExpectedEvent::text("in-000001", "Hello there").from("pager-000-123")]),
            Exchange::look_up(sent.clone())
                .step(Step::get("/sent/case-4711").answers(200, delivered))
                .finds([DeliveryState::Delivered]),
            Exchange::look_up(sent).step(Step::any().answers(404, "")).not_found(),
            Exchange::upload(Media::image("https://example.org/a.png"), "image/png", "the whole picture")
                .step(
                    Step::post("/files")
                        .multipart([
                            Part::text("kind", "image"),
                            Part::file("file", "picture.png", "image/png", "the whole picture"),
                        ])
                        .answers(200, r#"{"id":"file-0001"}"#),
                )
                .media_id("file-0001"),
            Exchange::fetch(held)
                .step(Step::get("/files/file-0001").answers(200, "the whole picture"))
                .file("the whole picture"),
            Exchange::send_indicator(inbound, Indicator::Read)
                .step(Step::post("/read").json(r#"{"read":"in-000001"}"#)),
            Exchange::health().step(Step::get("/health")).health_check("credentials", CheckStatus::Pass),
        ]
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let mut webhooks = self.all_webhooks();
        let omitted = match self.wrong {
            Some(RecordsNoBatch) => "}, {",
            Some(RecordsNoStop) => "STOP",
            Some(RecordsNoUnknownStatus) => "\"odd\"",
            _ => return webhooks,
        };
        webhooks.retain(|webhook| !webhook.body().windows(omitted.len()).any(|piece| piece == omitted.as_bytes()));
        webhooks
    }
}

impl Brittle {
    fn all_webhooks(&self) -> Vec<Webhook> {
        let event = |event: Value| Webhook::json(json!([event]).to_string());
        let from = "pager-000-123";
        let rarer = [
            event(json!({ "id": "in-000004", "from": from, "text": "STOP" }))
                .returns_events([ExpectedEvent::text("in-000004", "STOP"), ExpectedEvent::opt_out()]),
            event(json!({ "id": "out-000003", "status": "failed", "pounds": "0.04" }))
                .returns_events([ExpectedEvent::delivery("out-000003", DeliveryState::Failed)]),
            event(json!({ "id": "out-000004", "status": "sent", "credits": "1.5" }))
                .returns_events([ExpectedEvent::delivery("out-000004", DeliveryState::Sent)]),
            event(json!({ "id": "in-000005", "from": from, "text": "At nine", "at": 1_795_000_000 }))
                .returns_events([ExpectedEvent::text("in-000005", "At nine").time(self.now())]),
            event(json!({ "id": "in-000006", "from": from, "text": "At ten", "time": "2026-11-18T12:06:40+01:00" })),
            event(json!({ "id": "in-000007", "from": from, "choice": { "id": "yes-4711", "title": "Yes" } })),
            event(json!({ "id": "in-000008", "from": from, "file": "file-0002" })),
            event(json!({ "id": "in-000009", "from": from, "text": "Hello here", "edits": "in-000001" })),
            event(json!({ "id": "in-000010", "from": from, "text": "All of you", "room": "room-17" })).group("room-17"),
            event(json!({ "from": from, "blocked": true })).returns_events([ExpectedEvent::opt_out()]),
            event(json!({ "from": from, "blocked": false })).returns_events([ExpectedEvent::opt_in()]),
            event(json!({ "id": "in-000011", "from": from, "text": "Ffion here", "name": "Ffion" })),
        ];
        let mut all = vec![
            Webhook::json(TEXT).returns_events([ExpectedEvent::text("in-000001", "Hello there").from("pager-000-123")]),
            Webhook::json(r#"[{"id":"out-000001","status":"sent"}, {"id":"out-000001","status":"delivered","key":"case-4711"}, {"id":"out-000002","status":"odd"}]"#)
                .returns_events([
                    ExpectedEvent::delivery("out-000001", DeliveryState::Sent),
                    ExpectedEvent::delivery("out-000001", DeliveryState::Delivered).key("case-4711"),
                    ExpectedEvent::delivery("out-000002", DeliveryState::Unrecognised),
                ]),
            Webhook::json(r#"[{"id":"in-000002","from":"pager-000-123","text":"first"}, {"id":"in-000003","from":"pager-000-123","text":"second"}]"#)
                .returns_events([ExpectedEvent::text("in-000002", "first"), ExpectedEvent::text("in-000003", "second")]),
            Webhook::json(r#"[{"colour": "green"}]"#).returns_events([ExpectedEvent::unrecognised()]),
            Webhook::get("hello=word").unsigned().replies(200, "word"),
            Webhook::get("goodbye=word").unsigned().refused(),
        ];
        all.extend(rarer);
        all
    }
}

const TEXT: &str = r#"[{"id":"in-000001", "from":"pager-000-123", "text":"Hello there"}]"#;
