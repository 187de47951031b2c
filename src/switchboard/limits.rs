//! Limits on recent messages: what is compared, and the rule, which each store evaluates over its rows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Builder;
use crate::channel::Channel;
use crate::model::address::Medium;
use crate::model::clock::Timestamp;
use crate::model::message::Message;
use crate::policy::Reason;
use crate::policy::budgets::AtCap;
use crate::policy::limits::{ADJACENT, Bursts, Frequency, NUMBERS_KEPT, is_unprompted};
use crate::policy::windows::Window;

impl Builder {
    /// Limits the number of unprompted messages to one person.
    ///
    /// It is counted in the transaction that records the start of a send, over all programs on the store.
    #[must_use]
    pub fn frequency(mut self, frequency: Frequency) -> Self {
        self.limits.frequency = Some(frequency);
        self
    }

    /// Limits the number of SMS to adjacent phone numbers on each line.
    ///
    /// It is counted in the transaction that records the start of a send, over all programs on the store. The numbers are
    /// kept in the store until the window has passed.
    #[must_use]
    pub fn bursts(mut self, bursts: Bursts) -> Self {
        self.limits.bursts = Some(bursts);
        self
    }
}

impl Builder {
    /// Refuses messages outside the window of their medium before the network: `false` by default.
    ///
    /// | medium | a message needs | otherwise |
    /// |---|---|---|
    /// | WhatsApp | a message of the person within 24 hours | an approved template |
    /// | Messenger | an action of the person within 24 hours; within 7 days with the option `human_agent` | |
    /// | X | a message of the person, at any time | |
    ///
    /// Templates and [`Content::Native`](crate::Content::Native) are not affected, nor are messages to a
    /// conversation. Each account has its own window with a person, who is everybody whose addresses are linked. It is
    /// read from the store in the transaction that records the start of a send, by the gateway's times. Where the gateway
    /// rejected a message with [`ErrorKind::OutsideWindow`](crate::ErrorKind::OutsideWindow), the window is closed until
    /// the person writes again. Messages that [`Line::retention`](super::Line::retention) removed, or that another program
    /// received, open none.
    ///
    /// The rule is `window`. A refusal leaves the fallback on another medium.
    #[must_use]
    pub fn windows(mut self, are_predicted: bool) -> Self {
        self.limits.has_windows = are_predicted;
        self
    }
}

/// The limits of a switchboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) frequency: Option<Frequency>,
    pub(super) bursts: Option<Bursts>,
    /// The window that one message needs.
    pub(super) window: Option<Window>,
    /// Windows are predicted.
    pub(super) has_windows: bool,
}

impl Limits {
    pub(super) fn is_empty(&self) -> bool {
        self.frequency.is_none() && self.bursts.is_none() && self.window.is_none()
    }

    /// Returns the limits on a message of this channel.
    pub(super) fn on(&self, channel: &dyn Channel, message: &Message) -> Self {
        let is_sms = channel.info().medium == Medium::Sms && message.to.as_phone().is_some();
        let is_unprompted = is_unprompted(message.purpose);
        Self {
            frequency: self.frequency.filter(|_| is_unprompted),
            bursts: self.bursts.filter(|_| is_unprompted && is_sms),
            window: if self.has_windows { Window::of(channel.info(), message) } else { None },
            has_windows: self.has_windows,
        }
    }
}

/// A recent message: its number, or the phone number, and the time.
pub(super) type Recent = (i64, Timestamp);

/// A limit, as a store evaluates it for one attempt.
#[derive(Clone)]
pub(super) struct Check {
    /// The rows that are compared.
    pub(super) keys: Vec<String>,
    /// The row of these to which the message is added.
    pub(super) own: String,
    /// The number of the message, or the phone number.
    pub(super) member: i64,
    pub(super) at: Timestamp,
    pub(super) max: usize,
    pub(super) window: Duration,
    /// Phone numbers are compared, and refused ones are kept.
    pub(super) is_adjacent: bool,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Room,
    /// Room is free at this time, if nothing else is sent until then.
    Full(Timestamp),
}

impl Check {
    /// Returns the limit on messages to a person of these keys.
    pub(super) fn frequency(of: &Frequency, keys: Vec<String>, own: String, message: i64, at: Timestamp) -> Self {
        let max = of.max as usize;
        Self { keys, own, member: message, at, max, window: of.window, is_adjacent: false }
    }

    /// Returns the limit on messages of a line to adjacent numbers.
    pub(super) fn bursts(of: Bursts, line: &str, number: i64, at: Timestamp) -> Self {
        let own = format!("burst {line}");
        let (keys, max) = (vec![own.clone()], of.max as usize);
        Self { keys, own, member: number, at, max, window: of.window, is_adjacent: true }
    }

    /// The time from which its row is not needed.
    pub(super) fn expires(&self) -> Timestamp {
        self.at.plus(self.window)
    }

