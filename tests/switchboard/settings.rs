//! A switchboard from one file: the council's own, and every error of a wrong one at once.

use std::time::Duration;

use civic_messaging::clock::VirtualClock;
use civic_messaging::switchboard::{Configuration, Line, ReceiveBy, State, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{Address, Context, ErrorKind, Message, Purpose, Registry, Settings, http};

use super::support::{is_child, run_in_child, signature};
use super::{Database, stop, until};

const COUNCIL: &str = include_str!("../../docs/council.toml");
const NOTIFY_KEY: &str = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
const APP_SECRET: &str = "canary-app-secret";

const VARIABLES: &[(&str, &str)] = &[
    ("META_ACCESS_TOKEN", "canary-meta-token"),
    ("META_APP_SECRET", APP_SECRET),
    ("META_PAGE_TOKEN", "canary-page-token"),
    ("META_VERIFY_TOKEN", "canary-verify-token"),
    ("NOTIFY_API_KEY", NOTIFY_KEY),
    ("NOTIFY_CALLBACK_TOKEN", "canary-callback-token"),
    ("X_ACCESS_TOKEN", "canary-x-token"),
    ("X_ACCESS_TOKEN_SECRET", "canary-x-token-secret"),
    ("X_CONSUMER_KEY", "canary-consumer-key"),
    ("X_CONSUMER_SECRET", "canary-consumer-secret"),
];

const LINES: [&str; 6] = ["enquiries", "leader", "ward-east", "ward-north", "ward-south", "ward-west"];

#[test]
fn council_file_runs_against_fake_gateways() {
    let (database, media) = (Database::new(), tempfolder("council"));
    let (url, folder) = (database.url(), media.display().to_string());
    let variables = [VARIABLES, &[("COUNCIL_STORE", &*url), ("COUNCIL_MEDIA", &*folder)]].concat();
    let (passed, text) = run_in_child("settings::child", &variables);
    assert!(passed, "{text}");
    assert!(!text.contains("canary"), "{text}");
    std::fs::remove_dir_all(media).unwrap();
}

/// The process with the variables of the file.
#[tokio::test]
async fn child() {
    if !is_child() {
        return;
    }
    let (meta, notify) = (FakeGateway::start().await, FakeGateway::start().await);
    meta.always(Step::any().answers(200, r#"{"messaging_product":"whatsapp","messages":[{"id":"wamid.1"}]}"#));
    notify.always(
        Step::any().answers(
            201,
            r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#,
        ),
    );
    let settings = Settings::from_toml(COUNCIL).unwrap();
    let settings =
        settings.set("gateways.meta.base_url", meta.base_url()).set("gateways.notify.base_url", notify.base_url());
    // A Sunday evening.
    let clock = VirtualClock::starting_at("2026-11-22T21:14:00Z".parse().unwrap());
    let context = Context::new().clock(clock.clone());
    let configuration = Configuration::new(&settings, &Registry::standard(), &context).unwrap();
    assert_eq!(configuration.lines().iter().map(|line| &*line.id).collect::<Vec<_>>(), LINES);
    let ward_west = &configuration.lines()[5];
    assert_eq!(ward_west.controller.as_deref(), Some("Councillor D. Davies"));
    assert_eq!(ward_west.retention, Some(Duration::from_secs(90 * 24 * 3600)));
    assert_eq!(configuration.lines()[1].controller.as_deref(), Some("Exampleshire Council"));
    let despite = configuration.lines().iter().filter(|line| line.emergencies_despite_opt_out);
    assert_eq!(despite.map(|line| &*line.id).collect::<Vec<_>>(), ["enquiries"]);
    println!("{configuration:?} {settings:?}");

    let board = Switchboard::from_settings(&settings, &Registry::standard(), &context).await.unwrap();
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    let to = Address::whatsapp("+447700900123").unwrap();
    for line in LINES {
        board
            .send(line, Message::text(to.clone(), format!("From {line}.")).purpose(Purpose::Reply).key(line))
            .await
            .unwrap();
    }
    let sms = Message::text(Address::phone("07700 900123").unwrap(), "Your collection is on Tuesday.");
    let sms = sms.purpose(Purpose::Reply);
    board.send("enquiries", sms).await.unwrap();
    // The rules of the file: an unprompted message waits until morning, and none goes to a premium-rate number.
    let notice = |to: &str, key: &str| {
        Message::text(Address::phone(to).unwrap(), "Your collection is tomorrow.").purpose(Purpose::Notice).key(key)
    };
    let id = board.send("enquiries", notice("07700 900123", "notice")).await.unwrap();
    let status = board.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.due), (State::Deferred, Some("2026-11-23T08:00:00Z".parse().unwrap())));
    let refused = board.send("enquiries", notice("09098 790123", "premium")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Refused, Some("number-range")));
    // A resident sends the leader a picture.
    let body = r#"{"object":"whatsapp_business_account","entry":[{"id":"100","changes":[{"field":"messages","value":{
        "messaging_product":"whatsapp","metadata":{"phone_number_id":"200000000000001"},"messages":[{"id":"wamid.in",
        "from":"447700900124","timestamp":"1795382040","type":"image",
        "image":{"id":"1","mime_type":"image/jpeg","caption":"A tree has fallen on the road"}}]}}]}]}"#;
    let webhook = http::Request::post("/meta").header("x-hub-signature-256", signature(APP_SECRET, body.as_bytes()));
    assert_eq!(board.receive("meta", webhook.body(body).unwrap().into()).await.status, 200);
    until(&clock, Duration::from_millis(50), async || board.stats().await.unwrap().all().count(State::Accepted) == 8)
        .await;
    assert_eq!(notify.accepted("Your collection is on Tuesday."), 1);
    assert!(LINES.iter().all(|line| meta.accepted(&format!("From {line}.")) == 1));
    let replies = board.messages("leader", State::Accepted, None, 9).await.unwrap();
    assert_eq!(replies.iter().filter(|status| status.tag.as_deref() == Some("auto-reply")).count(), 1);
    drop(stop);
    worker.await.unwrap().unwrap();
}

