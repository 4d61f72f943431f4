mod backends;
mod cache;
mod mirror;
mod process;

use super::{Out, Scrape};
use crate::strategy::{MirrorStatus, Presence, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub(super) read: fn(&Scrape<'_>, &mut Out<'_>),
}

const MICROSECONDS: f64 = 1e-6;

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape<'_>, &mut Out<'_>),
) -> Metric {
    Metric { name, kind, labels, help, read }
}

use MetricKind::{Counter, Gauge, Histogram};

/// All metrics, in the order in which they are shown.
pub fn all_metrics() -> impl Iterator<Item = &'static Metric> {
    [process::METRICS, backends::METRICS, cache::METRICS, mirror::METRICS].into_iter().flatten()
}

impl Scrape<'_> {
    fn status(&self) -> &Status {
        self.app.status()
    }

    fn presence(&self) -> &Presence {
        self.app.presence()
    }

    fn mirror(&self) -> &MirrorStatus {
        &self.app.status().mirror
    }

    /// A number of Redis's `INFO`.
    fn redis(&self, name: &str, out: &mut Out<'_>) {
        if let Some(number) = self.look.redis.as_ref().ok().and_then(|redis| redis.number(name)) {
            out.value(number as f64);
        }
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}
