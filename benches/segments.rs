//! What it costs to count a text message, against a walk over a table.

use std::hint::black_box;

use civic_messaging::medium::sms::{count, septets};

#[path = "common/mod.rs"]
mod common;

use common::{Pairs, Target, header, rounds};

const ENGLISH: &str = "Your report of a missed bin in Mill Lane is logged. We collect it on Tuesday before 6pm: please \
    leave the bin at the kerb, lid closed. Ask us anything by reply.";
const MIXED: &str = "Your café licence costs £125 until 31 March, then €140: pay by card, or à la carte at the naïve \
    Zoë's desk. Über-early birds pay £99 {until 1/1}; reply YES to pay";
const WELSH: &str = "Mae eich adroddiad am fin a gollwyd ar Lôn y Felin wedi'i gofnodi. Byddwn yn casglu ddydd Mawrth; \
    gadewch y bin wrth y tŷ gyda'r caead ar gau. Dŵr: 01632 960";

fn main() {
    header("counting the segments of an SMS", "a table", "ns");
    // What a byte takes in septets: nothing outside the alphabet, which is where the walk stops.
    let bytes: [u8; 256] = std::array::from_fn(|byte| {
        u8::try_from(byte).ok().filter(u8::is_ascii).and_then(|byte| septets(byte.into())).unwrap_or(0)
    });
    let characters: Vec<u8> = (0..0x2100).map(|c| char::from_u32(c).and_then(septets).unwrap_or(0)).collect();

    let row = |name: &str, text: &str, target, floor: &dyn Fn(&str) -> usize| {
        let (rounds, ours) = (rounds(201), || count(black_box(text)).segments());
        assert_eq!(ours(), floor(text), "{name}");
        Pairs::time(rounds, 20_000, ours, || floor(black_box(text))).print(name, target);
    };
    assert_eq!(ENGLISH.len(), 160);
    row("160 characters of ASCII", ENGLISH, Target::Times(1.2), &|text| by_bytes(text, &bytes));
    row("160 characters with £, €, é", MIXED, Target::None, &|text| by_characters(text, &characters));
    row("160 characters of Welsh (UCS-2)", WELSH, Target::None, &|text| by_characters(text, &characters));
}

/// The segments of a text that is ASCII and has no pairs to split.
fn by_bytes(text: &str, table: &[u8; 256]) -> usize {
    let mut units = 0;
    for &byte in text.as_bytes() {
        match table[usize::from(byte)] {
            0 => return 0,
            septets => units += usize::from(septets),
        }
    }
    if units <= 160 { 1 } else { units.div_ceil(153) }
}

/// The segments of any text, but for pairs that would be split.
fn by_characters(text: &str, table: &[u8]) -> usize {
    let mut units = 0;
    for character in text.chars() {
        match table.get(character as usize) {
            Some(&septets @ 1..) => units += usize::from(septets),
            _ => {
                let units = text.encode_utf16().count();
                return if units <= 70 { 1 } else { units.div_ceil(67) };
            }
        }
    }
    if units <= 160 { 1 } else { units.div_ceil(153) }
}
