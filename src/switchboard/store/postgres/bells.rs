//! What other processes put there is heard at once. Nothing depends on it: who waits for it looks by itself, too.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Config};

use super::super::super::engine::Bell;
use super::session::{self, Fault};

/// How long a lost session is left alone, and how often it is seen whether it still lives.
const PAUSE: Duration = Duration::from_secs(5);
const CHECK: Duration = Duration::from_secs(60);

/// The bells of a store, and the session that hears them: from when somebody first waits, for as long as this is held.
pub(super) struct Bells {
    config: Config,
    bells: Arc<[Notify; 2]>,
    listening: OnceLock<JoinSet<()>>,
}

impl Bells {
    pub(super) fn new(config: Config) -> Self {
        Self { config, bells: Arc::default(), listening: OnceLock::new() }
    }

    /// What is rung after this call is heard, whenever it is waited for.
    pub(super) fn rung(&self, bell: Bell) -> Notified<'_> {
        self.listening.get_or_init(|| {
            let mut listening = JoinSet::new();
            listening.spawn(listen(self.config.clone(), Arc::clone(&self.bells)));
            listening
        });
        of(&self.bells, bell).notified()
    }
}

/// The statement that rings a bell in every process.
pub(super) fn ring(bell: Bell) -> &'static str {
    match bell {
        Bell::ToSend => "NOTIFY civic_messaging_to_send",
        Bell::ToRead => "NOTIFY civic_messaging_to_read",
    }
}

async fn listen(config: Config, bells: Arc<[Notify; 2]>) {
    loop {
        // Whatever it was, it costs nothing but time.
        _ = hear(&config, &bells).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hears until the session is lost.
async fn hear(config: &Config, bells: &[Notify; 2]) -> Result<(), Fault> {
    let (client, mut connection) = session::connect(config).await?;
    let hears = async {
        while let Some(Ok(told)) = poll_fn(|cx| connection.poll_message(cx)).await {
            let AsyncMessage::Notification(rung) = told else { continue };
            let named = |bell: &Bell| ring(*bell).ends_with(rung.channel());
            [Bell::ToSend, Bell::ToRead]
                .iter()
                .filter(|bell| named(bell))
                .for_each(|bell| of(bells, *bell).notify_waiters());
        }
    };
    let lives = async {
        client.batch_execute("LISTEN civic_messaging_to_send; LISTEN civic_messaging_to_read").await?;
        // What was rung before is not rung again.
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

fn of(bells: &[Notify; 2], bell: Bell) -> &Notify {
    let [to_send, to_read] = bells;
    match bell {
        Bell::ToSend => to_send,
        Bell::ToRead => to_read,
    }
}
