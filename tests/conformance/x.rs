//! Conformance of X direct messages with both kinds of credentials.

use std::path::PathBuf;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::adapter::{OAuth1, OAuth2};
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::LookupQuery;
use civic_messaging::media::Digest;
use civic_messaging::message::{Media, MediaKind, MediaRef, MediaSource};
use civic_messaging::poll::Cursor;
use civic_messaging::testing::{Exchange, ExpectedEvent, Part, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::webhook::SignatureEncoding;
use civic_messaging::x::{Auth, Config};
use civic_messaging::{Address, Channel, DeliveryState, ErrorKind, Medium, Message, Result, Timestamp, X};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/x/", $name))
    };
}

const COUNCIL: &str = "1900000000000000202";
const RESIDENT: &str = "1900000000000000101";
const SEND: &str = "/2/dm_conversations/with/1900000000000000101/messages";
const UPLOAD: &str = "/2/media/upload/1900000000000000401";
const FILM: &str = "/2/media/upload/1900000000000000403";
const PHOTO: &str = "/1.1/ton/data/dm/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
const PHOTO_BY_TOKEN: &str = "/2/dm_conversations/media/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
const PICTURE: &[u8] = b"not much of a picture of a pothole";
const BEARER: &str = "fixture-app-only-bearer";
const TEXT: &str = fixture!("v2_send_text.request.json");
const SENT: &str = fixture!("v2_send.response.201.json");
/// As long as the file in `media_initialize.request.json`.
const IMAGE: &[u8] = &[7; 34_567];
/// The time of the fixtures.
const NOW: Timestamp = Timestamp::from_secs(1_788_256_000);

/// The full query for a list of events, and the reduced one after X refused that.
const LONG: &str = "max_results=100\
    &dm_event.fields=id%2Cevent_type%2Ctext%2Csender_id%2Cdm_conversation_id%2Ccreated_at%2Cattachments%2Centities\
    %2Cparticipant_ids&expansions=sender_id%2Cattachments.media_keys&user.fields=name%2Cusername\
    &media.fields=type%2Curl";
const SHORT: &str = "max_results=100\
    &dm_event.fields=id%2Cevent_type%2Ctext%2Cdm_conversation_id%2Ccreated_at%2Cattachments%2Centities\
    &expansions=sender_id&user.fields=name%2Cusername&media.fields=type%2Curl";
const NEXT_PAGE: &str = "&pagination_token=18LAA5G1SL0NR5OG0G00ZZZZ";

/// Direct messages with OAuth 1.0a.
pub(crate) struct DirectMessages;

/// Direct messages with OAuth 2.0: the channel obtains an access token for its first request.
pub(crate) struct DirectMessagesByToken;

impl Subject for DirectMessages {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let keys = OAuth1::new(
            "fixture-consumer-key",
            "fixture-consumer-secret",
            "1900000000000000202-fixture-token",
            "fixture-token-secret",
        )?;
        built(keys.into(), setup)
    }

    fn varying_headers(&self) -> &[&'static str] {
        &["authorization"]
    }

    fn secrets(&self) -> Vec<String> {
        let secrets = ["fixture-consumer-key", "fixture-consumer-secret", "1900000000000000202-fixture-token"];
        secrets.into_iter().chain(["fixture-token-secret", BEARER]).map(str::to_owned).collect()
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec!["fixture-consumer-secret".to_owned(), "fixture-token-secret".to_owned()]
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let refused = |body: &'static str| Exchange::send(text()).step(Step::post(SEND).json(TEXT).answers(401, body));
        let fetched = || Exchange::fetch(photo());
        let mut exchanges = exchanges(&|exchange| exchange);
        exchanges.extend([
            refused(fixture!("err_401_unauthorized.json")).fails(ErrorKind::Unauthenticated),
            refused(fixture!("err_v1_code_32.json")).fails(ErrorKind::Unauthenticated).code("32"),
            refused(fixture!("err_v1_code_89.json")).fails(ErrorKind::Unauthenticated).code("89"),
            fetched().step(Step::get(PHOTO).answers(200, PICTURE)).file(PICTURE),
            fetched().step(Step::get(PHOTO).answers(404, "")).fails(ErrorKind::NotFound),
        ]);
        exchanges
    }

    fn webhooks(&self) -> Vec<Webhook> {
        webhooks()
    }

    fn signer(&self) -> Signer {
        signer()
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}

