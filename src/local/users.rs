//! Users and what they may do. They live as long as the process serves: nothing of them is stored.
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::period::Credentials;
use crate::commands::{self, Command};
use crate::engine::{Answer, Stop, glob};

const WRONGPASS: Stop =
    Stop::error("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: Stop = Stop::error(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
     your configuration is correct?",
);
pub(super) const DEFAULT: &str = "default";

/// What a rule about commands names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    All,
    Category(String),
    /// A command, or a subcommand as `container|name`.
    Command(String),
}

/// A pattern of keys, and what may be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub pattern: Bytes,
    pub read: bool,
    pub write: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct User {
    pub on: bool,
    pub no_password: bool,
    /// SHA-256 in hex.
    pub passwords: Vec<String>,
    /// The last rule that matches decides; true: allowed.
    pub commands: Vec<(bool, What)>,
    pub keys: Vec<Keys>,
    pub channels: Vec<Bytes>,
}

/// Why a user may not run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Command,
    Key,
    Channel,
}

pub(super) fn digest(password: &[u8]) -> String {
    Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl User {
    /// A user who may do everything.
    fn full(password: &str) -> User {
        let all = Bytes::from_static(b"*");
        User {
            on: true,
            no_password: password.is_empty(),
            passwords: Some(password)
                .filter(|p| !p.is_empty())
                .map(|p| digest(p.as_bytes()))
                .into_iter()
                .collect(),
            commands: vec![(true, What::All)],
            keys: vec![Keys { pattern: all.clone(), read: true, write: true }],
            channels: vec![all],
        }
    }

    fn is_full(&self) -> bool {
        let all = |keys: &Keys| keys.pattern == "*" && keys.read && keys.write;
        matches!(&self.commands[..], [(true, What::All)])
            && self.keys.first().is_some_and(all)
            && self.channels.first().is_some_and(|pattern| pattern == "*")
    }

    fn may_run(&self, command: &Command) -> bool {
        let container = command.name.split('|').next().unwrap_or_default();
        let matches = |what: &What| match what {
            What::All => true,
            What::Category(name) => command.in_category(name),
            What::Command(name) => name == command.name || name == container,
        };
        self.commands.iter().rev().find(|(_, what)| matches(what)).is_some_and(|(on, _)| *on)
    }

    fn may_touch(&self, key: &[u8], writes: bool) -> bool {
        self.keys
            .iter()
            .any(|keys| keys.read && (keys.write || !writes) && glob::matches(&keys.pattern, key))
    }

    /// Whether the user may run a command, which is known and has the right number of words.
    pub fn check(&self, words: &[Bytes]) -> Result<(), Denied> {
        if self.is_full() {
            return Ok(());
        }
        let Some(command) = words.first().and_then(|name| commands::lookup(name)) else {
            return Ok(());
        };
        if command.flags.no_auth {
            return Ok(());
        }
        let sub = words.get(1).and_then(|word| commands::lookup_sub(command, word));
        let command = sub.unwrap_or(command);
        if !self.may_run(command) {
            return Err(Denied::Command);
        }
        if !command.keys(words).iter().all(|(at, writes)| self.may_touch(&words[*at], *writes)) {
            return Err(Denied::Key);
        }
        let all = self.channels.iter().any(|pattern| pattern == "*");
        let matches = |channel: &Bytes| self.channels.iter().any(|p| glob::matches(p, channel));
        let may_hear = all
            || match command.name {
                "publish" | "spublish" => words.get(1).is_none_or(matches),
                "subscribe" | "ssubscribe" => words[1..].iter().all(matches),
                "psubscribe" => words[1..].iter().all(|pattern| self.channels.contains(pattern)),
                _ => true,
            };
        if may_hear { Ok(()) } else { Err(Denied::Channel) }
    }
}

/// Everybody there is.
#[derive(Debug)]
pub(super) struct Users {
    pub all: BTreeMap<String, User>,
    /// Who runs the script that runs.
    pub acting: String,
}

impl Users {
    /// The proxy's connections come with the user and password of `redis.url`.
    pub fn new(credentials: &Credentials) -> Users {
        let name = if credentials.user.is_empty() { DEFAULT } else { &credentials.user };
        let users = [DEFAULT, name].map(|name| (name.into(), User::full(&credentials.password)));
        Users { all: users.into(), acting: DEFAULT.into() }
    }

    /// True when clients have to say a password.
    pub fn ask(&self) -> bool {
        self.all.get(DEFAULT).is_none_or(|user| !user.on || !user.no_password)
    }

    /// The words of `AUTH`; who it is.
    pub fn authenticate(&self, words: &[Bytes]) -> Answer<String> {
        let (name, password) = match words {
            [password] => (DEFAULT.to_owned(), password),
            [user, password] => (String::from_utf8_lossy(user).into_owned(), password),
            _ => return Err(Stop::SYNTAX),
        };
        if words.len() == 1 && !self.ask() {
            return Err(NO_PASSWORD);
        }
        let given = digest(password);
        let known = |hash: &String| -> bool {
            subtle::ConstantTimeEq::ct_eq(hash.as_bytes(), given.as_bytes()).into()
        };
        let user = self.all.get(&name).filter(|user| user.on);
        let fits = |user: &&User| user.no_password || user.passwords.iter().any(known);
        user.filter(fits).map(|_| name).ok_or(WRONGPASS)
    }

    /// Whether this user may run a command.
    pub fn check(&self, user: &str, words: &[Bytes]) -> Result<(), Denied> {
        self.all.get(user).map_or(Err(Denied::Command), |user| user.check(words))
    }
}
