//! Output: aligned for a terminal, `name<tab>value` elsewhere, JSON where it is asked for.

use std::io::{IsTerminal, Write, stdout};

use serde_json::Value;

/// Prints `data` as one JSON object on one line, or as rows of names and values.
pub fn print(data: &Value, json: bool) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    if json {
        writeln!(out, "{data}")?;
        return Ok(());
    }
    let mut rows = Vec::new();
    flatten("", data, &mut rows);
    let aligned = out.is_terminal();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        match aligned {
            true => writeln!(out, "{name:width$}  {value}")?,
            false => writeln!(out, "{name}\t{value}")?,
        }
    }
    Ok(())
}

/// One value as text.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub fn line(text: &str) -> anyhow::Result<()> {
    writeln!(stdout().lock(), "{text}")?;
    Ok(())
}

/// Rows under a header, aligned on a terminal and separated by tabs elsewhere; nothing without rows.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let mut out = stdout().lock();
    let aligned = out.is_terminal();
    let width = |column: usize| {
        let cells = std::iter::once(&header).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    if aligned {
        writeln!(out)?;
    }
    for row in std::iter::once(&header).chain(rows) {
        if !aligned {
            writeln!(out, "{}", row.join("\t"))?;
            continue;
        }
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Names of nested values are joined by dots. What is not there is left out.
fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Object(members) => {
            for (member, value) in members {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&format!("{name}{dot}{member}"), value, rows);
            }
            return;
        }
        Value::Array(items) => {
            items.iter().for_each(|item| flatten(name, item, rows));
            return;
        }
        Value::Null => return,
        Value::String(text) if text.is_empty() => return,
        Value::String(text) => text.clone(),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => format!("{float:.3}"),
            None => number.to_string(),
        },
    };
    rows.push((name.to_owned(), text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_values_become_rows() {
        let mut rows = Vec::new();
        let data =
            json!({ "a": { "b": 1, "c": null }, "list": ["x", "y"], "up": true, "ms": 0.12345 });
        flatten("", &data, &mut rows);
        let rows: Vec<String> =
            rows.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(rows, ["a.b=1", "list=x", "list=y", "ms=0.123", "up=yes"]);
    }
}
