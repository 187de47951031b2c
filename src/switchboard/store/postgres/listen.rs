//! Notifications from other processes, by `LISTEN`. They only save time: whoever waits for one polls as well.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Config};

use super::super::super::engine::Notification;
use super::session::{self, Fault, notify_statement};

/// The wait after a lost session, and how often a session is checked.
const PAUSE: Duration = Duration::from_secs(5);
const CHECK: Duration = Duration::from_secs(60);

/// The notifications of a store, and the session that listens: from the first wait until this is dropped.
pub(super) struct Listener {
    config: Config,
    notifies: Arc<[Notify; 2]>,
    listening: OnceLock<JoinSet<()>>,
}

impl Listener {
    pub(super) fn new(config: Config) -> Self {
        Self { config, notifies: Arc::default(), listening: OnceLock::new() }
    }

    /// Returns a future for the next notification, counted from this call.
    pub(super) fn notified(&self, kind: Notification) -> Notified<'_> {
        self.listening.get_or_init(|| {
            let mut listening = JoinSet::new();
            listening.spawn(listen(self.config.clone(), Arc::clone(&self.notifies)));
            listening
        });
        of(&self.notifies, kind).notified()
    }
}

async fn listen(config: Config, notifies: Arc<[Notify; 2]>) {
    loop {
        // A failure costs only time.
        _ = listen_once(&config, &notifies).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens until the session is lost.
async fn listen_once(config: &Config, notifies: &[Notify; 2]) -> Result<(), Fault> {
    let (client, mut connection) = session::connect(config).await?;
    let receives = async {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            let AsyncMessage::Notification(notification) = message else { continue };
            let named = |kind: &Notification| notify_statement(*kind).ends_with(notification.channel());
            [Notification::ToSend, Notification::ToRead]
                .iter()
                .filter(|kind| named(kind))
                .for_each(|kind| of(notifies, *kind).notify_waiters());
        }
    };
    let lives = async {
        client.batch_execute("LISTEN civic_messaging_to_send; LISTEN civic_messaging_to_read").await?;
        // Notifications sent before are lost: notify everybody once.
        notifies.iter().for_each(Notify::notify_waiters);
        loop {
            tokio::time::sleep(CHECK).await;
            tokio::time::timeout(PAUSE, client.batch_execute("")).await.map_err(|_| Fault::Late)??;
        }
    };
    tokio::select! {
        () = receives => Ok(()),
        lost = lives => lost,
    }
}

fn of(notifies: &[Notify; 2], kind: Notification) -> &Notify {
    let [to_send, to_read] = notifies;
    match kind {
        Notification::ToSend => to_send,
        Notification::ToRead => to_read,
    }
}
