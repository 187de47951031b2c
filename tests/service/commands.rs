//! The commands: their output, their exit codes, and what they never show.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use civic_messaging::testing::{SocketFault, Step};
use serde_json::{Value, json};

use super::council::{ACCEPTED_BY_NOTIFY, Council, FILE, until};

const AT: &str = "2026-11-24T10:00:00Z";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn ten_second_start_needs_nothing() {
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_civic-messaging"));
        let output = command.args(words).env_clear().current_dir(std::env::temp_dir()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, shown, _) = run(&["send", "--to", "07700900123", "--text", "Your bin day is Tuesday.", "--mock"]);
    assert_eq!(code, Some(0));
    for part in ["plan     1 message, 1 segment, GSM-7", "losses   none", "outcome  accepted by mock", "id       1"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("900123") && !shown.contains("Tuesday"), "{shown}");
    let (code, shown, _) = run(&["send", "--to", "x:44196397", "--text", "Ŵy", "--mock", "--json"]);
    assert_eq!(code, Some(0));
    let shown = json(&shown);
    assert_eq!((&shown["message"]["state"], &shown["plan"]["segments"]), (&json!("accepted"), &json!(0)));
    let (code, _, error) = run(&["send", "--to", "0770", "--text", "canary", "--mock"]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("error: ") && !error.contains("canary"), "{error}");
    // A plan with problems is not sent.
    let (code, _, error) = run(&["send", "--to", "07700900123", "--text", &"long ".repeat(900), "--mock"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("text"), "{error}");
    assert_eq!(run(&["send", "--to", "07700900123", "--text", "x"]).0, Some(2));
    assert_eq!(run(&[]).0, Some(2));
    assert_eq!(run(&["--version"]).0, Some(0));
}

#[tokio::test]
async fn check_lists_all_errors_and_opens_nothing() {
    let council = Council::new().await;
    let (code, shown, error) = council.run(AT, &["check", FILE]);
    assert_eq!((code, &*error), (0, ""));
    assert!(
        shown.contains("enquiries") && shown.contains("Councillor A. Adams") && shown.contains("no errors"),
        "{shown}"
    );
    let (code, shown, _) = council.run(AT, &["check", FILE, "--json"]);
    let shown = json(&shown);
    assert_eq!((code, &shown["routes"]["notify"]), (0, &json!(["enquiries"])));
    assert_eq!(shown["lines"][5]["retention_days"], 90);

    let wrong = ["--set", "lines.leader.hourse=canary", "--set", "routes.notify=canary", "--set", "stoer.url=canary"];
    let (code, shown, error) = council.run(AT, &[&["check", FILE], &wrong[..]].concat());
    assert_eq!((code, &*shown), (2, ""));
    let errors: Vec<_> = error.lines().collect();
    assert_eq!(errors.len(), 3, "{error}");
    assert!(errors.contains(&"error: lines.leader.hourse: unknown field; did you mean hours?"), "{error}");
    assert!(!error.contains("canary"), "{error}");
    let (code, _, error) = council.run(AT, &[&["run", FILE, "--json"], &wrong[..]].concat());
    assert_eq!((code, json(&error)["errors"].as_array().unwrap().len()), (2, 3));
    let (code, _, error) = council.run(AT, &["check", "no-such-file.toml"]);
    assert_eq!((code, &*error), (2, "error: no-such-file.toml: cannot be read: entity not found\n"));
    assert!(!council.path("messages.db").exists() && !council.path("media").exists());
}

#[tokio::test]
async fn missing_store_is_not_created_by_a_command() {
    let council = Council::new().await;
    for words in [
        &["stats", FILE][..],
        &["messages", FILE],
        &["send", FILE, "--line", "enquiries", "--to", "07700900123", "--text", "Hello"],
        &["hold-after-restore", FILE, "--at", "2026-11-20T02:00:00Z", "--yes"],
    ] {
        let (code, _, error) = council.run(AT, words);
        assert_eq!(code, 2);
        assert!(error.contains("store.url: there is no file"), "{error}");
    }
    assert!(!council.path("messages.db").exists());
}

#[tokio::test]
async fn run_refuses_to_start_without_a_token_or_beyond_loopback() {
    let council = Council::new().await;
    let mut command = council.command(AT, &["run", FILE, "--webhooks", "127.0.0.1:0"]);
    let output = command.env_remove("CIVIC_MESSAGING_API_TOKEN").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("CIVIC_MESSAGING_API_TOKEN: is not set") && error.contains("--no-api"), "{error}");
    let output = command.env("CIVIC_MESSAGING_API_TOKEN", "canary").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && !error.contains("canary"), "{error}");
    let (code, _, error) = council.run(AT, &["run", FILE, "--api", "0.0.0.0:0"]);
    assert_eq!(code, 2);
    assert!(error.contains("--allow-remote-api"), "{error}");
    assert!(!council.path("messages.db").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_beside_the_service_and_mask_persons() {
    let council = Council::new().await;
    let service = council.start(AT);
    let words = ["send", FILE, "--line", "enquiries", "--to", "07700 900123", "--tag", "bins", "--key", "bins-1"];
    let send = |more: &[&str]| {
        let all = [&words[..], &["--text", "Your collection is on Thursday.", "--json"], more].concat();
        council.run(AT, &all)
    };
    let (code, shown, _) = send(&["--wait=30"]);
    let sent = json(&shown)["message"].clone();
    assert_eq!((code, &sent["state"]), (0, &json!("accepted")));
    // The same key is the same message.
    assert_eq!(json(&send(&[]).1)["message"]["id"], sent["id"]);
    assert_eq!(council.notify.accepted("Thursday"), 1);
    service.sms(1, "447700900123", AT, "Thank you\u{1b}[31m").await;

    let id = sent["id"].to_string();
    for words in [
        &["messages", FILE, "--state", "accepted"][..],
        &["messages", FILE, &id],
        &["messages", FILE, "--key", "bins-1", "--line", "enquiries"],
        &["conversations", FILE, "--line", "enquiries", "--person", "07700900123"],
        &["stats", FILE],
        &["opt-outs", "list", FILE, "--line", "enquiries"],
    ] {
        for more in [&[][..], &["--json"]] {
            let (code, shown, error) = council.run(AT, &[words, more].concat());
            assert_eq!(code, 0, "{error}");
            let is_masked = !shown.contains("7700900") && !shown.contains("Thursday") && !shown.contains("Thank you");
            assert!(is_masked && !shown.is_empty(), "{words:?}: {shown}");
        }
    }
    let person = ["conversations", FILE, "--line", "enquiries", "--person", "07700900123", "--show-personal-data"];
    let (_, shown, _) = council.run(AT, &person);
    assert!(shown.contains("Your collection is on Thursday.") && shown.contains("Thank you [31m"), "{shown}");
    let (_, shown, _) = council.run(AT, &["messages", FILE, &id, "--show-personal-data"]);
    assert!(shown.contains("phone:+447700900123"), "{shown}");
    // One worker at a time.
    let (code, _, error) = council.run(AT, &["run", FILE, "--no-api", "--webhooks", "127.0.0.1:0"]);
    assert_eq!(code, 2);
    assert!(error.contains("another worker is running"), "{error}");
    let (code, _, error) = council.run(AT, &["hold-after-restore", FILE, "--at", "2026-11-20T02:00:00Z", "--yes"]);
    assert!(code == 2 && error.contains("another worker is running"), "{error}");
    assert_eq!(service.terminate(), (0, json!({ "stopped": { "unfinished": 0 } })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_outcome_has_its_exit_code() {
    let council = Council::new().await;
    council.meta.expects(Step::any().breaks(SocketFault::ResetAfterRequest));
    let service = council.start(AT);
    let words = ["send", FILE, "--line", "leader", "--to", "whatsapp:+447700900123", "--text", "Hello", "--wait"];
    let (code, shown, _) = council.run(AT, &words);
    assert_eq!(code, 3);
    assert!(shown.contains("outcome  unknown by meta: "), "{shown}");
    let (_, shown, _) = council.run(AT, &["messages", FILE, "--json"]);
    assert_eq!(json(&shown)["messages"][0]["state"], "unknown");
    service.kill();
    // Nobody sends it now.
    let words = ["send", FILE, "--line", "enquiries", "--to", "07700900123", "--text", "Hello", "--wait=0"];
    assert_eq!(council.run(AT, &words).0, 4);
    // It may have been sent since the backup.
    let (code, shown, _) = council.run(AT, &["hold-after-restore", FILE, "--at", "2026-11-20T02:00:00Z", "--yes"]);
    assert_eq!((code, &*shown), (0, "1 message is held\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_fails_with_a_channel_and_shows_no_secret() {
    let council = Council::new().await;
    council.start(AT).kill();
    let (code, shown, _) = council.run(AT, &["health", FILE]);
    assert_eq!(code, 1);
    // Nobody answers for X.
    let of_x: Vec<_> = shown.lines().filter(|line| line.contains("x        x")).collect();
    assert!(of_x.len() == 1 && of_x[0].contains("no connection could be made"), "{shown}");
    let (code, json, _) = council.run(AT, &["health", FILE, "--json"]);
    assert_eq!((code, self::json(&json)["channels"].as_array().unwrap().len()), (1, 9));
    assert!(!shown.contains("canary") && !json.contains("canary"));
}

#[tokio::test]
async fn register_is_imported_exported_and_lifted_with_yes() {
    let council = Council::new().await;
    council.start(AT).kill();
    let list = council.path("list.csv");
    let mut file = std::fs::File::create(&list).unwrap();
    file.write_all("name,mobile\nA,07700 900123\nB,canary\nC,07700 900124\n".as_bytes()).unwrap();
    let of = ["--line", "enquiries"];
    let opt_outs = |words: &[&str]| council.run(AT, &[&["opt-outs"], words, &of].concat());
    let (code, shown, _) = opt_outs(&["import", FILE, list.to_str().unwrap(), "--officer", "J. Jones", "--json"]);
    let import = json(&shown);
    assert_eq!((code, &import["recorded"], &import["problems"][0]["line"]), (1, &json!(2), &json!(3)));
    assert!(!shown.contains("canary"));

    // An export is personal data: to a file of one's own, or by name.
    assert_eq!(opt_outs(&["export", FILE]).0, 2);
    let export = council.path("export.csv");
    let (code, shown, error) = opt_outs(&["export", FILE, "--output", export.to_str().unwrap()]);
    assert_eq!((code, &*shown), (0, ""), "{error}");
    let written = std::fs::read_to_string(&export).unwrap();
    assert!(written.contains("+447700900123") && written.contains("+447700900124"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&export).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // It replaces nothing.
    assert_eq!(opt_outs(&["export", FILE, "--output", export.to_str().unwrap()]).0, 1);
    assert_eq!(opt_outs(&["export", FILE, "--show-personal-data"]).1, written);

    let lift = ["lift", FILE, "--person", "07700900123", "--officer", "J. Jones"];
    let (code, _, error) = opt_outs(&lift);
    assert!(code == 2 && error.contains("add --yes"), "{error}");
    assert_eq!(opt_outs(&[&lift[..], &["--yes"]].concat()).1, "1 lifted\n");
    let record = ["record", FILE, "--person", "07700900123", "--officer", "J. Jones", "--note", "by letter"];
    assert_eq!(opt_outs(&record).1, "recorded\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_waits_for_what_is_in_flight() {
    let council = Council::new().await;
    let slow = SocketFault::Drip(Duration::from_millis(10));
    council.notify.expects(Step::any().answers(201, ACCEPTED_BY_NOTIFY).breaks(slow));
    let service = council.start(AT);
    let (status, message) = service.send(json!({ "phone": "+447700900123" }), "On Thursday.", "notice").await;
    assert_eq!(status, 200, "{message}");
    until(async || (council.notify.accepted("On Thursday.") == 1).then_some(())).await;
    let terminated = tokio::task::block_in_place(|| service.terminate());
    assert_eq!(terminated, (0, json!({ "stopped": { "unfinished": 0 } })));
    let (_, shown, _) = council.run(AT, &["messages", FILE, &message["id"].to_string(), "--json"]);
    assert_eq!(json(&shown)["state"], "accepted");
}

#[tokio::test]
async fn events_are_acknowledged_where_nobody_reads_them() {
    let council = Council::new().await;
    let service = council.start_with(AT, &["--acknowledge-events"]);
    service.sms(1, "447700900123", AT, "When is my bin day?").await;
    until(async || (service.stats().await["unread"] == 0).then_some(())).await;
    assert_eq!(service.post("/v1/events", json!({})).await, json!({ "events": [] }));
    assert_eq!(service.conversation(json!({ "phone": "+447700900123" })).await.len(), 1);
}

#[tokio::test]
async fn text_comes_from_standard_input() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_civic-messaging"));
    command.args(["send", "--to", "07700900123", "--text", "-", "--mock", "--json"]).env_clear();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("Mae’r casgliad ddydd Mawrth.\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = json(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((&shown["plan"]["encoding"], &shown["plan"]["segments"]), (&json!("ucs2"), &json!(1)));
}

#[test]
fn documentation_names_every_command_and_option() {
    let page = include_str!("../../docs/command_line.md");
    let help = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_civic-messaging")).args(words).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = |text: &str| {
        let listed = text.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap().to_owned();
        let names = listed.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned));
        names.filter(|name| name != "help").collect::<Vec<_>>()
    };
    let all = commands(&help(&[]));
    assert_eq!(all.len(), 10);
    let mut pages: Vec<String> = all.iter().map(|command| help(&[command])).collect();
    pages.extend(commands(&help(&["opt-outs"])).iter().map(|action| help(&["opt-outs", action])));
    let names = all.iter().map(|command| format!("`{command} "));
    let options = pages.iter().flat_map(|text| text.split_whitespace()).filter(|word| word.starts_with("--"));
    let options =
        options.filter_map(|word| word.split(['[', '=']).next()).filter(|word| !["--help", "--version"].contains(word));
    let missing: Vec<_> =
        names.chain(options.map(str::to_owned)).filter(|word| !page.contains(word.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
