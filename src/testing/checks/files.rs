//! Checks of uploads and downloads.

use crate::media::MediaStream;
use crate::model::error::Result;
use crate::model::message::MediaRef;
use crate::testing::fake_gateway::FakeGateway;
use crate::testing::run::{CheckError, CheckResult, OWN, Pace, Run, applies, based, driven, ensure};
use crate::testing::step::Step;
use crate::testing::subject::{Call, Exchange, Expectation};

fn exchanges(run: &Run<'_>, call: &str, declared: bool) -> CheckResult<Vec<(usize, Exchange)>> {
    applies(declared, "not declared")?;
    let all = run.subject.exchanges().into_iter().enumerate();
    Ok(all.filter(|(_, exchange)| exchange.call.name() == call).collect())
}

/// Each recorded upload makes its requests, which contain every byte of the file.
pub(super) async fn upload_is_complete(run: &Run<'_>) -> CheckResult {
    for (nth, exchange) in exchanges(run, "upload_media", run.info.capability.upload_media)? {
        run.play(nth, &exchange).await?;
        let (Call::Upload(_, _, bytes), false) = (&exchange.call, run.subject.in_memory()) else { continue };
        let gateway = run.replay(&exchange, |_, step| step.unconditional()).await?.gateway;
        let there =
            gateway.requests().iter().any(|asked| asked.body.windows(bytes.len().max(1)).any(|piece| piece == bytes));
        ensure!(there, "exchange {}: expected the whole file in a request, got part of it or none", nth + 1);
    }
    Ok(())
}

/// A file that is larger than the capability allows is refused before the network.
pub(super) async fn oversized_upload_is_refused(run: &Run<'_>) -> CheckResult {
    for (_, exchange) in exchanges(run, "upload_media", run.info.capability.upload_media)? {
        let Call::Upload(media, mime, bytes) = &exchange.call else { continue };
        let rules = run.info.capability.media.iter().flat_map(|limits| &limits.kinds);
        let Some(most) = rules.filter(|rule| rule.kind == media.kind).map(|rule| rule.max).max() else { continue };
        let gateway = FakeGateway::start().await;
        exchange.steps.iter().for_each(|step| gateway.expects(step.clone().unconditional().based(&gateway.base_url())));
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        let (bytes, len) = (bytes.clone(), most + 1);
        let stream = Box::pin(Once(Some(Ok(bytes))));
        let uploaded = channel.upload_media(media, MediaStream::from_stream(mime.clone(), stream, Some(len))).await;
        let Err(error) = uploaded else {
            return Err(CheckError::Failed(format!(
                "a {} of {len} bytes over the limit of {most}: expected an error, got success",
                media.kind
            )));
        };
        run.note_error(&error);
        ensure!(gateway.requests().is_empty(), "a {} over its limit: expected no request, got one", media.kind);
    }
    Ok(())
}

struct Once(Option<Result<bytes::Bytes>>);

impl futures_core::Stream for Once {
    type Item = Result<bytes::Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take())
    }
}

/// Each recorded fetch makes its requests and returns the file.
pub(super) async fn download_is_complete(run: &Run<'_>) -> CheckResult {
    for (nth, exchange) in exchanges(run, "fetch_media", run.info.capability.fetch_media)? {
        run.play(nth, &exchange).await?;
    }
    Ok(())
}

/// Fetches a file with these steps and this reference.
async fn fetch(
    run: &Run<'_>,
    media: &MediaRef,
    steps: Vec<Step>,
    gateway: &FakeGateway,
) -> CheckResult<Result<bytes::Bytes>> {
    steps.into_iter().for_each(|step| gateway.expects(step));
    let setup = run.setup(&gateway.base_url(), Pace::Patient);
    let channel = run.built(&setup)?;
    let fetched = driven(&setup.clock, async { channel.fetch_media(media).await?.bytes().await }).await;
    if let Err(error) = &fetched {
        run.note_error(error);
    }
    Ok(fetched)
}

/// Returns the recorded fetches of a file, with their references and steps.
fn fetches(run: &Run<'_>) -> CheckResult<Vec<(MediaRef, Vec<Step>)>> {
    let fetches = exchanges(run, "fetch_media", run.info.capability.fetch_media)?;
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    let file = |(_, exchange): (usize, Exchange)| match (exchange.call, exchange.result) {
        (Call::Fetch(media), Expectation::File(_)) => {
            Some((media, exchange.steps.into_iter().map(Step::unconditional).collect()))
        }
        _ => None,
    };
    Ok(fetches.into_iter().filter_map(file).collect())
}

