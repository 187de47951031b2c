//! Polling.

use super::*;

fn ids(page: &Page) -> Vec<&str> {
    page.events.iter().filter_map(|event| Some(event.as_inbound()?.id.as_str())).collect()
}

async fn lists(server: &MockServer, token: Option<&str>, page: Value) {
    let mock = Mock::given(method("GET")).and(path("/2/dm_events"));
    let mock = match token {
        Some(token) => mock.and(query_param("pagination_token", token)),
        None => mock.and(query_param_is_missing("pagination_token")),
    };
    mock.respond_with(ResponseTemplate::new(200).set_body_json(page)).mount(server).await;
}

#[tokio::test]
async fn poll_and_webhook_give_the_same_event() {
    let server = MockServer::start().await;
    let text = json_fixture("webhook_aaa_dm_text.json");
    let message = &text["direct_message_events"][0];
    let mut event =
        listed(1_900_000_000_000_000_511, message["message_create"]["message_data"]["text"].as_str().unwrap());
    event["created_at"] = "2026-09-01T09:29:58.705Z".into();
    let users = json!([{ "id": RESIDENT, "name": "A Resident", "username": "resident_one" }]);
    lists(&server, None, json!({ "data": [event], "includes": { "users": users }, "meta": {} })).await;
    let page = signed(&server).poll(None).await.unwrap();
    let (Event::Inbound(polled), pushed) = (&page.events[0], inbound("webhook_aaa_dm_text.json").await) else {
        panic!()
    };
    assert_eq!(page.events[0].id(), Event::from(pushed.clone()).id());
    // All but the bytes that the gateway wrote.
    let mut polled = polled.clone();
    polled.envelope.raw = pushed.envelope.raw.clone();
    assert_eq!(polled, pushed);
}

#[tokio::test]
async fn poll_reads_back_to_the_known_event_oldest_first() {
    let server = MockServer::start().await;
    lists(&server, None, json!({ "data": [listed(15, "e"), listed(14, "d")], "meta": { "next_token": "PAGE2" } }))
        .await;
    lists(
        &server,
        Some("PAGE2"),
        json!({ "data": [listed(13, "c"), listed(12, "b")], "meta": { "next_token": "PAGE3" } }),
    )
    .await;
    lists(&server, Some("PAGE3"), json!({ "meta": { "result_count": 0 } })).await;
    let x = signed(&server);
    let page = x.poll(None).await.unwrap();
    assert_eq!((ids(&page), page.more), (vec!["12", "13", "14", "15"], false));
    assert_eq!(page.next.as_ref().unwrap().as_str(), "15");
    assert_eq!(asked(&server).await.len(), 3);
    // The known event need not be there any more: it may have been deleted.
    for (known, found, calls) in [
        ("13", vec!["14", "15"], 2),
        ("11", vec!["12", "13", "14", "15"], 3),
        ("14", vec!["15"], 1),
        ("15", vec![], 1),
        ("16", vec![], 1),
    ] {
        let before = asked(&server).await.len();
        let page = x.poll(Some(&Cursor::new(known))).await.unwrap();
        assert_eq!((ids(&page), asked(&server).await.len() - before), (found.clone(), calls), "{known}");
        assert_eq!(page.next, (!found.is_empty()).then(|| Cursor::new("15")));
    }
    assert_eq!(x.poll(Some(&Cursor::new("soon"))).await.unwrap_err().field(), Some("after"));
}

#[tokio::test]
async fn list_may_be_empty_or_without_senders() {
    let server = MockServer::start().await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_empty.response.200.json")).await;
    let page = signed(&server).poll(Some(&Cursor::new("1"))).await.unwrap();
    assert_eq!((page.events.len(), page.next, page.more), (0, None, false));
    server.reset().await;
    let first = Mock::given(path("/2/dm_events")).and(query_param_is_missing("pagination_token"));
    first.respond_with(answer(200, "v2_dm_events_defaults.response.200.json")).mount(&server).await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_empty.response.200.json")).await;
    let page = signed(&server).poll(None).await.unwrap();
    assert!(page.events.iter().all(|event| matches!(event, Event::Unrecognised(unknown) if unknown.from.is_none())));
    assert_eq!((page.events.len(), page.next), (2, Some(Cursor::new("1900000000000000502"))));
}

