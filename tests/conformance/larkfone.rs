//! An invented legacy supplier: forms with Basic authentication, plain-text responses that reject with a 200, and
//! callbacks by GET with a token in the URL, over a medium that the crate does not define.

use std::sync::Arc;

use civic_messaging::adapter::{Answer, Endpoint, VendorError, basic};
use civic_messaging::capability::TextLimit;
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{Failure, InboundContent, Unrecognised};
use civic_messaging::health::{CheckStatus, Health};
use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::webhook::{self, QueryToken, Received};
use civic_messaging::{
    Accepted, Address, Channel, Content, Context, Delivery, DeliveryState, Error, ErrorKind, Inbound, Info, Medium,
    Message, Result, Secret, async_trait,
};
use http::header::{AUTHORIZATION, HeaderMap};

#[derive(Debug)]
struct Larkfone {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    headers: HeaderMap,
    scheme: QueryToken,
}

const ACCOUNT: &str = "lark-account";
const PASSWORD: &str = "larkfone-password";

impl Larkfone {
    fn new(setup: &Setup) -> Result<Self> {
        let info = Info::new("larkfone", Medium::other("pager")?, ACCOUNT)
            .with_capability(|can| {
                can.receive = !setup.webhook_secrets.is_empty();
                can.key = true;
                can.health = true;
                can.text = Some(TextLimit::characters(600));
            })
            .with_address_rule(pager);
        let owned = std::slice::from_ref(&info.account);
        let tokens = setup.webhook_secrets.iter().map(|token| token.clone().or_owns(owned));
        Ok(Self {
            endpoint: Endpoint::new("larkfone", setup.base_url.parse()?, &setup.context, ERRORS, vendor_error),
            context: setup.context.clone(),
            headers: HeaderMap::from_iter([(AUTHORIZATION, basic(ACCOUNT, &Secret::new(PASSWORD)?)?)]),
            scheme: QueryToken::new("token", tokens),
            info,
        })
    }
}

fn pager(address: &Address) -> Result<(), &'static str> {
    match address.expose().strip_prefix("lark-") {
        Some(digits) if digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err("must be lark- and five digits"),
    }
}

#[async_trait]
impl Channel for Larkfone {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?;
        let Content::Text(text) = &message.content else { return Err(Error::unsupported("Larkfone sends text")) };
        let fields =
            [("to", Some(message.to.expose())), ("text", Some(text.as_str())), ("ref", message.key.as_deref())];
        let answer = self.endpoint.send(self.endpoint.form("/api/send", self.headers.clone(), fields)?).await?;
        match parse_reply(&answer)? {
            ("OK", ids) => answer.accepted(ids.split_ascii_whitespace()),
            ("ERR", _) => Err(self.endpoint.refused(&answer)),
            _ => Err(answer.unreadable()),
        }
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let verified = request.verified(&self.scheme)?;
        if !verified.owns(self.info.account.as_str()) {
            return Ok(Received::new(Vec::new()).with_discarded(None, 1));
        }
        let envelope = verified.envelope(&self.info);
        let field = |name| verified.field(name);
        let from = field("from").and_then(|from| Address::other(self.info.medium.clone(), &from).ok());
        let from = from.filter(|from| pager(from).is_ok());
        let event = match (field("id"), field("status"), field("mo"), from, field("text")) {
            (Some(id), Some(status), None, _, _) => {
                let state = match status.as_str() {
                    "ENROUTE" => DeliveryState::Sending,
                    "DELIVRD" => DeliveryState::Delivered,
                    "UNDELIV" => DeliveryState::Failed,
                    _ => DeliveryState::Unrecognised,
                };
                let failure = (state == DeliveryState::Failed).then(|| Failure::new(ErrorKind::Rejected));
                Delivery::new(envelope, id, state, status).with_key(field("ref")).with_failure(failure).into()
            }
            (None, None, Some(id), Some(from), Some(text)) => {
                Inbound::new(envelope, id, from, InboundContent::Text(text)).into()
            }
            _ => Unrecognised::new(envelope, "callback").into(),
        };
        Ok(Received::new(vec![event]))
    }

    async fn health(&self) -> Result<Health> {
        let health = Health::default();
        let answer = match self.endpoint.get("/api/credit", self.headers.clone()).await {
            Ok(answer) => answer,
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                return Ok(health.check_result("credentials", CheckStatus::Fail, "Larkfone does not know them"));
            }
            Err(e) => return Err(e),
        };
        let credit = answer.text()?.trim().strip_prefix("CREDIT ").and_then(|credit| credit.parse::<i64>().ok());
        let health = health.check_result("credentials", CheckStatus::Pass, "Larkfone knows them");
        Ok(match credit.ok_or_else(|| answer.unreadable())? {
            ..=0 => health.check_result("credit", CheckStatus::Fail, "there is none left"),
            _ => health.check_result("credit", CheckStatus::Pass, "there is some"),
        })
    }
}