    /// Compares a message with recent ones, and adds it to them.
    pub(super) fn evaluate(&self, rows: &mut BTreeMap<String, Vec<Recent>>) -> Checked {
        let since = self.at.minus(self.window);
        let recent = |(_, at): &&Recent| *at > since;
        let mut counted = Vec::new();
        for (member, at) in self.keys.iter().filter_map(|key| rows.get(key)).flatten().filter(recent) {
            let is_own = *member == self.member;
            if is_own && !self.is_adjacent {
                // An attempt that is repeated.
                return Checked::Room;
            }
            if !is_own && (!self.is_adjacent || member.abs_diff(self.member) <= ADJACENT) {
                counted.push(*at);
            }
        }
        let is_full = counted.len() >= self.max;
        if !is_full || self.is_adjacent {
            let own = rows.entry(self.own.clone()).or_default();
            own.retain(|(member, at)| *at > since && *member != self.member);
            own.push((self.member, self.at));
            let kept = if self.is_adjacent { NUMBERS_KEPT } else { self.max };
            own.drain(..own.len().saturating_sub(kept));
        }
        if !is_full {
            return Checked::Room;
        }
        counted.sort_unstable_by(|a, b| b.cmp(a));
        // The clock may have been set back.
        let last = counted.get(self.max.saturating_sub(1)).copied().unwrap_or(self.at).min(self.at);
        Checked::Full(last.plus(self.window))
    }
}

/// Returns the reason of a limit, and when the message is decided again: `None` if it is refused.
pub(super) fn consequence(of: &Frequency, until: Timestamp) -> (Reason, Option<Timestamp>) {
    (of.reason(), (of.at_cap == AtCap::Wait).then_some(until))
}

/// Reads a row. One that cannot be read counts nothing.
pub(super) fn read(row: &str) -> Vec<Recent> {
    let rows: Vec<(i64, i64)> = serde_json::from_str(row).unwrap_or_default();
    rows.into_iter().map(|(member, at)| (member, Timestamp::from_millis(at))).collect()
}

/// Returns a row as stored.
pub(super) fn stored(row: &[Recent]) -> String {
    let row: Vec<_> = row.iter().map(|(member, at)| (*member, at.as_millis())).collect();
    serde_json::to_string(&row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn bursts(number: i64, n: u64) -> Check {
        Check::bursts(Bursts::new(), "desk", number, START.plus(Duration::from_millis(n)))
    }

    /// Sends to these numbers, and returns how many were allowed.
    fn allowed(numbers: impl IntoIterator<Item = i64>) -> usize {
        let mut rows = BTreeMap::new();
        let sent =
            numbers.into_iter().zip(0..).filter(|(number, n)| bursts(*number, *n).evaluate(&mut rows) == Checked::Room);
        sent.count()
    }

    /// A permutation of so many numbers, without the dependency of a generator.
    fn random(seed: u64) -> impl FnMut(u64) -> i64 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % below) as i64
        }
    }

    #[test]
    fn sequential_numbers_are_stopped_within_twenty() {
        let up = allowed(447_700_000_000..447_700_100_000);
        assert_eq!(up, 15);
        assert!(allowed((447_700_000_000..447_700_100_000).rev()) <= 20);
        for step in [2, 5, 20, 60] {
            assert!(allowed((447_700_000_000..447_700_100_000).step_by(step)) <= 20, "{step}");
        }
        // At random within a block of 1,000, and each number several times.
        let mut random = random(20_261_201);
        assert!(allowed((0..100_000).map(|_| 447_700_900_000 + random(1_000))) <= 20);
    }

    #[test]
    fn bulk_to_residents_is_not_stopped() {
        let seed = 20_261_202;
        println!("seed {seed}");
        let mut random = random(seed);
        // A hundred million numbers are in use: fewer than there are.
        let mut list: Vec<_> = (0..100_000).map(|_| 447_700_000_000 + random(100_000_000)).collect();
        assert_eq!(allowed(list.iter().copied()), list.len());
        list.sort_unstable();
        assert_eq!(allowed(list.iter().copied()), list.len());
    }

    #[test]
    fn range_is_free_again_after_the_window() {
        let mut rows = BTreeMap::new();
        for n in 0..20 {
            assert_eq!(bursts(n, 0).evaluate(&mut rows) == Checked::Room, n < 15, "{n}");
        }
        assert!(matches!(bursts(30, 3_599_999).evaluate(&mut rows), Checked::Full(_)));
        assert_eq!(bursts(31, 3_600_000).evaluate(&mut rows), Checked::Room);
        // Numbers further away are not affected.
        assert_eq!(
            bursts(31 + 1_001, 1).evaluate(&mut BTreeMap::from([("burst desk".to_owned(), vec![])])),
            Checked::Room
        );
    }

    #[test]
    fn frequency_slides_with_time() {
        let mut rows = BTreeMap::new();
        let of = Frequency::new(2, Duration::from_secs(10)).unwrap();
        let mut send = |message, own: &str, millis: u64| {
            let keys = vec!["a".to_owned(), "b".to_owned()];
            let at = START.plus(Duration::from_millis(millis));
            Check::frequency(&of, keys, own.to_owned(), message, at).evaluate(&mut rows)
        };
        assert_eq!(send(1, "a", 0), Checked::Room);
        assert_eq!(send(2, "b", 4_000), Checked::Room);
        assert_eq!(send(3, "a", 5_000), Checked::Full(START.plus(Duration::from_secs(10))));
        // A repeated attempt counts once.
        assert_eq!(send(2, "b", 6_000), Checked::Room);
        assert_eq!(send(3, "a", 10_000), Checked::Room);
        assert_eq!(send(4, "a", 13_999), Checked::Full(START.plus(Duration::from_secs(14))));
        assert_eq!(send(4, "b", 14_000), Checked::Room);
    }

    #[test]
    fn stored_row_is_read_back() {
        let row = vec![(447_700_900_123, START), (7, START.plus(Duration::from_secs(1)))];
        assert_eq!(read(&stored(&row)), row);
        assert_eq!(read("damaged"), []);
    }
}
