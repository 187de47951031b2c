//! Integrity of the log of a SQLite file. SQLite reads it up to the first frame with a wrong checksum, and takes the
//! rest for the remains of a power cut. A flipped bit in the middle would therefore silently undo the commits behind
//! it. <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::{BufReader, Read};

const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
const PAGE_MAX: usize = 65_536;

/// Returns `true` if the log of the database at this path is broken, with commits behind the break.
pub(super) fn is_broken(path: &str) -> bool {
    let read = || File::open(format!("{path}-wal")).ok().and_then(|log| broken_at(BufReader::new(log)));
    let at = read();
    // A log that looks broken during a write of another process is whole at a second look.
    at.is_some() && read() == at
}

/// Returns the frame at which the log breaks. A power cut spoils only the last transaction, because each is on disk
/// before the next begins: one commit behind the break is harmless, two are not.
fn broken_at(mut log: impl Read) -> Option<usize> {
    let mut head = [0; HEAD];
    log.read_exact(&mut head).ok()?;
    let big = word(&head, 0, true) & 1 == 1;
    let mut sum = add([0; 2], head.get(..24)?, big);
    if sum != pair_at(&head, 24) {
        return Some(0);
    }
    let page = usize::try_from(word(&head, 8, true)).ok()?;
    let mut frame = vec![0; FRAME_HEAD + page.min(PAGE_MAX)];
    let (mut at, mut broken, mut behind) = (0, None, 0);
    while behind < 2 {
        // The log may end here.
        log.read_exact(&mut frame).ok()?;
        at += 1;
        let ours = pair_at(&frame, 8) == pair_at(&head, 16);
        if broken.is_none() {
            sum = add(add(sum, frame.get(..8)?, big), frame.get(FRAME_HEAD..)?, big);
            broken = (!ours || sum != pair_at(&frame, 16)).then_some(at);
        }
        behind += u8::from(broken.is_some() && ours && word(&frame, 4, true) != 0);
    }
    broken
}

fn add(sum: [u32; 2], bytes: &[u8], big: bool) -> [u32; 2] {
    let [mut one, mut two] = sum;
    for [a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0 {
        let [x, y] = [[*a, *b, *c, *d], [*e, *f, *g, *h]];
        let [x, y] = if big { [x, y].map(u32::from_be_bytes) } else { [x, y].map(u32::from_le_bytes) };
        one = one.wrapping_add(x).wrapping_add(two);
        two = two.wrapping_add(y).wrapping_add(one);
    }
    [one, two]
}

fn pair_at(bytes: &[u8], at: usize) -> [u32; 2] {
    [word(bytes, at, true), word(bytes, at + 4, true)]
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).unwrap_or_default();
    if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}
