//! Spans reach a collector, say what they should and nothing else, and a collector that does not take
//! them is nobody's trouble.

mod collector;

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use support::{Postgres, Redis, Tandem, TandemOptions, Value, wait_for};

use crate::admin::{get, post};
use collector::{Collector, attribute};

const LIMIT: Duration = Duration::from_secs(30);
const LOST: &str = "the collector takes no traces";

fn options(collector: &Collector) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .set("traces", "endpoint", collector.url())
        .set("traces", "sample_ratio", 1.0)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

fn says(span: &Span, wanted: &[(&str, &str)]) -> bool {
    wanted.iter().all(|(key, value)| attribute(&span.attributes, key).as_deref() == Some(*value))
}

/// Waits for a span with this name and these attributes.
#[track_caller]
fn span(collector: &Collector, name: &str, wanted: &[(&str, &str)]) -> Span {
    let mut found = None;
    wait_for(&format!("{name} {wanted:?}"), LIMIT, || {
        let spans = collector.spans();
        found = spans.into_iter().find(|span| span.name == name && says(span, wanted));
        found.is_some()
    });
    found.expect("waited for")
}

fn child(collector: &Collector, name: &str, parent: &Span) -> Span {
    let mut found = None;
    wait_for(&format!("{name} of a command"), LIMIT, || {
        let spans = collector.spans();
        found = spans.into_iter().find(|s| s.name == name && s.parent_span_id == parent.span_id);
        found.is_some()
    });
    found.expect("waited for")
}

