//! The credentials of requests in the name of the account.

use std::sync::{Arc, Mutex};

use http::{HeaderValue, Method, Uri};

use super::GATEWAY;
use super::oauth1::{OAuth1, authorization, nonce};
use super::oauth2::{OAuth2, Renewer, Tokens};
use crate::adapter::{self, Endpoint};
use crate::context::Context;
use crate::model::clock::Clock;
use crate::model::error::{Outcome, Result};
use crate::model::id::AccountId;
use crate::model::random::Random;
use crate::model::secret::Secret;
use crate::tokens::RefreshLock;

/// The credentials of the council's account.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Auth {
    /// Requests are signed. The tokens do not expire.
    OAuth1(OAuth1),
    /// Requests carry a token, which is refreshed every two hours.
    OAuth2(OAuth2),
}

impl From<OAuth1> for Auth {
    fn from(keys: OAuth1) -> Self {
        Self::OAuth1(keys)
    }
}

impl From<OAuth2> for Auth {
    fn from(client: OAuth2) -> Self {
        Self::OAuth2(client)
    }
}

/// Signs requests in the name of the account.
#[derive(Debug)]
pub(super) enum Signer {
    OAuth1 { keys: OAuth1, clock: Arc<dyn Clock>, random: Arc<dyn Random> },
    OAuth2(Tokens),
}

impl Signer {
    pub(super) fn new(auth: Auth, account: &AccountId, endpoint: &Endpoint, context: &Context) -> Self {
        match auth {
            Auth::OAuth1(keys) => Self::OAuth1 { keys, clock: context.clock.clone(), random: context.random.clone() },
            Auth::OAuth2(client) => {
                let renewer = Renewer {
                    name: format!("{GATEWAY}/{account}"),
                    client,
                    endpoint: endpoint.clone(),
                    store: context.tokens.clone(),
                    clock: context.clock.clone(),
                    unsaved: Mutex::default(),
                };
                Self::OAuth2(Tokens {
                    renewer: Arc::new(renewer),
                    current: Mutex::default(),
                    refresh: RefreshLock::default(),
                    running: Mutex::default(),
                })
            }
        }
    }

    /// Returns an access token other than the refused one; `None` where requests are signed.
    pub(super) async fn token(&self, refused: Option<&Secret>) -> Result<Option<Secret>> {
        match self {
            Self::OAuth1 { .. } => Ok(None),
            // Fetching a token comes before the send, whatever outcome a token store reports.
            Self::OAuth2(tokens) => tokens.get(refused).await.map(Some).map_err(|e| e.with_outcome(Outcome::NotSent)),
        }
    }

    /// The header, new for each request: a signature holds for one nonce and one second.
    pub(super) fn header(&self, token: Option<&Secret>, method: &Method, uri: &Uri) -> Result<Option<HeaderValue>> {
        match (self, token) {
            (_, Some(token)) => adapter::bearer(token).map(Some),
            (Self::OAuth1 { keys, clock, random }, None) => {
                let nonce = nonce(&**random)?;
                let timestamp = clock.now().as_secs().to_string();
                adapter::sensitive(&authorization(keys, method, uri, &nonce, &timestamp)).map(Some)
            }
            (Self::OAuth2(_), None) => Ok(None),
        }
    }
}
