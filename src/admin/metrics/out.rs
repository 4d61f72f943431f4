use prometheus::proto;

use super::{Metric, MetricKind};
use crate::strategy::Buckets;

/// Takes the values of one metric.
pub struct Out<'a> {
    metric: &'a Metric,
    values: Vec<proto::Metric>,
}

impl<'a> Out<'a> {
    pub fn new(metric: &'a Metric) -> Out<'a> {
        Out { metric, values: Vec::new() }
    }

    /// A value without labels.
    pub fn value(&mut self, value: f64) {
        self.labelled(&[], value);
    }

    /// A value with the labels that the table names, in their order.
    pub fn labelled(&mut self, labels: &[&str], value: f64) {
        let mut entry = self.entry(labels);
        match self.metric.kind {
            MetricKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                entry.set_counter(counter);
            }
            MetricKind::Gauge | MetricKind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                entry.set_gauge(gauge);
            }
        }
        self.values.push(entry);
    }

    /// A histogram; `unit` is the value that 1 stands for, such as 1e-6 seconds.
    pub fn histogram(&mut self, labels: &[&str], buckets: &Buckets, unit: f64) {
        let mut histogram = proto::Histogram::default();
        let all = buckets.cumulative().map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            // Rounded to what can be said of it: 25e-6, not 2.4999999999999998e-5.
            bucket.set_upper_bound(rounded(bound as f64 * unit));
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(all.collect());
        histogram.set_sample_count(buckets.count());
        histogram.set_sample_sum(buckets.sum as f64 * unit);
        let mut entry = self.entry(labels);
        entry.set_histogram(histogram);
        self.values.push(entry);
    }

    fn entry(&self, labels: &[&str]) -> proto::Metric {
        let pairs = self.metric.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        proto::Metric::from_label(pairs.collect())
    }

    /// `None` when there is no value.
    pub fn family(self) -> Option<proto::MetricFamily> {
        if self.values.is_empty() {
            return None;
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(self.metric.name.to_owned());
        family.set_help(self.metric.help.to_owned());
        family.set_field_type(match self.metric.kind {
            MetricKind::Counter => proto::MetricType::COUNTER,
            MetricKind::Gauge => proto::MetricType::GAUGE,
            MetricKind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(self.values);
        Some(family)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}
