//! docs/failures.md is as true as its tests.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/failures.md");

/// All Rust sources below `dir`, with their text.
fn sources(dir: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push((path.clone(), std::fs::read_to_string(&path).expect("text")));
        }
    }
}

/// The modules of a test's name lead to a file that has a test of that name.
fn exists(name: &str, sources: &[(PathBuf, String)]) -> bool {
    let mut parts: Vec<&str> = name.split("::").collect();
    let Some(function) = parts.pop() else { return false };
    if parts.last() == Some(&"tests") {
        parts.pop();
    }
    let place = parts.join("/");
    let ends = [format!("/{place}.rs"), format!("/{place}/mod.rs")];
    let head = format!("fn {function}(");
    sources.iter().any(|(path, text)| {
        let path = path.display().to_string();
        ends.iter().any(|end| path.ends_with(end)) && {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let at = lines.iter().position(|line| line.contains(&head));
            // Its attribute stands above, perhaps with others between.
            at.is_some_and(|at| {
                lines[at.saturating_sub(3)..at]
                    .iter()
                    .any(|line| line.starts_with("#[") && line.contains("test"))
            })
        }
    })
}

#[test]
fn every_row_of_failures_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    sources(&root.join("tests/it"), &mut all);
    sources(&root.join("src"), &mut all);
    let rows: Vec<Vec<&str>> = PAGE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.first() != Some(&"fault"))
        .collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        let tests: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            wrong.push(format!("{}: no test", row[0]));
        }
        for test in tests {
            let there = match test.strip_prefix("./dev ") {
                Some(command) => root.join("scripts").join(command).is_file(),
                None => exists(test, &all),
            };
            if !there {
                wrong.push(format!("{}: there is no {test}", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
