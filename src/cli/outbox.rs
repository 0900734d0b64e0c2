//! `user-service outbox …`.

use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use crate::{api::Api, model::delivery::Delivery};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows the messages that failed for good, newest first.
    List {
        /// Most messages to show.
        #[arg(long, default_value_t = 100)]
        limit: i64,
    },
    /// Sends a failed message again, unless its time has passed.
    Retry {
        /// The delivery's id.
        #[arg(required_unless_present = "all")]
        delivery_id: Option<i64>,
        /// All of the last day that failed.
        #[arg(long, conflicts_with = "delivery_id")]
        all: bool,
    },
}

pub(super) async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::List { limit } => {
            let failed = api.deliveries().list_failed(None, limit).await?;
            if output.is_json() {
                let shown: Vec<_> = failed.iter().map(as_json).collect();
                output.line("", &json!({ "deliveries": shown }))?;
            } else if failed.is_empty() {
                output.text("no failed messages\n")?;
            } else {
                let lines = failed
                    .iter()
                    .map(|delivery| format!("{}\n", sentence(delivery)));
                output.text(&lines.collect::<String>())?;
            }
        }
        Command::Retry {
            delivery_id: None, ..
        } => {
            let count = api.deliveries().retry_all().await?;
            output.line(
                &format!("{count} messages queued for retry"),
                &json!({ "count": count }),
            )?;
        }
        Command::Retry {
            delivery_id: Some(delivery_id),
            ..
        } => {
            api.deliveries().retry(delivery_id).await?;
            output.line(
                &format!("message {delivery_id} queued for retry"),
                &json!({ "deliveryId": delivery_id.to_string() }),
            )?;
        }
    }
    Ok(())
}

fn as_json(delivery: &Delivery) -> serde_json::Value {
    json!({
        "deliveryId": delivery.outbox_id.to_string(),
        "channel": delivery.channel,
        "template": delivery.template,
        "attempts": delivery.attempts,
        "lastError": delivery.last_error,
        "createdAt": delivery.created_at.to_rfc3339(),
        "updatedAt": delivery.updated_at.to_rfc3339(),
    })
}

fn sentence(delivery: &Delivery) -> String {
    format!(
        "{}  {}  {} by {}: {} after {} attempts",
        delivery.outbox_id,
        delivery.updated_at.format("%Y-%m-%d %H:%M:%S"),
        delivery.template,
        delivery.channel,
        delivery.last_error.as_deref().unwrap_or("unknown error"),
        delivery.attempts,
    )
}