impl Subject for DirectMessagesByToken {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        built(OAuth2::new("fixture-client-id", "FIXTURE-REFRESH-1")?.into(), setup)
    }

    fn snapshot(&self) -> Option<PathBuf> {
        Some(super::snapshot("x_oauth2"))
    }

    fn secrets(&self) -> Vec<String> {
        let secrets = ["FIXTURE-REFRESH-1", "FIXTURE-ACCESS-2", "FIXTURE-REFRESH-2", BEARER];
        secrets.map(str::to_owned).to_vec()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let bought = |spent: &str| renewal(spent).answers(200, fixture!("oauth2_token.response.200.json"));
        let begun = |exchange: Exchange| exchange.step(bought("FIXTURE-REFRESH-1"));
        let unbought = renewal("FIXTURE-REFRESH-1").answers(400, fixture!("oauth2_refresh_spent.response.400.json"));
        let bearing = |step: Step| step.header("authorization", "Bearer FIXTURE-ACCESS-2");
        let post = || bearing(Step::post(SEND)).json(TEXT);
        let refused = || {
            begun(Exchange::send(text()))
                .step(post().answers(401, fixture!("err_401_unauthorized.json")))
                .step(bought("FIXTURE-REFRESH-2"))
        };
        let mut exchanges = exchanges(&begun);
        exchanges.extend([
            // The token is valid by our clock but X refuses it: the channel refreshes it once.
            refused().step(post().answers(201, SENT)).accepts(["1900000000000000501"]),
            refused()
                .step(post().answers(401, fixture!("err_v1_code_89.json")))
                .fails(ErrorKind::Unauthenticated)
                .code("89"),
            begun(Exchange::fetch(photo()))
                .step(bearing(Step::get(PHOTO_BY_TOKEN)).answers(200, PICTURE))
                .file(PICTURE),
            // Another process has used the refresh token.
            Exchange::poll(None).step(unbought).fails(ErrorKind::Unauthenticated),
        ]);
        exchanges
    }

    fn webhooks(&self) -> Vec<Webhook> {
        webhooks()
    }

    fn signer(&self) -> Signer {
        signer()
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}

fn built(auth: Auth, setup: &Setup) -> Result<Arc<dyn Channel>> {
    let mut config = Config::new(COUNCIL, auth).base_url(&setup.base_url)?.bearer(BEARER)?;
    config.webhook_secrets = setup.webhook_secrets.clone();
    Ok(Arc::new(X::direct_messages_with(config, &setup.context)?))
}

fn signer() -> Signer {
    Signer::hmac_sha256("x-twitter-webhooks-signature", "sha256=", SignatureEncoding::Base64)
}

fn resident() -> Address {
    Address::x(RESIDENT).unwrap()
}

fn text() -> Message {
    Message::text(resident(), "Your bin collection is on Thursday.")
}

/// The URL of this file in a webhook, at the fake gateway.
fn photo() -> MediaRef {
    let mut photo = MediaRef::new("x", "1900000000000000404");
    photo.url = Some(format!("{{base}}{PHOTO}"));
    photo.sha256 = Some(Digest::sha256(PICTURE));
    photo
}

fn renewal(spent: &str) -> Step {
    Step::post("/2/oauth2/token")
        .form(format!("grant_type=refresh_token&refresh_token={spent}&client_id=fixture-client-id"))
}

/// A recorded response with some text replaced.
fn changed(recorded: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(recorded.to_owned(), |text, (before, after)| {
        assert!(text.contains(before), "{before} is not there");
        text.replace(before, after)
    })
}

