use std::fmt::Write;

use bytes::Bytes;

use super::period::Period;
use crate::engine::Count;

/// The Redis whose commands and replies these are.
pub(super) const REDIS_VERSION: &str = "7.0.15";

impl Period {
    /// `INFO [section …]`.
    pub fn info(&self, sections: &[Bytes]) -> String {
        let wanted = |name: &str| {
            let default = !matches!(name, "Commandstats");
            sections.is_empty() && default
                || sections.iter().any(|section| {
                    let section = section.to_ascii_lowercase();
                    section == name.to_ascii_lowercase().as_bytes()
                        || matches!(&section[..], b"all" | b"everything")
                        || default && section == b"default"
                })
        };
        let mut text = String::new();
        for (name, fields) in self.sections() {
            if !wanted(name) {
                continue;
            }
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            // Writing to a string does not fail.
            let _ = write!(text, "# {name}\r\n");
            for (field, value) in fields {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
        text
    }

    fn sections(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let uptime = self.started.elapsed().as_secs();
        let field = |name: &str, value: &dyn std::fmt::Display| (name.into(), value.to_string());
        let blocked = self.blocked.borrow().count() + self.held_up.get();
        let (scripts, libraries, functions) = self.scripts.borrow().counts();
        let (commands, errors) = {
            let statistics = self.statistics.lock();
            (statistics.commands(), statistics.errors())
        };
        let [keys, items, prefixes] = self.tracking.borrow().counts();
        let keyspace = self.keyspace.borrow();
        let known = keyspace.counted().into_iter().map(|(db, count)| {
            let Count { keys, expires } = count;
            field(&format!("db{db}"), &format!("keys={keys},expires={expires},avg_ttl=0"))
        });
        vec![
            (
                "Server",
                vec![
                    field("redis_version", &REDIS_VERSION),
                    field("redis_mode", &"standalone"),
                    field("os", &std::env::consts::OS),
                    field("arch_bits", &usize::BITS),
                    field("process_id", &std::process::id()),
                    field("uptime_in_seconds", &uptime),
                    field("uptime_in_days", &(uptime / 86_400)),
                ],
            ),
            (
                "Clients",
                vec![
                    field("connected_clients", &self.peers.borrow().len()),
                    field("blocked_clients", &blocked),
                    field("tracking_clients", &self.tracking.borrow().clients),
                ],
            ),
            (
                "Memory",
                vec![
                    field("used_memory", &resident_bytes()),
                    field("used_memory_rss", &resident_bytes()),
                    field("maxmemory", &self.settings.borrow().number("maxmemory")),
                    field("mem_not_counted_for_evict", &0),
                    field("number_of_cached_scripts", &scripts),
                    field("number_of_functions", &functions),
                    field("number_of_libraries", &libraries),
                    field("lazyfree_pending_objects", &0),
                ],
            ),
            (
                "Persistence",
                vec![
                    field("loading", &0),
                    field("rdb_changes_since_last_save", &keyspace.mutations()),
                    field("rdb_bgsave_in_progress", &0),
                    field("aof_enabled", &1),
                ],
            ),
            (
                "Stats",
                vec![
                    field("total_commands_processed", &self.commands.get()),
                    field("total_error_replies", &self.statistics.lock().error_replies()),
                    field("tracking_total_keys", &keys),
                    field("tracking_total_items", &items),
                    field("tracking_total_prefixes", &prefixes),
                ],
            ),
            ("Replication", vec![field("role", &"master"), field("connected_slaves", &0)]),
            ("Commandstats", commands),
            ("Errorstats", errors),
            ("Cluster", vec![field("cluster_enabled", &0)]),
            ("Keyspace", known.collect()),
        ]
    }
}

/// Memory of the whole proxy; 0 where the system does not say.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
