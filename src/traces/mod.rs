//! Spans for an OpenTelemetry collector, where `traces.endpoint` names one. There are none otherwise, and nothing is
//! measured for them: work that is timed anyway is told here when it has ended.
//!
//! What a span says is how long something took and how much it was, never which keys, values, users or addresses.
//! Spans wait in a queue of fixed length; what does not fit is dropped, so a collector that is away or slow holds up
//! nobody.

mod collector;
mod command;

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};

pub use command::{CommandSpan, Ending};
pub use opentelemetry::Value;

use crate::config;
use crate::tls::TlsError;
use collector::Collector;

/// How long the last spans may take when the process ends.
const DRAIN: Duration = Duration::from_secs(2);

static TRACES: OnceLock<Traces> = OnceLock::new();

/// Why no spans can be made.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("traces.endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Makes spans.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    /// Of the commands that are timed, the share that gets a span.
    share: f64,
}

/// Ends with the process.
pub struct Running(SdkTracerProvider);

/// Makes spans from now on, where the configuration asks for it. Beside it the environment counts that OpenTelemetry
/// names: headers, timeout, resource attributes, the queue.
pub fn start(config: &config::Traces) -> Result<Option<Running>, TracesError> {
    let Some(endpoint) = config.url() else { return Ok(None) };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new(&endpoint, &config.tls_ca)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()?;
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        // What is to get a span has been chosen before.
        .with_sampler(Sampler::AlwaysOn)
        .with_span_processor(BatchSpanProcessor::builder(exporter).build())
        .build();
    let traces = Traces { tracer: provider.tracer("tandem"), share: config.sample_ratio };
    // There is one log and one configuration per process.
    let _ = TRACES.set(traces);
    Ok(Some(Running(provider)))
}

impl Running {
    /// Sends what waits, if the collector takes it soon.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(DRAIN) {
            tracing::debug!(%error, "the last spans are lost");
        }
    }
}

/// Where spans are made, who makes them.
pub fn get() -> Option<&'static Traces> {
    TRACES.get()
}

/// Work that has just ended and took so long. `attributes` are asked for only where spans are made.
pub fn record<const N: usize>(
    name: &'static str,
    took: Duration,
    done: bool,
    attributes: impl FnOnce() -> [(&'static str, Value); N],
) {
    let Some(traces) = get() else { return };
    let end = SystemTime::now();
    let attributes = attributes().map(|(key, value)| KeyValue::new(key, value));
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Internal)
        .with_start_time(end - took)
        .with_attributes(attributes);
    let mut span = traces.tracer.build_with_context(builder, &Context::new());
    if !done {
        span.set_status(Status::error(""));
    }
    span.end_with_timestamp(end);
}

impl Traces {
    /// Whether the command that was just timed gets a span.
    pub fn chooses(&self) -> bool {
        self.share >= 1.0 || rand::random::<f64>() < self.share
    }

    fn child(
        &self,
        parent: &SpanContext,
        name: &'static str,
        clock: &Clock,
        (from, to): (Instant, Instant),
    ) {
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(clock.time(from));
        let context = Context::new().with_remote_span_context(parent.clone());
        self.tracer.build_with_context(builder, &context).end_with_timestamp(clock.time(to));
    }
}

/// What time it was at an instant.
struct Clock {
    now: Instant,
    time: SystemTime,
}

impl Clock {
    fn new() -> Clock {
        Clock { now: Instant::now(), time: SystemTime::now() }
    }

    fn time(&self, at: Instant) -> SystemTime {
        self.time - self.now.saturating_duration_since(at)
    }
}
