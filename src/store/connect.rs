//! Sessions with PostgreSQL: address, TLS, timeouts.

use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::StoreError;
use super::session::Session;
use crate::config::{self, PostgresAddress};
use crate::tls::{self, TlsFiles};

/// Opens sessions as `[postgres]` says.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    schema: String,
    connect_timeout: Duration,
    query_timeout: Duration,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Short statements on indexed rows, of the mirror or of readers.
    Rows,
    /// Statements over whole tables: bulk load and merge.
    Bulk,
}

impl Connector {
    pub fn new(postgres: &config::Postgres) -> Result<Connector, StoreError> {
        let PostgresAddress { server: mut config, tls } = PostgresAddress::new(postgres)
            .map_err(|error| StoreError::Config(error.to_string()))?;
        let connect_timeout = Duration::from_millis(postgres.connect_timeout_ms.max(1));
        config
            .application_name("tandem")
            .connect_timeout(connect_timeout)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        let tls = match &tls {
            Some(tls) => {
                config.ssl_mode(match tls.required {
                    true => SslMode::Require,
                    false => SslMode::Prefer,
                });
                let files = TlsFiles {
                    section: "postgres",
                    ca: &tls.ca,
                    cert: &tls.cert,
                    key: &tls.key,
                    verify: tls.verify,
                };
                let client = tls::client_config(&files)
                    .map_err(|error| StoreError::Config(error.to_string()))?;
                Some(MakeRustlsConnect::new((*client).clone()))
            }
            None => {
                config.ssl_mode(SslMode::Disable);
                None
            }
        };
        Ok(Connector {
            config,
            tls,
            schema: postgres.schema.clone(),
            connect_timeout,
            query_timeout: Duration::from_millis(postgres.query_timeout_ms.max(1)),
        })
    }

    /// The schema's name, to be bound as a parameter.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The schema's name as an SQL identifier.
    pub(super) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    /// Opens a session. What is not answered in `connect_timeout_ms` is an error.
    pub(super) async fn open(&self, role: Role) -> Result<Session, StoreError> {
        // Several addresses each have their own timeout in tokio-postgres; this one is for all.
        let limit = self.connect_timeout;
        let late = || StoreError::Timeout { after: limit, outcome_unknown: false };
        let session = tokio::time::timeout(limit, self.handshake()).await.map_err(|_| late())??;
        session.within(limit, session.client().batch_execute(&self.settings(role))).await?;
        // Only in PostgreSQL 14 and later, and only where it was compiled in.
        let lz4 = "SET default_toast_compression = 'lz4'";
        match session.within(limit, session.client().batch_execute(lz4)).await {
            Err(error @ (StoreError::Connection { .. } | StoreError::Timeout { .. })) => Err(error),
            _ => Ok(session),
        }
    }

    async fn handshake(&self) -> Result<Session, StoreError> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                Ok(Session::new(client, connection, self.query_timeout))
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                Ok(Session::new(client, connection, self.query_timeout))
            }
        }
    }

    fn settings(&self, role: Role) -> String {
        let schema = self.quoted_schema();
        let mut settings = format!(
            "SET search_path = {schema};
             SET jit = off;
             SET client_min_messages = warning;
             SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
              WHERE pg_catalog.current_setting('synchronous_commit') = 'off';"
        );
        let timeout = self.query_timeout.as_millis();
        match role {
            // Plans are made once, while the tables may still be empty: by index, always.
            Role::Rows => settings.push_str(&format!(
                "SET plan_cache_mode = force_generic_plan;
                 SET enable_seqscan = off;
                 SET enable_hashjoin = off;
                 SET enable_mergejoin = off;
                 SET enable_sort = off;
                 SET idle_in_transaction_session_timeout = {timeout};
                 SET statement_timeout = {timeout};"
            )),
            Role::Bulk => settings.push_str(
                "SET statement_timeout = 0;
                 SET work_mem = '64MB';
                 SET maintenance_work_mem = '128MB';",
            ),
        }
        settings
    }
}
