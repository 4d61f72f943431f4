use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for what is not a client: connections to Redis and PostgreSQL, the spool, sockets.
const OWN: u64 = 512;

/// Raises the limit of open files so that `clients` can connect, as far as the hard limit allows, and
/// says so when it does not. Redis does the same at its start.
pub fn raise_for(clients: usize) {
    let wanted = u64::try_from(clients).unwrap_or(u64::MAX).saturating_add(OWN);
    let limit = getrlimit(Resource::Nofile);
    let enough = |have: Option<u64>| have.is_none_or(|have| have >= wanted);
    if enough(limit.current) {
        return;
    }
    let current = if enough(limit.maximum) { Some(wanted) } else { limit.maximum };
    let raised = setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum });
    let have = getrlimit(Resource::Nofile).current;
    if raised.is_err() || !enough(have) {
        let have = have.unwrap_or(0);
        tracing::warn!(
            open_files = have,
            clients = have.saturating_sub(OWN),
            "the limit of open files is too low for listen.max_clients; raise it (ulimit -Hn, LimitNOFILE=)"
        );
    }
}
