use super::{Class, Command};

/// What commands are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Group {
    Read,
    Write,
    Script,
    Transaction,
    Blocking,
    Pubsub,
    /// Concerns the client's connection; the proxy answers most of these itself.
    Connection,
    Admin,
    /// Not in the table.
    Unknown,
}

/// Names whose flags do not say it: containers have none.
const BY_NAME: &[(&str, Group)] = &[
    ("ping", Group::Connection),
    ("echo", Group::Connection),
    ("object", Group::Read),
    ("memory", Group::Read),
    ("xinfo", Group::Read),
    ("xgroup", Group::Write),
    ("script", Group::Script),
    ("function", Group::Script),
    ("pubsub", Group::Pubsub),
];

impl Group {
    pub const ALL: [Group; 9] = [
        Group::Read,
        Group::Write,
        Group::Script,
        Group::Transaction,
        Group::Blocking,
        Group::Pubsub,
        Group::Connection,
        Group::Admin,
        Group::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Group::Read => "read",
            Group::Write => "write",
            Group::Script => "script",
            Group::Transaction => "transaction",
            Group::Blocking => "blocking",
            Group::Pubsub => "pubsub",
            Group::Connection => "connection",
            Group::Admin => "admin",
            Group::Unknown => "unknown",
        }
    }

    /// The group of what [`super::lookup`] found.
    pub fn of(command: Option<&Command>) -> Group {
        command.map_or(Group::Unknown, |command| command.group)
    }

    pub(super) fn new(name: &str, class: Class, flags: &super::Flags, script: bool) -> Group {
        if let Some((_, group)) = BY_NAME.iter().find(|(known, _)| *known == name) {
            return *group;
        }
        match class {
            Class::Multi | Class::Exec | Class::Discard | Class::Watch | Class::Unwatch => {
                Group::Transaction
            }
            Class::Blocking => Group::Blocking,
            Class::Subscribe | Class::Unsubscribe => Group::Pubsub,
            Class::Monitor | Class::Replication => Group::Admin,
            Class::Own => Group::Connection,
            Class::Unknown => Group::Unknown,
            _ if script => Group::Script,
            _ if flags.admin => Group::Admin,
            _ if flags.pubsub => Group::Pubsub,
            _ if flags.write => Group::Write,
            _ if flags.readonly => Group::Read,
            _ => Group::Admin,
        }
    }
}
