//! `LATENCY`: how long commands take. Events beyond a threshold are not collected: what is slow here is
//! PostgreSQL, which the metrics tell of.

use bytes::Bytes;

use super::session::Session;
use crate::engine::{Answer, Stop};
use crate::resp::Reply;

const HELP: [&str; 16] = [
    "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
    "HELP",
];

impl Session {
    pub fn latency(&self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        Ok(match sub {
            b"latest" | b"history" => Reply::Array(Vec::new()),
            b"reset" => Reply::Int(0),
            b"histogram" => {
                let names: Vec<String> = args[2..]
                    .iter()
                    .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
                    .collect();
                self.period.statistics.lock().histograms(|command| {
                    let container = command.split('|').next().unwrap_or_default();
                    names.is_empty()
                        || names.iter().any(|name| name == command || name == container)
                })
            }
            b"graph" => {
                let event = String::from_utf8_lossy(&args[2]);
                return Err(Stop::failed(format!("ERR No samples available for event '{event}'")));
            }
            b"doctor" => {
                let text = "The metrics of the proxy tell how long PostgreSQL takes.\n";
                Reply::Verbatim("txt".into(), text.into())
            }
            b"help" => {
                let last = "    Prints this help.";
                let lines = HELP.iter().copied().chain([last]);
                Reply::Array(lines.map(|line| Reply::Simple(line.into())).collect())
            }
            _ => {
                let sub = String::from_utf8_lossy(&args[1]);
                return Err(Stop::failed(format!(
                    "ERR unknown subcommand '{sub}'. Try LATENCY HELP."
                )));
            }
        })
    }
}
