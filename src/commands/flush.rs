//! How a flush that a client sent through a proxy is told from one typed at Redis itself: Redis hands on
//! the name of these commands as it was written, so the proxy writes it in its own way.

/// As nobody types them. Every proxy knows them, whichever has sent the command.
pub const MEANT_FLUSH_ALL: &str = "FLUSHall";
pub const MEANT_FLUSH_DB: &str = "FLUSHdb";

const MEANT: [&[u8]; 2] = [MEANT_FLUSH_ALL.as_bytes(), MEANT_FLUSH_DB.as_bytes()];

/// The name under which a client's flush goes to Redis, of the same length.
pub fn meant_flush(name: &[u8]) -> Option<&'static [u8]> {
    MEANT.into_iter().find(|meant| name.eq_ignore_ascii_case(meant))
}

/// True when a flush in the replication stream came through a proxy.
pub fn is_meant_flush(name: &[u8]) -> bool {
    MEANT.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxys_own_writing_counts_as_meant() {
        for name in ["FLUSHALL", "flushall", "FlushDb"] {
            let meant = meant_flush(name.as_bytes()).expect("a flush");
            assert!(meant.len() == name.len() && is_meant_flush(meant));
            assert!(!is_meant_flush(name.as_bytes()), "{name}");
        }
        assert_eq!(meant_flush(b"FLUSH"), None);
    }
}
