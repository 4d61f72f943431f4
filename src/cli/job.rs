//! Jobs of the running proxy, from the command line: asked for, followed, shown.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::client::{AdminClient, Answer};

const TICK: Duration = Duration::from_millis(100);
/// Width of the bar, in characters.
const BAR: usize = 30;

/// A job that has ended.
pub struct Ended {
    pub id: u64,
    pub done: bool,
    /// Its result; of a job that failed, what it had done until then.
    pub result: Value,
    /// Why it failed.
    pub message: String,
}

/// Asks before something is changed. Where nobody can answer, `--force` has to be given.
pub fn confirm(question: &str, force: bool) -> anyhow::Result<()> {
    if force {
        return Ok(());
    }
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        bail!("this changes data and nobody can be asked here: give --force");
    }
    write!(stderr(), "{question} [y/N] ")?;
    stderr().flush()?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

/// Follows a job that was started with `wait=false` to its end, with a progress bar on a terminal.
pub fn follow(client: &AdminClient, started: Answer) -> anyhow::Result<Ended> {
    let mut job = started.data()?;
    let path = format!("/admin/jobs/{}", job["id"]);
    let shows = stderr().is_terminal();
    while job["endedAt"].is_null() {
        if shows {
            draw(&job)?;
        }
        pause();
        job = client.get(&path)?.data()?;
    }
    if shows {
        write!(stderr(), "\r\x1b[K")?;
    }
    let done = job["state"] == "done";
    let message = job["error"]["message"].as_str().unwrap_or_default().to_owned();
    let result = if done { job["result"].take() } else { job["progress"]["counts"].take() };
    Ok(Ended { id: job["id"].as_u64().unwrap_or(0), done, result, message })
}

fn draw(job: &Value) -> anyhow::Result<()> {
    let progress = &job["progress"];
    let (done, total) = (progress["done"].as_u64().unwrap_or(0), progress["total"].as_u64());
    let phase = progress["phase"].as_str().unwrap_or_default();
    let mut line = format!("{phase:10} ");
    if let Some(total) = total.filter(|total| *total > 0) {
        let full = usize::try_from(done * BAR as u64 / total).unwrap_or(BAR).min(BAR);
        line += &format!("[{}{}] ", "#".repeat(full), " ".repeat(BAR - full));
        line += &format!("{done} of {total}");
    } else {
        line += &done.to_string();
    }
    write!(stderr(), "\r\x1b[K{line}")?;
    stderr().flush()?;
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "nothing else runs in this process")]
fn pause() {
    std::thread::sleep(TICK);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    Redis,
    Postgres,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Redis => "redis",
            Side::Postgres => "postgres",
        }
    }
}