const ERRORS: &[(&str, ErrorClass)] = &[
    ("12", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("17", ErrorClass::new(ErrorKind::OptedOut)),
    ("31", ErrorClass::new(ErrorKind::Account)),
    ("40", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
];

/// `OK 8841001 8841002`, or `ERR 12 bad number`.
fn parse_reply(answer: &Answer) -> Result<(&str, &str)> {
    Ok(answer.text()?.trim().split_once(' ').unwrap_or_default())
}

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    match parse_reply(answer) {
        Ok(("ERR", words)) => VendorError::new(words.split(' ').next().unwrap_or_default()),
        _ => VendorError::default(),
    }
}

struct Recorded;

impl Subject for Recorded {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Larkfone::new(setup)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::query_token("token")
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let at = |id: &str| Address::other(Medium::other("pager").unwrap(), id).unwrap();
        let text = || Message::text(at("lark-20931"), "Your collection is on Tuesday.").key("case-4711");
        let post = || Step::post("/api/send").basic(ACCOUNT, PASSWORD);
        let refusal = |status, body| Exchange::send(text()).step(post().answers(status, body));
        let credit = || Step::get("/api/credit").basic(ACCOUNT, PASSWORD);
        vec![
            Exchange::send(text())
                .step(
                    post()
                        .form("to=lark-20931&text=Your+collection+is+on+Tuesday.&ref=case-4711")
                        .answers(200, "OK 8841001"),
                )
                .accepts(["8841001"]),
            Exchange::send(Message::text(at("lark-20931"), "Tuesday. ".repeat(25)))
                .step(
                    post()
                        .form(format!("to=lark-20931&text={}", "Tuesday.+".repeat(25)))
                        .answers(200, "OK 8841002 8841003"),
                )
                .accepts(["8841002", "8841003"]),
            refusal(200, "ERR 12 bad number").fails(ErrorKind::InvalidRecipient).code("12"),
            refusal(200, "ERR 17 barred").fails(ErrorKind::OptedOut).code("17"),
            refusal(200, "ERR 31 no credit").fails(ErrorKind::Account).code("31"),
            refusal(200, "ERR 40 too fast").fails(ErrorKind::RateLimited).code("40").retryable(),
            refusal(200, "ERR 99 unheard of").fails(ErrorKind::Rejected).code("99"),
            refusal(401, "").fails(ErrorKind::Unauthenticated),
            Exchange::send(Message::text(at("lark-1"), "Hello")).fails(ErrorKind::InvalidRecipient).not_sent(),
            Exchange::health()
                .step(credit().answers(200, "CREDIT 120"))
                .health_check("credentials", CheckStatus::Pass)
                .health_check("credit", CheckStatus::Pass),
            Exchange::health().step(credit().answers(200, "CREDIT 0")).health_check("credit", CheckStatus::Fail),
            Exchange::health().step(credit().answers(401, "")).health_check("credentials", CheckStatus::Fail),
            Exchange::health().step(credit().answers(200, "Welcome")).fails(ErrorKind::Unexpected),
        ]
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let receipt = |status: &str| Webhook::get(&format!("id=8841001&status={status}&ref=case-4711"));
        vec![
            Webhook::get("mo=77120&from=lark-20931&text=When+is+my+bin+day%3F").returns_events([ExpectedEvent::text(
                "77120",
                "When is my bin day?",
            )
            .from("lark-20931")]),
            Webhook::get("mo=77121&from=lark-20931&text=STOP"),
            receipt("ENROUTE"),
            receipt("DELIVRD"),
            receipt("UNDELIV"),
            receipt("PONDERING"),
            Webhook::get("mo=77122&from=nobody&text=Hello"),
            Webhook::get("colour=green"),
        ]
    }
}

civic_messaging::conformance_tests!(Recorded);
