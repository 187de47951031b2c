//! Suppliers, limits and order, as a configuration writes them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Limit, Limits, Registry, Settings, under};
use crate::channel::Channel;
use crate::context::Context;
use crate::layer::failover::Order;
use crate::layer::retry::ScheduleWire;
use crate::layer::{RateLimit, Stack};
use crate::model::error::{Error, Result};
use crate::model::rate::{PairRate, Rate};
use crate::model::secret::Secret;

/// What stands beside the suppliers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    order: OrderName,
    retry: Option<ScheduleWire>,
    pepper: Option<Secret>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderName {
    #[default]
    Preferred,
    RoundRobin,
    Weighted,
}

/// What stands among a supplier's own settings.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Supplier {
    rate: Option<Rate>,
    pair_rate: Option<PairRate>,
    weight: Option<u32>,
}

/// Builds the recommended stack around the suppliers of these settings.
pub(super) fn connect(
    registry: &Registry,
    settings: &Settings,
    context: &Context,
    limits: &mut Limits,
) -> Result<Arc<dyn Channel>> {
    let mut beside = settings.clone();
    let Some(Value::Array(listed)) = beside.0.remove("suppliers") else {
        return Err(Error::config("suppliers", "is not a list of tables: write each as [[suppliers]]"));
    };
    for name in ["gateway", "rate", "pair_rate", "weight"] {
        if beside.0.contains_key(name) {
            return Err(Error::config(name, "stands beside suppliers: it belongs into one of them"));
        }
    }
    let config: Config = beside.read()?;
    let (mut stack, mut weights) = (None, Vec::new());
    for (n, value) in listed.into_iter().enumerate() {
        let part = format!("suppliers[{n}]");
        let Value::Object(mut own) = value else {
            return Err(Error::config(part, "is not a table"));
        };
        // What holds for all need not be written for each.
        if let Some(medium) = settings.0.get("medium") {
            own.entry("medium").or_insert_with(|| medium.clone());
        }
        let (channel, limit, weight) = supplier(registry, own, context, limits).map_err(|error| under(&part, error))?;
        if weight.is_some() && config.order != OrderName::Weighted {
            return Err(Error::config(format!("{part}.weight"), "has no meaning unless the order is \"weighted\""));
        }
        weights.push(weight.unwrap_or(1));
        stack = Some(match stack {
            None => Stack::new(channel),
            Some(stack) => Stack::failover_to(stack, channel),
        });
        stack = stack.map(|stack| stack.limit(limit));
    }
    let mut stack = stack.ok_or_else(|| Error::config("suppliers", "is empty: there must be one at least"))?;
    if weights.iter().all(|weight| *weight == 0) {
        return Err(Error::config("suppliers", "have a weight of 0 each: one must have more"));
    }
    if let Some(retry) = config.retry {
        let usual = stack.usual_schedule();
        stack = stack.schedule(retry.over(usual).map_err(|error| under("retry", error))?);
    }
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    let stack = config.pepper.into_iter().fold(stack, Stack::pepper);
    #[cfg(not(any(feature = "metrics", feature = "tracing")))]
    if config.pepper.is_some() {
        return Err(Error::config("pepper", "needs the feature tracing or metrics of this crate, which is not on"));
    }
    let order = match config.order {
        OrderName::Preferred => Order::Preferred,
        OrderName::RoundRobin => Order::RoundRobin,
        OrderName::Weighted => Order::Weighted(weights),
    };
    stack.order(order).clock(context.clock.clone()).build()
}

