//! A million `Retry-After` headers, valid and malformed.

use std::time::Duration;

use civic_messaging::adapter::{RETRY_AFTER_MAX, RETRY_AFTER_MIN, retry_after};
use civic_messaging::layer::retry::{Attempts, Schedule, StopReason};
use civic_messaging::{Error, ErrorKind, Timestamp};

use super::{Random, seed};

/// A header: a number or a date, possibly malformed, or random text.
fn header(random: &Random) -> String {
    let digits = |max| (0..=random.below(max)).map(|_| char::from(b'0' + random.below(10) as u8)).collect::<String>();
    let date = || {
        let name = |names: &[&'static str]| names[random.below(names.len() as u64) as usize];
        let day = name(&["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]);
        let month = name(&["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Abc"]);
        let (date, year) = (random.below(33), 1960 + random.below(200));
        let (hour, minute, second) = (random.below(25), random.below(61), random.below(62));
        let comma = if random.below(4) == 0 { "" } else { ", " };
        let day = if comma.is_empty() { "" } else { day };
        format!(
            "{day}{comma}{date:02} {month} {year} {hour:02}:{minute:02}:{second:02} {}",
            name(&["GMT", "+0000", "-2359", "BST"])
        )
    };
    let mut text = match random.below(4) {
        0 => digits(6),
        1 => digits(40),
        2 => date(),
        _ => (0..random.below(30)).filter_map(|_| char::from_u32(random.below(0x2_FFFF) as u32)).collect(),
    };
    if random.below(4) == 0 && !text.is_empty() {
        let at = random.below(text.chars().count() as u64) as usize;
        let put = char::from(random.below(128) as u8);
        text = text.chars().enumerate().map(|(n, c)| if n == at { put } else { c }).collect();
    }
    text
}

#[test]
fn retry_after_is_clamped_or_absent() {
    let random = Random::new(seed());
    let now = Timestamp::from_secs(1_795_000_000);
    let schedule = Schedule::new().within(Duration::MAX);
    let tried = Attempts::new(1, Duration::ZERO);
    let mut accepted = 0;
    for _ in 0..1_000_000 {
        let text = header(&random);
        let after = retry_after(&text, now);
        accepted += u32::from(after.is_some());
        assert!(after.is_none_or(|after| (RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&after)), "{text:?}: {after:?}");
        let error = Error::new(ErrorKind::RateLimited, "too many").with_retry(true, after);
        match schedule.next(&error, None, tried, now, random.below(u64::MAX)) {
            Ok(wait) => assert!(
                (RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait) && wait >= after.unwrap_or_default(),
                "{text:?}: {wait:?}"
            ),
            Err(stop) => assert_eq!(stop, StopReason::TooLate, "{text:?}"),
        }
    }
    println!("{accepted} of 1,000,000 headers asked for a time");
    assert!((300_000..900_000).contains(&accepted), "{accepted}");
}