/// Calls common to both kinds of credentials, each starting with `begun`.
fn exchanges(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    let nobody = Address::conversation(Medium::X, "not-a-conversation").unwrap();
    let nowhere = Exchange::send(Message::text(nobody, "Hello")).fails(ErrorKind::InvalidRecipient).not_sent();
    let groups = [sends(begun), refusals(begun), polls(begun), look_ups(begun), uploads(begun), healths(begun)];
    groups.into_iter().flatten().chain([nowhere]).collect()
}

fn sends(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    let taken = |message, to: &str, body| {
        begun(Exchange::send(message))
            .step(Step::post(to).header("content-type", "application/json").json(body).answers(201, SENT))
            .accepts(["1900000000000000501"])
    };
    let group = Address::conversation(Medium::X, "1900000000000000601").unwrap();
    let to_group = "/2/dm_conversations/1900000000000000601/messages";
    let file = |media| Message::media(resident(), [media]);
    let held = || Media::image(MediaRef::new("x", "1900000000000000401"));
    let stored = MediaSource::Stored { sha256: Digest::sha256(IMAGE), len: 34_567, mime: "image/png".to_owned() };
    let stored = file(Media::new(MediaKind::Image, stored).caption("Map of the works"));
    let with_file = fixture!("v2_send_media.request.json");
    vec![
        taken(text(), SEND, TEXT),
        taken(Message::text(group, "Your bin collection is on Thursday."), to_group, TEXT),
        taken(file(held().caption("Map of the works")), SEND, with_file),
        taken(file(held()), SEND, fixture!("v2_send_media_only.request.json")),
        // A stored file is uploaded first.
        begun(Exchange::send(stored).stored("image/png", IMAGE))
            .step(initialized())
            .step(appended(UPLOAD, IMAGE))
            .step(finalized(UPLOAD, fixture!("media_finalize_sync.response.200.json")))
            .step(Step::post(SEND).json(with_file).answers(201, SENT))
            .accepts(["1900000000000000501"]),
    ]
}

fn initialized() -> Step {
    Step::post("/2/media/upload/initialize")
        .json(fixture!("media_initialize.request.json"))
        .answers(200, fixture!("media_initialize.response.200.json"))
}

fn appended(upload: &str, segment: impl Into<Bytes>) -> Step {
    let segment = Part::file("media", "media", "application/octet-stream", segment);
    Step::post(format!("{upload}/append"))
        .multipart([Part::text("segment_index", "0"), segment])
        .answers(200, fixture!("media_append.response.200.json"))
}

fn finalized(upload: &str, answer: &'static str) -> Step {
    Step::post(format!("{upload}/finalize")).body("").answers(200, answer)
}

fn refusals(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    use ErrorKind::{Account, Forbidden, InvalidMessage, InvalidRecipient, RateLimited, Rejected};
    let refused = |status, body: &'static str| {
        begun(Exchange::send(text())).step(Step::post(SEND).json(TEXT).answers(status, body))
    };
    vec![
        // X may reject with a 200: errors and no data.
        refused(200, fixture!("v2_users_not_found_partial.response.200.json"))
            .fails(ErrorKind::NotFound)
            .code("resource-not-found"),
        refused(400, fixture!("err_400_invalid_request.json")).fails(InvalidMessage).code("invalid-request"),
        refused(402, fixture!("err_402_credits_a.json")).fails(Account).code("credits"),
        refused(402, fixture!("err_402_credits_b.json")).fails(Account).code("credits-depleted"),
        refused(403, fixture!("err_403_client_forbidden.json")).fails(Forbidden).code("client-forbidden"),
        refused(403, fixture!("err_403_dm_not_permitted.json")).fails(InvalidRecipient).code("dm-not-permitted"),
        refused(403, fixture!("err_403_oauth1_permissions.json")).fails(Forbidden).code("oauth1-permissions"),
        refused(403, fixture!("err_403_operation_not_permitted.json")).fails(Rejected).code("operation-not-permitted"),
        refused(403, fixture!("err_403_scope_missing.json")).fails(Forbidden),
        refused(403, fixture!("err_403_unsupported_authentication.json"))
            .fails(Forbidden)
            .code("unsupported-authentication"),
        refused(429, fixture!("err_429_problem.json")).fails(RateLimited).retryable(),
        refused(429, fixture!("err_429_v1_style.json")).fails(RateLimited).code("88").retryable(),
        refused(404, fixture!("err_v1_code_108.json")).fails(InvalidRecipient).code("108"),
        refused(403, fixture!("err_v1_code_150.json")).fails(InvalidRecipient).code("150"),
        refused(403, fixture!("err_v1_code_151.json")).fails(Rejected).code("151"),
        refused(403, fixture!("err_v1_code_226.json")).fails(Account).code("226"),
        refused(403, fixture!("err_v1_code_326.json")).fails(InvalidRecipient).code("326"),
        refused(403, fixture!("err_v1_code_349.json")).fails(InvalidRecipient).code("349"),
        refused(403, fixture!("err_v1_code_389.json")).fails(InvalidRecipient).code("389"),
        refused(403, fixture!("err_v1_code_93.json")).fails(Forbidden).code("93"),
    ]
}

