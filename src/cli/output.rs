//! What commands print: sentences for people, JSON for scripts.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use prost::{Message, Name};
use serde_json::{Value, json};

use crate::{convert::proto_json, error::Error, store::schema::Migrated};

/// Prints in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A sentence, or its JSON.
    pub(crate) fn line(self, sentence: &str, json: &Value) -> io::Result<()> {
        if self.json {
            self.text(&format!("{json}\n"))
        } else {
            self.text(&format!("{sentence}\n"))
        }
    }

    /// A text that is the same in both forms.
    pub(crate) fn text(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// A message without its secrets: canonical JSON in one line, or its fields one a line.
    pub(crate) fn message<M: Message + Name>(self, message: &M) -> io::Result<()> {
        self.fields(proto_json::to_redacted_text(message))
    }

    /// The same with its secrets, for the command whose purpose they are.
    pub(crate) fn message_with_secrets<M: Message + Name>(self, message: &M) -> io::Result<()> {
        self.fields(proto_json::to_text(message))
    }

    fn fields(self, json: Vec<u8>) -> io::Result<()> {
        let json = String::from_utf8(json).expect("valid: JSON is UTF-8");
        if self.json {
            return self.text(&format!("{json}\n"));
        }
        let mut text = String::new();
        add_fields(
            &mut text,
            &serde_json::from_str(&json).expect("valid: written as JSON"),
            0,
        );
        self.text(&text)
    }

    /// A message as a value, without its secrets.
    pub(crate) fn value<M: Message + Name>(message: &M) -> Value {
        serde_json::from_slice(&proto_json::to_redacted_text(message))
            .expect("valid: written as JSON")
    }

    /// The migrations that ran, and what an operator should know of the data.
    pub(crate) fn migrated(self, migrated: &Migrated, warnings: &[String]) -> io::Result<()> {
        let Migrated { names, distributed } = migrated;
        let mut sentence = match names.as_slice() {
            [] => "nothing to migrate".to_owned(),
            names => format!("migrated: {}", names.join(", ")),
        };
        if let Some(steps) = distributed {
            let lines: Vec<String> = steps.iter().map(|step| format!("\n{step}")).collect();
            sentence.push_str(&if lines.is_empty() {
                "\nnothing to distribute".to_owned()
            } else {
                lines.concat()
            });
        }
        let lines: Vec<String> = warnings
            .iter()
            .map(|warning| format!("warning: {warning}\n"))
            .collect();
        let sentence = format!("{}{sentence}", lines.concat());
        self.line(
            &sentence,
            &json!({ "migrated": names, "distributed": distributed, "warnings": warnings }),
        )
    }

    /// Tells why the command failed.
    pub(crate) fn fail(self, error: &anyhow::Error) -> ExitCode {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            // The reader has seen enough.
            return ExitCode::SUCCESS;
        }
        let fact = error.downcast_ref::<Error>();
        let violations: Vec<Value> = fact
            .map(Error::violations)
            .unwrap_or_default()
            .iter()
            .map(|v| json!({ "field": v.field, "reason": v.error.as_str(), "description": v.description }))
            .collect();
        let reason = fact.map(|fact| fact.reason().as_str());
        let message = format!("{error:#}");
        self.complain(
            &format!("error: {message}"),
            &json!({ "error": { "message": message, "reason": reason, "violations": violations } }),
        );
        ExitCode::FAILURE
    }

    /// A sentence on stderr, or its JSON.
    pub(crate) fn complain(self, sentence: &str, json: &Value) {
        let told = if self.json {
            json.to_string()
        } else {
            sentence.to_owned()
        };
        // There is nowhere to tell that it cannot be told.
        writeln!(io::stderr(), "{told}").unwrap_or_default();
    }
}

fn add_fields(text: &mut String, value: &Value, depth: usize) {
    let Value::Object(entries) = value else {
        return text.push_str(&format!("{value}\n"));
    };
    for (name, value) in entries {
        text.push_str(&"  ".repeat(depth));
        match value {
            Value::Object(_) => {
                text.push_str(&format!("{name}:\n"));
                add_fields(text, value, depth + 1);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text.push_str(&format!("{name}:\n"));
                for item in items {
                    add_fields(text, item, depth + 1);
                    text.push('\n');
                }
            }
            Value::String(shown) => text.push_str(&format!("{name}: {shown}\n")),
            value => text.push_str(&format!("{name}: {value}\n")),
        }
    }
}
