//! The texts of the statements that connections send.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use diesel::connection::{DebugQuery, Instrumentation, InstrumentationEvent, set_default_instrumentation};

static IS_ON: AtomicBool = AtomicBool::new(false);
static SENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The text of a statement, without its values.
pub fn text_of(query: &dyn DebugQuery) -> String {
    let shown = query.to_string();
    shown.split(" -- binds: ").next().unwrap_or_default().to_owned()
}

fn recorder() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event
            && IS_ON.load(Ordering::Relaxed)
        {
            SENT.lock().unwrap().insert(text_of(query));
        }
    }))
}

/// Writes down what every connection that is opened from now on sends, those of other tests too.
pub fn record() {
    IS_ON.store(true, Ordering::Relaxed);
    set_default_instrumentation(recorder).unwrap();
}

/// What was sent since then; no more is written down.
pub fn recorded() -> BTreeSet<String> {
    IS_ON.store(false, Ordering::Relaxed);
    std::mem::take(&mut *SENT.lock().unwrap())
}

/// Name and text of what is prepared on a connection.
pub async fn prepared(client: &tokio_postgres::Client) -> Vec<(String, String)> {
    const STATEMENT: &str = "select name, statement from pg_prepared_statements where statement like '%$%'";
    let answer = client.simple_query(STATEMENT).await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
        _ => None,
    });
    rows.collect()
}
