//! Messages from people.

use super::*;

#[tokio::test]
async fn inbound_text_is_an_event() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let received = received(&sms, INBOUND).await;
    assert_eq!((received.response.status.as_u16(), received.response.content_type), (200, Some("text/xml")));
    assert_eq!(received.response.body, r#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#);
    assert_eq!((received.events.len(), received.discarded_events()), (1, 0));
    let event = &received.events[0];
    let inbound = event.as_inbound().unwrap();
    assert_eq!((inbound.id.as_str(), &inbound.from, inbound.text()), (SID, &resident(), Some("Hello ŵ 😀 & more")));
    assert_eq!(
        (inbound.echo, inbound.forwarded, inbound.reply_to.is_none(), inbound.media().len()),
        (false, false, true, 0)
    );
    let envelope = event.envelope();
    assert_eq!((&envelope.medium, envelope.account.as_str(), envelope.at), (&Medium::Sms, OURS, NOON));
    assert_eq!(event.id(), format!("twilio/{OURS}/inbound/{SID}"));
    assert!(envelope.raw.as_bytes().starts_with(b"ToCountry=GB&"));
    assert!(!format!("{received:?}").contains("900123"));
}

#[tokio::test]
async fn inbound_content_has_its_type() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let read = async |change: &[(&str, &str)]| {
        let event = one(&sms, &inbound(change)).await;
        event.as_inbound().unwrap().clone()
    };
    let url = |n| format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media/ME{n}");
    let (first, second) = (url(1), url(2));
    let files = [
        ("NumMedia", "2"),
        ("Body", ""),
        ("MediaUrl0", &first),
        ("MediaContentType0", "image/jpeg"),
        ("MediaUrl1", &second),
    ];
    let message = read(&files).await;
    let [a, b] = message.media() else { panic!("{message:?}") };
    assert_eq!((a.gateway.as_str(), a.id.as_str(), a.mime.as_deref()), ("twilio", "ME1", Some("image/jpeg")));
    assert_eq!((a.url.as_deref(), b.id.as_str(), b.mime.as_deref()), (Some(&*first), "ME2", None));
    assert_eq!(message.text(), None);
    let wa = [
        ("From", "whatsapp:+447700900123"),
        ("To", "whatsapp:+447700900456"),
        ("WaId", "447700900123"),
        ("ProfileName", "Sam"),
    ];
    let message = read(&[&wa[..], &[("NumMedia", "1"), ("MediaUrl0", &first), ("Body", "Look")]].concat()).await;
    assert_eq!((message.text(), message.media().len()), (Some("Look"), 1));
    assert_eq!(message.from, Address::whatsapp(THEIRS).unwrap());
    assert_eq!((message.profile.name.as_deref(), &message.envelope.medium), (Some("Sam"), &Medium::WhatsApp));
    assert_eq!(message.envelope.account.as_str(), OURS);
    let chosen = read(&[&wa[..], &[("Body", "Yes"), ("ButtonText", "Yes"), ("ButtonPayload", "yes-1")]].concat()).await;
    assert!(matches!(&chosen.content, InboundContent::Selection(c) if (&*c.id, &*c.title) == ("yes-1", "Yes")));
    let chosen = read(&[&wa[..], &[("ButtonText", "Yes")]].concat()).await;
    assert!(matches!(&chosen.content, InboundContent::Selection(c) if c.id == "Yes"));
    let place = [
        ("Latitude", "52.7077"),
        ("Longitude", "-2.7541"),
        ("Label", "Depot"),
        ("Address", "Mill Lane 1"),
        ("Body", ""),
    ];
    let place = read(&[&wa[..], &place].concat()).await;
    let depot = Location::new(52.7077, -2.7541).name("Depot").address("Mill Lane 1");
    assert_eq!(place.content, InboundContent::Location(depot));
    let nowhere = read(&[&wa[..], &[("Latitude", "NaN"), ("Longitude", "north")]].concat()).await;
    assert!(matches!(nowhere.content, InboundContent::Text(_)));
    let quoted = read(&[&wa[..], &[("OriginalRepliedMessageSid", "SM2"), ("Forwarded", "true")]].concat()).await;
    assert_eq!((quoted.reply_to, quoted.forwarded), (Some(MessageId::new("SM2")), true));
    let odd = read(&[&wa[..], &[("MessageType", "order"), ("Body", "")]].concat()).await;
    assert_eq!(odd.content, InboundContent::unsupported(Some("order")));
    assert_eq!(read(&[("Body", ""), ("MessageType", "text")]).await.content, InboundContent::Text(String::new()));
    assert_eq!(read(&[("NumMedia", "4000000000")]).await.text(), Some("Hello ŵ 😀 & more"));
}

