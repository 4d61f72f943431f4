//! The operator's interface: HTTP and command line, with both backends there, and with one stopped.

mod access;
pub mod commands;
mod documented;
mod endpoints;
mod page;
mod prometheus;

use std::time::Duration;

use serde_json::Value as Json;
use support::{Postgres, Redis, Tandem, TandemOptions, wait_for};

/// An answer: status code and body.
pub struct Answer {
    pub code: u16,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The body of a success.
    #[track_caller]
    pub fn data(&self) -> Json {
        let body = self.json();
        assert_eq!((self.code, &body["success"]), (200, &Json::Bool(true)), "{body}");
        assert!(body["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{body}");
        body["data"].clone()
    }

    /// The `error` of a failure with this code.
    #[track_caller]
    pub fn error(&self, code: u16) -> String {
        let body = self.json();
        assert_eq!((self.code, &body["success"]), (code, &Json::Bool(false)), "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        body["error"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

/// Asks `method path` with these headers; POST has the body `{}`.
#[track_caller]
pub fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut request =
        ureq::http::Request::builder().method(method).uri(format!("http://127.0.0.1:{port}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = match method {
        "GET" => agent.run(request.body(()).expect("a request")),
        _ => agent.run(
            request
                .header("content-type", "application/json")
                .body(body.to_owned())
                .expect("a request"),
        ),
    };
    let mut response = response.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
    let text = response.body_mut().read_to_string().unwrap_or_else(|e| panic!("{path}: {e}"));
    Answer { code: response.status().as_u16(), text }
}

#[track_caller]
pub fn get(tandem: &Tandem, path: &str) -> Answer {
    ask(tandem.admin_port(), "GET", path, &[], "")
}

#[track_caller]
pub fn post(tandem: &Tandem, path: &str, body: &str) -> Answer {
    ask(tandem.admin_port(), "POST", path, &[], body)
}

pub struct Trio {
    pub redis: Redis,
    pub postgres: Postgres,
    pub options: TandemOptions,
}

impl Trio {
    pub fn new(mode: &str) -> Trio {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let options =
            Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres).mode(mode);
        Trio { redis, postgres, options }
    }

    pub fn ready(&self) -> Tandem {
        let tandem = self.options.clone().start();
        wait_for("readiness", LIMIT, || get(&tandem, "/ready").code == 200);
        tandem
    }
}

pub const LIMIT: Duration = Duration::from_secs(30);
