//! What the benches share: pairs of programs, measured side by side.
//!
//! Other work on the machine makes everything slower, and not always by as much. So ours and the program by hand take
//! turns in one process, in samples of about a millisecond, and who begins changes every round. The figure is the
//! median of the ratios of the pairs; the minima stand beside it, since interference only adds. Nothing here fails:
//! the exact counts that may are in `tests/`.

#![allow(dead_code, reason = "no bench uses all of it")]

use std::hint::black_box;
use std::time::Instant;

/// What a figure should be at most.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// So many times the floor.
    Times(f64),
    /// The floor and so much more.
    Plus(f64),
    /// None: it is for information.
    None,
}

/// Rounds of pairs: few under `cargo test`, which only sees whether a bench works.
pub(crate) fn rounds(full: usize) -> usize {
    if std::env::args().any(|argument| argument == "--bench") { full } else { 1 }
}

/// Costs of ours and of the floor, pair by pair, in one unit.
#[derive(Default)]
pub(crate) struct Pairs(Vec<[f64; 2]>);

impl Pairs {
    /// Measures two programs by any meter, in turns.
    pub(crate) fn measure(rounds: usize, mut ours: impl FnMut() -> f64, mut floor: impl FnMut() -> f64) -> Self {
        ours();
        floor();
        let pair = |round: usize| {
            if round.is_multiple_of(2) {
                let first = ours();
                [first, floor()]
            } else {
                let first = floor();
                [ours(), first]
            }
        };
        Self((0..rounds).map(pair).collect())
    }

    /// Measures two functions in nanoseconds a call, with `calls` in a sample.
    pub(crate) fn time<A, B>(rounds: usize, calls: u32, ours: impl FnMut() -> A, floor: impl FnMut() -> B) -> Self {
        Self::measure(rounds, sample(calls, ours), sample(calls, floor))
    }

    /// Prints a line of the table that [`header`] begins.
    pub(crate) fn print(&self, name: &str, target: Target) {
        let column = |of: fn(&[f64; 2]) -> f64| self.0.iter().map(of).collect::<Vec<_>>();
        let (ours, floor) = (column(|pair| pair[0]), column(|pair| pair[1]));
        let ratio = median(column(|pair| pair[0] / pair[1]));
        let more = median(column(|pair| pair[0] - pair[1]));
        let minima = least(&ours) / least(&floor);
        let verdict = match target {
            Target::None => String::new(),
            Target::Times(most) if ratio <= most => format!("<= {most:.2}  met"),
            Target::Times(most) => format!("<= {most:.2}  missed by {:.2}", ratio - most),
            Target::Plus(most) if more <= most => format!("+ {most:.0}: is {more:+.0}  met"),
            Target::Plus(most) => format!("+ {most:.0}: is {more:+.0}  missed by {:.0}", more - most),
        };
        let (ours, floor) = ([least(&ours), median(ours)], [least(&floor), median(floor)]);
        println!(
            "{name:<44} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {ratio:>7.2} {minima:>7.2}  {verdict}",
            ours[0], ours[1], floor[0], floor[1],
        );
    }
}

/// Begins a table.
pub(crate) fn header(title: &str, floor: &str, unit: &str) {
    println!("\n{title} ({unit})");
    println!("{:<44} {:>19} {:>19} {:>15}  target", "", "ours", floor, "ratio");
    let (min, median) = ("min", "median");
    println!("{:<44} {min:>9} {median:>9} {min:>9} {median:>9} {median:>7} {min:>7}", "");
}

fn sample<T>(calls: u32, mut function: impl FnMut() -> T) -> impl FnMut() -> f64 {
    move || {
        let start = Instant::now();
        for _ in 0..calls {
            drop(black_box(function()));
        }
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
