//! Sources of random bytes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Error, ErrorKind, Result};

/// A source of random bytes: for nonces, keys, boundaries and jitter.
///
/// Use [`SystemRandom`] in production and [`SeededRandom`] in tests that must repeat.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with unpredictable bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the source has no randomness.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;

    /// Returns a random number for jitter and weights, or 0 if the source has no randomness.
    ///
    /// Nothing may rely on it being unpredictable.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes).map_or(0, |()| u64::from_ne_bytes(bytes))
    }
}

impl<R: Random + ?Sized> Random for Arc<R> {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        (**self).fill(bytes)
    }

    fn next_u64(&self) -> u64 {
        (**self).next_u64()
    }
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|_| Error::new(ErrorKind::Unavailable, "the system has no randomness"))
    }
}

/// A random source that repeats from its seed, for tests. Clones share their state.
///
/// ```
/// use civic_messaging::random::{Random, SeededRandom};
///
/// assert_eq!(SeededRandom::new(7).next_u64(), SeededRandom::new(7).next_u64());
/// assert_ne!(SeededRandom::new(7).next_u64(), SeededRandom::new(8).next_u64());
/// ```
#[derive(Clone)]
pub struct SeededRandom(Arc<Mutex<u64>>);

impl SeededRandom {
    /// Creates a source from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            // SplitMix64: any seed, 0 included, gives a full-period sequence.
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut x = *state;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            x ^= x >> 31;
            chunk.iter_mut().zip(x.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRandom")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_source_repeats_and_clones_share_it() {
        let draw = |source: &SeededRandom| {
            let mut bytes = [0; 20];
            source.fill(&mut bytes).unwrap();
            bytes
        };
        let (one, other) = (SeededRandom::new(0), SeededRandom::new(0));
        assert_eq!(draw(&one), draw(&other));
        let next = draw(&one.clone());
        assert_ne!(next, draw(&SeededRandom::new(0)));
        assert_eq!(next, draw(&other));
    }

    #[test]
    fn system_source_fills_every_byte() {
        let mut seen = [false; 20];
        for _ in 0..64 {
            let mut bytes = [0; 20];
            SystemRandom.fill(&mut bytes).unwrap();
            seen.iter_mut().zip(bytes).for_each(|(seen, byte)| *seen |= byte != 0);
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
