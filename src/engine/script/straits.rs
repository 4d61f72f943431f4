use super::shebang::Flags;
use crate::commands;
use crate::engine::stop::{Answer, Stop};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const NO_REPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";

/// What the server cannot do at the moment, and therefore refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Straits {
    /// More than `maxmemory` is used.
    pub out_of_memory: bool,
    /// Fewer replicas than `min-replicas-to-write`.
    pub too_few_replicas: bool,
}

impl Straits {
    /// Why a command with these flags is refused.
    pub fn refuses(self, flags: &commands::Flags) -> Option<&'static str> {
        match self {
            Straits { out_of_memory: true, .. } if flags.denyoom => Some(OOM),
            Straits { too_few_replicas: true, .. } if flags.write => Some(NO_REPLICAS),
            _ => None,
        }
    }

    /// What is left of it for a script, which is refused as a whole when its flags say that it needs what
    /// there is not. Without flags its commands are looked at one by one.
    pub(super) fn for_script(self, flags: Option<Flags>) -> Answer<Straits> {
        let Some(flags) = flags else { return Ok(self) };
        if self.too_few_replicas && !flags.no_writes() {
            return Err(Stop::error(NO_REPLICAS));
        }
        if self.out_of_memory && !flags.no_writes() && !flags.allow_oom() {
            return Err(Stop::error(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > \
                 'maxmemory'",
            ));
        }
        Ok(Straits::default())
    }

    /// As [`Straits::refuses`] of a command that is queued in a transaction, which needs memory whatever it is.
    pub fn refuses_queueing(self, flags: &commands::Flags) -> Option<&'static str> {
        if self.out_of_memory { Some(OOM) } else { self.refuses(flags) }
    }
}
