//! The dashboard and the alert rules ask for metrics that there are.

use std::collections::BTreeSet;

use tandem::admin::{Metric, MetricKind, all_metrics};

const DASHBOARD: &str = include_str!("../../docker/grafana/dashboards/tandem.json");
const RULES: &str = include_str!("../../docker/prometheus/rules.yml");
const PAGE: &str = include_str!("../../docs/operations.md");

/// What Prometheus and the scrape configuration add.
const LABELS: [&str; 2] = ["instance", "job"];

/// All queries of the dashboard.
fn queries(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            found.extend(map.get("expr").and_then(|expr| expr.as_str()).map(str::to_owned));
            map.values().for_each(|value| queries(value, found));
        }
        serde_json::Value::Array(all) => all.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// Metrics and the labels that they are asked for with.
fn asked(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("tandem_") {
        let name = &rest[at..];
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (name, behind) = name.split_at(end.unwrap_or(name.len()));
        let inside =
            behind.strip_prefix('{').and_then(|b| b.split_once('}')).map_or("", |(i, _)| i);
        let label = |part: &str| part.split(['=', '!']).next().unwrap_or("").trim().to_owned();
        let labels = inside.split(',').map(label).filter(|label| !label.is_empty()).collect();
        found.push((name.to_owned(), labels));
        rest = behind;
    }
    found
}

fn metric(name: &str) -> Option<&'static Metric> {
    all_metrics().find(|metric| match metric.kind {
        MetricKind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| name.strip_suffix(suffix) == Some(metric.name)),
        _ => metric.name == name,
    })
}

fn check(query: &str) -> usize {
    let asked = asked(query);
    for (name, labels) in &asked {
        let metric = metric(name).unwrap_or_else(|| panic!("{query}: there is no {name}"));
        for label in labels {
            let known = LABELS.contains(&&**label) || metric.labels.contains(&&**label);
            assert!(known, "{query}: {name} has no label {label}");
        }
    }
    asked.len()
}

#[test]
fn dashboard_and_alerts_know_the_metrics() {
    let mut found = Vec::new();
    queries(&serde_json::from_str(DASHBOARD).expect("the dashboard is JSON"), &mut found);
    assert!(found.len() > 15, "{found:?}");
    for query in &found {
        assert!(check(query) > 0, "{query} asks for nothing of Tandem");
    }
    let alerts: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let rules: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(alerts.len() > 5 && alerts.len() == rules.len());
    for rule in rules {
        assert!(check(rule) > 0 || rule.starts_with("up{job=\"tandem\"}"), "{rule}");
    }
    for line in RULES.lines().filter(|line| !line.contains("expr: ")) {
        for (name, _) in asked(line) {
            assert!(all_metrics().any(|metric| metric.name == name), "{line}: no {name}");
        }
    }
    let unique: BTreeSet<&&str> = alerts.iter().collect();
    assert_eq!(unique.len(), alerts.len());
    for alert in alerts {
        assert!(PAGE.contains(&format!("`{alert}`")), "docs/operations.md lacks {alert}");
    }
}