#[tokio::test]
async fn events_are_read_under_their_old_and_their_new_names() {
    let server = MockServer::start().await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_full_old_names.response.200.json")).await;
    let page = signed(&server).poll(None).await.unwrap();
    let what: Vec<_> = page
        .events
        .iter()
        .map(|event| match event {
            Event::Unrecognised(unknown) => unknown.what.clone(),
            Event::Inbound(inbound) => inbound.id.as_str().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(what, ["ParticipantsLeave", "ParticipantsJoin", "1900000000000000503"]);
    let group = Address::conversation(Medium::X, "1900000000000000601").unwrap();
    assert_eq!(page.events[0].envelope().conversation, Some(group));
    let old = page.events[2].as_inbound().unwrap().clone();
    assert_eq!((old.profile.handle.as_deref(), old.envelope.conversation.as_ref()), (Some("resident_one"), None));
    assert_eq!(old.media()[0].id, "1900000000000000402");
    // The link is of a post, so it stays.
    assert_eq!(old.text(), Some("Pothole https://t.co/aaaaaaaaaa"));
    server.reset().await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_full_spec_2_167_names.response.200.json")).await;
    let page = signed(&server).poll(None).await.unwrap();
    let new = page.events[0].as_inbound().unwrap();
    assert_eq!((&new.id, new.text(), new.media()), (&old.id, old.text(), old.media()));
    assert!(page.events[0].envelope().raw.as_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn group_message_is_answered_in_the_group() {
    let server = MockServer::start().await;
    let mut event = listed(15, "Hello all");
    event["dm_conversation_id"] = "1900000000000000601".into();
    lists(&server, None, json!({ "data": [event] })).await;
    let page = signed(&server).poll(None).await.unwrap();
    let inbound = page.events[0].as_inbound().unwrap();
    assert_eq!((inbound.reply_address().expose(), inbound.from.clone()), ("1900000000000000601", resident()));
}

#[tokio::test]
async fn poll_requests_fewer_fields_after_a_refusal() {
    let server = MockServer::start().await;
    struct Strict;
    impl Respond for Strict {
        fn respond(&self, asked: &Asked) -> ResponseTemplate {
            let query: BTreeMap<_, _> = asked.url.query_pairs().into_owned().collect();
            if query["dm_event.fields"].contains("sender_id") {
                return ResponseTemplate::new(400).set_body_json(json!({
                    "errors": [{ "parameters": { "dm_event.fields": ["sender_id"] }, "message": "The `dm_event.fields` query parameter value [sender_id] is not one of [id]" }],
                    "title": "Invalid Request", "type": "https://api.x.com/2/problems/invalid-request" }));
            }
            assert_eq!(query["expansions"], "sender_id");
            let mut event = listed(15, "Hello");
            event.as_object_mut().unwrap().remove("sender_id");
            let users = json!([{ "id": RESIDENT, "username": "resident_one" }]);
            ResponseTemplate::new(200).set_body_json(json!({ "data": [event], "includes": { "users": users } }))
        }
    }
    Mock::given(path("/2/dm_events")).respond_with(Strict).mount(&server).await;
    let x = signed(&server);
    let page = x.poll(None).await.unwrap();
    // Nobody but the resident wrote on this page, so the sender is known.
    assert_eq!(page.events[0].as_inbound().unwrap().from, resident());
    assert_eq!(asked(&server).await.len(), 2);
    x.poll(None).await.unwrap();
    assert_eq!(asked(&server).await.len(), 3, "it is refused once");
    // Any other 400 is an error at once.
    server.reset().await;
    given(&server, "GET", "/2/dm_events", answer(400, "err_400_invalid_request.json")).await;
    assert_eq!(signed(&server).poll(None).await.unwrap_err().code(), Some("invalid-request"));
    assert_eq!(asked(&server).await.len(), 1);
}

#[tokio::test]
async fn sender_is_never_guessed() {
    let without = |conversation: &str| {
        let mut event = listed(15, "Hello");
        event.as_object_mut().unwrap().remove("sender_id");
        event["dm_conversation_id"] = conversation.into();
        event
    };
    let pair = format!("{RESIDENT}-{COUNCIL}");
    let both = json!([{ "id": RESIDENT }, { "id": COUNCIL }]);
    for (event, users) in [
        (without(&pair), both),
        (without(&pair), json!([{ "id": COUNCIL }])),
        (without(&pair), json!([])),
        (without("1900000000000000601"), json!([{ "id": RESIDENT }])),
        (without("1-2"), json!([{ "id": "1" }])),
    ] {
        let server = MockServer::start().await;
        lists(&server, None, json!({ "data": [event], "includes": { "users": users } })).await;
        let page = signed(&server).poll(None).await.unwrap();
        assert!(matches!(&page.events[0], Event::Unrecognised(unknown) if unknown.what == "MessageCreate"), "{users}");
    }
}

#[tokio::test]
async fn backlog_is_fetched_by_ten_pages_without_loss() {
    /// 25 pages of two events, newest first: 1049, 1048, ...
    struct Backlog;
    impl Respond for Backlog {
        fn respond(&self, asked: &Asked) -> ResponseTemplate {
            let token = asked
                .url
                .query_pairs()
                .find(|(name, _)| name == "pagination_token")
                .map(|(_, token)| token.into_owned());
            let page: u64 = token.map_or(0, |token| token.strip_prefix("PAGE").unwrap().parse().unwrap());
            let events = [listed(1049 - 2 * page, "a"), listed(1048 - 2 * page, "b")];
            let meta = if page < 24 { json!({ "next_token": format!("PAGE{}", page + 1) }) } else { json!({}) };
            ResponseTemplate::new(200).set_body_json(json!({ "data": events, "meta": meta }))
        }
    }
    let server = MockServer::start().await;
    Mock::given(path("/2/dm_events")).respond_with(Backlog).mount(&server).await;
    let x = signed(&server);
    for (known, least) in [(None, 1000), (Some("1004"), 1005)] {
        let (mut cursor, mut all, mut polls) = (known.map(Cursor::new), Vec::new(), 0);
        loop {
            let page = x.poll(cursor.as_ref()).await.unwrap();
            let ids: Vec<u64> = ids(&page).iter().map(|id| id.parse().unwrap()).collect();
            assert!(ids.is_sorted() && ids.len() <= 20);
            all.extend(ids);
            polls += 1;
            cursor = page.next.or(cursor);
            if !page.more {
                break;
            }
        }
        all.sort_unstable();
        assert_eq!((all, polls), ((least..1050).collect::<Vec<u64>>(), 3));
        assert_eq!(cursor.as_ref().unwrap().as_str(), "1049");
        assert!(x.poll(cursor.as_ref()).await.unwrap().events.is_empty());
    }
}

#[tokio::test]
async fn expired_page_token_restarts_the_poll() {
    let server = MockServer::start().await;
    let stale = Mock::given(path("/2/dm_events")).and(query_param("pagination_token", "STALE"));
    stale.respond_with(answer(400, "err_400_invalid_request.json")).mount(&server).await;
    lists(&server, None, json!({ "data": [listed(16, "new"), listed(12, "seen"), listed(11, "known")] })).await;
    let page = signed(&server).poll(Some(&Cursor::new("11:15:STALE"))).await.unwrap();
    assert_eq!((ids(&page), page.next.as_ref().unwrap().as_str()), (vec!["12", "16"], "16"));
}

#[tokio::test]
async fn failed_poll_states_its_cause_and_loses_nothing() {
    let server = MockServer::start().await;
    let x = signed(&server);
    given(&server, "GET", "/2/dm_events", answer(429, "err_429_problem.json")).await;
    assert!(x.poll(None).await.unwrap_err().is_retryable());
    server.reset().await;
    given(&server, "GET", "/2/dm_events", ResponseTemplate::new(200).set_body_string("<html>")).await;
    let error = x.poll(None).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::NotSent));
}
