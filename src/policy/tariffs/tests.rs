use super::*;
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::info::Info;
use crate::model::message::{Message, Purpose, Template};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn price(query: &PriceQuery<'_>) -> Option<String> {
    Tariffs::standard().unwrap().price(query).map(|price| price.to_string())
}

#[test]
fn bundled_tariffs_say_how_sure_they_are() {
    let tariffs = Tariffs::standard().unwrap();
    assert_eq!(tariffs.files.len(), STANDARD.len());
    for tariff in tariffs.iter() {
        assert!(tariff.source.len() > 20 && tariff.as_of >= tariff.from, "{tariff:?}");
        let is_remembered = tariff.source.contains("remembered");
        assert_eq!(tariff.confidence == Confidence::Unverified, is_remembered, "{tariff:?}");
    }
    for gateway in ["meta", "notify", "twilio", "x"] {
        assert!(tariffs.iter().any(|tariff| tariff.gateway == gateway), "{gateway}");
    }
}

#[test]
fn free_texts_of_notify_are_counted_before_the_price() {
    let text = PriceQuery::new("notify", &Medium::Sms, at("2026-12-01T09:00:00Z")).country("447700900123");
    for (units, used, expected) in [
        (1, 0, "0.000000 GBP"),
        (6, 9_994, "0.000000 GBP"),
        (3, 9_999, "0.048000 GBP"),
        (1, 10_000, "0.024000 GBP"),
        // 5,000 reminders of two segments, after 8,000 of the 10,000 free segments.
        (10_000, 8_000, "192.000000 GBP"),
        (1, u64::MAX, "0.024000 GBP"),
    ] {
        assert_eq!(price(&text.units(units).used(used)).as_deref(), Some(expected), "{units} after {used}");
    }
    assert_eq!(price(&text.country("353861234567")), None, "no figure was read for other countries");
    assert_eq!(price(&PriceQuery::new("notify", &Medium::Sms, at("2026-12-01T09:00:00Z"))), None);
    let huge = Tariffs::standard().unwrap().price(&text.units(u64::MAX).used(u64::MAX)).unwrap();
    assert_eq!(huge.micros(), i64::MAX);
}

#[test]
fn whatsapp_replies_are_charged_from_october_2026() {
    let info = Info::new("meta", Medium::WhatsApp, "1");
    let to = Address::whatsapp("07700 900123").unwrap();
    let reply = Message::text(to.clone(), "On Tuesday.").purpose(Purpose::Reply);
    let template = Message::template(to, Template::new("bin_day"));
    let before = at("2026-09-30T22:59:59Z"); // 23:59:59 in British Summer Time
    let after = at("2026-09-30T23:00:00Z");
    for (message, when, in_window, used, micros) in [
        (&reply, before, true, 5_000, 0),
        (&reply, after, true, 999, 0),
        (&reply, after, true, 1_000, 22_000),
        (&template, before, true, 0, 0),
        (&template, before, false, 0, 22_000),
        (&template, after, true, 0, 22_000),
        (&template, after, false, 0, 22_000),
    ] {
        let query = PriceQuery::from_message(message, &info, when).in_window(in_window).used(used);
        let tariffs = Tariffs::standard().unwrap();
        assert_eq!(tariffs.price(&query).unwrap().micros(), micros, "{query:?}");
        let is_sure = tariffs.find(&query).unwrap().confidence == Confidence::Primary;
        assert_eq!(is_sure, micros == 0 && when == before, "{query:?}");
    }
    let marketing = template.clone().purpose(Purpose::Marketing);
    assert_eq!(price(&PriceQuery::from_message(&marketing, &info, after)).as_deref(), Some("0.052900 USD"));
}

#[test]
fn country_of_a_user_id_is_its_prefix() {
    let info = Info::new("meta", Medium::WhatsApp, "1");
    for (id, country) in [("GB.13491208655302741918", Some("44")), ("US.13491208655302741918", None)] {
        let message = Message::text(Address::whatsapp(id).unwrap(), "Hello");
        assert_eq!(PriceQuery::from_message(&message, &info, Timestamp::default()).country, country, "{id}");
    }
}

#[test]
fn x_charges_both_directions() {
    let query = PriceQuery::new("x", &Medium::X, at("2026-12-01T09:00:00Z"));
    assert_eq!(price(&query).as_deref(), Some("0.015000 USD"));
    assert_eq!(price(&query.direction(Direction::Inbound).units(8)).as_deref(), Some("0.080000 USD"));
    assert_eq!(price(&PriceQuery { at: at("2026-08-27T09:00:00Z"), ..query }), None);
}

fn row(change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
    let mut row = serde_json::json!({
        "gateway": "twilio", "medium": "sms", "country": "44", "from": "2026-01-01", "per": "segment",
        "micros": 31_000, "currency": "GBP", "source": "contract", "as_of": "2026-01-01", "confidence": "primary"
    });
    change(&mut row);
    row
}

#[test]
fn later_file_and_longer_country_take_precedence() {
    let file = |rows: Vec<serde_json::Value>| serde_json::json!({ "tariffs": rows }).to_string();
    let jersey = row(|row| {
        row["country"] = "447797".into();
        row["micros"] = 90_000.into();
    });
    let first = Tariffs::new().with_json(&file(vec![row(|_| ()), jersey])).unwrap();
    let second = first.clone().with_json(&file(vec![row(|row| row["micros"] = 29_000.into())])).unwrap();
    let micros = |tariffs: &Tariffs, digits: &str| {
        let query = PriceQuery::new("twilio", &Medium::Sms, at("2026-12-01T09:00:00Z")).country(digits);
        tariffs.price(&query).map(|price| price.micros())
    };
    assert_eq!(micros(&first, "447700900123"), Some(31_000));
    assert_eq!(micros(&first, "447797712345"), Some(90_000));
    assert_eq!(micros(&second, "447797712345"), Some(29_000));
    assert_eq!(micros(&second, "12025550123"), None);
}

#[test]
fn invalid_tariff_names_its_field() {
    type Change = fn(&mut serde_json::Value);
    let table: [(Change, &str, &str); 8] = [
        (|row| row["micros"] = (-1).into(), "tariffs[1]", "micros: must not be negative"),
        (|row| row["micros"] = 0.5.into(), "tariffs[1].micros", "invalid type"),
        (|row| row["until"] = "2026-01-01".into(), "tariffs[1]", "until: must be after"),
        (|row| row["country"] = "+44".into(), "tariffs[1]", "country: must be a calling code"),
        (|row| row["currency"] = "pound".into(), "tariffs[1].currency", "three letters"),
        (|row| row["source"] = " ".into(), "tariffs[1]", "source: is empty"),
        (|row| row["prize"] = 1.into(), "tariffs[1].prize", "unknown field"),
        (|row| row["country"] = "44".into(), "tariffs[1].from", "tariffs[0] applies"),
    ];
    for (change, field, rule) in table {
        let second = row(|row| {
            row["country"] = "353".into();
            change(row);
        });
        let json = serde_json::json!({ "tariffs": [row(|_| ()), second] }).to_string();
        let error = Tariffs::new().with_json(&json).unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
        assert!(error.to_string().contains(rule), "{error}");
    }
}