#[tokio::test]
async fn senders_are_phones_codes_and_names() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (from, fits_sms) in [(THEIRS, true), ("60777", true), ("GOVUK", false)] {
        let event = one(&sms, &inbound(&[("From", from)])).await;
        let who = &event.as_inbound().unwrap().from;
        assert_eq!((who.expose(), who.fits(&Medium::Sms)), (from, fits_sms));
    }
    let hidden = [("From", "whatsapp:GB.13491208655302741918"), ("WaId", "GB.13491208655302741918")];
    let event = one(&sms, &inbound(&hidden)).await;
    assert_eq!(event.as_inbound().unwrap().from, Address::whatsapp("GB.13491208655302741918").unwrap());
}

#[tokio::test]
async fn list_answer_keeps_its_id() {
    let events = case("whatsapp", include_str!("../fixtures/cases/twilio/list_reply.json")).await;
    let [Event::Inbound(inbound)] = events.as_slice() else { panic!("{events:?}") };
    let InboundContent::Selection(chosen) = &inbound.content else { panic!("{inbound:?}") };
    assert_eq!((chosen.id.as_str(), chosen.title.as_str()), ("bins", "My bins"));
}

#[tokio::test]
async fn interactive_replies_are_read_despite_missing_fields() {
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    for (change, id, title) in [
        (&[("ListId", "bins"), ("ListTitle", "My bins")][..], "bins", "My bins"),
        (&[("ListId", "bins")], "bins", "Hello ŵ 😀 & more"),
        (&[("ListId", "bins"), ("Body", "")], "bins", "bins"),
        (&[("ListTitle", "My bins")], "My bins", "My bins"),
        (&[("ButtonPayload", "yes"), ("ButtonText", "Yes")], "yes", "Yes"),
        (&[("ButtonPayload", "yes"), ("Body", "Yes, please")], "yes", "Yes, please"),
        (&[("ButtonText", "Yes"), ("ButtonPayload", ""), ("NumMedia", "")], "Yes", "Yes"),
    ] {
        let whatsapp_from = [&[("From", "whatsapp:+447700900123")][..], change].concat();
        let event = one(&whatsapp, &inbound(&whatsapp_from)).await;
        let InboundContent::Selection(chosen) = &event.as_inbound().unwrap().content else { panic!("{change:?}") };
        assert_eq!((chosen.id.as_str(), chosen.title.as_str()), (id, title), "{change:?}");
    }
    let filled = [("MessageType", "interactive"), ("Body", ""), ("InteractiveData", r#"{"day":"Tuesday"}"#)];
    let event = one(&whatsapp, &inbound(&filled)).await;
    assert_eq!(event.as_inbound().unwrap().content, InboundContent::Form(r#"{"day":"Tuesday"}"#.into()));
}

#[tokio::test]
async fn media_are_read_regardless_of_num_media() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let (one_url, two_url) = ("https://api.twilio.com/1/Media/ME1", "https://api.twilio.com/1/Media/ME2");
    let urls = |n: usize| -> Vec<(String, String)> {
        (0..n).map(|n| (format!("MediaUrl{n}"), format!("https://api.twilio.com/1/Media/ME{n}"))).collect()
    };
    for (change, files) in [
        (&[("MediaUrl0", one_url), ("MediaContentType0", "image/jpeg")][..], 1),
        (&[("MediaUrl0", one_url), ("NumMedia", "0")], 1),
        (&[("MediaUrl0", one_url), ("NumMedia", "x")], 1),
        (&[("MediaUrl0", one_url), ("MediaUrl1", two_url), ("NumMedia", "1")], 2),
        (&[("MediaUrl0", ""), ("MediaUrl1", two_url), ("NumMedia", "2")], 1),
        (&[("MediaUrl3", two_url), ("NumMedia", "1")], 1),
    ] {
        let bare = INBOUND.iter().copied().filter(|(name, _)| *name != "NumMedia");
        let event = one(&sms, &bare.chain(change.iter().copied()).collect::<Vec<_>>()).await;
        let InboundContent::Media { text, media } = &event.as_inbound().unwrap().content else { panic!("{change:?}") };
        assert_eq!((media.len(), text.as_deref()), (files, Some("Hello ŵ 😀 & more")), "{change:?}");
    }
    let many = urls(12);
    let many: Vec<_> = many.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    let event = one(&sms, &inbound(&many)).await;
    assert_eq!(event.as_inbound().unwrap().media().len(), 12);
}

#[tokio::test]
async fn person_on_whatsapp_has_number_and_user_id() {
    let events = case("whatsapp", include_str!("../fixtures/cases/twilio/external_user_id.json")).await;
    let [Event::Inbound(inbound), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{events:?}") };
    for from in [&inbound.from, &opt_out.from] {
        let Address::WhatsApp(user) = from else { panic!("{from:?}") };
        let phone = user.phone().map(|phone| phone.as_str());
        assert_eq!((phone, user.user_id()), (Some("+447700900123"), Some("GB.1349")));
        for other in ["+447700900123", "GB.1349"] {
            assert!(from.same_person(&Address::whatsapp(other).unwrap()), "{other}");
        }
    }
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let status = [
        ("MessageSid", SID),
        ("MessageStatus", "read"),
        ("AccountSid", ACCOUNT),
        ("From", "whatsapp:+447700900456"),
        ("To", "whatsapp:+447700900123"),
        ("ExternalUserId", "whatsapp:GB.1349"),
    ];
    let event = one(&whatsapp, &status).await;
    let Some(Address::WhatsApp(user)) = &event.as_delivery().unwrap().recipient else { panic!("{event:?}") };
    assert_eq!((user.phone().is_some(), user.user_id()), (true, Some("GB.1349")));
}

#[tokio::test]
async fn rcs_sender_is_the_person_of_the_number() {
    let rcs = Medium::other("rcs").unwrap();
    let events = case("sms", include_str!("../fixtures/cases/twilio/rcs_stop.json")).await;
    let [Event::Inbound(inbound), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((inbound.text(), &inbound.from, &opt_out.from), (Some("STOP"), &resident(), &resident()));
    assert_eq!((&inbound.envelope.medium, &opt_out.envelope.medium), (&rcs, &rcs));
    assert_eq!(inbound.envelope.account.as_str(), OURS);
    assert!(inbound.from.same_person(&resident()) && inbound.reply_address().fits(&Medium::Sms));

    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let event = one(&sms, &inbound_of_rcs()).await;
    assert_eq!((event.envelope().account.as_str(), event.as_inbound().unwrap().text()), (OURS, Some("Hello")));
    let status = [
        ("MessageSid", SID),
        ("MessageStatus", "read"),
        ("AccountSid", ACCOUNT),
        ("From", "rcs:shropshire_agent"),
        ("To", "rcs:+447700900123"),
    ];
    let event = one(&sms, &status).await;
    let delivery = event.as_delivery().unwrap();
    assert_eq!((delivery.state, &delivery.recipient), (DeliveryState::Read, &Some(resident())));
    assert_eq!((&event.envelope().medium, event.envelope().account.as_str()), (&rcs, OURS));
}

/// A message to an RCS agent that is an alias of our number.
fn inbound_of_rcs() -> [(&'static str, &'static str); 5] {
    [
        ("MessageSid", SID),
        ("AccountSid", ACCOUNT),
        ("From", "rcs:+447700900123"),
        ("To", "rcs:shropshire_agent"),
        ("Body", "Hello"),
    ]
}

#[tokio::test]
async fn sender_without_from_is_read() {
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let bare = [("MessageSid", SID), ("AccountSid", ACCOUNT), ("To", "whatsapp:+447700900456"), ("Body", "stop")];
    for (name, value, expected) in [
        ("WaId", "447700900123", THEIRS),
        ("WaId", "GB.1349", "GB.1349"),
        ("ExternalUserId", "whatsapp:GB.1349", "GB.1349"),
        ("ExternalUserId", "WhatsApp:GB.1349", "GB.1349"),
    ] {
        for from in [&[][..], &[("From", "")]] {
            let events = received(&whatsapp, &[&bare[..], from, &[(name, value)]].concat()).await.events;
            let [Event::Inbound(message), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{events:?}") };
            let expected = Address::whatsapp(expected).unwrap();
            assert_eq!((&message.from, &opt_out.from), (&expected, &expected), "{name}");
        }
    }
    assert!(matches!(one(&whatsapp, &bare).await, Event::Unrecognised(_)));
}

#[tokio::test]
async fn referral_of_an_advertisement_is_kept() {
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let wa = [("From", "whatsapp:+447700900123"), ("To", "whatsapp:+447700900456")];
    let referral = [
        ("ReferralSourceType", "ad"),
        ("ReferralSourceId", "120000000000001"),
        ("ReferralSourceUrl", "https://fb.me/1"),
        ("ReferralHeadline", "Recycle more"),
        ("ReferralBody", "Ask us about bins"),
    ];
    let event = one(&whatsapp, &inbound(&[&wa[..], &referral].concat())).await;
    let referral = event.as_inbound().unwrap().referral.as_deref().unwrap();
    assert_eq!((referral.source.as_deref(), referral.id.as_deref()), (Some("ad"), Some("120000000000001")));
    assert_eq!((referral.url.as_deref(), referral.text.as_deref()), (Some("https://fb.me/1"), Some("Recycle more")));
    let event = one(&whatsapp, &inbound(&[&wa[..], &[("ReferralBody", "Ask us")]].concat())).await;
    assert_eq!(event.as_inbound().unwrap().referral.as_deref().unwrap().text.as_deref(), Some("Ask us"));
    assert_eq!(one(&whatsapp, &inbound(&wa)).await.as_inbound().unwrap().referral, None);
}
