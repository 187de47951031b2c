//! Health, and calls that only X has.

use super::*;

fn with_bearer(server: &MockServer) -> X {
    let config = Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap().bearer("app-only-bearer").unwrap();
    X::direct_messages_with(config, &context()).unwrap()
}

#[tokio::test]
async fn health_checks_the_credentials_and_the_webhook() {
    let me = |id: &str| {
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "id": id, "name": "n", "username": "u" } }))
    };
    let valid = |valid: bool| {
        ResponseTemplate::new(200)
            .set_body_json(json!({ "data": [{ "id": "1", "url": "https://a.example", "valid": valid }] }))
    };
    for (me, hooks, credentials, webhook) in [
        (me(COUNCIL), valid(true), CheckStatus::Pass, CheckStatus::Pass),
        (me(RESIDENT), answer(200, "webhooks_list.response.200.json"), CheckStatus::Fail, CheckStatus::Fail),
        (
            answer(401, "err_v1_code_89.json"),
            answer(403, "err_403_client_forbidden.json"),
            CheckStatus::Fail,
            CheckStatus::Fail,
        ),
        (ResponseTemplate::new(503), answer(429, "err_429_problem.json"), CheckStatus::Unknown, CheckStatus::Unknown),
        (
            me(COUNCIL),
            ResponseTemplate::new(200).set_body_json(json!({ "meta": { "result_count": 0 } })),
            CheckStatus::Pass,
            CheckStatus::Warn,
        ),
    ] {
        let server = MockServer::start().await;
        given(&server, "GET", "/2/users/me", me).await;
        given(&server, "GET", "/2/webhooks", hooks).await;
        let health = with_bearer(&server).health().await.unwrap();
        let grade = |name: &str| health.check(name).unwrap().status;
        assert_eq!((grade("credentials"), grade("webhook")), (credentials, webhook));
        let bearing = |asked: &Asked| asked.headers["authorization"] == "Bearer app-only-bearer";
        assert!(asked(&server).await.iter().all(|asked| bearing(asked) == (asked.url.path() == "/2/webhooks")));
        // Without a bearer token, the webhook is not asked for.
        assert!(signed(&server).health().await.unwrap().check("webhook").is_none());
    }
}

#[tokio::test]
async fn handle_resolves_to_an_id() {
    let server = MockServer::start().await;
    let at = "/2/users/by/username/resident_one";
    let found = Mock::given(path(at)).and(query_param("user.fields", "receives_your_dm,connection_status"));
    found.respond_with(answer(200, "v2_user_by_username.response.200.json")).mount(&server).await;
    given(
        &server,
        "GET",
        "/2/users/by/username/nobody_here",
        answer(200, "v2_users_not_found_partial.response.200.json"),
    )
    .await;
    given(&server, "GET", "/2/users/by/username/gone", ResponseTemplate::new(404)).await;
    let x = signed(&server);
    for handle in ["resident_one", "@resident_one"] {
        let profile = x.look_up_user(handle).await.unwrap();
        assert_eq!((profile.user.id(), profile.user.handle()), (RESIDENT, Some("resident_one")));
        assert_eq!((profile.name.as_deref(), profile.receives_dm), (Some("A Resident"), Some(true)));
        assert!(!format!("{profile:?}").contains("esident"));
    }
    for nobody in ["nobody_here", "gone"] {
        assert_eq!(x.look_up_user(nobody).await.unwrap_err().kind(), ErrorKind::NotFound, "{nobody}");
    }
    for bad in ["", "a/b", "../me", "sixteen_letters_", "tŷ"] {
        assert_eq!(x.look_up_user(bad).await.unwrap_err().kind(), ErrorKind::InvalidRecipient, "{bad}");
    }
}

