use std::sync::atomic::Ordering;

use crate::proxy::request::{End, Request};
use crate::proxy::session::Session;
use crate::resp::{Reply, decode_reply, encode};

impl Session {
    /// `INFO [section …]`: Redis's own, and behind it the section of the proxy.
    pub async fn information(&mut self, request: &Request) -> Result<(), End> {
        let wanted = request.words.len() == 1
            || (1..request.words.len()).any(|at| {
                matches!(
                    request.option(at).as_slice(),
                    b"tandem" | b"default" | b"all" | b"everything"
                )
            });
        let Some(mut reply) = self.ask(request).await? else { return Ok(()) };
        let clients = (1..request.words.len()).any(|at| request.option(at) == b"clients");
        if wanted || clients {
            let text = match decode_reply(&reply.frame) {
                Ok(Reply::Bulk(text) | Reply::Verbatim(_, text)) => Some(text),
                _ => None,
            };
            if let Some(text) = text {
                let mut all = self.own_clients(&text);
                if wanted {
                    self.append_section(&mut all);
                }
                reply.frame.clear();
                let verbatim = Reply::Verbatim("txt".into(), all.into());
                encode(&verbatim, self.key.protocol, &mut reply.frame);
            }
        }
        self.outbox.push_captured(&reply);
        self.outbox.flush();
        Ok(())
    }

    fn append_section(&self, all: &mut Vec<u8>) {
        if !all.is_empty() {
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(b"# Tandem\r\n");
        for (name, value) in self.facts_of_tandem() {
            all.extend_from_slice(format!("tandem_{name}:{value}\r\n").as_bytes());
        }
    }

    /// Redis counts the proxy's connections; who asks through the proxy means its clients.
    fn own_clients(&self, text: &[u8]) -> Vec<u8> {
        const NAME: &[u8] = b"\r\nconnected_clients:";
        let Some(at) = memchr::memmem::find(text, NAME) else { return text.to_vec() };
        let (head, tail) = text.split_at(at + NAME.len());
        let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let count = self.worker.shared.status.clients.load(Ordering::Relaxed).to_string();
        [head, count.as_bytes(), &tail[digits..]].concat()
    }

    /// What the operator wants to know, as names and values.
    pub(super) fn facts_of_tandem(&self) -> Vec<(&'static str, String)> {
        let shared = &self.worker.shared;
        let (status, mirror) = (&shared.status, &shared.status.mirror);
        let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed).to_string();
        let flag = |b: bool| u8::from(b).to_string();
        let ack = match status.ack {
            crate::config::Ack::Postgres => "postgres",
            crate::config::Ack::Redis => "redis",
        };
        let ((lead, why), (role, leader)) = (status.lead(), status.role());
        let (redis, redis_reason) = status.redis.condition();
        let (postgres, postgres_reason) = status.postgres.condition();
        let switched = status.switched();
        let (at, by) = switched.last.unwrap_or_default();
        vec![
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("strategy", status.strategy().as_str().into()),
            ("strategy_configured", status.configured.as_str().into()),
            ("strategy_switched_at", at),
            ("strategy_switched_by", by.replace(['\r', '\n'], " ")),
            ("strategy_switching_to", switched.to.map_or("", |to| to.as_str()).into()),
            ("mode", status.mode().into()),
            ("mode_reason", status.mode_reason()),
            ("role", role.as_str().into()),
            ("leader", leader.replace(['\r', '\n'], " ")),
            ("lead", lead.as_str().into()),
            ("lead_reason", why.replace(['\r', '\n'], " ")),
            ("failovers", load(&status.failovers)),
            ("ack", ack.into()),
            ("ack_holding", flag(shared.gate.holding())),
            ("redis_state", redis.as_str().into()),
            ("redis_reason", redis_reason),
            ("postgres_state", postgres.as_str().into()),
            ("postgres_reason", postgres_reason),
            ("redis_up", flag(status.redis_up.load(Ordering::Relaxed))),
            ("postgres_up", flag(status.postgres_up.load(Ordering::Relaxed))),
            ("mirror_state", mirror.state().as_str().into()),
            ("mirror_reason", mirror.reason().replace(['\r', '\n'], " ")),
            ("mirror_replid", mirror.replid.read().clone()),
            ("mirror_received_offset", mirror.received.load(Ordering::Relaxed).to_string()),
            ("mirror_offset", mirror.applied.load(Ordering::Relaxed).to_string()),
            ("mirror_lag_bytes", mirror.lag_bytes().to_string()),
            ("mirror_lag_ms", load(&mirror.lag_ms)),
            ("mirror_spool_bytes", load(&mirror.spool_bytes)),
            ("mirror_effects", load(&mirror.effects)),
            ("mirror_commits", load(&mirror.commits)),
            ("mirror_full_syncs", load(&mirror.full_syncs)),
            ("mirror_partial_syncs", load(&mirror.partial_syncs)),
            ("mirror_rereads", load(&mirror.rereads)),
            ("mirror_unknown_commands", load(&mirror.unknown_commands)),
            ("mirror_conflicts", load(&mirror.conflicts)),
            ("mirror_foreign_flushes", load(&mirror.foreign_flushes)),
            ("follower_state", status.follower.state().as_str().into()),
            ("follower_queued_bytes", load(&status.follower.queued_bytes)),
            ("follower_owed_keys", load(&status.follower.owed_keys)),
            ("redis_keys", shared.presence.describe()),
            ("redis_keys_to_warm", load(&shared.presence.counters.to_warm)),
            ("evictions", load(&shared.presence.counters.evictions)),
            ("doubtful_deletes", load(&shared.presence.counters.doubtful)),
            ("cache_misses", load(&shared.presence.counters.misses)),
            ("cache_recalled", load(&shared.presence.counters.recalled)),
            ("clients", load(&status.clients)),
            ("clients_total", load(&status.clients_total)),
            ("commands_total", load(&status.commands_total)),
            ("panics", load(&status.panics)),
            ("uptime_s", status.started.elapsed().as_secs().to_string()),
        ]
    }
}
