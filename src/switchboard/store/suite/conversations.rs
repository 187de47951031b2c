//! Conversations, persons and auto-replies.

use super::*;

/// A message of theirs.
pub(super) fn inbound(n: u32, from: &Address) -> Incoming {
    let content = crate::model::event::InboundContent::Text(format!("Theirs {n}"));
    let event = crate::model::event::Inbound::new(envelope(), format!("in-{n}"), from.clone(), content);
    Incoming { line: Some("desk".to_owned()), event: event.into(), fetch: false, auto_reply: None }
}

/// A message of theirs, with the auto-reply of the period that began at `since`.
pub(super) fn answered(n: u32, from: &Address, since: i64) -> Incoming {
    let key = format!("auto-reply-{}-{since}", from.expose());
    let message = Message::text(from.clone(), format!("Closed: {n}.")).purpose(Purpose::Reply).key(key);
    let auto_reply = Some(Box::new(DueReply { message, account: None, since: at(since) }));
    Incoming { auto_reply, ..inbound(n, from) }
}

/// Returns the number of queued messages whose text begins as an auto-reply's does.
pub(super) async fn auto_replies(store: &dyn Engine) -> usize {
    let queued = store.messages("desk", &State::Queued.into(), None, 99).await.unwrap();
    queued.iter().filter(|status| status.key.starts_with("auto-reply-")).count()
}

pub(super) async fn auto_reply_is_stored_once_with_its_message(store: &dyn Engine, other: &dyn Engine) {
    let people: Vec<Address> = (1..=6).map(|n| Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()).collect();
    assert_eq!(store.store_events(vec![answered(1, &people[0], 10)], None, at(12)).await.unwrap(), 1);
    assert_eq!(auto_replies(other).await, 1);
    // A redelivery, and another message of the period.
    assert_eq!(other.store_events(vec![answered(1, &people[0], 10)], None, at(13)).await.unwrap(), 0);
    assert_eq!(other.store_events(vec![answered(2, &people[0], 10)], None, at(14)).await.unwrap(), 1);
    assert_eq!(auto_replies(store).await, 1);
    // The next period.
    other.store_events(vec![answered(3, &people[0], 20)], None, at(21)).await.unwrap();
    assert_eq!(auto_replies(store).await, 2);
    // An answer before the period, a notice in it, and an answer in it.
    for (person, purpose, moment, replies) in
        [(1, Purpose::Reply, 9, 3), (2, Purpose::Notice, 12, 4), (3, Purpose::Reply, 10, 4)]
    {
        let key = format!("ours-{person}");
        let message = Message::text(people[person].clone(), "Hello").purpose(purpose).key(&key);
        let priority = crate::switchboard::status::priority(purpose);
        put(store, New { message, priority, now: at(moment), ..new(&key, 1) }).await;
        let n = 10 + u32::try_from(person).unwrap();
        store.store_events(vec![answered(n, &people[person], 10)], None, at(13)).await.unwrap();
        assert_eq!(auto_replies(other).await, replies, "{person}");
    }
    // Two addresses of one person, of which the second becomes known in between.
    store.store_events(vec![answered(20, &people[4], 10)], None, at(13)).await.unwrap();
    store.store_events(vec![changed(&people[4], &people[5], 13)], None, at(14)).await.unwrap();
    store.store_events(vec![answered(21, &people[5], 10)], None, at(15)).await.unwrap();
    assert_eq!(auto_replies(other).await, 5);
}

pub(super) async fn concurrent_messages_get_one_auto_reply(store: &dyn Engine, other: &dyn Engine) {
    let people: Vec<Address> =
        (1..=20).map(|n| Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()).collect();
    // The addresses of each two are linked.
    for pair in people.chunks(2) {
        store.store_events(vec![changed(&pair[0], &pair[1], 1)], None, at(2)).await.unwrap();
    }
    let arrives = (0..80).map(|n| {
        let store = if n % 2 == 0 { store } else { other };
        let event = answered(n, &people[n as usize % 20], 10);
        async move { store.store_events(vec![event], None, at(12)).await.unwrap() }
    });
    futures_util::future::join_all(arrives).await;
    assert_eq!(auto_replies(store).await, 10);
}

pub(super) fn changed(previous: &Address, current: &Address, moment: i64) -> Incoming {
    // Such an event is known by what it says.
    let raw = Raw::new(format!("{} {} {moment}", previous.expose(), current.expose()));
    let envelope = Envelope::new("mock", Medium::Sms, AccountId::new("desk"), at(moment), raw);
    let event = crate::model::event::AddressChanged::new(envelope, previous.clone(), current.clone());
    Incoming { line: Some("desk".to_owned()), event: event.into(), fetch: false, auto_reply: None }
}

/// Returns the entries: the keys of ours and the texts of theirs.
pub(super) fn words(entries: &[Entry]) -> Vec<String> {
    let words = |entry: &Entry| match &entry.content {
        EntryContent::Ours { message, .. } => message.as_ref().unwrap().key.clone().unwrap(),
        EntryContent::Theirs(inbound) => inbound.as_ref().unwrap().text().unwrap().to_owned(),
    };
    entries.iter().map(words).collect()
}

