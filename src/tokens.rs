//! Stores for OAuth tokens that are refreshed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use crate::model::error::Result;
use crate::model::secret::Secret;

/// A store for credentials that rotate: each refresh issues a new pair and invalidates the old one.
///
/// The new pair is stored before it is used, so that a crash in between does not lose it. A deployment with several
/// processes needs a shared store.
#[async_trait]
pub trait TokenStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the pair stored under this name.
    async fn load(&self, name: &str) -> Result<Option<TokenPair>>;

    /// Replaces the pair whose refresh token is `spent`, or stores the first pair if `spent` is `None`.
    ///
    /// Returns `true` if the pair was stored and `false` if another process has already replaced the old one; use the
    /// stored pair then. The change must be durable on return.
    async fn replace(&self, name: &str, spent: Option<&Secret>, pair: &TokenPair) -> Result<bool>;
}

/// An access token and the refresh token that obtains the next one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenPair {
    /// Valid until it expires.
    pub access: Secret,
    /// Valid for one refresh.
    pub refresh: Secret,
    /// The expiry of the access token.
    pub expires: crate::model::clock::Timestamp,
}

impl TokenPair {
    /// Creates a pair of tokens.
    pub fn new(access: Secret, refresh: Secret, expires: crate::model::clock::Timestamp) -> Self {
        Self { access, refresh, expires }
    }
}

/// An in-memory token store, for tests and for tokens that do not rotate.
#[derive(Clone, Default)]
pub struct MemoryTokens(Arc<Mutex<HashMap<String, TokenPair>>>);

impl MemoryTokens {
    /// Creates an empty store.
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
        let is_current = match (pairs.get(name), spent) {
            (Some(stored), Some(spent)) => stored.refresh.matches(spent.expose().as_bytes()),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if is_current {
            pairs.insert(name.to_owned(), pair.clone());
        }
        Ok(is_current)
    }
}

/// A lock for token refreshes: one task refreshes, and the others then find the new token.
///
/// Every release wakes all waiters, so a waiter that was dropped cannot take a wake-up with it.
#[derive(Debug, Default)]
pub(crate) struct RefreshLock(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    locked: bool,
    wakers: VecDeque<Waker>,
}

/// A guard of a [`RefreshLock`], released on drop.
#[must_use]
#[derive(Debug)]
pub(crate) struct RefreshGuard<'a>(&'a RefreshLock);

impl RefreshLock {
    /// Acquires the lock.
    pub(crate) async fn acquire(&self) -> RefreshGuard<'_> {
        poll_fn(|cx| {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.locked {
                waiting.wakers.push_back(cx.waker().clone());
                return Poll::Pending;
            }
            waiting.locked = true;
            Poll::Ready(RefreshGuard(self))
        })
        .await
    }
}

impl Drop for RefreshGuard<'_> {
    fn drop(&mut self) {
        let wakers = {
            let mut waiting = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.locked = false;
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
    async fn spent_token_cannot_overwrite_a_newer_pair() {
        let store = MemoryTokens::new();
        assert!(store.replace("x", None, &pair(1)).await.unwrap());
        assert!(store.replace("x", Some(&pair(1).refresh), &pair(2)).await.unwrap());
        assert!(!store.replace("x", Some(&pair(1).refresh), &pair(3)).await.unwrap());
        assert!(!store.replace("x", None, &pair(3)).await.unwrap());
        assert_eq!(store.load("x").await.unwrap().unwrap().access.expose(), "access-token-2");
    }

    #[tokio::test]
    async fn refresh_lock_survives_dropped_waiters() {
        let lock = Arc::new(RefreshLock::default());
        let guard = lock.acquire().await;
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let lock = lock.clone();
                tokio::spawn(async move { drop(lock.acquire().await) })
            })
            .collect();
        tokio::task::yield_now().await;
        waiters.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        drop(guard);
        for (n, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.await.is_ok(), n % 2 == 1);
        }
        drop(lock.acquire().await);
    }
}
