//! The credentials of requests in the name of the account.

use http::{HeaderValue, Method, Uri};

use super::GATEWAY;
use crate::adapter::{Endpoint, OAuth1, OAuth2, TokenSource, bearer};
use crate::context::Context;
use crate::model::error::Result;
use crate::model::id::AccountId;
use crate::model::secret::Secret;

/// The credentials of the council's account.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Auth {
    /// Requests are signed. The tokens do not expire.
    ///
    /// The app's permission must be "Read, Write and Direct Messages" *before* the access token is made. The consumer
    /// secret signs webhooks too.
    OAuth1(OAuth1),
    /// Requests carry a token, which is refreshed every two hours and kept in the context's store under `x/<user_id>`.
    ///
    /// The scopes are `dm.read dm.write tweet.read users.read media.write offline.access`.
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

/// Authorises requests in the name of the account.
#[derive(Debug)]
pub(super) enum Signer {
    OAuth1 { keys: OAuth1, context: Context },
    OAuth2(TokenSource),
}

impl Signer {
    pub(super) fn new(auth: Auth, account: &AccountId, endpoint: &Endpoint, context: &Context) -> Self {
        match auth {
            Auth::OAuth1(keys) => Self::OAuth1 { keys, context: context.clone() },
            Auth::OAuth2(client) => {
                let name = format!("{GATEWAY}/{account}");
                Self::OAuth2(TokenSource::new(client, name, endpoint, "/2/oauth2/token", context))
            }
        }
    }

    /// Makes a call with a token, and a second time with a new one if X refuses the first; where requests are signed,
    /// once and without a token.
    pub(super) async fn authorise<T, F: Future<Output = Result<T>>>(
        &self,
        call: impl Fn(Option<Secret>) -> F,
    ) -> Result<T> {
        match self {
            Self::OAuth1 { .. } => call(None).await,
            Self::OAuth2(tokens) => tokens.authorise(|token| call(Some(token))).await,
        }
    }

    /// Returns the header of one request.
    pub(super) fn header(&self, token: Option<&Secret>, method: &Method, uri: &Uri) -> Result<Option<HeaderValue>> {
        match (self, token) {
            (_, Some(token)) => bearer(token).map(Some),
            (Self::OAuth1 { keys, context }, None) => keys.authorization(method, uri, &[], context).map(Some),
            (Self::OAuth2(_), None) => Ok(None),
        }
    }
}
