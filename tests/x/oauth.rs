//! OAuth 2.0: refreshes, and pairs of tokens shared with other processes.

use super::*;

fn pair(n: u32, expires: Timestamp) -> TokenPair {
    let secret = |what: &str| Secret::new(format!("FIXTURE-{what}-{n}")).unwrap();
    TokenPair::new(secret("ACCESS"), secret("REFRESH"), expires)
}

async fn kept(store: &dyn TokenStore) -> String {
    store.load(&format!("x/{COUNCIL}")).await.unwrap().map_or_else(String::new, |pair| pair.access.expose().to_owned())
}

/// Takes messages with one token only.
async fn takes(server: &MockServer, access: &str) {
    let good =
        Mock::given(method("POST")).and(path(SEND)).and(header("authorization", format!("Bearer {access}").as_str()));
    good.respond_with(answer(201, "v2_send.response.201.json")).mount(server).await;
    given(server, "POST", SEND, answer(401, "err_401_unauthorized.json")).await;
}

fn rotating(server: &MockServer, context: &Context) -> X {
    X::direct_messages_with(Config::new(COUNCIL, client()).base_url(&server.uri()).unwrap(), context).unwrap()
}

async fn refreshes(server: &MockServer) -> usize {
    asked(server).await.iter().filter(|asked| asked.url.path() == "/2/oauth2/token").count()
}

#[tokio::test]
async fn expired_token_is_refreshed_once_by_a_hundred_sends() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let context = context();
    let name = format!("x/{COUNCIL}");
    // Expires in 59 s, which is within the minute that a token is refreshed early.
    assert!(context.tokens.replace(&name, None, &pair(1, NOW.plus(Duration::from_secs(59)))).await.unwrap());
    let x = Arc::new(rotating(&server, &context));
    let sends = (0..100).map(|_| {
        let x = x.clone();
        tokio::spawn(async move { x.send_text(&resident(), "Hello").await })
    });
    for send in join_all(sends).await {
        send.unwrap().unwrap();
    }
    assert_eq!(refreshes(&server).await, 1);
    assert_eq!(asked(&server).await.len(), 101);
    assert_eq!(kept(&*context.tokens).await, "FIXTURE-ACCESS-2");
}

#[tokio::test]
async fn refused_token_is_refreshed_and_the_call_repeated_once() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let context = context();
    let good = pair(1, NOW.plus(Duration::from_secs(3600)));
    context.tokens.replace(&format!("x/{COUNCIL}"), None, &good).await.unwrap();
    let x = rotating(&server, &context);
    x.send_text(&resident(), "Hello").await.unwrap();
    let paths: Vec<String> = asked(&server).await.iter().map(|asked| asked.url.path().to_owned()).collect();
    assert_eq!(paths, [SEND, "/2/oauth2/token", SEND]);
    // With another refused token, it ends there.
    server.reset().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    given(&server, "POST", SEND, answer(401, "err_401_unauthorized.json")).await;
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unauthenticated, Outcome::Rejected));
    assert_eq!(asked(&server).await.len(), 3);
}

#[tokio::test]
async fn client_authenticates_by_its_secret_or_its_id() {
    for confidential in [false, true] {
        let server = MockServer::start().await;
        given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
        takes(&server, "FIXTURE-ACCESS-2").await;
        let client = if confidential { client().client_secret("client-secret").unwrap() } else { client() };
        let x =
            X::direct_messages_with(Config::new(COUNCIL, client).base_url(&server.uri()).unwrap(), &context()).unwrap();
        x.send_text(&resident(), "Hello").await.unwrap();
        let asked = &asked(&server).await[0];
        let form = String::from_utf8(asked.body.clone()).unwrap();
        let wanted = "grant_type=refresh_token&refresh_token=FIXTURE-REFRESH-1";
        assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded");
        if confidential {
            let basic = format!("Basic {}", BASE64_STANDARD.encode("client-id:client-secret"));
            assert_eq!((form.as_str(), asked.headers["authorization"].to_str().unwrap()), (wanted, basic.as_str()));
        } else {
            assert_eq!(form, format!("{wanted}&client_id=client-id"));
            assert!(!asked.headers.contains_key("authorization"));
        }
    }
}

#[tokio::test]
async fn configured_access_token_is_used_until_refused() {
    let server = MockServer::start().await;
    takes(&server, "FIXTURE-ACCESS-1").await;
    let context = context();
    let oauth2 = client().access_token("FIXTURE-ACCESS-1").unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, oauth2).base_url(&server.uri()).unwrap(), &context).unwrap();
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (0, ""));
    server.reset().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (1, "FIXTURE-ACCESS-2"));
}

/// A store in which another process is at work.
#[derive(Debug, Default)]
struct Shared {
    tokens: MemoryTokens,
    /// What the other process stores, at our n-th look.
    theirs: Mutex<Option<(usize, TokenPair)>>,
    looks: AtomicUsize,
    /// How often storing fails, and whether the pair was there before its first use.
    failures: AtomicUsize,
    log: Mutex<Vec<&'static str>>,
}

#[derive(Clone, Debug)]
struct SharedStore(Arc<Shared>);

#[async_trait]
impl TokenStore for SharedStore {
    async fn load(&self, name: &str) -> Result<Option<TokenPair>> {
        let look = self.0.looks.fetch_add(1, Ordering::SeqCst);
        let theirs = self.0.theirs.lock().unwrap().take_if(|(at, _)| *at <= look);
        if let Some((_, pair)) = theirs {
            let spent = self.0.tokens.load(name).await?.map(|pair| pair.refresh);
            self.0.tokens.replace(name, spent.as_ref(), &pair).await?;
        }
        self.0.tokens.load(name).await
    }

