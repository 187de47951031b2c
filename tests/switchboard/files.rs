//! Media of inbound and outbound messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use civic_messaging::event::InboundContent;
use civic_messaging::media::{Digest, MediaStore, MediaStream, MemoryStore};
use civic_messaging::message::MediaRef;
use civic_messaging::switchboard::{File, InboxEvent, Line, Store, Switchboard};
use civic_messaging::{Channel, Error, ErrorKind, Message, Mock, Result, webhook};

use super::desk::Desk;
use super::{Database, person};

/// A mock whose downloads hang or panic if the file id says so, and which counts concurrent downloads.
#[derive(Clone, Debug)]
struct Files {
    mock: Mock,
    requests: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    max: Arc<AtomicUsize>,
}

impl Files {
    fn new() -> Self {
        Self { mock: Mock::whatsapp(), requests: Arc::default(), at_once: Arc::default(), max: Arc::default() }
    }

    fn arrives(&self, text: &str, media: impl IntoIterator<Item = MediaRef>) -> webhook::Request {
        let content = InboundContent::Media { text: Some(text.to_owned()), media: media.into_iter().collect() };
        self.mock.arrives_with("07700 900123", content)
    }
}

struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[civic_messaging::async_trait]
impl Channel for Files {
    fn info(&self) -> &civic_messaging::Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<civic_messaging::Accepted> {
        self.mock.send(message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.max.fetch_max(self.at_once.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
        let _leaves = Leaves(self.at_once.clone());
        match &*media.id {
            "hang" => std::future::pending().await,
            "panic" => panic!("a fault in an adapter"),
            _ => {
                // Lets the others start meanwhile.
                tokio::time::sleep(Duration::from_millis(10)).await;
                self.mock.fetch_media(media).await
            }
        }
    }
}

fn line(files: &Files) -> Line {
    Line::new("desk").channel(files.clone())
}

async fn open(files: &Files, media: &MemoryStore) -> Desk {
    let store = Store::open("sqlite::memory:").await.unwrap();
    Desk::run(Switchboard::builder(store).media(media.clone()).line(line(files)).route("all", ["desk"]))
}

async fn next(board: &Switchboard) -> InboxEvent {
    let inbox = board.line("desk").unwrap();
    let next = tokio::time::timeout(Duration::from_secs(20), inbox.next());
    next.await.expect("it comes in time").unwrap().unwrap()
}

fn text(handed: &InboxEvent) -> &str {
    handed.as_inbound().unwrap().text().unwrap()
}

#[tokio::test]
async fn media_is_stored_before_its_event_is_delivered() {
    let (files, media) = (Files::new(), MemoryStore::new());
    let desk = open(&files, &media).await;
    let tree =
        [files.mock.add_file("image/jpeg", "a fallen tree"), files.mock.add_file("image/png", "the same from behind")];
    assert_eq!(desk.switchboard.receive("all", files.arrives("It fell in the storm", tree)).await.status, 200);
    let handed = next(&desk.switchboard).await;
    let held = handed.files().await.unwrap();
    let stored: Vec<_> = held.iter().map(|file| file.as_held().expect("it is there")).collect();
    assert_eq!(
        stored.iter().map(|file| (file.len, &*file.mime)).collect::<Vec<_>>(),
        [(13, "image/jpeg"), (20, "image/png")]
    );
    assert_eq!(media.open(&stored[0].sha256).await.unwrap().bytes().await.unwrap(), "a fallen tree");
    // A photograph that replaces another is fetched as well.
    let media = vec![files.mock.add_file("image/jpeg", "the tree, cleared")];
    let content = Box::new(InboundContent::Media { text: Some("It is gone".to_owned()), media });
    let edited = InboundContent::Edited { id: handed.as_inbound().unwrap().id.clone(), content };
    let webhook = files.mock.arrives_with("07700 900123", edited);
    assert_eq!(desk.switchboard.receive("all", webhook).await.status, 200);
    let cleared = next(&desk.switchboard).await;
    let [File::Held(file)] = &*cleared.files().await.unwrap() else { panic!("it is there") };
    assert_eq!((text(&cleared), file.len), ("It is gone", 17));
    cleared.ack().await.unwrap();
    // It is delivered to the reader that clears it.
    let onward = Message::media(person(1), [civic_messaging::message::Media::image(stored[0].clone())]);
    desk.switchboard.send("desk", onward).await.unwrap();
    handed.ack().await.unwrap();
    desk.close().await;
}

#[tokio::test]
async fn media_is_readable_after_its_event_is_acknowledged() {
    let (files, media) = (Files::new(), MemoryStore::new());
    let desk = open(&files, &media).await;
    let tree = [files.mock.add_file("image/jpeg", "a fallen tree")];
    assert_eq!(desk.switchboard.receive("all", files.arrives("It fell", tree)).await.status, 200);
    let handed = next(&desk.switchboard).await;
    let id = handed.id();
    handed.ack().await.unwrap();
    let read = desk.switchboard.files(i64::from(id).into()).await.unwrap();
    assert_eq!(media.open(&read[0].as_held().unwrap().sha256).await.unwrap().bytes().await.unwrap(), "a fallen tree");
    let from = civic_messaging::Address::whatsapp("07700 900123").unwrap();
    // The conversation has them as well.
    let conversation = desk.switchboard.conversation("desk", &from, None, 9).await.unwrap();
    assert_eq!(conversation[0].event_id(), Some(id));
    desk.close().await;
}

#[tokio::test]
async fn events_without_a_media_store_are_not_held_back() {
    let files = Files::new();
    let store = Store::open("sqlite::memory:").await.unwrap();
    let desk = Desk::run(Switchboard::builder(store).line(line(&files)).route("all", ["desk"]));
    let tree = files.mock.add_file("image/jpeg", "a fallen tree");
    assert_eq!(desk.switchboard.receive("all", files.arrives("It fell", [tree])).await.status, 200);
    let handed = desk.switchboard.all().try_next().await.unwrap().expect("it comes at once");
    assert_eq!(handed.files().await.unwrap(), []);
    // Fetched by the caller.
    let file = &handed.as_inbound().unwrap().media()[0];
    assert_eq!(files.fetch_media(file).await.unwrap().bytes().await.unwrap(), "a fallen tree");
    handed.ack().await.unwrap();
    assert_eq!(files.requests.load(Ordering::Acquire), 1);
    desk.close().await;
}

#[tokio::test]
async fn temporary_fetch_failure_is_retried_others_reported() {
    let (files, media) = (Files::new(), MemoryStore::new());
    let desk = open(&files, &media).await;
    files.mock.will_withhold(Error::new(ErrorKind::Unavailable, "no connection could be made"));
    let tree = files.mock.add_file("image/jpeg", "a fallen tree");
    assert_eq!(desk.switchboard.receive("all", files.arrives("One", [tree])).await.status, 200);
    let handed = next(&desk.switchboard).await;
    assert!(handed.files().await.unwrap()[0].as_held().is_some());
    handed.ack().await.unwrap();
    assert_eq!(files.requests.load(Ordering::Acquire), 2);

    let (gone, panics) = (MediaRef::new("mock", "gone"), MediaRef::new("mock", "panic"));
    let tree = files.mock.add_file("image/jpeg", "another fallen tree");
    assert_eq!(desk.switchboard.receive("all", files.arrives("Two", [gone, panics, tree])).await.status, 200);
    let handed = next(&desk.switchboard).await;
    let became = handed.files().await.unwrap();
    assert_eq!(became[0], File::Failed("the mock holds no such file".to_owned()));
    assert_eq!(became[1], File::Failed("the adapter panicked during the fetch".to_owned()));
    assert!(became[2].as_held().is_some(), "{became:?}");
    handed.ack().await.unwrap();
    assert_eq!(desk.switchboard.stats().await.unwrap().all().files, 0);
    desk.close().await;
}

#[tokio::test]
async fn hanging_fetch_delays_no_other_event() {
    let (files, media) = (Files::new(), MemoryStore::new());
    let desk = open(&files, &media).await;
    let hangs = files.arrives("One", [MediaRef::new("mock", "hang")]);
    assert_eq!(desk.switchboard.receive("all", hangs).await.status, 200);
    let plain = files.mock.arrives("07700 900123", "Two");
    assert_eq!(desk.switchboard.receive("all", plain).await.status, 200);
    let handed = next(&desk.switchboard).await;
    assert_eq!(text(&handed), "Two");
    handed.ack().await.unwrap();
    assert!(desk.switchboard.all().try_next().await.unwrap().is_none());
    let stats = desk.switchboard.stats().await.unwrap().line("desk").unwrap();
    assert_eq!((stats.files, stats.unread), (1, 1));
    desk.kill().await;
}

#[tokio::test]
async fn fetches_are_limited_to_eight_at_once() {
    let (files, media) = (Files::new(), MemoryStore::new());
    let desk = open(&files, &media).await;
    for n in 0..4 {
        let photos = (0..10).map(|m| files.mock.add_file("image/jpeg", format!("{n}-{m}")));
        let request = files.arrives(&n.to_string(), photos);
        assert_eq!(desk.switchboard.receive("all", request).await.status, 200);
    }
    for _ in 0..4 {
        let handed = next(&desk.switchboard).await;
        assert!(handed.files().await.unwrap().iter().all(|file| file.as_held().is_some()));
        handed.ack().await.unwrap();
    }
    assert_eq!((files.requests.load(Ordering::Acquire), files.max.load(Ordering::Acquire)), (40, 8));
    desk.close().await;
}

#[tokio::test]
async fn interrupted_fetch_is_resumed_by_the_next_process() {
    let (database, files, media) = (Database::new(), Files::new(), MemoryStore::new());
    let board = async || {
        let store = Store::open(&database.url()).await.unwrap();
        Switchboard::builder(store).media(media.clone()).line(line(&files)).route("all", ["desk"])
    };
    let desk = Desk::run(board().await);
    // This id hangs until the first process has ended.
    let request = files.arrives("One", [MediaRef::new("mock", "hang")]);
    assert_eq!(desk.switchboard.receive("all", request).await.status, 200);
    while files.at_once.load(Ordering::Acquire) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    desk.kill().await;
    let late = Files { mock: Mock::whatsapp(), ..files.clone() };
    let tree = late.mock.add_file("image/jpeg", "a fallen tree");
    let db = rusqlite::Connection::open(&database.0).unwrap();
    db.execute("UPDATE event SET body = replace(body, '\"hang\"', '\"' || ?1 || '\"')", (&tree.id,)).unwrap();
    drop(db);
    let store = Store::open(&database.url()).await.unwrap();
    let desk = Desk::run(Switchboard::builder(store).media(media.clone()).line(line(&late)).route("all", ["desk"]));
    let handed = next(&desk.switchboard).await;
    let stored = handed.files().await.unwrap();
    assert_eq!(stored[0].as_held().map(|file| file.sha256), Some(Digest::sha256(b"a fallen tree")));
    handed.ack().await.unwrap();
    desk.close().await;
}

#[cfg(all(feature = "meta", feature = "testing"))]
mod of_ours {
    use civic_messaging::message::Media;
    use civic_messaging::switchboard::State;
    use civic_messaging::testing::{FakeGateway, SocketFault, Step};
    use civic_messaging::{Context, Meta, OnUnknown, meta};

    use super::*;

    const UPLOAD: &str = "/v26.0/200000000000001/media";
    const SEND: &str = "/v26.0/200000000000001/messages";
    const TAKEN: &str = r#"{"messaging_product":"whatsapp","contacts":[{"input":"447700900001","wa_id":"447700900001"}],
        "messages":[{"id":"wamid.HBgMNDQ3NzAwOTAwMDAxFQIAERgSN0ZGRTk4"}]}"#;

    fn desk(gateway: &FakeGateway, media: &MemoryStore, store: Store) -> Desk {
        let config = meta::Config::new("EAAG-example-token", "200000000000001").unwrap();
        let config = config.base_url(&gateway.base_url()).unwrap();
        let whatsapp = Meta::whatsapp_with(config, &Context::new().media(media.clone())).unwrap();
        Desk::run(Switchboard::builder(store).line(Line::new("desk").channel(whatsapp)))
    }

    async fn plan(media: &MemoryStore) -> Message {
        let stored = media.put(MediaStream::from_bytes("image/png", "a map of the diversion")).await.unwrap();
        let to = civic_messaging::Address::whatsapp("07700 900001").unwrap();
        Message::media(to, [Media::image(stored)]).key("map-1").on_unknown(OnUnknown::Park)
    }

    /// The number of requests to this path.
    fn requests(gateway: &FakeGateway, path: &str) -> usize {
        gateway.requests().iter().filter(|request| request.path.contains(path)).count()
    }

    #[tokio::test]
    async fn failed_upload_is_retried_and_sent_once() {
        let (gateway, media) = (FakeGateway::start().await, MemoryStore::new());
        gateway.expects(Step::post(UPLOAD).answers(503, r#"{"error":{"message":"try later","code":2}}"#));
        gateway.expects(Step::post(UPLOAD).breaks(SocketFault::ResetAfterRequest));
        gateway.expects(Step::post(UPLOAD).answers(200, r#"{"id":"1037543291543636"}"#));
        gateway.expects(Step::post(SEND).answers(200, TAKEN));
        let desk = desk(&gateway, &media, Store::open("sqlite::memory:").await.unwrap());
        let id = desk.switchboard.send("desk", plan(&media).await).await.unwrap();
        assert_eq!(desk.until(id, &[State::Accepted]).await.attempts, 3);
        assert_eq!((requests(&gateway, "/media"), requests(&gateway, "/messages")), (3, 1));
        assert_eq!(gateway.accepted("1037543291543636"), 1);
        gateway.assert_done();
        desk.close().await;
    }

    #[tokio::test]
    async fn crash_after_upload_is_unknown_and_sends_no_copy() {
        let (gateway, media, database) = (FakeGateway::start().await, MemoryStore::new(), Database::new());
        // The gateway has the message but never responds.
        gateway.expects(Step::post(UPLOAD).breaks(SocketFault::Stall));
        let open = async || Store::open(&database.url()).await.unwrap();
        let first = desk(&gateway, &media, open().await);
        let id = first.switchboard.send("desk", plan(&media).await).await.unwrap();
        while requests(&gateway, "/media") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(first.switchboard.status(id).await.unwrap().unwrap().state, State::Sending);
        first.kill().await;
        let second = desk(&gateway, &media, open().await);
        // The key still identifies the same message.
        assert_eq!(second.switchboard.send("desk", plan(&media).await).await.unwrap(), id);
        let status = second.until(id, &[State::Parked]).await;
        assert!(status.attempts == 1 && status.reason.unwrap().contains("outcome unknown: the process ended"));
        second.close().await;
        assert_eq!((requests(&gateway, "/media"), requests(&gateway, "/messages")), (1, 0));
    }
}
