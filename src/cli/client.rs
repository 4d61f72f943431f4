//! Questions to the running proxy, through its admin interface.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use ureq::http::StatusCode;

use super::Options;
use crate::admin::USER;
use crate::config::Config;

/// Longer than the interface itself takes for any answer.
const TIMEOUT: Duration = Duration::from_secs(40);

pub struct AdminClient {
    agent: ureq::Agent,
    base: String,
    token: String,
    file: String,
}

/// An answer in the interface's envelope.
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    /// What was asked for; a refusal is an error with the proxy's own words.
    pub fn data(self) -> anyhow::Result<Value> {
        match self.status.is_success() {
            true => Ok(self.body["data"].clone()),
            false => bail!("{}", self.message()),
        }
    }

    pub fn message(&self) -> String {
        let message = self.body["message"].as_str().filter(|message| !message.is_empty());
        message.map_or_else(|| format!("the proxy answers {}", self.status), str::to_owned)
    }
}

/// A path with those parameters that are given.
pub fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            encoded.append_pair(name, value);
        }
    }
    format!("{path}?{}", encoded.finish())
}

impl AdminClient {
    /// For the proxy that was started with the same configuration and environment.
    pub fn new(options: &Options) -> anyhow::Result<AdminClient> {
        let path = &options.file.config;
        let config = Config::load(path)?;
        let file = path.display().to_string();
        if config.admin.address.is_empty() {
            bail!("admin.address is empty in {file}: the proxy has no admin interface");
        }
        // What answers at an address of this machine is the proxy, whatever name its certificate has.
        let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(3)))
            .timeout_global(Some(TIMEOUT))
            .proxy(None)
            .tls_config(tls)
            .build()
            .into();
        // An address that stands for all interfaces is reached through the loopback.
        let address = match config.admin.address.rsplit_once(':') {
            Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
            Some(("[::]", port)) => format!("[::1]:{port}"),
            _ => config.admin.address,
        };
        let scheme = if config.admin.tls_cert.as_os_str().is_empty() { "http" } else { "https" };
        Ok(AdminClient {
            agent,
            base: format!("{scheme}://{address}"),
            token: config.admin.token,
            file,
        })
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = match self.token.is_empty() {
            true => request,
            false => request.header("x-admin-token", &self.token),
        };
        self.answer(request.call())
    }

    pub fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let request = self.agent.delete(format!("{}{path}", self.base));
        let request = match self.token.is_empty() {
            true => request,
            false => request.header("x-admin-token", &self.token),
        };
        self.answer(request.call())
    }

    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let user = std::env::var("USER").unwrap_or_default();
        let user: String = user.chars().filter(char::is_ascii_graphic).collect();
        let request = request.header("content-type", "application/json").header(USER, user);
        let request = match self.token.is_empty() {
            true => request,
            false => request.header("x-admin-token", &self.token),
        };
        self.answer(request.send(body.to_string()))
    }

    fn answer(
        &self,
        result: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Answer> {
        let mut response = result.with_context(|| {
            format!(
                "no proxy answers at {} (admin.address in {}); start it with `tandem serve --config {}`, or name the file that it was started with by --config",
                self.base, self.file, self.file
            )
        })?;
        let text = response.body_mut().read_to_string().context("the answer broke off")?;
        let body = serde_json::from_str(&text)
            .with_context(|| format!("what answers at {} is no Tandem", self.base))?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            bail!(
                "the proxy at {} does not take admin.token of {}: it was started with another one",
                self.base,
                self.file
            );
        }
        Ok(Answer { status, body })
    }
}
