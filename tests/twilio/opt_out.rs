//! Opt-outs, by Twilio's report and by keyword.

use super::*;

#[tokio::test]
async fn opt_out_is_reported_once() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (change, opt_outs) in [
        (&[("Body", "STOP"), ("OptOutType", "STOP")][..], &[false][..]),
        (&[("Body", "STOP")], &[false]),
        (&[("Body", "leave me"), ("OptOutType", "STOP")], &[false]),
        (&[("Body", "YES"), ("OptOutType", "START")], &[true]),
        (&[("Body", "HELP"), ("OptOutType", "HELP")], &[]),
        (&[("Body", "Please stop the noise")], &[]),
        // Keywords on which Twilio blocks the person.
        (&[("Body", "END")], &[false]),
        (&[("Body", "Quit.")], &[false]),
        (&[("Body", "cancel")], &[false]),
        (&[("Body", "REVOKE")], &[false]),
        (&[("Body", "UNSTOP")], &[true]),
        (&[("Body", "YES")], &[]),
        (&[("Body", "cancel my appointment")], &[]),
        (&[("Body", "INFO"), ("OptOutType", "HELP")], &[]),
    ] {
        let received = received(&sms, &inbound(change)).await;
        assert!(received.events[0].as_inbound().is_some());
        let seen = received.events.iter().skip(1).map(|event| match event {
            Event::OptOut(o) => {
                assert_eq!(
                    (o.scope, &o.from, o.inbound.as_ref().unwrap().as_str()),
                    (OptOutScope::All, &resident(), SID)
                );
                o.resume
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), opt_outs, "{change:?}");
    }
}

#[tokio::test]
async fn default_keyword_of_sms_is_a_message_on_whatsapp() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (body, opt_outs) in [("END", 0), ("cancel", 0), ("STOP", 1)] {
        let from = [("Body", body), ("From", "whatsapp:+447700900123"), ("To", "whatsapp:+447700900456")];
        let received = received(&sms, &inbound(&from)).await;
        assert_eq!((received.events.len(), received.answerable().count()), (1 + opt_outs, 1 - opt_outs), "{body}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/opt_out_phrases.json");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for word in file["opt_out_only_where_the_gateway_acts_on_it"]["twilio"].as_array().unwrap() {
        let received = received(&sms, &inbound(&[("Body", word.as_str().unwrap())])).await;
        assert_eq!(
            (received.events.len(), received.answerable().count()),
            (2, 0),
            "Twilio has blocked the person: {word}"
        );
    }
    let button = [("Body", "Cancel"), ("ButtonText", "Cancel"), ("ButtonPayload", "stop")];
    let button = received(&sms, &inbound(&button)).await;
    assert_eq!((button.events.len(), button.answerable().count()), (1, 1));
}

#[tokio::test]
async fn stop_beside_a_location_is_an_opt_out() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let place = [("Latitude", "52.7077"), ("Longitude", "-2.7541"), ("Label", "Depot")];
    let wa = [("From", "whatsapp:+447700900123"), ("To", "whatsapp:+447700900456")];
    for (channel, side) in [(&sms, &[][..]), (&whatsapp, &wa)] {
        let events = received(channel, &inbound(&[&place[..], side, &[("Body", "STOP")]].concat())).await.events;
        let texts: Vec<_> = events.iter().filter_map(Event::as_inbound).map(|inbound| inbound.text()).collect();
        assert_eq!(texts, [Some("STOP"), None], "{events:?}");
        let places = events.iter().filter_map(Event::as_inbound);
        assert_eq!(places.filter(|i| matches!(i.content, InboundContent::Location(_))).count(), 1, "{events:?}");
        assert_eq!(events.iter().filter(|event| matches!(event, Event::OptOut(_))).count(), 1, "{events:?}");
        let ids: std::collections::BTreeSet<_> = events.iter().map(Event::id).collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
    }
    for body in ["", "Depot"] {
        let event = one(&whatsapp, &inbound(&[&place[..], &wa, &[("Body", body)]].concat())).await;
        assert!(matches!(event.as_inbound().unwrap().content, InboundContent::Location(_)), "{body}");
    }
}

#[tokio::test]
async fn stop_without_a_sid_has_a_stable_id() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let stop = [("AccountSid", ACCOUNT), ("From", THEIRS), ("To", OURS), ("Body", "STOP")];
    let first = received(&sms, &stop).await.events;
    let [Event::Inbound(message), Event::OptOut(opt_out)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((message.text(), &opt_out.from), (Some("STOP"), &resident()));
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&received(&sms, &stop).await.events));
    let other = [("AccountSid", ACCOUNT), ("From", OURS), ("To", OURS), ("Body", "STOP")];
    assert_ne!(ids(&first), ids(&received(&sms, &other).await.events));
    let call = [("AccountSid", ACCOUNT), ("From", THEIRS), ("To", OURS), ("CallSid", "CA1")];
    assert!(matches!(one(&sms, &call).await, Event::Unrecognised(_)));
}

#[tokio::test]
async fn opt_out_type_and_prefixes_ignore_case() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (kind, resume) in [("stop", false), ("Stop", false), ("start", true)] {
        let events = received(&sms, &inbound(&[("OptOutType", kind), ("Body", "Halt")])).await.events;
        let [_, Event::OptOut(opt_out)] = events.as_slice() else { panic!("{kind} {events:?}") };
        assert_eq!(opt_out.resume, resume, "{kind}");
    }
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    for (channel, from, to, medium) in [
        (&sms, "RCS:+447700900123", "RCS:agent", "rcs"),
        (&whatsapp, "WhatsApp:+447700900123", "WHATSAPP:+447700900456", "whatsapp"),
    ] {
        let event = one(channel, &inbound(&[("From", from), ("To", to)])).await;
        let message = event.as_inbound().unwrap();
        assert_eq!((message.envelope.medium.as_str(), message.envelope.account.as_str()), (medium, OURS));
        assert!(message.from.same_person(&resident()), "{from}");
    }
}
