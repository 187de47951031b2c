//! Counts and ages in the text format of Prometheus.

use std::fmt::Write;

use civic_messaging::Timestamp;
use civic_messaging::switchboard::Stats;

/// Returns the metrics: the same names and labels as those of the feature `metrics`, which a worker records.
pub(super) fn text(stats: &Stats, now: Timestamp) -> String {
    let (mut depth, mut oldest) = (String::new(), String::new());
    for (line, counts) in &stats.lines {
        // The id of a line needs no escape.
        let line = line.as_deref().unwrap_or_default();
        let states = counts.messages.iter().map(|(state, count)| (state.as_str(), *count));
        let others = [
            ("due", counts.due),
            ("files", counts.files),
            ("implausible", counts.implausible),
            ("parked_events", counts.parked_events),
            ("unread", counts.unread),
        ];
        for (kind, count) in states.chain(others) {
            _ = writeln!(depth, "civic_messaging_depth{{line=\"{line}\",kind=\"{kind}\"}} {count}");
        }
        for (kind, at) in [("due", counts.oldest_due), ("unread", counts.oldest_unread)] {
            let seconds = at.map_or(0.0, |at| now.since(at).as_secs_f64());
            _ = writeln!(oldest, "civic_messaging_oldest_seconds{{line=\"{line}\",kind=\"{kind}\"}} {seconds}");
        }
    }
    let suspended = stats.suspended.len();
    format!(
        "# TYPE civic_messaging_depth gauge\n{depth}# TYPE civic_messaging_oldest_seconds gauge\n{oldest}\
         # TYPE civic_messaging_suspended gauge\ncivic_messaging_suspended {suspended}\n"
    )
}
