//! Builds stacks from a configuration's suppliers, rates and order.

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

/// The settings of a stack, without its suppliers.
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

/// The settings of the stack within a supplier's table.
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
    let mut shared = settings.clone();
    let Some(Value::Array(suppliers)) = shared.0.remove("suppliers") else {
        return Err(Error::config("suppliers", "is not a list of tables: write each as [[suppliers]]"));
    };
    for name in ["gateway", "rate", "pair_rate", "weight"] {
        if shared.0.contains_key(name) {
            return Err(Error::config(name, "is set beside suppliers: move it into a supplier"));
        }
    }
    let config: Config = shared.read()?;
    let (mut stack, mut weights) = (None, Vec::new());
    for (n, value) in suppliers.into_iter().enumerate() {
        let part = format!("suppliers[{n}]");
        let Value::Object(mut own) = value else {
            return Err(Error::config(part, "is not a table"));
        };
        // The shared medium is the default of each supplier.
        if let Some(medium) = settings.0.get("medium") {
            own.entry("medium").or_insert_with(|| medium.clone());
        }
        let (channel, limit, weight) = supplier(registry, own, context, limits).map_err(|error| under(&part, error))?;
        if weight.is_some() && config.order != OrderName::Weighted {
            return Err(Error::config(
                format!("{part}.weight"),
                "has no effect: set order = \"weighted\", or remove it",
            ));
        }
        weights.push(weight.unwrap_or(1));
        stack = Some(match stack {
            None => Stack::new(channel),
            Some(stack) => Stack::failover_to(stack, channel),
        });
        stack = stack.map(|stack| stack.limit(limit));
    }
    let mut stack = stack.ok_or_else(|| Error::config("suppliers", "is empty: list at least one"))?;
    if weights.iter().all(|weight| *weight == 0) {
        return Err(Error::config("suppliers", "all have weight 0: set one above 0"));
    }
    if let Some(retry) = config.retry {
        let default = stack.default_schedule();
        stack = stack.schedule(retry.over(default).map_err(|error| under("retry", error))?);
    }
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    let stack = config.pepper.into_iter().fold(stack, Stack::pepper);
    #[cfg(not(any(feature = "metrics", feature = "tracing")))]
    if config.pepper.is_some() {
        return Err(Error::config("pepper", "needs this crate's feature tracing or metrics: enable one"));
    }
    let order = match config.order {
        OrderName::Preferred => Order::Preferred,
        OrderName::RoundRobin => Order::RoundRobin,
        OrderName::Weighted => Order::Weighted(weights),
    };
    stack.order(order).clock(context.clock.clone()).random(context.random.clone()).build()
}

/// Connects a supplier and returns it with the rate limit of its account and its weight.
fn supplier(
    registry: &Registry,
    mut own: Map<String, Value>,
    context: &Context,
    limits: &mut Limits,
) -> Result<(Arc<dyn Channel>, RateLimit, Option<u32>)> {
    let names = ["rate", "pair_rate", "weight"];
    let stack_settings = names.into_iter().filter_map(|name| Some((name.to_owned(), own.remove(name)?))).collect();
    let supplier: Supplier = Settings(stack_settings).read()?;
    for name in ["order", "pepper", "retry", "suppliers"] {
        if own.contains_key(name) {
            return Err(Error::config(name, "is set in a supplier: move it beside suppliers"));
        }
    }
    let channel = registry.connect_bare(&Settings(own), context).map_err(|error| {
        // The gateway's error does not list the fields read here.
        let also = format!("{}; also known: gateway, medium, rate, pair_rate, weight", error.what());
        if error.what().starts_with("unknown field") { error.with_what(also) } else { error }
    })?;
    let info = channel.info();
    let account = (info.gateway, info.medium.as_str().to_owned(), info.account.as_str().to_owned());
    let new = || Limit { limit: RateLimit::from_info(info).clock(context.clock.clone()), configured: false };
    let shared = limits.entry(account).or_insert_with(new);
    if supplier.rate.is_some() || supplier.pair_rate.is_some() {
        if std::mem::replace(&mut shared.configured, true) {
            return Err(Error::config("rate", "is already set for this account by another supplier: set it once"));
        }
        shared.limit.retune(supplier.rate, supplier.pair_rate);
    }
    let limit = shared.limit.clone();
    Ok((channel, limit, supplier.weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelExt;
    use crate::layer::Layer;
    use crate::mock::Mock;
    use crate::model::address::Address;
    use crate::model::clock::{Clock, Timestamp, VirtualClock};
    use crate::model::error::{ErrorKind, Outcome};
    use crate::transport::NoTransport;

    struct Setup {
        registry: Registry,
        context: Context,
        clock: VirtualClock,
        mocks: [Mock; 2],
    }

    fn setup() -> Setup {
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
        Setup { registry, context: Context::with_transport(NoTransport).clock(clock.clone()), clock, mocks }
    }

    #[test]
    fn suppliers_become_a_stack_in_their_order() {
        let setup = setup();
        let json = r#"{"suppliers":[{"gateway":"one"},{"gateway":"two"}],"medium":"sms","retry":{"attempts":1}}"#;
        let sms = setup.registry.connect(&Settings::from_json(json).unwrap(), &setup.context).unwrap();
        let to = Address::phone("07700 900123").unwrap();
        let locked = || Error::new(ErrorKind::Account, "locked").with_outcome(Outcome::Rejected);
        setup.mocks[0].will_fail(locked());
        setup.clock.run(sms.send_text(&to, "Hello")).unwrap();
        assert_eq!(setup.mocks.clone().map(|mock| mock.sent().len()), [1, 1]);
    }

    #[test]
    fn suppliers_of_one_account_share_its_rate() {
        let setup = setup();
        let json = r#"{
            "bins": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":10}}]},
            "tax": {"suppliers":[{"gateway":"one"}]}
        }"#;
        let all = setup.registry.connect_all(&Settings::from_json(json).unwrap(), &setup.context).unwrap();
        let (to, started) = (Address::phone("07700 900123").unwrap(), setup.clock.monotonic());
        setup.clock.run(all["bins"].send_text(&to, "One")).unwrap();
        setup.clock.run(all["tax"].send_text(&to, "Two")).unwrap();
        assert_eq!((setup.clock.monotonic() - started).as_millis(), 10_200);
        // Either supplier may set it.
        let later = r#"{
            "a": {"suppliers":[{"gateway":"one"}]},
            "b": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":10}}]}
        }"#;
        assert!(setup.registry.connect_all(&Settings::from_json(later).unwrap(), &setup.context).is_ok());
        let twice = json.replace(
            r#""tax": {"suppliers":[{"gateway":"one""#,
            r#""tax": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":5}"#,
        );
        let error = setup.registry.connect_all(&Settings::from_json(&twice).unwrap(), &setup.context).unwrap_err();
        assert_eq!(error.field(), Some("tax.suppliers[0].rate"));
    }

    #[test]
    fn invalid_settings_name_their_field() {
        let setup = setup();
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
            let error = setup.registry.connect(&Settings::from_json(json).unwrap(), &setup.context).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{json}: {error}");
        }
    }
}
