//! docs/operations.md says what there is.

use tandem::admin::{ENDPOINTS, all_metrics};

const PAGE: &str = include_str!("../../../docs/operations.md");

#[test]
fn every_endpoint_metric_and_command_is_in_the_page_and_nothing_else() {
    let mut wanted: Vec<String> = Vec::new();
    for endpoint in ENDPOINTS {
        let access = if endpoint.open { "open" } else { "token" };
        wanted.push(format!(
            "| `{} {}` | {access} | {} |",
            endpoint.method, endpoint.path, endpoint.what
        ));
    }
    for metric in all_metrics() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        wanted.push(format!(
            "| `{}` | {} | {labels} | {} |",
            metric.name,
            metric.kind.as_str(),
            metric.help
        ));
    }
    let missing: Vec<&String> =
        wanted.iter().filter(|row| !PAGE.lines().any(|line| line == *row)).collect();
    let lines = missing.iter().map(|row| row.as_str()).collect::<Vec<_>>().join("\n");
    assert!(missing.is_empty(), "docs/operations.md lacks:\n{lines}");
    let listed = PAGE.lines().filter(|line| {
        ["| `GET ", "| `POST ", "| `DELETE ", "| `tandem_"]
            .iter()
            .any(|start| line.starts_with(start))
    });
    for line in listed {
        assert!(wanted.iter().any(|row| row == line), "there is no such thing:\n{line}");
    }
    use clap::CommandFactory;
    for command in tandem::cli::Cli::command().get_subcommands() {
        let named = format!("| `tandem {}", command.get_name());
        assert!(PAGE.lines().any(|line| line.starts_with(&named)), "{named}");
    }
}
