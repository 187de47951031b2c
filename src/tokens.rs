//! Stores for OAuth tokens that are refreshed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use crate::model::error::Result;
use crate::model::secret::Secret;

/// Keeps credentials that rotate: each refresh gives a new pair and ends the old one.
///
/// The new pair is stored before it is used, so that a crash in between loses nothing. A council that runs several
/// processes needs a store that they share.
#[async_trait]
pub trait TokenStore: fmt::Debug + Send + Sync + 'static {
    /// The pair that is kept under this name.
    async fn load(&self, name: &str) -> Result<Option<TokenPair>>;

    /// Keeps a pair in place of the one whose refresh token is `spent`, or of none.
    ///
    /// Returns whether it did: `false` when another process was there first, whose pair is then the good one. It
    /// must be durable when it returns.
    async fn replace(&self, name: &str, spent: Option<&Secret>, pair: &TokenPair) -> Result<bool>;
}

/// An access token and the refresh token that gives the next one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenPair {
    /// Good until it expires.
    pub access: Secret,
    /// Good once.
    pub refresh: Secret,
    /// When the access token expires.
    pub expires: crate::model::clock::Timestamp,
}

impl TokenPair {
    /// A pair of tokens.
    pub fn new(access: Secret, refresh: Secret, expires: crate::model::clock::Timestamp) -> Self {
        Self { access, refresh, expires }
    }
}

/// Credentials in memory: good for tests, and for tokens that do not rotate.
#[derive(Clone, Default)]
pub struct MemoryTokens(Arc<Mutex<HashMap<String, TokenPair>>>);

impl MemoryTokens {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryTokens")
    }
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn load(&self, name: &str) -> Result<Option<TokenPair>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    async fn replace(&self, name: &str, spent: Option<&Secret>, pair: &TokenPair) -> Result<bool> {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (pairs.get(name), spent) {
            (Some(kept), Some(spent)) => kept.refresh.matches(spent.expose().as_bytes()),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if same {
            pairs.insert(name.to_owned(), pair.clone());
        }
        Ok(same)
    }
}

/// Lets one task in at a time: the others wait, and look again whether there is still something to do.
///
/// Every release wakes all who wait, so a waiter that gave up cannot take a wake-up with it.
/// For adapters whose credentials are refreshed: one task refreshes, the others find it done.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    held: bool,
    wakers: VecDeque<Waker>,
}

/// The right to be in a [`Gate`], given back when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Held<'a>(&'a Gate);

impl Gate {
    /// Waits until nobody is in, and goes in.
    pub async fn enter(&self) -> Held<'_> {
        poll_fn(|cx| {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.held {
                waiting.wakers.push_back(cx.waker().clone());
                return Poll::Pending;
            }
            waiting.held = true;
            Poll::Ready(Held(self))
        })
        .await
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let wakers = {
            let mut waiting = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.held = false;
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;

    fn pair(n: u8) -> TokenPair {
        let secret = |what: &str| Secret::new(format!("{what}-token-{n}")).unwrap();
        TokenPair::new(secret("access"), secret("refresh"), Timestamp::default())
    }

    #[tokio::test]
    async fn a_spent_token_cannot_overwrite_a_newer_pair() {
        let store = MemoryTokens::new();
        assert!(store.replace("x", None, &pair(1)).await.unwrap());
        assert!(store.replace("x", Some(&pair(1).refresh), &pair(2)).await.unwrap());
        assert!(!store.replace("x", Some(&pair(1).refresh), &pair(3)).await.unwrap());
        assert!(!store.replace("x", None, &pair(3)).await.unwrap());
        assert_eq!(store.load("x").await.unwrap().unwrap().access.expose(), "access-token-2");
    }

    #[tokio::test]
    async fn a_gate_holds_one_and_survives_those_who_give_up() {
        let gate = Arc::new(Gate::default());
        let held = gate.enter().await;
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { drop(gate.enter().await) })
            })
            .collect();
        tokio::task::yield_now().await;
        waiters.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        drop(held);
        for (n, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.await.is_ok(), n % 2 == 1);
        }
        drop(gate.enter().await);
    }
}
