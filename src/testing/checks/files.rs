//! Files go up and come down whole, within their limits, to and from the gateway alone.

use crate::media::MediaStream;
use crate::model::error::Result;
use crate::model::message::MediaRef;
use crate::testing::fake_gateway::FakeGateway;
use crate::testing::run::{Checked, OWN, Pace, Run, Stop, applies, based, driven, ensure};
use crate::testing::step::Step;
use crate::testing::subject::{Call, Exchange, Expectation};

fn exchanges(run: &Run<'_>, call: &str, declared: bool) -> Checked<Vec<(usize, Exchange)>> {
    applies(declared, "it is not declared")?;
    let all = run.subject.exchanges().into_iter().enumerate();
    Ok(all.filter(|(_, exchange)| exchange.call.name() == call).collect())
}

/// Each recorded upload makes its requests, which hold every byte of the file.
pub(super) async fn a_file_goes_up_whole(run: &Run<'_>) -> Checked {
    for (nth, exchange) in exchanges(run, "upload_media", run.info.capability.upload_media)? {
        run.play(nth, &exchange).await?;
        let (Call::Upload(_, _, bytes), false) = (&exchange.call, run.subject.in_memory()) else { continue };
        let double = run.replay(&exchange, |_, step| step.unconditional()).await?.double;
        let there =
            double.asked().iter().any(|asked| asked.body.windows(bytes.len().max(1)).any(|piece| piece == bytes));
        ensure!(there, "exchange {}: the uploaded file is not whole in any request", nth + 1);
    }
    Ok(())
}

