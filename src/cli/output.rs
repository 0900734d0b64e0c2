//! What commands print: sentences for people, JSON for scripts.

use std::process::ExitCode;

use prost::{Message, Name};
use serde_json::{Value, json};

use crate::{error::Error, wire::canonical};

/// Prints in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// A sentence, or its JSON.
    pub fn line(self, sentence: &str, json: &Value) {
        if self.json { println!("{json}") } else { println!("{sentence}") }
    }

    /// A text that is the same in both forms.
    pub fn text(self, text: &str) {
        print!("{text}");
    }

    /// A message: canonical JSON in one line, or its fields one a line.
    pub fn message<M: Message + Name>(self, message: &M) {
        let value = canonical::to_json(message);
        if self.json {
            return println!("{value}");
        }
        print_fields(&value, 0);
    }

    /// The migrations that ran.
    pub fn migrated(self, names: &[String]) {
        let sentence = match names {
            [] => "nothing to migrate".to_owned(),
            names => format!("migrated: {}", names.join(", ")),
        };
        self.line(&sentence, &json!({ "migrated": names }));
    }

    /// Tells why the command failed.
    pub fn fail(self, error: &anyhow::Error) -> ExitCode {
        let fact = error.downcast_ref::<Error>();
        if self.json {
            let violations: Vec<Value> = fact
                .map(Error::violations)
                .unwrap_or_default()
                .iter()
                .map(|v| json!({ "field": v.field, "reason": v.fault.as_str(), "description": v.description }))
                .collect();
            let reason = fact.map(|fact| fact.reason().as_str());
            let told =
                json!({ "error": { "message": format!("{error:#}"), "reason": reason, "violations": violations } });
            eprintln!("{told}");
        } else {
            eprintln!("error: {error:#}");
        }
        ExitCode::FAILURE
    }
}

fn print_fields(value: &Value, depth: usize) {
    let Value::Object(entries) = value else {
        return println!("{value}");
    };
    for (name, value) in entries {
        let indent = depth * 2;
        match value {
            Value::Object(_) => {
                println!("{:indent$}{name}:", "");
                print_fields(value, depth + 1);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                println!("{:indent$}{name}:", "");
                for item in items {
                    print_fields(item, depth + 1);
                    println!();
                }
            }
            Value::String(text) => println!("{:indent$}{name}: {text}", ""),
            value => println!("{:indent$}{name}: {value}", ""),
        }
    }
}
