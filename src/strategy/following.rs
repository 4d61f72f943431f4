use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How far Redis is behind PostgreSQL in `database_first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Following {
    /// It cannot be reached.
    #[default]
    Away,
    /// It is being filled with everything.
    Refilling,
    /// Changes are on their way.
    Behind,
    /// It evicts: it may lack anything.
    Evicting,
    /// It has everything that PostgreSQL has.
    Whole,
}

impl Following {
    pub const ALL: [Following; 5] = [
        Following::Away,
        Following::Refilling,
        Following::Behind,
        Following::Evicting,
        Following::Whole,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Following::Away => "away",
            Following::Refilling => "refilling",
            Following::Behind => "behind",
            Following::Evicting => "evicting",
            Following::Whole => "whole",
        }
    }
}

/// Written by the follower alone.
#[derive(Debug, Default)]
pub struct FollowerStatus {
    state: AtomicU8,
    /// Commands that wait for Redis, in bytes.
    pub queued_bytes: AtomicU64,
    /// Keys that Redis has otherwise, to be sent whole.
    pub owed_keys: AtomicU64,
}

impl FollowerStatus {
    pub fn set(&self, state: Following, queued_bytes: u64, owed_keys: u64) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.queued_bytes.store(queued_bytes, Ordering::Relaxed);
        self.owed_keys.store(owed_keys, Ordering::Relaxed);
    }

    pub fn state(&self) -> Following {
        let code = usize::from(self.state.load(Ordering::Relaxed));
        Following::ALL.get(code).copied().unwrap_or_default()
    }
}