pub(super) async fn conversation_is_listed_newest_first(store: &dyn Engine, other: &dyn Engine) {
    let (they, others) = (new("", 1).message.to, new("", 2).message.to);
    for n in 0..5 {
        put(store, New { now: at(n), ..new(&format!("ours-{n}"), 1) }).await;
        store.store_events(vec![inbound(n as u32, &they)], None, at(n)).await.unwrap();
    }
    put(store, new("elsewhere", 2)).await;
    put(store, New { line: "leader".to_owned(), ..new("leader", 1) }).await;
    store.store_events(vec![inbound(9, &others)], None, at(3)).await.unwrap();
    let all = other.conversation("desk", they.expose(), None, 100).await.unwrap();
    let report =
        ["ours-4", "Theirs 4", "ours-3", "Theirs 3", "ours-2", "Theirs 2", "ours-1", "Theirs 1", "ours-0", "Theirs 0"];
    assert_eq!(words(&all), report);
    // In pages of three: nothing twice, and nothing left out.
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let page = store.conversation("desk", they.expose(), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place);
        pages.extend(words(&page));
    }
    assert_eq!(pages, report);
    assert!(store.conversation("desk", "+447700900999", None, 3).await.unwrap().is_empty());
}

pub(super) async fn changed_address_is_used_for_later_messages(store: &dyn Engine, other: &dyn Engine) {
    let [first, second, third] = [1, 2, 3].map(|n| new("", n).message.to);
    let leads = async |key: &str, person| {
        put(store, new(key, person)).await;
        let claimed = claim(store, at(1)).await.remove(0);
        begin(store, &claimed).await;
        assert!(store.finish(claimed.hold, accepted(&format!("id-{key}"))).await.unwrap());
        claimed.moved_to
    };
    store.store_events(vec![inbound(1, &first)], None, at(1)).await.unwrap();
    assert_eq!(leads("a", 1).await, None);
    // The later news comes first.
    store.store_events(vec![changed(&second, &third, 20)], None, at(2)).await.unwrap();
    store.store_events(vec![changed(&first, &second, 10)], None, at(2)).await.unwrap();
    assert_eq!(leads("b", 1).await.as_ref(), Some(&third));
    assert_eq!(leads("c", 2).await.as_ref(), Some(&third));
    assert_eq!(leads("d", 3).await, None);
    for address in [&first, &second, &third] {
        let said = other.conversation("desk", address.expose(), None, 9).await.unwrap();
        assert_eq!(said.len(), 5, "{:?}", words(&said));
    }
    // A person who returns to an address no longer links away from it.
    store.store_events(vec![changed(&third, &first, 30)], None, at(2)).await.unwrap();
    assert_eq!(leads("e", 1).await, None);
    assert_eq!(leads("f", 2).await.as_ref(), Some(&first));
    assert_eq!(leads("g", 3).await.as_ref(), Some(&first));
    // Old news changes nothing; nor does another line's.
    store.store_events(vec![changed(&third, &second, 15)], None, at(2)).await.unwrap();
    assert_eq!(leads("h", 3).await.as_ref(), Some(&first));
    let elsewhere = Incoming { line: Some("leader".to_owned()), ..changed(&first, &second, 40) };
    store.store_events(vec![elsewhere], None, at(2)).await.unwrap();
    assert_eq!(leads("i", 1).await, None);
}

pub(super) async fn number_and_user_id_are_one_person(store: &dyn Engine, other: &dyn Engine) {
    let number = Address::whatsapp("+447700900001").unwrap();
    let phone = number.as_phone().cloned();
    let both =
        Address::WhatsApp(crate::model::address::WhatsAppUser::new(phone, Some("GB.13491208655302741918")).unwrap());
    put(store, New { message: Message::text(number.clone(), "Hello").key("ours"), ..new("ours", 1) }).await;
    for n in 1..3 {
        store.store_events(vec![inbound(n, &both)], None, at(i64::from(n))).await.unwrap();
    }
    for address in [&number, &both] {
        let said = other.conversation("desk", address.expose(), None, 9).await.unwrap();
        assert_eq!(words(&said), ["Theirs 2", "Theirs 1", "ours"]);
    }
}

pub(super) async fn recipient_renamed_by_the_gateway_is_one_person(store: &dyn Engine, other: &dyn Engine) {
    let user = |number: &str, user_id| {
        let phone = Address::whatsapp(number).unwrap().as_phone().cloned();
        Address::WhatsApp(crate::model::address::WhatsAppUser::new(phone, user_id).unwrap())
    };
    // The answer to a send: a number with one digit less, as Brazil's are, and who hides the number afterwards.
    let (asked, named) = (user("+5511987654321", None), user("+551187654321", Some("BR.1")));
    let ours = Message::text(asked.clone(), "Hello").key("ours");
    let id = put(store, New { message: ours, ..new("ours", 1) }).await;
    let claimed = claim(store, at(1)).await.remove(0);
    begin(store, &claimed).await;
    let end = End { recipient: Some(named.clone()), ..accepted("id-ours") };
    assert!(store.finish(claimed.hold, end).await.unwrap());
    store.store_events(vec![inbound(1, &user("+551187654321", None))], None, at(5)).await.unwrap();
    for address in [&asked, &named, &user("+551187654321", None)] {
        let said = other.conversation("desk", address.expose(), None, 9).await.unwrap();
        assert_eq!(words(&said), ["Theirs 1", "ours"]);
    }
    // A delivery tells it as well.
    let (number, both) = (user("+447700900123", None), user("+447700900123", Some("GB.7")));
    let mut report = delivery("id-ours", DeliveryState::Delivered);
    report.recipient = Some(both.clone());
    store.store_events(vec![inbound(2, &number)], None, at(6)).await.unwrap();
    let report = Incoming { line: Some("desk".to_owned()), event: report.into(), fetch: false, auto_reply: None };
    store.store_events(vec![report], None, at(7)).await.unwrap();
    assert_eq!(words(&other.conversation("desk", both.expose(), None, 9).await.unwrap()), ["Theirs 2"]);
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Delivered));
}
