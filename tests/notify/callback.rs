//! Callbacks.

use super::*;

#[tokio::test]
async fn recorded_callbacks_are_events() {
    let (_server, _, notify) = channel().await;
    let file = fixture("notify_callbacks_recorded");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let mut request = http::Request::builder().method(case["method"].as_str().unwrap()).uri("/notify");
        for (name, value) in case["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        let body = case["body"].as_str().unwrap();
        let received = notify.receive(&request.body(body.to_owned()).unwrap().into()).await.unwrap();
        assert_eq!((received.response.status, received.discarded_events()), (http::StatusCode::OK, 0));
        let envelope = received.events[0].envelope();
        assert_eq!((envelope.account.as_str(), &*envelope.gateway), (SERVICE, "notify"));
        assert_eq!(*envelope.raw.as_bytes(), body);
        match (case["name"].as_str().unwrap(), &received.events[..]) {
            ("delivery_status", [Event::Delivery(delivery)]) => {
                assert_eq!((delivery.state, delivery.status.as_str()), (DeliveryState::Delivered, "delivered"));
                let of = DeliveryOf::Message {
                    id: Some("ff7110b4-9ee1-4b92-85d7-7842f33d3722".into()),
                    key: Some("ref-1".into()),
                };
                assert_eq!(delivery.of, of);
                assert_eq!(delivery.recipient, Some(Address::phone("07700 900003").unwrap()));
                assert_eq!((delivery.envelope.at, delivery.failure.is_none()), (recorded(), true));
            }
            ("inbound_sms", [Event::Inbound(inbound)]) => {
                // "STOP please £ ŵ 😀" is more than the keyword, so not an opt-out.
                assert_eq!(inbound.content, InboundContent::Text("STOP please £ ŵ 😀".into()));
                assert_eq!(inbound.from, Address::phone("+447700900123").unwrap());
                assert_eq!(inbound.id.as_str(), "9968018b-f64e-4d8a-b068-2815a1faa0e7");
                assert_eq!(inbound.envelope.at, "2026-11-22T13:46:46.155Z".parse().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn recipient_without_its_leading_0_is_read() {
    let (_server, _, notify) = channel().await;
    let body: Value =
        serde_json::from_str(include_str!("../fixtures/cases/notify/callback_to_without_0.json")).unwrap();
    for (to, read) in [
        ("7700900123", Some("+447700900123")),
        ("7700 900123", Some("+447700900123")),
        ("+7700900123", Some("+447700900123")),
        ("447700900123", Some("+447700900123")),
        ("4407700900123", Some("+447700900123")),
        ("+447700900123", Some("+447700900123")),
        ("+44 (0)7700 900123", Some("+447700900123")),
        ("07700 900 123", Some("+447700900123")),
        ("0+447700900123", Some("+447700900123")),
        ("000007700900123", Some("+447700900123")),
        ("+07700900123", Some("+447700900123")),
        ("0+44(0)7700900123", Some("+447700900123")),
        ("00447700900123", Some("+447700900123")),
        ("1632960001", Some("+441632960001")),
        ("2079460000", Some("+442079460000")),
        ("+33612345678", Some("+33612345678")),
        ("0033612345678", Some("+33612345678")),
        ("33612345678", Some("+33612345678")),
        ("+4512345678", Some("+4512345678")),
        ("15005550123", Some("+15005550123")),
        ("not a number", None),
        ("", None),
        ("12", None),
    ] {
        let mut body = body.clone();
        body["to"] = to.into();
        let events = called_back(&notify, &body).await;
        let recipient = events[0].as_delivery().unwrap().recipient.as_ref().map(Address::expose);
        assert_eq!(recipient, read, "{to}");
    }
}

#[tokio::test]
async fn cost_with_float_noise_is_rounded_to_micros() {
    let (server, _, notify) = channel().await;
    let body: Value = serde_json::from_str(include_str!("../fixtures/cases/notify/cost_of_three_parts.json")).unwrap();
    let id = "740e5834-3a29-46b4-9a6f-16142fde5300";
    Mock::given(method("GET"))
        .and(path(format!("/v2/notifications/{id}")))
        .respond_with(ResponseTemplate::new(200).set_body_json(&body))
        .mount(&server)
        .await;
    let sent = LookupQuery::new(text("07700 900123", "Hello"), recorded()).with_id(id.into());
    let LookupOutcome::Found(found) = notify.look_up(&sent).await.unwrap() else { panic!("not found") };
    let price = found[0].price.unwrap().as_money().unwrap();
    assert_eq!((price.micros, price.currency.as_str(), found[0].segments), (68_100, "GBP", Some(3)));
}

#[tokio::test]
async fn senders_of_any_format_are_read() {
    let (_server, _, notify) = channel().await;
    for (from, read) in [
        ("447700900123", "+447700900123"),
        ("7700900123", "+447700900123"),
        ("07700 900123", "+447700900123"),
        ("+33612345678", "+33612345678"),
        ("4512345678", "+4512345678"),
        ("60777", "60777"),
        ("8400123", "8400123"),
        ("12", "12"),
        ("GOV.UK", "GOV.UK"),
        ("O2+", "O2+"),
        ("AT&T Info", "AT&T_Info"),
        ("Sainsbury's", "Sainsbury's"),
        ("T-Mobile", "T-Mobile"),
        ("A name that is longer", "A_name_that_is_longer"),
        ("Caf\u{e9}\t1", "Caf\u{e9}_1"),
    ] {
        let body =
            json!({ "id": "m1", "source_number": from, "destination_number": "07700987654", "message": "Hello" });
        let events = called_back(&notify, &body).await;
        let inbound = events[0].as_inbound().unwrap_or_else(|| panic!("{from}"));
        assert_eq!((inbound.from.expose(), inbound.text()), (read, Some("Hello")), "{from}");
        assert_eq!(inbound.to.as_ref().map(Address::expose), Some("+447700987654"));
    }
}

#[tokio::test]
async fn malformed_member_costs_nothing_beside_it() {
    let (server, _, notify) = channel().await;
    let odd = [json!({}), json!([1]), json!(true), json!(null), json!(1e300), json!({ "a": [{}] })];
    let text = json!({ "id": "m1", "source_number": "447700900123", "destination_number": "07700987654",
        "message": "STOP", "date_received": "2026-11-22T10:00:00.000000Z" });
    let delivery = json!({ "id": "m1", "reference": "k", "to": "07700900123", "status": "delivered",
        "created_at": "2026-11-22T10:00:00.000000Z", "completed_at": "2026-11-22T10:00:00.000000Z",
        "sent_at": "2026-11-22T10:00:00.000000Z", "notification_type": "sms", "cost_in_pounds": 0.0227,
        "cost_details": { "billable_sms_fragments": 1 }, "is_cost_data_ready": true, "template": {} });
    for odd in &odd {
        for name in
            ["id", "destination_number", "date_received", "created_at", "notification_type", "cost_details", "to"]
        {
            let mut body = text.clone();
            body[name] = odd.clone();
            let events = called_back(&notify, &body).await;
            let [Event::Inbound(inbound), Event::OptOut(_)] = &events[..] else { panic!("{name}: {odd}: {events:?}") };
            assert_eq!((inbound.text(), inbound.from.expose()), (Some("STOP"), "+447700900123"));
            let again = called_back(&notify, &body).await;
            assert_eq!(again[0].id(), events[0].id());
        }
        for name in delivery.as_object().unwrap().keys().filter(|name| !["id", "status"].contains(&name.as_str())) {
            let mut body = delivery.clone();
            body[name] = odd.clone();
            let events = called_back(&notify, &body).await;
            let [Event::Delivery(read)] = &events[..] else { panic!("{name}: {odd}: {events:?}") };
            assert_eq!(read.state, DeliveryState::Delivered, "{name}: {odd}");
            assert_eq!(read.price.is_some(), name != "cost_in_pounds", "{name}: {odd}");
        }
    }
    let twice = r#"{"id":"m1","cost_details":7,"cost_details":{},"source_number":"447700900123","message":"Hello"}"#;
    let received = notify.receive(&callback(TOKENS[0], twice)).await.unwrap();
    assert_eq!(received.events[0].as_inbound().unwrap().text(), Some("Hello"));

    // The same holds for a polled row.
    let mut row = delivery.clone();
    row["cost_details"] = json!("none");
    let mut inbound = text.clone();
    inbound["cost_details"] = json!(7);
    inbound["user_number"] = inbound["source_number"].take();
    inbound["content"] = inbound["message"].take();
    inbound["created_at"] = json!("2026-11-22T10:00:00.000000Z");
    for (list, name, rows) in [
        ("/v2/notifications", "notifications", vec![row]),
        ("/v2/received-text-messages", "received_text_messages", vec![inbound]),
    ] {
        let page = ResponseTemplate::new(200).set_body_json(json!({ name: rows }));
        Mock::given(method("GET")).and(path(list)).respond_with(page).up_to_n_times(1).mount(&server).await;
        let end = ResponseTemplate::new(200).set_body_json(json!({ name: [] }));
        Mock::given(method("GET")).and(path(list)).respond_with(end).mount(&server).await;
    }
    let events = notify.poll(None).await.unwrap().events;
    assert!(events.iter().any(|event| event.as_inbound().is_some_and(|inbound| inbound.text() == Some("STOP"))));
    assert!(events.iter().any(|event| event.as_delivery().is_some_and(|delivery| delivery.price.is_some())));
}

#[tokio::test]
async fn every_status_maps_to_a_state() {
    let (_server, _, notify) = channel().await;
    for (status, state, failure) in [
        ("created", DeliveryState::Accepted, None),
        ("sending", DeliveryState::Sending, None),
        ("pending", DeliveryState::Sending, None),
        ("sent", DeliveryState::Sent, None),
        ("delivered", DeliveryState::Delivered, None),
        ("permanent-failure", DeliveryState::Failed, Some((ErrorKind::InvalidRecipient, false))),
        ("temporary-failure", DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        ("technical-failure", DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        ("cancelled-by-owl", DeliveryState::Unrecognised, None),
    ] {
        let body =
            json!({ "id": "m1", "to": "not a number", "status": status, "notification_type": "sms", "new": [1] });
        let received = notify.receive(&callback(TOKENS[0], body.to_string())).await.unwrap();
        let delivery = received.events[0].as_delivery().unwrap();
        assert_eq!((delivery.state, delivery.status.as_str()), (state, status));
        assert_eq!(delivery.failure.as_ref().map(|f| (f.kind, f.temporary)), failure, "{status}");
        assert_eq!((&delivery.recipient, delivery.key()), (&None, None));
    }
}

#[tokio::test]
async fn wrong_token_is_refused_and_unknown_body_is_kept() {
    let (server, clock, notify) = channel().await;
    let body = r#"{"id":"m1","source_number":"447700900123","message":"STOP"}"#;
    for token in TOKENS {
        let received = notify.receive(&callback(token, body)).await.unwrap();
        assert!(matches!(&received.events[..], [Event::Inbound(_), Event::OptOut(out)] if !out.resume));
    }
    // Notify keeps no suppression list, so a keyword that other gateways act on is a message.
    let end = callback(TOKENS[0], body.replace("STOP", "END"));
    assert!(matches!(&notify.receive(&end).await.unwrap().events[..], [Event::Inbound(_)]));
    let missing = http::Request::post("/").body(body).unwrap().into();
    for (request, status) in [(callback("a-wrong-bearer-token", body), 403), (missing, 401)] {
        let error = notify.receive(&request).await.unwrap_err();
        assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Unauthenticated, status));
        assert_eq!(error.gateway(), Some("notify"));
    }
    for (body, what) in [
        ("", "body"),
        ("not json", "body"),
        ("[]", "body"),
        (r#"["m1","k","07700 900123","delivered"]"#, "body"),
        ("{}", "callback"),
        (r#"{"id":"m1"}"#, "callback"),
        (r#"{"source_number":"447700900123"}"#, "received_text_message"),
        (r#"{"id":"m1","source_number":"?","message":"x"}"#, "received_text_message"),
        (r#"{"id":"m1","to":"a@example.org","status":"delivered","notification_type":"email"}"#, "email"),
        (r#"{"id":"m1","to":"x","status":"delivered","notification_type":"fax"}"#, "callback"),
    ] {
        let received = notify.receive(&callback(TOKENS[0], body)).await.unwrap();
        let [Event::Unrecognised(unknown)] = &received.events[..] else { panic!("{body}") };
        assert_eq!((unknown.what.as_str(), &unknown.envelope.raw.as_bytes()[..]), (what, body.as_bytes()));
    }
    for (from, address) in
        [("07700900123", "+447700900123"), ("12025550123", "+12025550123"), ("60777", "60777"), ("HMRC", "HMRC")]
    {
        let body = json!({ "id": "m1", "source_number": from, "message": "x" }).to_string();
        let received = notify.receive(&callback(TOKENS[0], body)).await.unwrap();
        assert_eq!(received.events[0].as_inbound().unwrap().from.expose(), address);
    }
    // A token of another service gives no events, and without one nothing is received.
    let mut other = config(&server);
    let secret = civic_messaging::Secret::new("token-of-another").unwrap();
    other.callback_tokens = vec![civic_messaging::webhook::SigningSecret::for_accounts(secret, ["other".into()])];
    let received = with(other, &clock).receive(&callback("token-of-another", body)).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events()), (0, 1));
    let mut none = config(&server);
    none.callback_tokens.clear();
    let deaf = with(none, &clock);
    assert!(!deaf.info().capability.receive);
    let error = deaf.receive(&callback(TOKENS[0], body)).await.unwrap_err();
    assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Config, 503));
}