/// A file that is larger than the capability allows is refused before the network.
pub(super) async fn a_file_over_its_limit_does_not_go_up(run: &Run<'_>) -> Checked {
    for (_, exchange) in exchanges(run, "upload_media", run.info.capability.upload_media)? {
        let Call::Upload(media, mime, bytes) = &exchange.call else { continue };
        let rules = run.info.capability.media.iter().flat_map(|limits| &limits.kinds);
        let Some(most) = rules.filter(|rule| rule.kind == media.kind).map(|rule| rule.max).max() else { continue };
        let double = FakeGateway::start().await;
        exchange.steps.iter().for_each(|step| double.expects(step.clone().unconditional().based(&double.base_url())));
        let channel = run.connect(&double.base_url(), Pace::Patient)?;
        let (bytes, len) = (bytes.clone(), most + 1);
        let stream = Box::pin(Once(Some(Ok(bytes))));
        let uploaded = channel.upload_media(media, MediaStream::from_stream(mime.clone(), stream, Some(len))).await;
        let Err(error) = uploaded else {
            return Err(Stop::Failed(format!("a {} of {len} bytes goes up; the limit is {most}", media.kind)));
        };
        run.note_error(&error);
        ensure!(double.asked().is_empty(), "a {} over its limit reaches the gateway", media.kind);
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

/// Each recorded fetch makes its requests, and gives the file.
pub(super) async fn a_file_comes_down_whole(run: &Run<'_>) -> Checked {
    for (nth, exchange) in exchanges(run, "fetch_media", run.info.capability.fetch_media)? {
        run.play(nth, &exchange).await?;
    }
    Ok(())
}

/// Fetches the file of a recorded exchange, with these steps, and of this reference.
async fn fetch(
    run: &Run<'_>,
    media: &MediaRef,
    steps: Vec<Step>,
    double: &FakeGateway,
) -> Checked<Result<bytes::Bytes>> {
    steps.into_iter().for_each(|step| double.expects(step));
    let setup = run.setup(&double.base_url(), Pace::Patient);
    let channel = run.built(&setup)?;
    let fetched = driven(&setup.clock, async { channel.fetch_media(media).await?.bytes().await }).await;
    if let Err(error) = &fetched {
        run.note_error(error);
    }
    Ok(fetched)
}

/// The recorded fetches that give a file, with what they ask for and how.
fn fetches(run: &Run<'_>) -> Checked<Vec<(MediaRef, Vec<Step>)>> {
    let fetches = exchanges(run, "fetch_media", run.info.capability.fetch_media)?;
    applies(!run.subject.in_memory(), "it reaches no gateway")?;
    let file = |(_, exchange): (usize, Exchange)| match (exchange.call, exchange.result) {
        (Call::Fetch(media), Expectation::File(_)) => {
            Some((media, exchange.steps.into_iter().map(Step::unconditional).collect()))
        }
        _ => None,
    };
    Ok(fetches.into_iter().filter_map(file).collect())
}

/// A file is fetched from no host but the gateway's own, whatever its reference, an answer or a redirect says.
pub(super) async fn a_file_is_fetched_from_the_gateway_only(run: &Run<'_>) -> Checked {
    const ELSEWHERE: &str = "https://conformance.example";
    for (media, steps) in fetches(run)? {
        let double = FakeGateway::start().await;
        // What the reference, or an answer on the way, says of the place.
        let away: Vec<_> = steps.iter().map(|step| step.clone().based(ELSEWHERE)).collect();
        let moved = based(&media, ELSEWHERE);
        let same = media.url == moved.url && steps.iter().zip(&away).all(|(a, b)| a.answer() == b.answer());
        if !same {
            let fetched = fetch(run, &moved, away, &double).await?;
            ensure!(fetched.is_err(), "a file of another host is fetched");
            ensure!(run.strangers().is_empty(), "another host is asked for a file");
        }
        for target in [ELSEWHERE, "http://169.254.169.254/latest", "https://user@127.0.0.1/", "//conformance.example/"]
        {
            let double = FakeGateway::start().await;
            let mut steps: Vec<_> = steps.iter().map(|step| step.clone().based(&double.base_url())).collect();
            if let Some(last) = steps.last_mut() {
                *last = Step::any().answers(302, "").response_header("location", target);
            }
            let fetched = fetch(run, &based(&media, &double.base_url()), steps, &double).await?;
            ensure!(fetched.is_err(), "a file is fetched from where a redirect leads");
            ensure!(run.strangers().is_empty(), "a redirect to another host is followed");
        }
    }
    Ok(())
}

/// Where a redirect leads to another host that serves files, the credential does not go along.
pub(super) async fn a_credential_stays_at_the_gateway(run: &Run<'_>) -> Checked {
    let secrets = run.subject.secrets();
    for (media, steps) in fetches(run)? {
        let (double, other) = (FakeGateway::start().await, FakeGateway::start().await);
        other.always(Step::any().answers(200, "conformance"));
        let mut steps: Vec<_> = steps.iter().map(|step| step.clone().based(&double.base_url())).collect();
        if let Some(last) = steps.last_mut() {
            *last = Step::any().answers(302, "").response_header("location", format!("{}/file", other.base_url()));
        }
        // Whether it goes there at all is the adapter's choice.
        _ = fetch(run, &based(&media, &double.base_url()), steps, &double).await?;
        for asked in other.asked() {
            let shown =
                format!("{:?} {}", asked.headers.iter().map(|h| h.1.as_bytes()).collect::<Vec<_>>(), asked.path);
            let headers: Vec<_> = asked.headers.values().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
            let mut needles = super::super::leaks::Needles::default();
            secrets.iter().map(String::as_str).chain([OWN]).for_each(|secret| needles.add("a credential", secret));
            let shown = format!("{shown} {}", headers.join(" "));
            ensure!(needles.found(&shown).is_none(), "a credential goes along to another host");
            ensure!(!asked.headers.contains_key("authorization"), "an authorization goes along to another host");
        }
    }
    Ok(())
}

/// A file that is longer than it may be, or whose hash is not the one that was given, is an error and no file.
pub(super) async fn a_file_over_its_cap_or_with_a_wrong_hash_is_an_error(run: &Run<'_>) -> Checked {
    for (media, steps) in fetches(run)? {
        let double = FakeGateway::start().await;
        let mut large: Vec<_> = steps.iter().map(|step| step.clone().based(&double.base_url())).collect();
        if let Some(last) = large.last_mut() {
            *last = last.clone().claims(10 << 30);
        }
        let fetched = fetch(run, &based(&media, &double.base_url()), large, &double).await?;
        ensure!(fetched.is_err(), "a file of 10 GiB is fetched");
        let asked = double.asked().len();
        ensure!(asked <= steps.len(), "a file that breaks off is asked for again");
        if media.sha256.is_some() {
            let double = FakeGateway::start().await;
            let mut other: Vec<_> = steps.iter().map(|step| step.clone().based(&double.base_url())).collect();
            if let Some(last) = other.last_mut() {
                *last = last.clone().answers(200, "another file");
            }
            let fetched = fetch(run, &based(&media, &double.base_url()), other, &double).await?;
            ensure!(fetched.is_err(), "a file whose hash is wrong is taken");
        }
    }
    Ok(())
}
