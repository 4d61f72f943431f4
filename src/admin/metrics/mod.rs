//! Metrics for Prometheus: one table of names, types and help; read when they are asked for.
//! Naming: <https://prometheus.io/docs/practices/naming/>.

mod out;
mod table;

use prometheus::Encoder;

pub use table::{Metric, MetricKind, all_metrics};

use super::backends::Look;
use super::state::App;
use out::Out;

/// What metrics are read from.
struct Scrape<'a> {
    app: &'a App,
    look: &'a Look,
}

/// All metrics in Prometheus's text format, version 0.0.4.
pub fn text(app: &App, look: &Look) -> prometheus::Result<String> {
    let scrape = Scrape { app, look };
    let families: Vec<_> = all_metrics()
        .filter_map(|metric| {
            let mut out = Out::new(metric);
            (metric.read)(&scrape, &mut out);
            out.family()
        })
        .collect();
    let mut text = Vec::new();
    prometheus::TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