#[tokio::test]
async fn webhooks_are_managed_with_the_token_of_the_app() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/webhooks", answer(200, "webhooks_create.response.200.json")).await;
    given(&server, "GET", "/2/webhooks", answer(200, "webhooks_list.response.200.json")).await;
    let x = with_bearer(&server);
    let webhook = x.register_webhook("https://messages.exampleshire.gov.uk/webhooks/x").await.unwrap();
    assert_eq!((webhook.id.as_str(), webhook.valid), ("1900000000000000801", true));
    let listed = x.webhooks().await.unwrap();
    assert_eq!((listed.len(), listed[0].valid, &listed[0].id), (1, false, &webhook.id));
    for (data, valid) in
        [(json!({ "valid": true }), true), (json!({ "valid": false }), false), (json!({ "attempted": true }), true)]
    {
        let at = format!("/2/webhooks/{}", webhook.id);
        Mock::given(method("PUT"))
            .and(path(at))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "data": data })))
            .up_to_n_times(1)
            .mount(&server)
            .await;
        assert_eq!(x.revalidate_webhook(&webhook.id).await.unwrap(), valid);
    }
    let asked = asked(&server).await;
    assert_eq!(body(&asked[0]), json_fixture("webhooks_create.request.json"));
    assert!(asked.iter().all(|asked| asked.headers["authorization"] == "Bearer app-only-bearer"));
    for bad in [
        "http://a.example/x",
        "https://a.example:8443/x",
        "a.example",
        &format!("https://a.example/{}", "x".repeat(200)),
    ] {
        assert_eq!(x.register_webhook(bad).await.unwrap_err().field(), Some("url"));
    }
    assert_eq!(x.revalidate_webhook("1/../2").await.unwrap_err().field(), Some("id"));
}

#[tokio::test]
async fn subscription_is_read_in_all_three_shapes() {
    for (name, by) in [
        ("xaa_subscribe_shape_docs_array.response.200.json", Credentials::User),
        ("xaa_subscribe_shape_docs_flat.response.200.json", Credentials::App),
        ("xaa_subscribe_shape_spec.response.200.json", Credentials::User),
    ] {
        let server = MockServer::start().await;
        given(&server, "POST", "/2/activity/subscriptions", answer(200, name)).await;
        let x = with_bearer(&server);
        let id = x.subscribe("dm.received", "1900000000000000801", Some("council-inbound"), by).await.unwrap();
        assert_eq!(id, "1900000000000000802");
        let asked = &asked(&server).await[0];
        assert_eq!(body(asked), json_fixture("xaa_subscribe.request.json"));
        let bearer = asked.headers["authorization"] == "Bearer app-only-bearer";
        assert_eq!(bearer, by == Credentials::App);
    }
    let server = MockServer::start().await;
    let at = "/2/account_activity/webhooks/1900000000000000801/subscriptions/all";
    given(&server, "POST", at, answer(200, "aaa_subscribe.response.200.json")).await;
    with_bearer(&server).subscribe_account_activity("1900000000000000801").await.unwrap();
    let asked = asked(&server).await;
    assert!(asked[0].headers["authorization"].to_str().unwrap().starts_with("OAuth "));
    // X requires a body, of no members.
    assert_eq!((body(&asked[0]), asked[0].headers["content-type"].to_str().unwrap()), (json!({}), "application/json"));
}

#[tokio::test]
async fn messages_people_and_groups_are_managed() {
    let server = MockServer::start().await;
    given(&server, "DELETE", "/2/dm_events/1900000000000000501", answer(200, "v2_dm_delete.response.200.json")).await;
    given(&server, "POST", "/2/users/1900000000000000101/dm/block", answer(200, "v2_dm_block.response.200.json")).await;
    given(
        &server,
        "POST",
        "/2/users/1900000000000000101/dm/unblock",
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "blocked": false } })),
    )
    .await;
    given(&server, "POST", "/2/dm_conversations", answer(201, "v2_group_create.response.201.json")).await;
    let x = signed(&server);
    x.delete_event(&"1900000000000000501".into()).await.unwrap();
    assert_eq!(x.delete_event(&"../1".into()).await.unwrap_err().field(), Some("id"));
    let people = [RESIDENT, "1900000000000000303"].map(|id| XUser::new(id).unwrap());
    x.block(&people[0]).await.unwrap();
    x.unblock(&people[0]).await.unwrap();
    let (group, accepted) = x.create_conversation(&people, "Hello both").await.unwrap();
    assert_eq!((group.expose(), accepted.id().as_str()), ("1900000000000000601", "1900000000000000602"));
    assert_eq!(body(asked(&server).await.last().unwrap()), json_fixture("v2_group_create.request.json"));
    assert_eq!(x.create_conversation(&people[..1], "Hello").await.unwrap_err().kind(), ErrorKind::InvalidRecipient);
    assert_eq!(x.create_conversation(&people, "").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    server.reset().await;
    given(&server, "POST", "/2/dm_conversations", ResponseTemplate::new(502)).await;
    assert_eq!(x.create_conversation(&people, "Hello").await.unwrap_err().outcome(), Outcome::Unknown);
}