fn tempfolder(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("civic-{name}-{}", std::process::id()))
}

/// A small file without faults.
fn file() -> String {
    format!(
        r#"
        [store]
        url = "sqlite:STORE"
        [media]
        folder = "MEDIA"
        [gateways.notify]
        api_key = "{NOTIFY_KEY}"
        callback_tokens = "canary-callback-token"
        [defaults]
        languages = ["en", "cy"]
        hours = {{ week = ["Mon-Fri 09:00-17:00"] }}
        [defaults.auto_reply.signpost]
        en = "In an emergency call 999."
        cy = "Mewn argyfwng ffoniwch 999."
        [lines.desk]
        [[lines.desk.channels]]
        gateway = "notify"
        medium = "sms"
        template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
        [routes]
        notify = ["desk"]
        "#
    )
}

fn check(text: &str) -> Result<Configuration, Vec<String>> {
    let settings = Settings::from_toml(text).map_err(|error| vec![error.to_string()])?;
    let checked = Configuration::new(&settings, &Registry::standard(), &Context::new());
    checked.map_err(|errors| {
        let shown = format!("{errors:?} {errors}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(errors.errors().iter().all(|error| error.kind() == ErrorKind::Config && error.field().is_some()));
        errors.to_string().split('\n').map(str::to_owned).collect()
    })
}

#[test]
fn wrong_value_names_table_field_and_rule() {
    check(&file()).unwrap();
    let second = r#"
        [lines.other]
        [[lines.other.channels]]
        gateway = "notify"
        medium = "sms"
        template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
        [routes]"#;
    for (from, to, expected) in [
        // A language without its texts.
        (
            r#"cy = "Mewn argyfwng ffoniwch 999.""#,
            "",
            "lines.desk.auto_reply.signpost.cy: is missing: the line answers in cy, so auto-replies need a text in it",
        ),
        (
            r#"languages = ["en", "cy"]"#,
            r#"languages = ["en", "pl"]"#,
            "lines.desk.auto_reply.signpost.pl: is missing: the line answers in pl, so auto-replies need a text in it",
        ),
        // Overlapping hours.
        (
            r#""Mon-Fri 09:00-17:00""#,
            r#""Mon-Fri 09:00-17:00", "Fri 16:00-18:00""#,
            "defaults.hours.week[1]: Friday has ranges that overlap: 09:00-17:00 and 16:00-18:00",
        ),
        (
            r#"hours = { week = ["Mon-Fri 09:00-17:00"] }"#,
            "",
            "lines.desk.auto_reply: needs the hours of the line: set them",
        ),
        (
            "[lines.desk]",
            r#"[lines.desk]
            receive_by = { notfy = "poll" }"#,
            "lines.desk.receive_by: sets how notfy is received, but has no channel of it",
        ),
        (
            "[lines.desk]",
            r#"[lines.desk]
            receive_by = { notify = "never" }"#,
            "lines.desk.receive_by.notify: unknown variant `…`, expected one of `webhook`, `poll`, `both`",
        ),
        // A route without a channel that verifies.
        (
            r#"callback_tokens = "canary-callback-token""#,
            "",
            "routes.notify: has no channel that can verify a webhook: set a webhook secret for a channel of its lines (and \
             public_url, where the gateway signs its address), or leave the route out",
        ),
        (
            r#"notify = ["desk"]"#,
            r#"notify = ["dekc"]"#,
            "routes.notify: names the unknown line dekc; did you mean desk?",
        ),
        (
            r#"notify = ["desk"]"#,
            r#""hooks/notify" = ["desk"]"#,
            "routes.hooks/notify: must be one segment of a URL: letters, digits, -, _, . and ~",
        ),
        (r#"notify = ["desk"]"#, r#"notify = []"#, "routes.notify: has no lines: name at least one"),
        (
            r#"notify = ["desk"]"#,
            r#"notify = "desk""#,
            "routes.notify: invalid type: string \"…\", expected a sequence",
        ),
        // Duplicates.
        ("[routes]", "[lines.desk]\n[routes]", "lines.desk: is a duplicate: see line 20"),
        (
            "[routes]",
            second,
            "lines.other.channels[0]: has an account of notify for sms that the line desk has too: an account belongs to \
             one line",
        ),
        // Unknown and missing names.
        ("[lines.desk]", "[lines.desk]\nhourse = 1", "lines.desk.hourse: unknown field; did you mean hours?"),
        (
            "[lines.desk]",
            "[lines.desk]\nx = 1",
            "lines.desk.x: unknown field; known fields: name, controller, languages, \
            retention_days, hours, auto_reply, opt_out_reach, emergencies_despite_opt_out, marketing_without_consent, \
            receive_by, channels",
        ),
        (
            "[routes]",
            "[rules]\nquiet_hours = { from = \"9pm\", until = \"08:00\" }\n[routes]",
            "rules.quiet_hours.from: must be hours and minutes, such as 09:00",
        ),
        (
            "[routes]",
            "[rules]\nplaces = { countries = [\"+353\"] }\n[routes]",
            "rules.places: countries: must be calling codes of 1 to 4 digits, without + and zeros",
        ),
        (
            "[routes]",
            "[[budgets]]\nname = \"texts\"\nsegments = 5\nper = \"week\"\n[routes]",
            "budgets[0].per: unknown variant `…`, expected one of `day`, `month`, `year`, `financial_year`",
        ),
        (
            "[routes]",
            "[[budgets]]\nname = \"texts\"\nper = \"day\"\n[routes]",
            "budgets[0].messages: needs one cap: messages, segments or money",
        ),
        (
            "[routes]",
            "[[budgets]]\nname = \"texts\"\nmessages = 5\nper = \"day\"\nlines = [\"dusk\"]\n[routes]",
            "budgets[0].lines: names the unknown line dusk; did you mean desk?",
        ),
        (
            "[routes]",
            "[[budgets]]\nname = \"money\"\nmoney = \"5 EUR\"\nper = \"day\"\n[routes]",
            "budgets[0].money: is in EUR, but notify charges sms in GBP",
        ),
        ("[routes]", "[[tariffs]]\ngateway = \"notify\"\n[routes]", "tariffs[0]: missing field `medium`"),
        (
            "[routes]",
            "[rules]\nbudget = 1\n[routes]",
            "rules.budget: unknown field; known fields: places, quiet_hours, frequency, bursts, windows",
        ),
        ("[routes]", "[rotues]\na = 1\n[routes]", "rotues: unknown field; did you mean routes?"),
        ("url = ", "uri = \"x\"\nurl = ", "store.uri: unknown field; did you mean url?"),
        (
            "sqlite:STORE",
            "mysql:STORE",
            "store.url: must be sqlite: and the path of a file, or postgres:// and a database",
        ),
        (r#"url = "sqlite:STORE""#, "", "store.url: is missing"),
        (
            r#""sqlite:STORE""#,
            r#"{ env = "CIVIC_NOT_SET" }"#,
            "store.url: is the variable CIVIC_NOT_SET, which is not set in \
            the environment, or is not text",
        ),
        (
            "gateway = \"notify\"",
            "gateway = \"notifi\"",
            "lines.desk.channels[0].gateway: unknown gateway; did you mean notify?",
        ),
        (
            "medium = \"sms\"",
            "medium = \"sms\"\ntempalte_id = 1",
            "lines.desk.channels[0].tempalte_id: unknown field \
            `tempalte_id`, expected one of `api_key`, `template_id`, `body_field`, `sms_sender_id`, `callback_tokens`, \
            `key_type`, `unicode`, `base_url`, `errors`; did you mean template_id?",
        ),
        (
            r#"template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1""#,
            "",
            "lines.desk.channels[0].template_id: is missing",
        ),
        (NOTIFY_KEY, "canary", "gateways.notify.api_key: secret is shorter than 8 bytes"),
        (
            "[gateways.notify]",
            "[gateways.notfiy]\n[gateways.notify]",
            "gateways.notfiy: is the gateway of no channel: did you \
            mean notify?",
        ),
        (
            "languages = ",
            "retention_days = -1\nlanguages = ",
            "defaults.retention_days: invalid value: integer `-1`, expected \
            u32",
        ),
        ("languages = ", "controller = \" \"\nlanguages = ", "lines.desk.controller: is blank"),
        ("[lines.desk]", "[lines.Desk]", "lines.Desk: must have an id of 1 to 64 small letters, digits, - and _"),
    ] {
        let text = file();
        assert!(text.contains(from), "{from}");
        let wrong = check(&text.replacen(from, to, 1)).unwrap_err();
        assert!(wrong.contains(&expected.to_owned()), "{from} -> {to}: {wrong:#?}");
    }
}

#[test]
fn way_of_receiving_is_read_for_each_gateway() {
    let text = file().replace("[lines.desk]", "[lines.desk]\nreceive_by = { notify = \"webhook\" }");
    let configuration = check(&text).unwrap();
    let expected = Line::new("desk").receive_by("notify", ReceiveBy::Webhook);
    let receive_by = |line: &Line| format!("{line:?}").split("receive_by: ").nth(1).unwrap().to_owned();
    assert_eq!(receive_by(&configuration.lines()[0]), receive_by(&expected));
}

#[test]
fn all_errors_of_a_file_are_reported_at_once() {
    let wrong = check(
        r#"
        colour = "canary"
        [store]
        url = "canary:desk.db"
        [defaults]
        retention_days = "canary"
        [defaults.hours]
        week = ["Mon-Fri 17:00-09:00"]
        closed = [{ date = 2026-12-24, reason = " " }]
        zome = "canary"
        [lines.desk]
        languages = 7
        [[lines.desk.channels]]
        gateway = "notify"
        medium = "sms"
        api_key = "canary"
        colour = "canary"
        [[lines.desk.channels]]
        gateway = "telex"
        [lines.leader]
        auto_reply = { signpost = { en = " " }, text = { en = "canary" } }
        [routes]
        all = ["desk", "laeder"]
        none = []
        "#,
    )
    .unwrap_err();
    let fields: Vec<_> = wrong.iter().map(|line| line.split(':').next().unwrap()).collect();
    for field in [
        "colour",
        "store.url",
        "defaults.retention_days",
        "defaults.hours.week[0]",
        "defaults.hours.closed[0].reason",
        "defaults.hours.zome",
        "lines.desk.languages",
        "lines.desk.channels[0].api_key",
        "lines.desk.channels[0].colour",
        "lines.desk.channels[1].gateway",
        "lines.leader.auto_reply.signpost.en",
        "lines.leader.auto_reply.text.en",
        "routes.all",
        "routes.none",
    ] {
        assert_eq!(fields.iter().filter(|found| **found == field).count(), 1, "{field}: {wrong:#?}");
    }
    assert_eq!(wrong.len(), 14, "{wrong:#?}");
}

#[tokio::test]
async fn wrong_file_creates_nothing() {
    let (database, media) = (Database::new(), tempfolder("wrong"));
    let text = file().replace("STORE", &database.0.display().to_string());
    let text = text.replace("MEDIA", &media.display().to_string());
    let open = async |text: &str| {
        Switchboard::from_settings(&Settings::from_toml(text).unwrap(), &Registry::standard(), &Context::new()).await
    };
    let error = open(&text.replace("\"desk\"", "\"dekc\", \"lead\"")).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("configuration")));
    let two = "configuration: has 2 errors:\n\
               routes.notify: names the unknown line dekc; did you mean desk?\n\
               routes.notify: names the unknown line lead";
    assert_eq!(error.to_string(), two);
    assert!(!database.0.exists() && !media.exists());
    open(&text).await.unwrap();
    assert!(database.0.exists() && media.exists());
    std::fs::remove_dir_all(media).unwrap();
}