fn polls(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    let list = |query: &str| Step::get(format!("/2/dm_events?{query}"));
    let old = fixture!("v2_dm_events_full_old_names.response.200.json");
    let new = fixture!("v2_dm_events_full_spec_2_167_names.response.200.json");
    // The message of webhook_aaa_dm_text.json without its file, which a list represents differently.
    let pushed = changed(
        old,
        &[
            ("1900000000000000503", "1900000000000000511"),
            ("Pothole https://t.co/aaaaaaaaaa", "When is my bin day?"),
            ("2026-09-01T09:30:00.000Z", "2026-09-01T09:29:58.705Z"),
            ("media_keys", "card_ids"),
        ],
    );
    let unnamed = fixture!("v2_dm_events_defaults.response.200.json");
    let empty = fixture!("v2_dm_events_empty.response.200.json");
    let no_such_field = changed(fixture!("err_400_invalid_request.json"), &[("participant_id", "dm_event.fields")]);
    vec![
        begun(Exchange::poll(None)).step(list(LONG).answers(200, pushed)),
        begun(Exchange::poll(None)).step(list(LONG).answers(200, old)),
        begun(Exchange::poll(None)).step(list(LONG).answers(200, new)),
        // X rejects some of the fields.
        begun(Exchange::poll(None)).step(list(LONG).answers(400, no_such_field)).step(list(SHORT).answers(200, new)),
        // Two pages, the second empty; no sender names here.
        begun(Exchange::poll(None))
            .step(list(LONG).answers(200, unnamed))
            .step(list(&format!("{LONG}{NEXT_PAGE}")).answers(200, empty)),
        // Reads back to the known event.
        begun(Exchange::poll(Some(Cursor::new("1900000000000000501")))).step(list(LONG).answers(200, unnamed)),
        begun(Exchange::poll(Some(Cursor::new("1900000000000000511")))).step(list(LONG).answers(200, empty)),
        begun(Exchange::poll(None))
            .step(list(LONG).answers(429, fixture!("err_429_problem.json")))
            .fails(ErrorKind::RateLimited),
    ]
}

