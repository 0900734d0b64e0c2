//! The second half of a connection, which reads and writes its socket.
//!
//! The task that runs statements drives it too, so that a statement wakes no other task on its way
//! to the server and back. In a task of its own it would cost two of the scheduler's hand-overs a
//! statement, mostly to another core.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::{runtime::Handle, task::coop::unconstrained};
use tokio_postgres::Connection;

use crate::store::connector::Stream;

/// Reads and writes the socket of one connection while a task polls it, and terminates the session
/// when it is dropped after its client.
pub struct ConnectionDriver(Option<Connection<tokio_postgres::Socket, Stream>>);

impl ConnectionDriver {
    pub fn new(connection: Connection<tokio_postgres::Socket, Stream>) -> Self {
        Self(Some(connection))
    }

    /// Does the work, and what its statements need of the socket.
    pub async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.poll(cx);
            // What the server answered is there for the work now.
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Whether the connection is there still, as far as can be told without asking the server.
    pub async fn is_open(&mut self) -> bool {
        // However much the task has done in this turn: a socket that is not looked at seems open.
        let look = poll_fn(|cx| {
            self.poll(cx);
            Poll::Ready(self.0.is_some())
        });
        unconstrained(look).await
    }

    /// A caller that waits for a response learns from it that the connection was closed.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && let Poll::Ready(ended) = Pin::new(connection).poll(cx)
        {
            self.0 = None;
            if let Err(error) = ended {
                tracing::debug!(%error, "database connection lost");
            }
        }
    }
}

impl Drop for ConnectionDriver {
    fn drop(&mut self) {
        if let (Some(connection), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // Ends when its client is dropped and the server knows it; an error until then has no
            // one to be reported to.
            runtime.spawn(async move { connection.await.unwrap_or_default() });
        }
    }
}
