//! Compares opening hours with an independent oracle, and checks the laws of any hours.

use std::collections::BTreeSet;
use std::time::Duration;

use civic_messaging::Timestamp;
use civic_messaging::policy::hours::{Division, Hours, Opening, OpeningTimes, Time, Weekday};
use proptest::collection::vec;
use proptest::prelude::*;

const TABLE: &str = include_str!("../fixtures/hours/oracle.csv");
const MAKER: &str = include_str!("../fixtures/hours/oracle.py");

const MINUTE: i64 = 60_000;

/// The oracle's offices as configurations.
fn offices() -> [(&'static str, OpeningTimes); 3] {
    [
        ("nine_to_five", OpeningTimes::new("Mon-Fri 09:00-17:00").week("Sat 10:00-12:00")),
        ("split", OpeningTimes::new("Mon-Wed, Fri 08:30-12:30, 13:30-17:00").week("Thu 08:30-12:30, 13:30-19:00")),
        (
            "night",
            OpeningTimes::new("Sat 20:00-24:00")
                .week("Sun 00:00-01:30, 02:00-04:00, 23:00-24:00")
                .week("Mon 00:00-01:00"),
        ),
    ]
}

const DIVISIONS: [(&str, Division); 3] = [
    ("england_and_wales", Division::EnglandAndWales),
    ("scotland", Division::Scotland),
    ("northern_ireland", Division::NorthernIreland),
];

/// The oracle's openings of an office, in order.
fn oracle(week: &str, division: &str) -> Vec<(Timestamp, Timestamp)> {
    let rows = TABLE.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let of_office = rows.filter(|row| row[0] == week && row[3].split(' ').any(|name| name == division));
    let spans: Vec<_> = of_office.map(|row| (at(row[1]), at(row[2]))).collect();
    assert!(spans.len() > 500 && spans.is_sorted(), "{week} {division}: {}", spans.len());
    spans
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Compares every minute of four years with the oracle. Returns the number of minutes compared, up to the twentieth
/// difference, and the differences.
fn differences(hours: &Hours, oracle: &[(Timestamp, Timestamp)]) -> (u64, Vec<Timestamp>) {
    let (mut minutes, mut found, mut next) = (0, Vec::new(), oracle.iter().peekable());
    let (start, end) = (at("2024-01-01T00:00Z").as_millis(), at("2028-01-01T00:00Z").as_millis());
    for millis in (start..end).step_by(usize::try_from(MINUTE).unwrap()) {
        let now = Timestamp::from_millis(millis);
        while next.next_if(|(_, closes)| *closes <= now).is_some() {}
        let open = next.peek().is_some_and(|(opens, _)| *opens <= now);
        minutes += 1;
        if hours.is_open(now).unwrap() != open {
            found.push(now);
            if found.len() == 20 {
                break;
            }
        }
    }
    (minutes, found)
}

#[test]
fn hours_agree_with_oracle_for_every_minute_of_four_years() {
    let compared: u64 = std::thread::scope(|scope| {
        let of_division = |(name, division): (&'static str, Division)| {
            scope.spawn(move || {
                let of_office = |(week, config): (&str, OpeningTimes)| {
                    let hours = Hours::new(&config.bank_holidays(division)).unwrap();
                    let (minutes, found) = differences(&hours, &oracle(week, name));
                    assert!(found.is_empty(), "{week} in {division} differs at {found:?}");
                    println!("{week}, {division}: {minutes} minutes compared, 0 differences");
                    minutes
                };
                // The third office covers the clock changes, which are the same in all divisions.
                let offices = offices().into_iter().take(if division == Division::EnglandAndWales { 3 } else { 2 });
                offices.map(of_office).sum::<u64>()
            })
        };
        DIVISIONS.map(of_division).map(|thread| thread.join().unwrap()).iter().sum()
    });
    println!("{compared} minutes compared");
    // 1461 days: two offices in three divisions and one in one.
    assert_eq!(compared, 1461 * 1440 * 7);
}

#[test]
fn comparison_detects_missing_holiday_and_wrong_offset() {
    let (_, config) = offices()[0].clone();
    let scotland = Hours::new(&config.clone().bank_holidays(Division::Scotland)).unwrap();
    let (_, found) = differences(&scotland, &oracle("nine_to_five", "england_and_wales"));
    assert_eq!(found[0], at("2024-01-02T09:00Z"), "2 January is a bank holiday in Scotland only");
    let later = OpeningTimes::new("Mon-Fri 09:01-17:00").week("Sat 10:00-12:00").bank_holidays(Division::Scotland);
    let (_, found) = differences(&Hours::new(&later).unwrap(), &oracle("nine_to_five", "scotland"));
    assert_eq!(found[0], at("2024-01-03T09:00Z"));
}

#[test]
fn proclaimed_holiday_applies_to_its_division_only() {
    let (_, config) = offices()[0].clone();
    let open = |division| {
        Hours::new(&config.clone().bank_holidays(division)).unwrap().is_open(at("2026-06-15T12:00Z")).unwrap()
    };
    assert_eq!(DIVISIONS.map(|(_, division)| open(division)), [true, false, true]);
}

#[test]
fn openings_and_working_time_agree_with_oracle() {
    for (week, config) in offices() {
        for (name, division) in DIVISIONS {
            let hours = Hours::new(&config.clone().bank_holidays(division)).unwrap();
            let mut worked = Duration::ZERO;
            let spans = oracle(week, name);
            for pair in spans.windows(2) {
                let ((opens, closes), (next, _)) = (pair[0], pair[1]);
                worked += closes.since(opens);
                assert_eq!(hours.closes_at(opens).unwrap(), Some(closes), "{week} {division} {opens}");
                assert_eq!(hours.next_opening(closes).unwrap(), next, "{week} {division} {closes}");
                let period = hours.closed_period(closes).unwrap().unwrap();
                assert_eq!((period.from, period.until), (closes, next), "{week} {division} {closes}");
                assert_eq!(hours.closed_period(next.minus(Duration::from_millis(1))).unwrap(), Some(period));
            }
            let (from, to) = (spans[0].0, spans[spans.len() - 1].0);
            assert_eq!(hours.working_time(from, to).unwrap(), worked, "{week} {division}");
        }
    }
}

#[test]
fn oracle_table_covers_the_weeks_of_its_script() {
    let weeks: BTreeSet<_> = TABLE.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(weeks, offices().iter().map(|(week, _)| *week).collect());
    assert!(weeks.iter().all(|week| MAKER.contains(&format!("\"{week}\":"))));
    assert!(MAKER.contains("import zoneinfo") && !MAKER.contains("subprocess"));
}

/// The last Sundays of March and October, as GOV.UK gives them.
const CHANGES: [(&str, &str); 4] = [
    ("2024-03-31", "2024-10-27"),
    ("2025-03-30", "2025-10-26"),
    ("2026-03-29", "2026-10-25"),
    ("2027-03-28", "2027-10-31"),
];

#[test]
fn repeated_hour_in_october_counts_twice() {
    for (_, sunday) in CHANGES {
        let clock = |utc: &str| at(&format!("{sunday}T{utc}Z"));
        let hours = Hours::new(&OpeningTimes::new("Sun 01:30-01:45")).unwrap();
        let (first, second) = (clock("00:30:00"), clock("01:30:00"));
        for (moment, open) in [
            (clock("00:29:59.999"), false),
            (first, true),
            (clock("00:44:59.999"), true),
            (clock("00:45:00"), false),
            (clock("01:29:59.999"), false),
            (second, true),
            (clock("01:45:00"), false),
        ] {
            assert_eq!(hours.is_open(moment).unwrap(), open, "{moment}");
        }
        assert_eq!(hours.next_opening(clock("00:45:00")).unwrap(), second);
        assert_eq!(hours.local(first).unwrap(), hours.local(second).unwrap());
        let day = (at(&format!("{sunday}T00:00Z")), at(&format!("{sunday}T12:00Z")));
        assert_eq!(hours.working_time(day.0, day.1).unwrap(), Duration::from_secs(2 * 15 * 60));
        // Two ranges within that hour alternate.
        let turns = Hours::new(&OpeningTimes::new("Sun 01:00-01:15, 01:30-01:45")).unwrap();
        assert_eq!(turns.next_opening(clock("00:15:00")).unwrap(), clock("00:30:00"));
        assert_eq!(turns.next_opening(clock("00:45:00")).unwrap(), clock("01:00:00"));
        let period = turns.closed_period(clock("01:20:00")).unwrap().unwrap();
        assert_eq!((period.from, period.until), (clock("01:15:00"), clock("01:30:00")));
        // A range that ends within the hour has two pieces; one around the hour is an hour longer.
        let into = Hours::new(&OpeningTimes::new("Sun 00:30-01:30")).unwrap();
        assert_eq!(into.closes_at(clock("00:00:00")).unwrap(), Some(first));
        assert_eq!(into.next_opening(first).unwrap(), clock("01:00:00"));
        assert_eq!(into.closes_at(clock("01:00:00")).unwrap(), Some(second));
        let around = Hours::new(&OpeningTimes::new("Sun 00:00-03:00")).unwrap();
        let opens = clock("00:00:00").minus(Duration::from_secs(3600));
        assert_eq!(around.closes_at(opens).unwrap(), Some(clock("03:00:00")));
        assert_eq!(around.working_time(opens, clock("12:00:00")).unwrap(), Duration::from_secs(4 * 3600));
    }
}

#[test]
fn skipped_hour_in_march_does_not_count() {
    for (sunday, _) in CHANGES {
        let clock = |utc: &str| at(&format!("{sunday}T{utc}Z"));
        let week = Duration::from_secs(7 * 86_400);
        let hours = Hours::new(&OpeningTimes::new("Sun 01:00-02:00")).unwrap();
        assert!(!hours.is_open(clock("00:59:59.999")).unwrap());
        assert!(!hours.is_open(clock("01:00:00")).unwrap());
        // At 01:00 summer time on the next Sunday.
        assert_eq!(hours.next_opening(clock("00:00:00")).unwrap(), clock("00:00:00").plus(week));
        let around = Hours::new(&OpeningTimes::new("Sun 00:30-02:30")).unwrap();
        assert_eq!(around.closes_at(clock("00:30:00")).unwrap(), Some(clock("01:30:00")));
        assert_eq!(around.working_time(clock("00:00:00"), clock("12:00:00")).unwrap(), Duration::from_secs(3600));
        // A skipped half of a range is not added elsewhere.
        let into = Hours::new(&OpeningTimes::new("Sun 00:30-01:30")).unwrap();
        assert_eq!(into.closes_at(clock("00:30:00")).unwrap(), Some(clock("01:00:00")));
    }
}

/// Any week with an opening; ranges may touch, also at midnight.
fn any_hours() -> impl Strategy<Value = Hours> {
    let day = vec(0u16..=96, 0..=6).prop_map(|mut quarters| {
        quarters.sort_unstable();
        quarters.dedup();
        quarters.chunks_exact(2).map(|pair| (pair[0] * 15, pair[1] * 15)).collect::<Vec<_>>()
    });
    let division = prop_oneof![Just(None), (0usize..3).prop_map(|n| Some(Division::ALL[n]))];
    (vec(day, 7), division).prop_filter_map("a week without an opening", |(week, division)| {
        let time = |minutes: u16| Time::new((minutes / 60).try_into().ok()?, (minutes % 60).try_into().ok()?).ok();
        let mut config = OpeningTimes::default();
        for (weekday, day) in Weekday::ALL.into_iter().zip(&week) {
            for (from, until) in day {
                let opening = Opening::new(time(*from)?, time(*until)?).ok()?;
                config = config.week(format!("{weekday} {opening}"));
            }
        }
        config.bank_holidays = division;
        Hours::new(&config).ok()
    })
}

/// Any moment well before the end of every holiday list.
fn any_moment() -> impl Strategy<Value = Timestamp> {
    (at("2024-01-01T00:00Z").as_millis()..at("2028-06-01T00:00Z").as_millis()).prop_map(Timestamp::from_millis)
}

/// A moment close to a change of the clocks.
fn near_a_change() -> impl Strategy<Value = Timestamp> {
    (0..CHANGES.len(), any::<bool>(), -3 * 86_400_000i64..3 * 86_400_000).prop_map(|(year, spring, millis)| {
        let (march, october) = CHANGES[year];
        let change = at(&format!("{}T01:00Z", if spring { march } else { october }));
        Timestamp::from_millis(change.as_millis() + millis)
    })
}

proptest! {
    #[test]
    fn next_opening_is_open_and_nothing_earlier_is(
        hours in any_hours(),
        now in prop_oneof![any_moment(), near_a_change()],
        between in vec(0.0..1.0f64, 20),
    ) {
        let opens = hours.next_opening(now).unwrap();
        prop_assert!(opens >= now && hours.is_open(opens).unwrap());
        prop_assert_eq!(opens == now, hours.is_open(now).unwrap());
        for part in between {
            let before = now.plus(opens.since(now).mul_f64(part));
            prop_assert!(before >= opens || !hours.is_open(before).unwrap(), "{}", before);
        }
        prop_assert_eq!(hours.working_time(now, opens).unwrap(), Duration::ZERO);
    }

    #[test]
    fn opening_is_working_time_until_it_closes(
        hours in any_hours(),
        now in prop_oneof![any_moment(), near_a_change()],
        between in vec(0.0..1.0f64, 20),
    ) {
        let opens = hours.next_opening(now).unwrap();
        // An office that never closes has no end.
        let Ok(Some(closes)) = hours.closes_at(opens) else { return Ok(()) };
        prop_assert!(!hours.is_open(closes).unwrap());
        prop_assert_eq!(hours.working_time(opens, closes).unwrap(), closes.since(opens));
        for part in between {
            let during = opens.plus(closes.since(opens).mul_f64(part));
            prop_assert!(during >= closes || hours.is_open(during).unwrap(), "{}", during);
        }
    }

    #[test]
    fn closed_period_is_the_same_from_every_moment(
        hours in any_hours(),
        now in prop_oneof![any_moment(), near_a_change()],
        part in 0.0..1.0f64,
    ) {
        match hours.closed_period(now).unwrap() {
            None => prop_assert!(hours.is_open(now).unwrap() && hours.closes_at(now).ok() != Some(None)),
            Some(period) => {
                prop_assert!(period.from <= now && now < period.until);
                let other = period.from.plus(period.until.since(period.from).mul_f64(part));
                prop_assert_eq!(hours.closed_period(other.min(now)).unwrap(), Some(period));
                prop_assert!(hours.is_open(period.from.minus(Duration::from_millis(1))).unwrap());
                prop_assert_eq!(hours.closes_at(now).unwrap(), None);
            }
        }
    }

    #[test]
    fn working_time_is_additive(
        hours in any_hours(),
        mut moments in vec(prop_oneof![any_moment(), near_a_change()], 3),
    ) {
        moments.sort_unstable();
        // Within one quarter of a year, to keep the test fast.
        let first = moments[0];
        let limit = |moment: Timestamp| moment.min(first.plus(Duration::from_secs(90 * 86_400)));
        let (second, third) = (limit(moments[1]), limit(moments[2]));
        let worked = |from, to| hours.working_time(from, to).unwrap();
        prop_assert_eq!(worked(first, second) + worked(second, third), worked(first, third));
        prop_assert!(worked(first, third) <= third.since(first));
        prop_assert_eq!(worked(third, first), Duration::ZERO);
    }
}
