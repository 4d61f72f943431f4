//! How Redis and PostgreSQL are found to be, in one word and in their own.

use std::io;

use parking_lot::Mutex;

/// What is the matter with a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nobody has asked, or the strategy does without it.
    #[default]
    Unknown,
    Well,
    /// Nothing listens there.
    Refused,
    /// It takes the connection, or had it, and says nothing.
    Silent,
    /// It answers, and takes its time.
    Slow,
    /// The connection broke, or the way there is closed.
    Lost,
    /// It has started and is not ready.
    Loading,
    /// It lets nobody else in for now.
    TooManyConnections,
    /// It does not let the configured user in.
    WrongPassword,
    /// Its certificate is not to be trusted, or it has none.
    Untrusted,
    /// It takes no writes: a replica, a standby.
    ReadOnly,
    OutOfMemory,
    DiskFull,
    /// Redis could not write its snapshot or its append-only file, and may refuse writes for that.
    CannotSave,
    /// Something else, which its own words tell.
    Failing,
}

impl Condition {
    pub const ALL: [Condition; 15] = [
        Condition::Unknown,
        Condition::Well,
        Condition::Refused,
        Condition::Silent,
        Condition::Slow,
        Condition::Lost,
        Condition::Loading,
        Condition::TooManyConnections,
        Condition::WrongPassword,
        Condition::Untrusted,
        Condition::ReadOnly,
        Condition::OutOfMemory,
        Condition::DiskFull,
        Condition::CannotSave,
        Condition::Failing,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Unknown => "unknown",
            Condition::Well => "well",
            Condition::Refused => "refused",
            Condition::Silent => "silent",
            Condition::Slow => "slow",
            Condition::Lost => "lost",
            Condition::Loading => "loading",
            Condition::TooManyConnections => "too_many_connections",
            Condition::WrongPassword => "wrong_password",
            Condition::Untrusted => "untrusted",
            Condition::ReadOnly => "read_only",
            Condition::OutOfMemory => "out_of_memory",
            Condition::DiskFull => "disk_full",
            Condition::CannotSave => "cannot_save",
            Condition::Failing => "failing",
        }
    }

    pub fn is_ill(self) -> bool {
        !matches!(self, Condition::Unknown | Condition::Well)
    }

    /// True where a backend answers all the same, so that only a write that it took proves it well again.
    pub fn refuses_writes(self) -> bool {
        matches!(self, Condition::ReadOnly | Condition::OutOfMemory | Condition::DiskFull)
    }
}

impl From<&io::Error> for Condition {
    fn from(error: &io::Error) -> Condition {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Condition::Refused,
            io::ErrorKind::TimedOut => Condition::Silent,
            // What rustls makes of a handshake that failed.
            io::ErrorKind::InvalidData => Condition::Untrusted,
            _ => Condition::Lost,
        }
    }
}

/// Who says how a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// Who asks it from time to time: the probe of Redis, the holder of the lease in PostgreSQL.
    Watch,
    /// Who works with it.
    Work,
}

type Finding = (Condition, String);

/// How one backend is, by the worst that is said of it.
#[derive(Debug)]
pub struct Backend {
    name: &'static str,
    /// Of each [`Witness`].
    found: Mutex<[Finding; 2]>,
}

impl Backend {
    pub(super) fn new(name: &'static str) -> Backend {
        Backend { name, found: Mutex::default() }
    }

    /// Notes what a witness has found, with the backend's own words where it is ill; one line of the log for each
    /// change of the condition.
    pub fn note(&self, witness: Witness, condition: Condition, why: impl Into<String>) {
        let (why, prefix) = (why.into(), format!("{}: ", self.name));
        let why = why.trim_start_matches(prefix.as_str()).to_owned();
        let mut found = self.found.lock();
        let before = worst(&found).0;
        found[witness as usize] = (condition, why);
        let (now, why) = worst(&found);
        if *now != before && *now != Condition::Unknown {
            let (from, to) = (before.as_str(), now.as_str());
            tracing::info!(backend = self.name, from, to, reason = why, "condition of a backend");
        }
    }

    pub fn well(&self, witness: Witness) {
        self.note(witness, Condition::Well, "");
    }

    /// The witness looks no longer.
    pub fn forget(&self, witness: Witness) {
        self.note(witness, Condition::Unknown, "");
    }

    /// How it is, and why it is ill, for people.
    pub fn condition(&self) -> (Condition, String) {
        let found = self.found.lock();
        let (condition, why) = worst(&found);
        (*condition, why.replace(['\r', '\n'], " "))
    }

    /// One sentence when it is ill.
    pub fn complaint(&self) -> Option<String> {
        let (condition, why) = self.condition();
        let word = condition.as_str().replace('_', " ");
        condition.is_ill().then(|| format!("{}: {word}: {why}", self.name))
    }
}

/// Whoever works with it knows best, but for a lost connection, which says little.
fn worst([watch, work]: &[Finding; 2]) -> &Finding {
    match (work.0, watch.0) {
        (Condition::Lost, watch_says) if watch_says.is_ill() => watch,
        (work_says, _) if work_says.is_ill() => work,
        (Condition::Well, Condition::Unknown) => work,
        _ => watch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts_until_its_witness_says_otherwise() {
        let backend = Backend::new("PostgreSQL");
        assert_eq!(backend.condition().0, Condition::Unknown);
        backend.well(Witness::Work);
        assert_eq!(backend.condition().0, Condition::Well);
        backend.note(Witness::Work, Condition::DiskFull, "PostgreSQL: no room\nleft");
        backend.well(Witness::Watch);
        assert_eq!(backend.condition(), (Condition::DiskFull, "no room left".into()));
        assert_eq!(backend.complaint().as_deref(), Some("PostgreSQL: disk full: no room left"));
        backend.note(Witness::Watch, Condition::Silent, "");
        backend.note(Witness::Work, Condition::Lost, "");
        assert_eq!(backend.condition().0, Condition::Silent);
        backend.well(Witness::Work);
        assert_eq!(backend.condition().0, Condition::Silent);
        backend.forget(Witness::Watch);
        assert_eq!((backend.condition().0, backend.complaint()), (Condition::Well, None));
    }
}