fn look_ups(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    let by_words = || begun(Exchange::look_up(LookupQuery::new(text(), NOW)));
    let by_id = || begun(Exchange::look_up(LookupQuery::new(text(), NOW).with_id("1900000000000000501".into())));
    let event = || Step::get("/2/dm_events/1900000000000000501");
    let list = |query: &str| Step::get(format!("/2/dm_conversations/with/{RESIDENT}/dm_events?{query}"));
    let unnamed = fixture!("v2_dm_events_defaults.response.200.json");
    let empty = fixture!("v2_dm_events_empty.response.200.json");
    let all: Value = serde_json::from_str(unnamed).unwrap();
    let one = json!({ "data": all["data"][1] }).to_string();
    let ours = changed(
        fixture!("v2_dm_events_full_old_names.response.200.json"),
        &[
            ("Pothole https://t.co/aaaaaaaaaa", "Your bin collection is on Thursday."),
            (r#""sender_id": "1900000000000000101""#, r#""sender_id": "1900000000000000202""#),
            ("2026-09-01T09:30:00.000Z", "2026-09-01T09:46:41.000Z"),
            ("media_keys", "card_ids"),
        ],
    );
    let theirs = changed(&ours, &[(r#""sender_id": "1900000000000000202""#, r#""sender_id": "1900000000000000101""#)]);
    vec![
        by_id().step(event().answers(200, one)).finds([DeliveryState::Accepted]),
        by_id().step(event().answers(200, fixture!("v2_users_not_found_partial.response.200.json"))).inconclusive(),
        by_id().step(event().answers(404, "")).inconclusive(),
        by_words().step(list(LONG).answers(200, ours)).finds([DeliveryState::Accepted]),
        by_words().step(list(LONG).answers(200, theirs)).inconclusive(),
        by_words().step(list(LONG).answers(200, empty)).inconclusive(),
        // The same text without author and time.
        begun(Exchange::look_up(LookupQuery::new(Message::text(resident(), "first"), NOW)))
            .step(list(LONG).answers(200, unnamed))
            .step(list(&format!("{LONG}{NEXT_PAGE}")).answers(200, empty))
            .inconclusive(),
        by_words().step(list(LONG).answers(429, fixture!("err_429_problem.json"))).fails(ErrorKind::RateLimited),
    ]
}

fn uploads(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    let image = Media::image(MediaRef::new("x", "not-asked-for"));
    let film = Media::video(MediaRef::new("x", "not-asked-for"));
    let initialized_film = changed(
        fixture!("media_initialize.response.200.json"),
        &[("1900000000000000401", "1900000000000000403"), ("3_19", "13_19")],
    );
    let request = r#"{"media_type":"video/mp4","total_bytes":1048576,"media_category":"dm_video"}"#;
    let state = |answer: &'static str| {
        Step::get("/2/media/upload?command=STATUS&media_id=1900000000000000403").answers(200, answer)
    };
    let filmed = || {
        begun(Exchange::upload(film.clone(), "video/mp4", vec![9; 1 << 20]))
            .step(Step::post("/2/media/upload/initialize").json(request).answers(200, initialized_film.clone()))
            .step(appended(FILM, vec![9; 1 << 20]))
            .step(finalized(FILM, fixture!("media_finalize_async.response.200.json")))
            .step(state(fixture!("media_status_in_progress.response.200.json")))
    };
    vec![
        begun(Exchange::upload(image, "image/png", IMAGE))
            .step(initialized())
            .step(appended(UPLOAD, IMAGE))
            .step(finalized(UPLOAD, fixture!("media_finalize_sync.response.200.json")))
            .media_id("1900000000000000401"),
        // A video is polled until it is processed.
        filmed().step(state(fixture!("media_status_succeeded.response.200.json"))).media_id("1900000000000000403"),
        filmed().step(state(fixture!("media_status_failed.response.200.json"))).fails(ErrorKind::InvalidMessage),
    ]
}

fn healths(begun: &dyn Fn(Exchange) -> Exchange) -> Vec<Exchange> {
    let health = |me: (u16, &str), webhooks: (u16, &str)| {
        let listed = Step::get("/2/webhooks").header("authorization", format!("Bearer {BEARER}"));
        begun(Exchange::health())
            .step(Step::get("/2/users/me").answers(me.0, me.1.to_owned()))
            .step(listed.answers(webhooks.0, webhooks.1.to_owned()))
    };
    let graded = |exchange: Exchange, credentials, webhook| {
        exchange.health_check("credentials", credentials).health_check("webhook", webhook)
    };
    let stranger = fixture!("v2_user_by_username.response.200.json");
    let council = changed(stranger, &[(RESIDENT, COUNCIL)]);
    let stopped = fixture!("webhooks_list.response.200.json");
    let valid = changed(stopped, &[(r#""valid": false"#, r#""valid": true"#)]);
    // An empty list has no `data` member.
    let none = fixture!("v2_dm_events_empty.response.200.json");
    let forbidden = (403, fixture!("err_403_client_forbidden.json"));
    let busy = (429, fixture!("err_429_problem.json"));
    vec![
        graded(health((200, &council), (200, &valid)), CheckStatus::Pass, CheckStatus::Pass),
        graded(health((200, &council), (200, stopped)), CheckStatus::Pass, CheckStatus::Fail),
        graded(health((200, stranger), (200, none)), CheckStatus::Fail, CheckStatus::Warn),
        graded(health(forbidden, busy), CheckStatus::Fail, CheckStatus::Unknown),
        graded(health(busy, forbidden), CheckStatus::Unknown, CheckStatus::Fail),
    ]
}

fn webhooks() -> Vec<Webhook> {
    let question = ExpectedEvent::text("1900000000000000511", "When is my bin day?").from(RESIDENT);
    let batch = fixture!("webhook_aaa_dm_batch_of_two.json");
    let nameless = changed(batch, &[(r#""id": "1900000000000000511""#, r#""id": null"#)]);
    let stopped = |recorded: &str| {
        let changes = [("When is my bin day?", "STOP"), ("1900000000000000511", "1900000000000000517")];
        Webhook::json(changed(recorded, &changes))
    };
    vec![
        // The Account Activity API.
        Webhook::json(fixture!("webhook_aaa_dm_text.json")).returns_events([question]),
        Webhook::json(fixture!("webhook_aaa_dm_welcome_initiated.json")),
        Webhook::json(fixture!("webhook_aaa_dm_media_photo.json")),
        Webhook::json(fixture!("webhook_aaa_dm_quick_reply.json")),
        Webhook::json(fixture!("webhook_aaa_dm_html_entities.json")),
        Webhook::json(fixture!("webhook_aaa_dm_echo_own_send.json")),
        Webhook::json(batch),
        Webhook::json(nameless),
        Webhook::json(fixture!("webhook_aaa_mark_read.json")),
        Webhook::json(fixture!("webhook_aaa_user_revoke.json")),
        Webhook::json(fixture!("webhook_aaa_replay_complete.json")),
        Webhook::json(fixture!("webhook_aaa_typing.json")),
        Webhook::json(fixture!("webhook_aaa_tweet_create_ignored.json")),
        stopped(fixture!("webhook_aaa_dm_text.json")),
        // The X Activity API.
        Webhook::json(fixture!("webhook_xaa_dm_received.json")),
        Webhook::json(fixture!("webhook_xaa_dm_received_media_INFERRED.json")),
        Webhook::json(fixture!("webhook_xaa_dm_sent.json")),
        Webhook::json(fixture!("webhook_xaa_chat_received_encrypted.json")),
        Webhook::json(fixture!("webhook_xaa_oauth_revoke.json")),
        stopped(fixture!("webhook_xaa_dm_received.json")),
        // The handshake of both. A token that could be an event is not signed, nor is an empty one.
        Webhook::get("crc_token=a1b2%2B%2Fc3%3D%3D")
            .unsigned()
            .replies_with(200, |secret| response_token("a1b2+/c3==", secret)),
        Webhook::get("crc_token=test+token")
            .unsigned()
            .replies_with(200, |secret| response_token("test token", secret)),
        Webhook::get("crc_token=").unsigned().refused(),
        Webhook::get("crc_token=%7B%22for_user_id%22%3A%221900000000000000202%22%7D").unsigned().refused(),
    ]
}

/// The response to X's handshake.
fn response_token(crc_token: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(crc_token.as_bytes());
    format!(r#"{{"response_token":"sha256={}"}}"#, BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

mod direct_messages {
    use super::DirectMessages;

    civic_messaging::conformance_tests!(DirectMessages);
}

mod direct_messages_by_token {
    use super::DirectMessagesByToken;

    civic_messaging::conformance_tests!(DirectMessagesByToken);
}