/// A file is fetched from the gateway's hosts only, whatever its reference, a response or a redirect contains.
pub(super) async fn file_is_fetched_from_the_gateway_only(run: &Run<'_>) -> CheckResult {
    const ELSEWHERE: &str = "https://conformance.example";
    for (media, steps) in fetches(run)? {
        let gateway = FakeGateway::start().await;
        // The reference, or an intermediate response, points to another host.
        let away: Vec<_> = steps.iter().map(|step| step.clone().based(ELSEWHERE)).collect();
        let moved = based(&media, ELSEWHERE);
        let same = media.url == moved.url && steps.iter().zip(&away).all(|(a, b)| a.answer() == b.answer());
        if !same {
            let fetched = fetch(run, &moved, away, &gateway).await?;
            ensure!(fetched.is_err(), "file of another host: expected an error, got success");
            ensure!(run.foreign_hosts().is_empty(), "file of another host: expected no request to it, got one");
        }
        for target in [ELSEWHERE, "http://169.254.169.254/latest", "https://user@127.0.0.1/", "//conformance.example/"]
        {
            let gateway = FakeGateway::start().await;
            let mut steps: Vec<_> = steps.iter().map(|step| step.clone().based(&gateway.base_url())).collect();
            if let Some(last) = steps.last_mut() {
                *last = Step::any().answers(302, "").response_header("location", target);
            }
            let fetched = fetch(run, &based(&media, &gateway.base_url()), steps, &gateway).await?;
            ensure!(fetched.is_err(), "redirect to another host: expected an error, got success");
            ensure!(run.foreign_hosts().is_empty(), "redirect to another host: expected no request to it, got one");
        }
    }
    Ok(())
}

/// A redirect to another host carries no credential.
pub(super) async fn credential_is_sent_to_the_gateway_only(run: &Run<'_>) -> CheckResult {
    let secrets = run.subject.secrets();
    for (media, steps) in fetches(run)? {
        let (gateway, other) = (FakeGateway::start().await, FakeGateway::start().await);
        other.always(Step::any().answers(200, "conformance"));
        let mut steps: Vec<_> = steps.iter().map(|step| step.clone().based(&gateway.base_url())).collect();
        if let Some(last) = steps.last_mut() {
            *last = Step::any().answers(302, "").response_header("location", format!("{}/file", other.base_url()));
        }
        // Following the redirect is the adapter's choice.
        _ = fetch(run, &based(&media, &gateway.base_url()), steps, &gateway).await?;
        for asked in other.requests() {
            let shown =
                format!("{:?} {}", asked.headers.iter().map(|h| h.1.as_bytes()).collect::<Vec<_>>(), asked.path);
            let headers: Vec<_> = asked.headers.values().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
            let mut needles = super::super::leaks::Needles::default();
            secrets.iter().map(String::as_str).chain([OWN]).for_each(|secret| needles.add("a credential", secret));
            let shown = format!("{shown} {}", headers.join(" "));
            ensure!(needles.found(&shown).is_none(), "redirect to another host: expected no credential, got one");
            ensure!(
                !asked.headers.contains_key("authorization"),
                "redirect to another host: expected no Authorization header, got one"
            );
        }
    }
    Ok(())
}

/// A file over its limit, or with another hash than the given one, is an error.
pub(super) async fn oversized_or_altered_download_is_an_error(run: &Run<'_>) -> CheckResult {
    for (media, steps) in fetches(run)? {
        let gateway = FakeGateway::start().await;
        let mut large: Vec<_> = steps.iter().map(|step| step.clone().based(&gateway.base_url())).collect();
        if let Some(last) = large.last_mut() {
            *last = last.clone().content_length(10 << 30);
        }
        let fetched = fetch(run, &based(&media, &gateway.base_url()), large, &gateway).await?;
        ensure!(fetched.is_err(), "file of 10 GiB: expected an error, got success");
        let asked = gateway.requests().len();
        ensure!(asked <= steps.len(), "truncated file: expected one request, got another");
        if media.sha256.is_some() {
            let gateway = FakeGateway::start().await;
            let mut other: Vec<_> = steps.iter().map(|step| step.clone().based(&gateway.base_url())).collect();
            if let Some(last) = other.last_mut() {
                *last = last.clone().answers(200, "another file");
            }
            let fetched = fetch(run, &based(&media, &gateway.base_url()), other, &gateway).await?;
            ensure!(fetched.is_err(), "file with a wrong hash: expected an error, got success");
        }
    }
    Ok(())
}
