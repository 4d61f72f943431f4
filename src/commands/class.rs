use super::Flags;

/// How the proxy treats a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Needs nothing from its connection: any lane will do.
    Plain,
    /// May wait: needs a connection of its own until it has answered.
    Blocking,
    /// Waits only with the `BLOCK` option (`XREAD`, `XREADGROUP`).
    BlockingOption,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Subscribe,
    Unsubscribe,
    Monitor,
    /// Goes to Redis in a form that tells it from a flush by others, see [`super::meant_flush`].
    Flush,
    /// Answered by the proxy, or with its help.
    Own,
    /// Belongs to replication; a proxied client cannot have it.
    Replication,
    /// Not in the table: passes through on a connection of its own.
    Unknown,
}

/// Names whose class does not follow from their flags.
const BY_NAME: &[(&str, Class)] = &[
    ("xread", Class::BlockingOption),
    ("xreadgroup", Class::BlockingOption),
    ("multi", Class::Multi),
    ("exec", Class::Exec),
    ("discard", Class::Discard),
    ("watch", Class::Watch),
    ("unwatch", Class::Unwatch),
    ("subscribe", Class::Subscribe),
    ("psubscribe", Class::Subscribe),
    ("ssubscribe", Class::Subscribe),
    ("unsubscribe", Class::Unsubscribe),
    ("punsubscribe", Class::Unsubscribe),
    ("sunsubscribe", Class::Unsubscribe),
    ("monitor", Class::Monitor),
    ("shutdown", Class::Blocking),
    ("failover", Class::Blocking),
    ("flushall", Class::Flush),
    ("flushdb", Class::Flush),
    ("select", Class::Own),
    ("auth", Class::Own),
    ("hello", Class::Own),
    ("quit", Class::Own),
    ("reset", Class::Own),
    ("client", Class::Own),
    ("info", Class::Own),
    ("tandem", Class::Own),
    ("sync", Class::Replication),
    ("psync", Class::Replication),
    ("replconf", Class::Replication),
];

impl Class {
    pub(super) fn of(name: &str, flags: &Flags) -> Class {
        match BY_NAME.iter().find(|(known, _)| *known == name) {
            Some((_, class)) => *class,
            None if flags.blocking => Class::Blocking,
            None => Class::Plain,
        }
    }
}
