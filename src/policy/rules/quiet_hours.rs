//! Quiet hours, in which no unprompted message is sent.

use async_trait::async_trait;
use serde::Deserialize;

use crate::model::error::{Error, Result};
use crate::model::message::Purpose;
use crate::policy::hours::{Hours, OpeningTimes, Time, Zone};
use crate::policy::{Decision, Policy, PolicyInput, Reason};

/// The daily hours in which notices and marketing wait until morning.
///
/// Replies and emergencies are not affected. Times are local, British time by default, also where the clock changes. The
/// rule is `quiet-hours`. In a configuration: `{ from = "21:00", until = "08:00" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "QuietHoursWire")]
pub struct QuietHours {
    /// Open outside the quiet hours.
    hours: Hours,
    reason: Reason,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { from = \"21:00\", until = \"08:00\" }")]
struct QuietHoursWire {
    from: Time,
    until: Time,
    #[serde(default)]
    zone: Zone,
}

impl QuietHours {
    /// Creates quiet hours in British time, which may include midnight.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if both times are the same.
    pub fn new(from: Time, until: Time) -> Result<Self> {
        Self::in_zone(from, until, Zone::default())
    }

    /// Creates quiet hours in the time of a zone.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_zone(from: Time, until: Time, zone: Zone) -> Result<Self> {
        let midnight = Time::new(0, 0)?;
        let of_day = |time| if time == Time::END_OF_DAY { midnight } else { time };
        let (from, until) = (of_day(from), of_day(until));
        if from == until {
            return Err(Error::config("until", "must differ from the start of the quiet hours"));
        }
        let ranges = match (from > until, from == midnight, until == midnight) {
            (true, _, true) => format!("00:00-{from}"),
            (true, ..) => format!("{until}-{from}"),
            (false, true, _) => format!("{until}-24:00"),
            (false, ..) => format!("00:00-{from}, {until}-24:00"),
        };
        let mut times = OpeningTimes::new(format!("Mon-Sun {ranges}"));
        times.zone = zone;
        let text = format!("unprompted messages wait from {from} until {until}");
        Ok(Self { hours: Hours::new(&times)?, reason: Reason::new("quiet-hours", text) })
    }
}

impl TryFrom<QuietHoursWire> for QuietHours {
    type Error = Error;

    fn try_from(wire: QuietHoursWire) -> Result<Self> {
        Self::in_zone(wire.from, wire.until, wire.zone)
    }
}

#[async_trait]
impl Policy for QuietHours {
    async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision> {
        let is_prompted = matches!(input.message.purpose, Purpose::Reply | Purpose::Emergency);
        if is_prompted || self.hours.is_open(input.at)? {
            return Ok(Decision::Allow);
        }
        Ok(Decision::Defer { until: self.hours.next_opening(input.at)?, reason: self.reason.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::Address;
    use crate::model::clock::Timestamp;
    use crate::model::message::Message;

    fn quiet(from: &str, until: &str) -> QuietHours {
        QuietHours::new(from.parse().unwrap(), until.parse().unwrap()).unwrap()
    }

    /// Returns the time until which a message waits.
    fn until(quiet: &QuietHours, purpose: Purpose, at: &str) -> Option<String> {
        let message = Message::text(Address::phone("07700 900123").unwrap(), "Hello").purpose(purpose);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(quiet.decide(&PolicyInput::new("desk", &message, at.parse().unwrap()))).unwrap() {
            Decision::Defer { until, reason } => {
                assert_eq!(reason.rule(), "quiet-hours");
                Some(until.to_string())
            }
            Decision::Allow => None,
            refused @ Decision::Refuse(_) => panic!("{refused:?}"),
        }
    }

    #[test]
    fn unprompted_message_waits_until_morning_in_local_time() {
        let night = quiet("21:00", "08:00");
        for (at, expected) in [
            ("2026-11-22T20:59:59Z", None),
            ("2026-11-22T21:00:00Z", Some("2026-11-23T08:00:00Z")),
            ("2026-11-23T07:59:59Z", Some("2026-11-23T08:00:00Z")),
            ("2026-11-23T08:00:00Z", None),
            // Summer time, and the nights in which the clock changes.
            ("2026-07-01T20:30:00Z", Some("2026-07-02T07:00:00Z")),
            ("2026-03-28T23:00:00Z", Some("2026-03-29T07:00:00Z")),
            ("2026-10-24T22:00:00Z", Some("2026-10-25T08:00:00Z")),
        ] {
            for purpose in [Purpose::Notice, Purpose::Marketing] {
                let expected = expected.map(|at| at.parse::<Timestamp>().unwrap().to_string());
                assert_eq!(until(&night, purpose, at), expected, "{at}");
            }
            for purpose in [Purpose::Reply, Purpose::Emergency] {
                assert_eq!(until(&night, purpose, at), None, "{at}");
            }
        }
    }

    #[test]
    fn quiet_hours_may_touch_midnight_or_noon() {
        for (from, to, quiet_at, open_at) in [
            ("12:00", "14:00", "2026-11-22T13:00:00Z", "2026-11-22T11:00:00Z"),
            ("00:00", "06:00", "2026-11-22T05:00:00Z", "2026-11-22T07:00:00Z"),
            ("22:00", "00:00", "2026-11-22T23:00:00Z", "2026-11-22T01:00:00Z"),
            ("22:00", "24:00", "2026-11-22T23:00:00Z", "2026-11-22T01:00:00Z"),
        ] {
            let quiet = quiet(from, to);
            assert!(until(&quiet, Purpose::Notice, quiet_at).is_some(), "{from}");
            assert!(until(&quiet, Purpose::Notice, open_at).is_none(), "{from}");
        }
        assert_eq!(
            QuietHours::new("09:00".parse().unwrap(), "09:00".parse().unwrap()).unwrap_err().field(),
            Some("until")
        );
        let read = |json: &str| serde_json::from_str::<QuietHours>(json);
        assert!(read(r#"{"from":"21:00","until":"08:00"}"#).is_ok());
        assert!(read(r#"{"from":"21:00","until":"21:00"}"#).unwrap_err().to_string().contains("must differ"));
        assert!(read(r#"{"from":"21:00"}"#).is_err());
    }
}