/// A supplier, the limits of its account, and its weight.
fn supplier(
    registry: &Registry,
    mut own: Map<String, Value>,
    context: &Context,
    limits: &mut Limits,
) -> Result<(Arc<dyn Channel>, RateLimit, Option<u32>)> {
    let names = ["rate", "pair_rate", "weight"];
    let beside = names.into_iter().filter_map(|name| Some((name.to_owned(), own.remove(name)?))).collect();
    let beside: Supplier = Settings(beside).read()?;
    for name in ["order", "pepper", "retry", "suppliers"] {
        if own.contains_key(name) {
            return Err(Error::config(name, "belongs beside the list of suppliers, and not into one of them"));
        }
    }
    let channel = registry.connect_bare(&Settings(own), context).map_err(|error| {
        // The gateway does not know what is read here.
        let also = format!("{}; and beside these: gateway, medium, rate, pair_rate, weight", error.what());
        if error.what().starts_with("unknown field") { error.with_what(also) } else { error }
    })?;
    let info = channel.info();
    let account = (info.gateway, info.medium.as_str().to_owned(), info.account.as_str().to_owned());
    let new = || Limit { limit: RateLimit::from_info(info).clock(context.clock.clone()), set: false };
    let shared = limits.entry(account).or_insert_with(new);
    if beside.rate.is_some() || beside.pair_rate.is_some() {
        if std::mem::replace(&mut shared.set, true) {
            return Err(Error::config("rate", "is set for this account already, by another supplier: set it once"));
        }
        shared.limit.retune(beside.rate, beside.pair_rate);
    }
    let limit = shared.limit.clone();
    Ok((channel, limit, beside.weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelExt;
    use crate::layer::Layer;
    use crate::mock::Mock;
    use crate::model::address::Address;
    use crate::model::clock::Timestamp;
    use crate::model::clock::{Clock, VirtualClock};
    use crate::model::error::{ErrorKind, Outcome};
    use crate::transport::NoTransport;

    struct World {
        registry: Registry,
        context: Context,
        clock: VirtualClock,
        mocks: [Mock; 2],
    }

    fn world() -> World {
        let clock = VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000));
        let mocks = [Mock::sms(), Mock::sms()];
        let [one, two] = mocks.clone();
        let registry = Registry::empty()
            .register("one", move |settings, _| {
                settings.read::<std::collections::BTreeMap<String, String>>()?;
                Ok(Arc::new(one.clone()))
            })
            .register("two", move |_, _| Ok(Arc::new(two.clone())))
            .register("wa", |_, _| Ok(Arc::new(Mock::whatsapp())))
            .register("retrying", |_, _| Ok(crate::layer::Retry::new().layer(Mock::sms())));
        World { registry, context: Context::with_transport(NoTransport).clock(clock.clone()), clock, mocks }
    }

    #[test]
    fn suppliers_become_a_stack_in_their_order() {
        let world = world();
        let json = r#"{"suppliers":[{"gateway":"one"},{"gateway":"two"}],"medium":"sms","retry":{"attempts":1}}"#;
        let sms = world.registry.connect(&Settings::from_json(json).unwrap(), &world.context).unwrap();
        let to = Address::phone("07700 900123").unwrap();
        let locked = || Error::new(ErrorKind::Account, "locked").with_outcome(Outcome::Rejected);
        world.mocks[0].will_fail(locked());
        world.clock.run(sms.send_text(&to, "Hello")).unwrap();
        assert_eq!(world.mocks.clone().map(|mock| mock.sent().len()), [1, 1]);
    }

    #[test]
    fn suppliers_of_one_account_share_its_rate() {
        let world = world();
        let json = r#"{
            "bins": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":10}}]},
            "tax": {"suppliers":[{"gateway":"one"}]}
        }"#;
        let all = world.registry.connect_all(&Settings::from_json(json).unwrap(), &world.context).unwrap();
        let (to, begun) = (Address::phone("07700 900123").unwrap(), world.clock.monotonic());
        world.clock.run(all["bins"].send_text(&to, "One")).unwrap();
        world.clock.run(all["tax"].send_text(&to, "Two")).unwrap();
        assert_eq!((world.clock.monotonic() - begun).as_millis(), 10_200);
        // Whichever of them sets it.
        let later = r#"{
            "a": {"suppliers":[{"gateway":"one"}]},
            "b": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":10}}]}
        }"#;
        assert!(world.registry.connect_all(&Settings::from_json(later).unwrap(), &world.context).is_ok());
        let twice = json.replace(
            r#""tax": {"suppliers":[{"gateway":"one""#,
            r#""tax": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":5}"#,
        );
        let error = world.registry.connect_all(&Settings::from_json(&twice).unwrap(), &world.context).unwrap_err();
        assert_eq!(error.field(), Some("tax.suppliers[0].rate"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let world = world();
        for (json, field) in [
            (r#"{"suppliers":[]}"#, "suppliers"),
            (r#"{"suppliers":{"gateway":"one"}}"#, "suppliers"),
            (r#"{"suppliers":["one"]}"#, "suppliers[0]"),
            (r#"{"suppliers":[{"gateway":"one"}],"gateway":"two"}"#, "gateway"),
            (r#"{"suppliers":[{"gateway":"three"}]}"#, "suppliers[0].gateway"),
            (r#"{"suppliers":[{"gateway":"one","token":1}]}"#, "suppliers[0].token"),
            (r#"{"suppliers":[{"gateway":"one","rate":{"count":0,"seconds":1}}]}"#, "suppliers[0].rate"),
            (r#"{"suppliers":[{"gateway":"one"},{"gateway":"two","weight":1}]}"#, "suppliers[1].weight"),
            (r#"{"suppliers":[{"gateway":"one","weight":0}],"order":"weighted"}"#, "suppliers"),
            (r#"{"suppliers":[{"gateway":"one","pepper":"a pepper of ours"}]}"#, "suppliers[0].pepper"),
            (r#"{"suppliers":[{"gateway":"one"}],"rate":{"count":1,"seconds":1}}"#, "rate"),
            (r#"{"suppliers":[{"gateway":"one"}],"retry":{"base_seconds":60}}"#, "retry.base_seconds"),
            (r#"{"suppliers":[{"gateway":"one"}],"order":"cheapest"}"#, "order"),
            (r#"{"suppliers":[{"gateway":"one"}],"retry":{"attempts":0}}"#, "retry.attempts"),
            (r#"{"suppliers":[{"gateway":"one"}],"colour":1}"#, "colour"),
            (r#"{"suppliers":[{"gateway":"one"}],"pepper":"short"}"#, "pepper"),
            (r#"{"suppliers":[{"gateway":"one"},{"gateway":"wa"}]}"#, "suppliers"),
            (r#"{"suppliers":[{"gateway":"one"}],"medium":"whatsapp"}"#, "suppliers[0].medium"),
            (r#"{"suppliers":[{"gateway":"retrying"}]}"#, "suppliers"),
        ] {
            let error = world.registry.connect(&Settings::from_json(json).unwrap(), &world.context).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{json}: {error}");
        }
    }
}
