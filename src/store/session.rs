use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, MaybeDone, maybe_done};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Connection, Error, Statement};
use tokio_util::sync::CancellationToken;

use super::StoreError;

/// One connection and the task that drives it. It ends with the session.
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
    ended: CancellationToken,
    timeout: Duration,
}

/// Prepares a statement. Boxed, because many of these are joined: together they would be too large for a
/// thread's stack.
pub(super) fn prepare<'a>(
    client: &'a Client,
    sql: &'a str,
) -> BoxFuture<'a, Result<Statement, Error>> {
    client.prepare(sql).boxed()
}

/// Declares a struct of prepared statements and how all of them are prepared in one round trip.
macro_rules! statements {
    ($(#[$attribute:meta])* $name:ident { $($statement:ident = $sql:expr;)+ }) => {
        $(#[$attribute])*
        pub struct $name {
            $(pub $statement: tokio_postgres::Statement,)+
        }

        impl $name {
            pub async fn prepare(
                client: &tokio_postgres::Client,
            ) -> Result<$name, tokio_postgres::Error> {
                use crate::store::session::prepare;
                let ($($statement,)+) = futures_util::try_join!($(prepare(client, $sql),)+)?;
                Ok($name { $($statement,)+ })
            }

            /// The text of one of them.
            #[allow(dead_code, reason = "not every set of statements is put together anew")]
            pub fn text(&self, statement: &tokio_postgres::Statement) -> &'static str {
                $(if std::ptr::eq(statement, &self.$statement) {
                    return $sql;
                })+
                ""
            }
        }
    };
}
pub(super) use statements;

/// A parameter that a call owns.
pub(super) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

type Call<'a> = BoxFuture<'a, Result<u64, Error>>;

impl Session {
    pub(super) fn new<S, T>(
        client: Client,
        connection: Connection<S, T>,
        timeout: Duration,
    ) -> Session
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Its error also reaches every call that waits for an answer.
        let ended = CancellationToken::new();
        let ends = ended.clone().drop_guard();
        let driver = tokio::spawn(connection.map(|_| drop(ends)));
        Session { client, driver, ended, timeout }
    }

    /// Resolves when the connection has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Waits for an answer for as long as the configured query timeout.
    pub(super) async fn run<T, E: Into<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        self.within(self.timeout, work).await
    }

    /// Waits for an answer for as long as `limit`. A server that stays silent loses its connection, so
    /// that nothing of the session can be waited for again.
    pub(super) async fn within<T, E: Into<StoreError>>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => {
                self.driver.abort();
                Err(StoreError::Timeout { after: limit, outcome_unknown: false })
            }
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn pipeline(&self) -> Pipeline<'_> {
        Pipeline { client: &self.client, calls: Vec::new() }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Statements that are sent one behind the other without waiting for answers.
/// PostgreSQL answers them in one round trip; once one has failed, it refuses the rest of the
/// transaction.
pub(super) struct Pipeline<'a> {
    client: &'a Client,
    calls: Vec<MaybeDone<Call<'a>>>,
}

impl<'a> Pipeline<'a> {
    /// Sends a statement; the answer comes with [`Pipeline::finish`].
    pub fn send(&mut self, statement: &Statement, params: Vec<Param<'a>>) {
        let (client, statement) = (self.client, statement.clone());
        let call: Call<'a> = Box::pin(async move { client.execute_raw(&statement, params).await });
        let mut call = maybe_done(call);
        // The first poll encodes the parameters and queues the request.
        let _ = call.poll_unpin(&mut Context::from_waker(Waker::noop()));
        self.calls.push(call);
    }

    /// Waits for all answers. The first error is the cause of those behind it.
    pub async fn finish(self) -> Result<(), Error> {
        let mut first = None;
        for mut call in self.calls {
            (&mut call).await;
            if let (None, Some(Err(error))) = (&first, Pin::new(&mut call).take_output()) {
                first = Some(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}
