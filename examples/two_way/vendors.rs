//! Mock servers of the four vendors on loopback, and their webhooks.

use std::collections::BTreeMap;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use civic_messaging::Secret;
use civic_messaging::media::Digest;
use civic_messaging::webhook::{HmacSha256, Request, SignatureEncoding, SigningSecret};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use serde_json::{Value, json};
use wiremock::matchers::{body_string_contains, header, method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::{FALLEN_TREE, Result, Webhooks};

const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const PICTURE: &str = "/2010-04-01/Accounts/ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/Messages/MM33333333333333333333333333333333/Media/ME44444444444444444444444444444444";
const PUBLIC: &str = "https://messages.example.gov.uk";

pub(crate) struct Vendors {
    meta: MockServer,
    x: MockServer,
    twilio: MockServer,
    notify: MockServer,
}

impl Vendors {
    pub(crate) async fn start() -> Self {
        let vendors = Self {
            meta: MockServer::start().await,
            x: MockServer::start().await,
            twilio: MockServer::start().await,
            notify: MockServer::start().await,
        };
        vendors.mount_meta().await;
        vendors.mount_x().await;
        vendors.mount_twilio().await;
        vendors.mount_notify().await;
        vendors
    }

    /// Returns a council's configuration, with base URLs of the mock servers.
    pub(crate) fn settings(&self) -> String {
        let (meta, x, twilio, notify) = (self.meta.uri(), self.x.uri(), self.twilio.uri(), self.notify.uri());
        format!(
            r#"
            [whatsapp]
            gateway = "meta"
            medium = "whatsapp"
            access_token = "example-meta-token"
            phone_number_id = "200000000000001"
            app_secrets = ["old-example-app-secret", "example-app-secret"]
            base_url = "{meta}"

            [messenger]
            gateway = "meta"
            medium = "messenger"
            access_token = "example-page-token"
            page_id = "7000000000000001"
            app_secrets = "example-app-secret"
            base_url = "{meta}"

            [dm]
            gateway = "x"
            medium = "x"
            user_id = "1900000000000000202"
            client_id = "example-client"
            client_secret = "example-client-secret"
            refresh_token = "example-refresh-token"
            webhook_secrets = "fixture-consumer-secret"
            base_url = "{x}"

            [twilio]
            gateway = "twilio"
            medium = "sms"
            account_sid = "{ACCOUNT}"
            auth_token = "example-auth-token"
            from = "+447700900456"
            public_url = "{PUBLIC}"
            base_url = "{twilio}"

            [twilio_whatsapp]
            gateway = "twilio"
            medium = "whatsapp"
            account_sid = "{ACCOUNT}"
            auth_token = "example-auth-token"
            from = "+447700900456"
            public_url = "{PUBLIC}"
            base_url = "{twilio}"

            [notify]
            gateway = "notify"
            medium = "sms"
            api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
            template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
            callback_tokens = ["a-long-bearer-token", "another-bearer-token"]
            base_url = "{notify}"
            "#
        )
    }

    /// Returns the number of requests that reached a vendor.
    pub(crate) async fn requests(&self) -> usize {
        let mut count = 0;
        for server in [&self.meta, &self.x, &self.twilio, &self.notify] {
            count += server.received_requests().await.unwrap_or_default().len();
        }
        count
    }

    /// Returns `true` if both pictures were uploaded intact.
    pub(crate) async fn verify(&self) -> bool {
        let has_picture = |body: &[u8]| body.windows(FALLEN_TREE.len()).any(|window| window == FALLEN_TREE);
        let mut uploads = 0;
        for server in [&self.meta, &self.x] {
            let requests = server.received_requests().await.unwrap_or_default();
            uploads += requests.iter().filter(|request| has_picture(&request.body)).count();
        }
        uploads == 2
    }

    async fn mount_meta(&self) {
        let number = "/v26.0/200000000000001";
        let token = || header("authorization", "Bearer example-meta-token");
        let accepted =
            ResponseTemplate::new(200).set_body_bytes(fixture("whatsapp/response/send_ok_phone_and_bsuid.json"));
        let messages = Mock::given(method("POST")).and(path(format!("{number}/messages"))).and(token());
        messages.respond_with(accepted).mount(&self.meta).await;
        let uploaded = ResponseTemplate::new(200).set_body_bytes(fixture("whatsapp/response/media_upload.json"));
        let media = Mock::given(method("POST")).and(path(format!("{number}/media"))).and(token());
        media.respond_with(uploaded).mount(&self.meta).await;
        let located =
            json!({ "url": format!("{}/file", self.meta.uri()), "mime_type": "image/png", "id": "900000000000002" });
        let look_up = Mock::given(method("GET")).and(path("/v26.0/900000000000002")).and(token());
        look_up.respond_with(ResponseTemplate::new(200).set_body_json(located)).mount(&self.meta).await;
        let file = Mock::given(method("GET")).and(path("/file")).and(token());
        file.respond_with(photo()).mount(&self.meta).await;

        let page = Mock::given(method("POST")).and(path("/v26.0/7000000000000001/messages"));
        let page = page.and(header("authorization", "Bearer example-page-token"));
        let accepted = ResponseTemplate::new(200).set_body_bytes(fixture("messenger/send_ok.json"));
        page.respond_with(accepted).mount(&self.meta).await;
        // The URL is public: no token is sent.
        Mock::given(method("GET")).and(path("/scontent/1.jpg")).respond_with(photo()).mount(&self.meta).await;
    }

    async fn mount_x(&self) {
        let fresh = ResponseTemplate::new(200).set_body_bytes(fixture("x/oauth2_token.response.200.json"));
        let refresh = Mock::given(method("POST")).and(path("/2/oauth2/token"));
        refresh.and(body_string_contains("example-refresh-token")).respond_with(fresh).expect(1).mount(&self.x).await;
        let token = || header("authorization", "Bearer FIXTURE-ACCESS-2");
        for (at, answer) in [
            (r"^/2/dm_conversations/.+/messages$", "x/v2_send.response.201.json"),
            (r"^/2/media/upload/initialize$", "x/media_initialize.response.200.json"),
            (r"^/2/media/upload/\d+/append$", "x/media_append.response.200.json"),
            (r"^/2/media/upload/\d+/finalize$", "x/media_finalize_sync.response.200.json"),
        ] {
            let status = if at.ends_with("messages$") { 201 } else { 200 };
            let answer = ResponseTemplate::new(status).set_body_bytes(fixture(answer));
            Mock::given(method("POST")).and(path_regex(at)).and(token()).respond_with(answer).mount(&self.x).await;
        }
        let file = "/2/dm_conversations/media/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
        Mock::given(method("GET")).and(path(file)).and(token()).respond_with(photo()).mount(&self.x).await;
    }

    async fn mount_twilio(&self) {
        let accepted = json!({
            "sid": "SM11111111111111111111111111111111", "status": "queued", "num_segments": "1", "num_media": "0",
            "price": null, "price_unit": "GBP", "error_code": null, "to": "+447700900123", "from": "+447700900456",
        });
        let messages = Mock::given(method("POST")).and(path(format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json")));
        messages.respond_with(ResponseTemplate::new(201).set_body_json(accepted)).mount(&self.twilio).await;
        let file = Mock::given(method("GET")).and(path(PICTURE));
        file.respond_with(photo()).mount(&self.twilio).await;
    }

    async fn mount_notify(&self) {
        // Recorded responses of Notify: one with a rewritten text, and one for every other text.
        let recorded: Value = serde_json::from_slice(&fixture("sms/notify_api_recorded.json")).unwrap_or_default();
        let rewritten = recorded["cases"][0]["response"].clone();
        let mut plain = rewritten.clone();
        plain["content"]["body"] = "Your collection is on Tuesday.".into();
        let mut thanks = rewritten.clone();
        thanks["content"]["body"] = "Thank you, we are on it.".into();
        for (part, answer, priority) in [("caf", rewritten, 1), ("Thank you", thanks, 2), ("", plain, 3)] {
            let texts = Mock::given(method("POST")).and(path("/v2/notifications/sms")).and(body_string_contains(part));
            let answer = ResponseTemplate::new(201).set_body_json(answer);
            texts.respond_with(answer).with_priority(priority).mount(&self.notify).await;
        }
    }

    /// Returns the vendors' signed webhooks, each twice.
    pub(crate) fn webhooks(&self) -> Result<Webhooks> {
        let mut webhooks = Vec::new();
        for _ in 0..2 {
            for name in ["inbound/text.json", "batch/out_of_order_statuses.json"] {
                webhooks.push(("whatsapp", meta(&fixture(&format!("whatsapp/{name}")), "example-app-secret")?));
            }
            // A recorded webhook, with the hash of our photo.
            let mut photo: Value = serde_json::from_slice(&fixture("whatsapp/inbound/image_no_url.json"))?;
            let hash = BASE64_STANDARD.encode(Digest::sha256(FALLEN_TREE).as_bytes());
            photo["entry"][0]["changes"][0]["value"]["messages"][0]["image"]["sha256"] = hash.into();
            webhooks.push(("whatsapp", meta(photo.to_string().as_bytes(), "example-app-secret")?));
            for name in ["inbound_text", "inbound_quick_reply", "echo", "delivery", "read"] {
                webhooks.push(("messenger", meta(&fixture(&format!("messenger/{name}.json")), "example-app-secret")?));
            }
            let mut photo: Value = serde_json::from_slice(&fixture("messenger/inbound_image.json"))?;
            photo["entry"][0]["messaging"][0]["message"]["attachments"][0]["payload"]["url"] =
                format!("{}/scontent/1.jpg", self.meta.uri()).into();
            webhooks.push(("messenger", meta(photo.to_string().as_bytes(), "example-app-secret")?));
            for name in ["webhook_xaa_dm_received.json", "webhook_aaa_dm_media_photo.json"] {
                webhooks.push(("dm", x(name)?));
            }
            for form in self.twilio_forms() {
                webhooks.push(("twilio", twilio(&form, "example-auth-token")?));
            }
            let recorded: Value = serde_json::from_slice(&fixture("sms/notify_callbacks_recorded.json"))?;
            for case in recorded["cases"].as_array().ok_or("no cases")? {
                let token = case["headers"]["Authorization"].as_str().unwrap_or_default();
                webhooks.push(("notify", notify(case["body"].as_str().unwrap_or_default(), token)?));
            }
        }
        Ok(webhooks)
    }

    /// Returns webhooks with wrong signatures.
    pub(crate) fn forgeries(&self) -> Result<Webhooks> {
        let form = self.twilio_forms().into_iter().next().unwrap_or_default();
        Ok(vec![
            ("whatsapp", meta(&fixture("whatsapp/inbound/text.json"), "another-app-secret")?),
            ("messenger", meta(&fixture("messenger/inbound_text.json"), "another-app-secret")?),
            ("dm", Request::from(http::Request::post("/").body(fixture("x/webhook_aaa_dm_text.json"))?)),
            ("twilio", twilio(&form, "another-auth-token")?),
            ("notify", notify("{}", "Bearer a-long-bearer-toke")?),
        ])
    }

    fn twilio_forms(&self) -> Vec<BTreeMap<&'static str, String>> {
        let form = |fields: &[(&'static str, &str)]| {
            let fixed = [("AccountSid", ACCOUNT), ("ApiVersion", "2010-04-01")];
            fixed.iter().chain(fields).map(|(name, value)| (*name, (*value).to_owned())).collect()
        };
        let inbound = |sid, body, media: &[(&'static str, &str)]| {
            let mut fields = vec![("MessageSid", sid), ("From", "+447700900123"), ("To", "+447700900456")];
            fields.extend([("Body", body), ("SmsStatus", "received"), ("NumSegments", "1")]);
            fields.extend_from_slice(media);
            form(&fields)
        };
        let status = |status| {
            let sid = ("MessageSid", "SM22222222222222222222222222222222");
            form(&[sid, ("MessageStatus", status), ("From", "+447700900456"), ("To", "+447700900123")])
        };
        let picture = [&self.twilio.uri(), PICTURE].concat();
        vec![
            inbound("SM11111111111111111111111111111111", "When is my bin day? £5 + 100% ŵ 😀", &[("NumMedia", "0")]),
            inbound(
                "MM33333333333333333333333333333333",
                "",
                &[("NumMedia", "1"), ("MediaUrl0", &picture), ("MediaContentType0", "image/png")],
            ),
            inbound("SM44444444444444444444444444444444", "STOP", &[("NumMedia", "0")]),
            status("delivered"),
            status("sent"),
        ]
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(path).unwrap_or_default()
}

fn photo() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(FALLEN_TREE, "image/png")
}

fn meta(body: &[u8], secret: &str) -> Result<Request> {
    let header = HeaderName::from_static("x-hub-signature-256");
    let secret = SigningSecret::new(Secret::new(secret)?);
    let signature =
        HmacSha256::new(header.clone(), "sha256=", SignatureEncoding::Hex, [secret]).sign(body).ok_or("no secret")?;
    Ok(http::Request::post("/webhooks/meta").header(header, signature).body(body.to_vec())?.into())
}

/// Returns X's webhooks with the signatures of the test vectors.
fn x(name: &str) -> Result<Request> {
    let vectors: Value = serde_json::from_slice(&fixture("x/vectors.json"))?;
    let signature = vectors["webhook_signature"]["files"][name].as_str().ok_or("no vector")?;
    let request = http::Request::post("/webhooks/x").header("x-twitter-webhooks-signature", signature);
    Ok(request.body(fixture(&format!("x/{name}")))?.into())
}

fn twilio(form: &BTreeMap<&'static str, String>, token: &str) -> Result<Request> {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(token.as_bytes())?;
    mac.update(format!("{PUBLIC}/webhooks/twilio").as_bytes());
    form.iter().for_each(|(name, value)| mac.update(format!("{name}{value}").as_bytes()));
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = http::Request::post("/webhooks/twilio").header("x-twilio-signature", signature);
    Ok(request.header("content-type", "application/x-www-form-urlencoded").body(body)?.into())
}

fn notify(body: &str, authorization: &str) -> Result<Request> {
    let request = http::Request::post("/webhooks/notify").header("authorization", authorization);
    Ok(request.body(body.to_owned())?.into())
}
