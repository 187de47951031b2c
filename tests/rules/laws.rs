//! Laws that hold for every value: delivery ladder, serde, masking, phone numbers.

use civic_messaging::address::{Phone, SenderName, ShortCode, WhatsAppUser, XUser};
use civic_messaging::event::{Envelope, Failure, InboundContent, OptOut, OptOutScope, Profile, Raw, Selection};
use civic_messaging::media::Digest;
use civic_messaging::message::{
    Choice, ContactCard, Degradation, InfoRequest, LabelledValue, Link, Location, Media, MediaRef, MediaSource, Native,
    Reaction, Row, Template, TemplateButton, TemplateHeader,
};
use civic_messaging::{
    Address, ChannelExt, Content, Delivery, DeliveryState, Error, ErrorKind, Event, Inbound, Medium, Message,
    MessageId, Mock, Purpose, Secret, Timestamp, webhook,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LADDER: [DeliveryState; 10] = [
    DeliveryState::Unrecognised,
    DeliveryState::Accepted,
    DeliveryState::Sending,
    DeliveryState::Sent,
    DeliveryState::Cancelled,
    DeliveryState::Expired,
    DeliveryState::Failed,
    DeliveryState::Delivered,
    DeliveryState::Read,
    DeliveryState::Played,
];

#[test]
fn delivery_states_are_in_ladder_order() {
    assert!(LADDER.is_sorted_by(|a, b| a < b));
}

proptest! {
    #[test]
    fn statuses_in_any_order_converge_and_never_go_back(
        statuses in vec(0..LADDER.len(), 1..=7),
        order in vec(any::<u32>(), 14),
    ) {
        let statuses: Vec<_> = statuses.iter().map(|n| LADDER[*n]).collect();
        let highest = statuses.iter().copied().max().unwrap();
        // Every status at least once, some twice, in random order.
        let mut shuffled: Vec<_> = statuses.iter().chain(&statuses).copied().zip(&order).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let mut state = DeliveryState::Unrecognised;
        for (status, _) in shuffled {
            let next = state.join(status);
            prop_assert!(next >= state);
            prop_assert_eq!(next, status.join(state));
            prop_assert_eq!(next.join(status), next);
            state = next;
        }
        prop_assert_eq!(state, highest);
    }

    #[test]
    fn message_round_trips_through_serde(message in message()) {
        let json = serde_json::to_string(&message).unwrap();
        let stored: Message = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&stored, &message);
        prop_assert_eq!(serde_json::to_string(&stored).unwrap(), json);
    }

    #[test]
    fn message_debug_masks_text_and_recipient(message in message()) {
        let shown = format!("{message:?} {message:#?} {:?}", Mock::whatsapp().plan(&message));
        prop_assert!(!shown.contains("canary"), "{}", shown);
        prop_assert!(!shown.contains(message.to.expose()), "{}", shown);
    }

    #[test]
    fn error_masks_the_offending_value(text in "canary[a-z]{0,6000}", number in "\\+447[0-9]{9}") {
        let to = Address::from(Phone::from_digits(&number).unwrap());
        for channel in [Mock::sms(), Mock::whatsapp(), Mock::x()] {
            let messages = [
                Message::text(to.clone(), text.clone()),
                Message::media(to.clone(), [Media::sticker(text.as_str()).caption(text.as_str())]),
                Message::new(to.clone(), Choice::buttons(text.as_str()).option(text.as_str(), text.as_str())),
                Message::template(to.clone(), Template::new(text.as_str()).parameter("a\nb").named("c", text.as_str())),
            ];
            for message in messages {
                for problem in channel.plan(&message).problems() {
                    let shown = format!("{problem} {problem:?} {problem:#?}");
                    prop_assert!(!shown.contains("canary") && !shown.contains(&number), "{}", shown);
                }
            }
        }
    }

    #[test]
    fn numbers_handles_and_ids_are_masked(
        digits in "7[0-9]{9}", id in "[1-9][0-9]{8,18}", handle in "[a-zA-Z][a-zA-Z0-9]{10,14}", wamid in "wamid\\.[A-Za-z0-9]{10,60}",
        user_id in "[A-Z]{2}\\.[A-Za-z0-9]{12,30}", code in "[1-9][0-9]{4,7}", token in "[!-~]{8,60}",
    ) {
        let phone = Phone::from_digits(&format!("+44{digits}")).unwrap();
        let user = WhatsAppUser::new(Some(phone.clone()), Some(&user_id)).unwrap();
        let x = XUser::new(&id).unwrap().with_handle(&handle);
        let secret = Secret::new(token.clone()).unwrap();
        let addresses = [
            Address::from(phone.clone()),
            Address::from(user.clone()),
            Address::from(x.clone()),
            Address::messenger(&id).unwrap(),
            Address::ShortCode(ShortCode::new(&code).unwrap()),
            Address::conversation(Medium::X, &format!("{id}-{id}")).unwrap(),
            Address::other(Medium::other("rcs").unwrap(), &handle).unwrap(),
            Address::SenderName(SenderName::new(&handle[..8]).unwrap()),
        ];
        let mut shown = format!("{phone:?} {phone} {user:?} {x:?} {secret:?}");
        for address in &addresses {
            shown.push_str(&format!(" {address} {address:?} {address:#?}"));
            shown.push_str(&format!(" {:?} {}", address.fingerprint(&secret), address.fingerprint(&secret)));
        }
        let message_id = MessageId::new(wamid.as_str());
        shown.push_str(&format!(" {message_id} {message_id:?}"));
        shown.push_str(&format!(" {:?}", events(&addresses[0], &wamid, &handle)));
        let request = http::Request::post(format!("/hook?token={id}")).body(token.clone()).unwrap();
        shown.push_str(&format!(" {:?}", webhook::Request::from(request)));
        for wrong in [&token, &handle, &user_id, &wamid] {
            for error in [Phone::new(wrong).err(), XUser::new(wrong).err(), Address::phone(wrong).err()].into_iter().flatten() {
                shown.push_str(&format!(" {error} {error:?}"));
            }
        }
        for personal in [&digits, &id, &handle, &wamid, &user_id, &code] {
            prop_assert!(!shown.contains(personal.as_str()), "{} in {}", personal, shown);
        }
    }

    #[test]
    fn phone_parses_alike_in_every_spelling(national in "7[1-58][0-9]{8}", gap in 1..9usize) {
        let expected = format!("+44{national}");
        let (head, tail) = national.split_at(gap);
        for spelling in [
            format!("0{national}"), format!("+44{national}"), format!("0044{national}"), format!("44{national}"),
            format!("+44 (0){head} {tail}"), format!("0{head}-{tail}"), format!("(0{head}) {tail}"),
        ] {
            let phone = Phone::new(&spelling).unwrap();
            prop_assert_eq!(phone.as_str(), expected.as_str());
        }
    }

    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        let _ = (Phone::new(&text), Address::whatsapp(&text), Address::x(&text), text.parse::<Digest>());
        let _ = (Medium::other(&text), text.parse::<Timestamp>(), civic_messaging::message::Money::parse(&text, &text));
        let _ = (text.parse::<civic_messaging::address::Sender>(), text.parse::<civic_messaging::transport::BaseUrl>());
        let _ = civic_messaging::adapter::retry_after(&text, Timestamp::default());
    }
}