#[test]
fn commands_commits_recalls_switches_requests_and_jobs_are_traced() {
    let collector = Collector::start();
    let (redis, postgres) =
        (Redis::options().with("requirepass", "pass-of-redis").start(), Postgres::start());
    let tandem = options(&collector)
        .redis(&redis)
        .postgres(&postgres)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-who=operator")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=here")
        .start();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    for n in 0..20 {
        assert_eq!(client.call(["SET", &format!("name-of-key-{n}"), "held-value"]), Value::ok());
        assert_eq!(client.call(["GET", &format!("name-of-key-{n}")]).text(), "held-value");
    }
    client.call(["RPUSH", "name-of-list", "held-value"]);
    client.call(["BLPOP", "name-of-list", "1"]);
    let common = [("tandem.strategy", "dual_write"), ("tandem.mode", "dual_write")];
    let on = |class, connection| {
        let own = [
            ("tandem.class", class),
            ("tandem.connection", connection),
            ("tandem.server", "Redis"),
        ];
        [common.as_slice(), own.as_slice()].concat()
    };
    let read = span(&collector, "command", &on("read", "lane"));
    let answer = child(&collector, "answer", &read);
    assert_eq!(answer.trace_id, read.trace_id);
    assert!(read.start_time_unix_nano <= answer.start_time_unix_nano);
    assert!(answer.end_time_unix_nano <= read.end_time_unix_nano);
    let write = span(&collector, "command", &on("write", "lane"));
    let answer = child(&collector, "answer", &write);
    let wait = child(&collector, "commit wait", &write);
    assert!(answer.end_time_unix_nano <= wait.start_time_unix_nano);
    assert!(wait.start_time_unix_nano <= wait.end_time_unix_nano);
    assert_eq!(wait.end_time_unix_nano, write.end_time_unix_nano);
    let pinned = span(&collector, "command", &on("write", "pinned"));
    child(&collector, "commit wait", &pinned);
    let commit = span(&collector, "mirror commit", &[]);
    let commands = attribute(&commit.attributes, "tandem.commands").expect("a number");
    assert!(commands.parse::<u64>().is_ok_and(|n| n > 0), "{commands}");
    span(&collector, "lead change", &[("tandem.server", "Redis")]);
    let cleared = post(&tandem, "/admin/database/cache/clear", r#"{"pattern": "name-of-*"}"#);
    assert_eq!(cleared.data()["cleared"], 20);
    span(&collector, "job", &[("tandem.outcome", "done")]);
    let request = [
        ("http.request.method", "POST"),
        ("http.route", "/admin/database/cache/clear"),
        ("http.response.status_code", "200"),
    ];
    span(&collector, "admin request", &request);
    assert_eq!(client.call(["GET", "name-of-key-7"]).text(), "held-value");
    span(&collector, "recall", &[("tandem.keys", "1")]);
    // A name of somebody's own making does not become an attribute.
    assert_eq!(get(&tandem, "/made-up-path?pattern=name-of-key-7").code, 404);
    span(&collector, "admin request", &[("http.route", ""), ("http.response.status_code", "404")]);
    post(&tandem, "/admin/database/strategy/cache-first", "{}").data();
    let switch = [("tandem.from", "dual_write"), ("tandem.to", "cache_first")];
    span(&collector, "strategy switch", &switch);

    let batches = collector.batches();
    let message = batches[0].message();
    let resource = message.resource_spans[0].resource.as_ref().expect("a resource");
    for (key, value) in [
        ("service.name", "tandem"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "here"),
    ] {
        assert_eq!(attribute(&resource.attributes, key).as_deref(), Some(value), "{key}");
    }
    for batch in &batches {
        assert!(batch.head.starts_with("post /v1/traces "), "{}", batch.head);
        assert!(batch.head.contains("content-type: application/x-protobuf"), "{}", batch.head);
        assert!(batch.head.contains("x-who: operator"), "{}", batch.head);
        let text = String::from_utf8_lossy(&batch.body);
        for secret in ["name-of-", "held-value", "pass-of-redis", "made-up", "127.0.0.1"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

#[test]
fn without_an_endpoint_nothing_is_sent_and_a_share_of_none_traces_no_command() {
    let collector = Collector::start();
    let redis = Redis::start();
    let tandem = options(&collector)
        .set("traces", "sample_ratio", 0)
        .redis(&redis)
        .mode("redis_only")
        .start();
    for _ in 0..50 {
        tandem.client().run("SET k v");
    }
    get(&tandem, "/live");
    span(&collector, "admin request", &[("http.route", "/live")]);
    assert!(collector.spans().iter().all(|span| span.name != "command"));
    drop(tandem);
    let silent = Collector::start();
    let mut tandem =
        options(&silent).set("traces", "endpoint", "").redis(&redis).mode("redis_only").start();
    tandem.client().run("SET k v");
    assert!(tandem.stop(LIMIT).success());
    assert!(silent.batches().is_empty());
}

#[test]
fn a_collector_that_takes_nothing_is_nobodys_trouble() {
    let collector = Collector::start();
    collector.answer(503);
    let redis = Redis::start();
    let mut tandem = options(&collector).redis(&redis).mode("redis_only").allow(LOST).start();
    let mut client = tandem.client();
    let lost = |tandem: &Tandem| tandem.log().matches(LOST).count();
    // More spans than fit into the queue.
    let mut n = 0;
    wait_for("refused batches", LIMIT, || {
        for _ in 0..500 {
            n += 1;
            assert_eq!(client.call(["SET", "k", &n.to_string()]), Value::ok());
        }
        collector.batches().len() >= 5 && n > 3000
    });
    assert_eq!(lost(&tandem), 1, "it is said once");
    collector.answer(200);
    wait_for("the collector's return", LIMIT, || {
        client.run("SET k v");
        tandem.log().contains("the collector takes traces again")
    });
    // One that does not answer holds up neither clients nor the end.
    collector.answer(0);
    let asked = collector.batches().len();
    wait_for("a request", LIMIT, || {
        client.run("SET k v");
        collector.batches().len() > asked
    });
    for _ in 0..1000 {
        assert_eq!(client.run("SET k v"), Value::ok());
    }
    let began = Instant::now();
    assert!(tandem.stop(LIMIT).success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