    async fn replace(&self, name: &str, spent: Option<&Secret>, pair: &TokenPair) -> Result<bool> {
        if self.0.failures.load(Ordering::SeqCst) > 0 {
            self.0.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::unknown("the database is away"));
        }
        self.0.log.lock().unwrap().push("stored");
        self.0.tokens.replace(name, spent, pair).await
    }
}

fn shared() -> (Arc<Shared>, Context) {
    let shared = Arc::new(Shared::default());
    (shared.clone(), context().tokens(SharedStore(shared)))
}

#[tokio::test]
async fn spent_refresh_token_gives_way_to_a_stored_newer_pair() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    takes(&server, "FIXTURE-ACCESS-7").await;
    let (shared, context) = shared();
    *shared.theirs.lock().unwrap() = Some((1, pair(7, NOW.plus(Duration::from_secs(7200)))));
    rotating(&server, &context).send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, shared.log.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn spent_refresh_token_without_a_newer_pair_is_an_error() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    let x = rotating(&server, &context());
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.is_retryable()),
        (ErrorKind::Unauthenticated, Outcome::NotSent, false)
    );
    assert!(error.to_string().contains("authorise the account again") && error.raw().is_none());
    assert_eq!(refreshes(&server).await, 1);
}

#[tokio::test]
async fn reauthorised_account_uses_the_configured_pair() {
    let server = MockServer::start().await;
    // X has ended the family of tokens in the store; the configuration has the first of the next.
    let new = Mock::given(path("/2/oauth2/token")).and(body_string_contains("refresh_token=FIXTURE-REFRESH-1&"));
    new.respond_with(answer(200, "oauth2_token.response.200.json")).mount(&server).await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let context = context();
    context.tokens.replace(&format!("x/{COUNCIL}"), None, &pair(9, NOW)).await.unwrap();
    rotating(&server, &context).send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (2, "FIXTURE-ACCESS-2"));
}

#[tokio::test]
async fn pair_stored_first_by_another_process_is_used() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-7").await;
    let (shared, context) = shared();
    let name = format!("x/{COUNCIL}");
    shared.tokens.replace(&name, None, &pair(1, NOW)).await.unwrap();
    let x = rotating(&server, &context);
    // It stores between our look and our storing: the listener does so as it answers.
    struct First(Arc<Shared>);
    impl Respond for First {
        fn respond(&self, _: &Asked) -> ResponseTemplate {
            let (shared, name) = (self.0.clone(), format!("x/{COUNCIL}"));
            std::thread::spawn(move || {
                let theirs = pair(7, NOW.plus(Duration::from_secs(7200)));
                let spent = pair(1, NOW).refresh;
                let store = shared.tokens.replace(&name, Some(&spent), &theirs);
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store).map(|_| ()).unwrap();
            })
            .join()
            .unwrap();
            answer(200, "oauth2_token.response.200.json")
        }
    }
    server.reset().await;
    Mock::given(path("/2/oauth2/token")).respond_with(First(shared.clone())).mount(&server).await;
    takes(&server, "FIXTURE-ACCESS-7").await;
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!(kept(&*context.tokens).await, "FIXTURE-ACCESS-7");
}

#[tokio::test]
async fn new_pair_is_stored_before_use_and_outlasts_a_store_fault() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let (shared, context) = shared();
    shared.failures.store(1, Ordering::SeqCst);
    let x = rotating(&server, &context);
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "whatever the store says");
    assert!(asked(&server).await.iter().all(|asked| asked.url.path() != SEND), "used before it was stored");
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (1, "FIXTURE-ACCESS-2"));
}

/// Holds the answer to a refresh back until it is let go.
#[derive(Debug)]
struct Holding {
    refreshes: AtomicUsize,
    sends: AtomicUsize,
    go: Semaphore,
}

#[derive(Clone, Debug)]
struct HoldingTransport(Arc<Holding>);

#[async_trait]
impl Transport for HoldingTransport {
    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let name = if request.uri().path() == "/2/oauth2/token" {
            self.0.refreshes.fetch_add(1, Ordering::SeqCst);
            self.0.go.acquire().await.unwrap().forget();
            "oauth2_token.response.200.json"
        } else {
            self.0.sends.fetch_add(1, Ordering::SeqCst);
            "v2_send.response.201.json"
        };
        Ok(http::Response::new(Body::from(fixture(name))))
    }
}

#[tokio::test]
async fn dropped_send_keeps_the_new_tokens() {
    let holding =
        Arc::new(Holding { refreshes: AtomicUsize::new(0), sends: AtomicUsize::new(0), go: Semaphore::new(0) });
    let context = context().transport(HoldingTransport(holding.clone()));
    let x = Arc::new(X::direct_messages_with(Config::new(COUNCIL, client()), &context).unwrap());
    let send = || {
        let x = x.clone();
        tokio::spawn(async move { x.send_text(&resident(), "Hello").await })
    };
    let (first, second) = (send(), send());
    while holding.refreshes.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    holding.go.add_permits(1);
    second.await.unwrap().unwrap();
    send().await.unwrap().unwrap();
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    assert_eq!((count(&holding.refreshes), count(&holding.sends)), (1, 2));
    assert_eq!(kept(&*context.tokens).await, "FIXTURE-ACCESS-2");
}
