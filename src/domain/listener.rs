//! Hears what other replicas have done, over LISTEN and NOTIFY. It only makes things sooner:
//! whatever is cached has an age of its own, and a lost connection is reported when it is back.

use std::{future::poll_fn, time::Duration};

use futures_util::future::BoxFuture;
use tokio_postgres::AsyncMessage;

use crate::store::connector::Connector;

/// Between two tries to connect.
const RETRY: Duration = Duration::from_secs(1);

/// Something that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A notice of a channel, with its text.
    Notice(&'a str, &'a str),
    /// The connection is new: whatever was told before it is lost.
    Connected,
}

/// Called for each thing that is heard, one after another.
pub(crate) type Handler = Box<dyn Fn(Heard<'_>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Listens to the channels until it is dropped.
pub(crate) async fn run(
    url: String,
    connector: Connector,
    channels: &'static [&'static str],
    handler: Handler,
) {
    loop {
        if let Err(error) = listen(&url, &connector, channels, &handler).await {
            tracing::debug!(%error, "LISTEN connection lost");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen(
    url: &str,
    connector: &Connector,
    channels: &[&str],
    handler: &Handler,
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = connector.connect(url).await?;
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    let driver = async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notice) = message? {
                // The receiver ends together with this, in the select below.
                send.send(notice).unwrap_or_default();
            }
        }
        Ok(())
    };
    let hear = async {
        let statements: Vec<String> = channels
            .iter()
            .map(|channel| format!("listen {channel};"))
            .collect();
        client.batch_execute(&statements.concat()).await?;
        handler(Heard::Connected).await;
        while let Some(notice) = receive.recv().await {
            handler(Heard::Notice(notice.channel(), notice.payload())).await;
        }
        Ok(())
    };
    tokio::select! {
        ended = driver => ended,
        ended = hear => ended,
    }
}
