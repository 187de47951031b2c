//! Notifications from other processes, by `LISTEN`. They only save time: whoever waits for one polls as well.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Config};

use super::super::super::engine::Notification;
use super::session::{self, Fault};

/// The wait after a lost session, and how often a session is checked.
const PAUSE: Duration = Duration::from_secs(5);
const CHECK: Duration = Duration::from_secs(60);

/// The notifications of a store, and the session that listens: from the first wait until this is dropped.
pub(super) struct Bells {
    config: Config,
    bells: Arc<[Notify; 2]>,
    listening: OnceLock<JoinSet<()>>,
}

impl Bells {
    pub(super) fn new(config: Config) -> Self {
        Self { config, bells: Arc::default(), listening: OnceLock::new() }
    }

    /// Returns a future for the next notification, counted from this call.
    pub(super) fn notified(&self, bell: Notification) -> Notified<'_> {
        self.listening.get_or_init(|| {
            let mut listening = JoinSet::new();
            listening.spawn(listen(self.config.clone(), Arc::clone(&self.bells)));
            listening
        });
        of(&self.bells, bell).notified()
    }
}

/// Returns the statement that notifies every process.
pub(super) fn ring(bell: Notification) -> &'static str {
    match bell {
        Notification::ToSend => "NOTIFY civic_messaging_to_send",
        Notification::ToRead => "NOTIFY civic_messaging_to_read",
    }
}

async fn listen(config: Config, bells: Arc<[Notify; 2]>) {
    loop {
        // A failure costs only time.
        _ = hear(&config, &bells).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens until the session is lost.
async fn hear(config: &Config, bells: &[Notify; 2]) -> Result<(), Fault> {
    let (client, mut connection) = session::connect(config).await?;
    let hears = async {
        while let Some(Ok(told)) = poll_fn(|cx| connection.poll_message(cx)).await {
            let AsyncMessage::Notification(notified) = told else { continue };
            let named = |bell: &Notification| ring(*bell).ends_with(notified.channel());
            [Notification::ToSend, Notification::ToRead]
                .iter()
                .filter(|bell| named(bell))
                .for_each(|bell| of(bells, *bell).notify_waiters());
        }
    };
    let lives = async {
        client.batch_execute("LISTEN civic_messaging_to_send; LISTEN civic_messaging_to_read").await?;
        // Notifications sent before are lost: notify everybody once.
        bells.iter().for_each(Notify::notify_waiters);
        loop {
            tokio::time::sleep(CHECK).await;
            tokio::time::timeout(PAUSE, client.batch_execute("")).await.map_err(|_| Fault::Late)??;
        }
    };
    tokio::select! {
        () = hears => Ok(()),
        lost = lives => lost,
    }
}

fn of(bells: &[Notify; 2], bell: Notification) -> &Notify {
    let [to_send, to_read] = bells;
    match bell {
        Notification::ToSend => to_send,
        Notification::ToRead => to_read,
    }
}