/// Compares the spellings of the fixture with libphonenumber's results.
#[test]
fn phone_numbers_agree_with_libphonenumber() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/phone_numbers.json");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let accepted = case["valid"] == true || case["ofcom_fictional_mobile"] == true;
        let parsed = Phone::new(case["input"].as_str().unwrap());
        assert_eq!(parsed.is_ok(), accepted, "{}", case["input"]);
        let phone = parsed.or_else(|_| Phone::from_digits(case["e164"].as_str().unwrap())).unwrap();
        assert_eq!(phone.as_str(), case["e164"].as_str().unwrap());
        let drama = phone.as_str().strip_prefix("+447700900").is_some_and(|rest| rest.len() == 3);
        assert_eq!(drama, case["ofcom_fictional_mobile"].as_bool().unwrap());
        if let "MOBILE" | "FIXED_LINE" = case["type"].as_str().unwrap() {
            assert_eq!(phone.is_uk_mobile(), case["type"] == "MOBILE", "{}", case["input"]);
        }
    }
}

fn events(from: &Address, id: &str, handle: &str) -> Vec<Event> {
    let raw = Raw::new(format!("canary {id} {handle}"));
    let envelope = Envelope::new("test", Medium::Sms, "desk".into(), Timestamp::default(), raw);
    let mut inbound = Inbound::new(envelope.clone(), id, from.clone(), InboundContent::Text(handle.into()));
    inbound.profile = Profile { name: Some(handle.into()), handle: Some(handle.into()) };
    let chosen = InboundContent::Selection(Selection { id: handle.into(), title: handle.into() });
    let mut delivery = Delivery::new(envelope.clone(), id, DeliveryState::Failed, "failed");
    delivery.recipient = Some(from.clone());
    delivery.failure = Some(Failure::new(ErrorKind::Rejected).detail(Some(handle.into())));
    vec![
        inbound.clone().into(),
        Inbound::new(envelope.clone(), id, from.clone(), chosen).into(),
        delivery.into(),
        OptOut::new(envelope, from.clone(), OptOutScope::All).into(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    "canary[ -~àŵ€😀\n]{0,40}"
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        "7[0-9]{9}".prop_map(|n| Phone::from_digits(&format!("44{n}")).unwrap().into()),
        "GB\\.[A-Za-z0-9]{12,40}".prop_map(|id| Address::whatsapp(&id).unwrap()),
        ("[1-9][0-9]{10,18}", "[a-z]{1,15}").prop_map(|(id, h)| XUser::new(&id).unwrap().with_handle(&h).into()),
        "[0-9]{9,64}".prop_map(|id| Address::messenger(&id).unwrap()),
        "[!-~]{12,60}".prop_map(|id| Address::conversation(Medium::WhatsApp, &id).unwrap()),
        "[!-~]{12,60}".prop_map(|id| Address::other(Medium::other("rcs").unwrap(), &id).unwrap()),
    ]
}

fn media() -> impl Strategy<Value = Media> {
    let source = prop_oneof![
        text().prop_map(MediaSource::Link),
        text().prop_map(|id| MediaSource::from(MediaRef::new("meta", id))),
        (any::<[u8; 32]>(), any::<u64>()).prop_map(|(hash, len)| MediaSource::Stored {
            sha256: Digest::new(hash),
            len,
            mime: "image/png".into()
        }),
    ];
    (source, text(), any::<bool>()).prop_map(|(source, caption, more)| match more {
        true => Media::document(source).caption(caption.clone()).description(caption.clone()).filename(caption),
        false => Media::audio(source).voice(),
    })
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        text().prop_map(Content::Text),
        vec(media(), 0..4).prop_map(Content::Media),
        (-90.0..90.0, -180.0..180.0, text()).prop_map(|(n, e, name)| Location::new(n, e).name(name).into()),
        (text(), text(), media()).prop_map(|(a, b, m)| Template::new("bin_day")
            .language("en_GB")
            .named(a, b.clone())
            .header(m)
            .button(TemplateButton::QuickReply { index: 1, payload: b })
            .native("twilio", "HX1")
            .into()),
        (text(), text()).prop_map(|(a, b)| Choice::list(a.clone(), b.clone())
            .section(a.clone(), [Row::new(b.clone(), a).description(b.clone())])
            .header(TemplateHeader::Text(b.clone()))
            .footer(b)
            .into()),
        (text(), text()).prop_map(|(a, b)| Link::new(a.clone(), b, a).into()),
        text().prop_map(|a| InfoRequest::contact(a).into()),
        (text(), text()).prop_map(|(a, b)| Reaction::new(a, b).into()),
        (text(), text()).prop_map(|(a, b)| {
            let mut card = ContactCard::new(a.clone()).phone(b.clone(), "WORK").email(a, "HOME").first_name(b.clone());
            card.urls.push(LabelledValue { value: b, label: None });
            card.into()
        }),
        text().prop_map(|a| Native::new("meta", &serde_json::json!({ "type": a })).unwrap().into()),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let purpose =
        prop_oneof![Just(Purpose::Reply), Just(Purpose::Notice), Just(Purpose::Emergency), Just(Purpose::Marketing)];
    let extras = (purpose, any::<bool>(), any::<i64>(), "wamid\\.[a-z0-9]{12}");
    (address(), content(), extras).prop_map(|(to, content, (purpose, more, at, quoted))| {
        let message = Message::new(to, content).purpose(purpose);
        if !more {
            return message;
        }
        message
            .key("case-1")
            .reply_to(quoted)
            .language("cy")
            .tag("waste")
            .not_after(Timestamp::from_millis(at))
            .allow(Degradation::Typography)
            .allow(Degradation::DropQuote)
    })
}

#[test]
fn gateway_reply_is_kept_but_masked() {
    let error = Error::new(ErrorKind::Rejected, "the gateway refused").with_raw("canary".into());
    assert_eq!(error.raw().unwrap(), "canary");
    assert!(!format!("{error} {error:?}").contains("canary"));
}
