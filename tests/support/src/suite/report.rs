use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::run::Run;
use super::{Mode, Outcome};

/// The rows of `docs/suite-differences.md`: `(mode, file, test)` that cannot be the same by nature; an empty
/// mode stands for all of them but `postgres_only`.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeSet<(String, String, String)>);

/// The mode that has a section of its own.
const APART: &str = "postgres_only";

impl Known {
    pub fn contains(&self, mode: &str, file: &str, test: &str) -> bool {
        let mode = if mode == APART { APART } else { "" };
        self.0.contains(&(mode.to_owned(), file.to_owned(), test.to_owned()))
    }
}

/// Reads the tables in `path`, whose columns are file, test and reason. No file: nothing is known.
pub fn known_differences(path: &Path) -> io::Result<Known> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let mut mode = "";
    let rows = text.lines().filter_map(|line| {
        if let Some(heading) = line.strip_prefix("## ") {
            mode = if heading.trim() == APART { APART } else { "" };
        }
        let mut cells =
            line.trim().strip_prefix('|')?.split('|').map(|c| c.trim().trim_matches('`'));
        Some((mode.to_owned(), cells.next()?.to_owned(), cells.next()?.to_owned()))
    });
    Ok(Known(rows.filter(|(_, file, _)| file.starts_with("unit/")).collect()))
}

/// One file in all modes that were run.
#[derive(Clone, Debug)]
pub struct Row {
    pub file: String,
    pub straight: Outcome,
    pub through: Vec<(Mode, Run)>,
}

/// A test that passes straight and not through the proxy.
struct Lost {
    mode: &'static str,
    test: String,
    why: String,
    known: bool,
}

impl Row {
    fn lost(&self, known: &Known) -> Vec<Lost> {
        let of_mode = |(mode, run): &(Mode, Run)| {
            let missing = run.outcome.missing(&self.straight).into_iter();
            let mode = mode.name();
            let lost = missing.map(move |(test, why)| {
                let known = known.contains(mode, &self.file, &test);
                Lost { mode, test, why, known }
            });
            lost.collect::<Vec<_>>()
        };
        self.through.iter().flat_map(of_mode).collect()
    }

    /// Prints this file's line of the scoreboard.
    pub fn print(&self, known: &Known) {
        print!("{:<26}{:>9}", self.file, self.straight.count());
        let lost = self.lost(known);
        for (mode, run) in &self.through {
            let (known, new): (Vec<&Lost>, Vec<&Lost>) =
                lost.iter().filter(|l| l.mode == mode.name()).partition(|l| l.known);
            let mut cell = self.passed(run).to_string();
            if !known.is_empty() {
                cell.push_str(&format!(" ({} known)", known.len()));
            }
            if !new.is_empty() {
                cell.push_str(&format!(" −{}", new.len()));
            }
            print!("{cell:>14}");
        }
        let mirrors: Vec<bool> = self
            .through
            .iter()
            .filter_map(|(_, run)| run.mirror.as_ref().map(Result::is_ok))
            .collect();
        match mirrors.iter().all(|equal| *equal) {
            _ if mirrors.is_empty() => println!(),
            true => println!("  equal"),
            false => println!("  DIFFERS"),
        }
    }

    /// Tests that passed straight and in this run.
    fn passed(&self, run: &Run) -> usize {
        self.straight.count() as usize - run.outcome.missing(&self.straight).len()
    }

    fn mirror_faults(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.through.iter().filter_map(|(mode, run)| match &run.mirror {
            Some(Err(why)) => Some((mode.name(), why)),
            _ => None,
        })
    }
}

/// Prints the scoreboard. True when every difference is a known one and every mirror was equal.
pub fn print_rows(rows: &[Row], known: &Known) -> bool {
    let modes: Vec<Mode> =
        rows.first().map_or_else(Vec::new, |r| r.through.iter().map(|t| t.0).collect());
    print!("{:<26}{:>9}", "file", "straight");
    modes.iter().for_each(|mode| print!("{:>14}", mode.name()));
    println!("  mirror");
    let mut totals = vec![0; modes.len() + 1];
    for row in rows {
        row.print(known);
        totals[0] += row.straight.count() as usize;
        for (total, (_, run)) in totals[1..].iter_mut().zip(&row.through) {
            *total += row.passed(run);
        }
    }
    print!("{:<26}{:>9}", "total", totals[0]);
    totals[1..].iter().for_each(|total| print!("{total:>14}"));
    println!("\n");
    let mut unexplained = 0;
    for row in rows {
        let mut reason = String::new();
        for lost in row.lost(known) {
            let mark = if lost.known { "known" } else { "DIFFERS" };
            println!("{mark} {} {}: {}", lost.mode, row.file, lost.test);
            // A file that broke off has one reason for all the rest of it.
            if lost.why != reason {
                println!("        {}", lost.why);
            }
            reason = lost.why;
            unexplained += usize::from(!lost.known);
        }
        for (mode, run) in &row.through {
            for test in &run.unsteady {
                println!("unsteady {} {}: {test}", mode.name(), row.file);
            }
        }
        for (mode, why) in row.mirror_faults() {
            println!("MIRROR {mode} {}: {why}", row.file);
            unexplained += 1;
        }
    }
    println!("{unexplained} unexplained");
    unexplained == 0 && totals[0] > 0
}

/// Writes everything as JSON, for other programs.
pub fn write_json(path: &Path, rows: &[Row], known: &Known) -> io::Result<()> {
    let rows = rows.iter().map(|row| {
        let lost = row.lost(known).into_iter().map(|l| {
            serde_json::json!({ "mode": l.mode, "test": l.test, "why": l.why, "known": l.known })
        });
        let modes = row.through.iter().map(|(mode, run)| {
            serde_json::json!({
                "mode": mode.name(),
                "passed": run.outcome.count(),
                "unsteady": run.unsteady,
                "broken_off": run.outcome.broken_off,
                "mirror_equal": run.mirror.as_ref().map(Result::is_ok),
                "mirror_difference": run.mirror.as_ref().and_then(|m| m.as_ref().err()),
                "log_warnings": run.log_warnings,
            })
        });
        serde_json::json!({
            "file": row.file,
            "straight": row.straight.count(),
            "straight_failed": row.straight.failed,
            "through": modes.collect::<Vec<_>>(),
            "differences": lost.collect::<Vec<_>>(),
        })
    });
    let text = serde_json::to_string_pretty(&rows.collect::<Vec<_>>()).map_err(io::Error::other)?;
    std::fs::write(path, text)
}
