//! What Prometheus gets.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{find_program, wait_for};
use tandem::admin::{MetricKind, all_metrics};

use super::{Trio, get};

#[test]
fn the_output_is_what_the_table_says() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    for n in 0..100 {
        client.call(["SET", &format!("k{n}"), "v"]);
        client.call(["GET", &format!("k{n}")]);
    }
    client.run("NOSUCHCOMMAND");
    // Writes may be acknowledged before the mirror has written a batch.
    wait_for("a batch", Duration::from_secs(30), || {
        !get(&tandem, "/metrics").text.contains("tandem_mirror_batch_commands_count 0\n")
    });
    let text = get(&tandem, "/metrics").text;
    let mut types = BTreeSet::new();
    for metric in all_metrics() {
        let line = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{text}");
        types.insert(metric.name);
        assert_eq!(
            metric.kind == MetricKind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
    }
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().expect("a name");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(types.contains(name) || base.is_some_and(|b| types.contains(b)), "{sample}");
    }
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
    };
    assert_eq!(value("tandem_operations_total{class=\"write\"}"), 100.0);
    assert_eq!(value("tandem_operations_total{class=\"read\"}"), 100.0);
    assert_eq!(value("tandem_operations_total{class=\"unknown\"}"), 1.0);
    assert_eq!(
        value("tandem_strategy_info{strategy=\"dual_write\",mode=\"dual_write\",role=\"leader\"}"),
        1.0
    );
    assert_eq!(value("tandem_backend_up{backend=\"postgres\"}"), 1.0);
    assert!(value("tandem_operation_seconds_count{class=\"read\"}") > 0.0);
    assert!(value("tandem_operation_seconds_sum{class=\"write\"}") > 0.0);
    assert!(value("tandem_mirror_batch_commands_count") > 0.0);
    assert!(value("tandem_postgres_commit_seconds_sum") > 0.0);
    assert!(value("tandem_acknowledge_wait_seconds_count") > 0.0);
    assert!(value("tandem_acknowledge_wait_seconds_sum") > 0.0);
    let lanes =
        |worker| value(&format!("tandem_redis_connections{{worker=\"{worker}\",use=\"lane\"}}"));
    assert!(lanes(0) + lanes(1) >= 1.0);
    assert_eq!(value("tandem_failovers_total"), 0.0);
    assert!(value("tandem_unanswered_seconds_total") > 0.0, "it was decided at the start");
    assert_eq!(value("tandem_redis_partial{reason=\"evicting\"}"), 0.0);
    assert_eq!(value("tandem_cache_misses_total"), 0.0);
    assert!(value("tandem_redis_errors_total{kind=\"ERR\"}") >= 1.0);
    // Prometheus's own linter, where it is installed.
    let Some(promtool) = find_program("promtool", &[]) else { return };
    let mut lint = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    lint.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let lint = lint.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&lint.stderr);
    assert!(lint.status.success() && said.trim().is_empty(), "{said}\n{text}");
}
