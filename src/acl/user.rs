use bytes::Bytes;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::commands::{self, Command};
use crate::engine::glob;

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

impl Keys {
    fn allows(&self, read: bool, write: bool) -> bool {
        (self.read || !read) && (self.write || !write)
    }
}

/// Who may do what. As it begins, nobody gets in and nothing is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub(super) on: bool,
    pub(super) no_password: bool,
    /// SHA-256 in hex.
    pub(super) passwords: Vec<String>,
    /// The last rule that matches decides; true: allowed.
    pub(super) commands: Vec<(bool, What)>,
    pub(super) keys: Vec<Keys>,
    pub(super) channels: Vec<Bytes>,
}

/// Why a user may not run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    Command,
    /// The place of the key among the words.
    Key(usize),
    /// The place of the channel.
    Channel(usize),
    /// This option of `SORT` reads keys that no argument names.
    Sort(&'static str),
}

pub(super) fn digest(password: &[u8]) -> String {
    Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl User {
    /// A user who may do everything; without a password everybody is.
    pub fn full(password: &str) -> User {
        let all = Bytes::from_static(b"*");
        let hash = (!password.is_empty()).then(|| digest(password.as_bytes()));
        User {
            on: true,
            no_password: hash.is_none(),
            passwords: hash.into_iter().collect(),
            commands: vec![(true, What::All)],
            keys: vec![Keys { pattern: all.clone(), read: true, write: true }],
            channels: vec![all],
        }
    }

    /// True when any password will do.
    pub fn is_open(&self) -> bool {
        self.on && self.no_password
    }

    /// True when somebody can log in as this user.
    pub fn has_login(&self) -> bool {
        self.on && (self.no_password || !self.passwords.is_empty())
    }

    /// Whether this is a password of the user. A wrong one takes as long as any other.
    pub fn admits(&self, password: &[u8]) -> bool {
        let given = digest(password);
        let known = self
            .passwords
            .iter()
            .fold(Choice::from(0), |known, hash| known | hash.as_bytes().ct_eq(given.as_bytes()));
        self.on && (self.no_password || bool::from(known))
    }

    /// True when who has logged in as `before` may go on as this user: with the same rights, and no password fewer.
    pub fn goes_on_from(&self, before: &User) -> bool {
        before.passwords.iter().all(|hash| self.passwords.contains(hash))
            && User { passwords: before.passwords.clone(), ..self.clone() } == *before
    }

    pub fn is_full(&self) -> bool {
        matches!(&self.commands[..], [(true, What::All)])
            && self.has_all_keys(true, true)
            && self.has_all_channels()
    }

    fn has_all_keys(&self, read: bool, write: bool) -> bool {
        let all = |keys: &Keys| keys.pattern == "*" && keys.allows(read, write);
        self.keys.iter().any(all)
    }

    fn has_all_channels(&self) -> bool {
        self.channels.iter().any(|pattern| pattern == "*")
    }

    /// Whether the rules about commands allow this one.
    pub fn may_run(&self, command: &Command) -> bool {
        let container = command.name.split('|').next().unwrap_or_default();
        let matches = |what: &What| match what {
            What::All => true,
            What::Category(name) => command.in_category(name),
            What::Command(name) => name == command.name || name == container,
        };
        self.commands.iter().rev().find(|(_, what)| matches(what)).is_some_and(|(on, _)| *on)
    }

    /// Whether a script may do more than the user who runs it, if nobody looks at what it calls.
    pub fn gains_by_scripts(&self) -> bool {
        let mut all = commands::all();
        let scripts = all.any(|command| command.is_script() && self.may_run(command));
        let callable = |command: &&Command| {
            !command.flags.noscript && !command.container && !command.name.ends_with("|help")
        };
        scripts
            && !(self.has_all_keys(true, true)
                && self.has_all_channels()
                && commands::all().filter(callable).all(|command| self.may_run(command)))
    }

    /// `flags` are those of a key specification.
    fn may_touch(&self, key: &[u8], flags: &str) -> bool {
        let has = |wanted: &[&str]| flags.split(',').any(|flag| wanted.contains(&flag));
        let (read, write) = (has(&["access"]), has(&["insert", "update", "delete"]));
        self.keys.iter().any(|keys| keys.allows(read, write) && glob::matches(&keys.pattern, key))
    }

    /// Whether the user may run a command, which is known and has the right number of words.
    ///
    /// # Errors
    /// Says what the user has no right to.
    pub fn check<W: AsRef<[u8]>>(&self, words: &[W]) -> Result<(), Denied> {
        if self.is_full() {
            return Ok(());
        }
        let Some(command) = words.first().and_then(|name| commands::lookup(name.as_ref())) else {
            return Ok(());
        };
        let command = commands::called(command, words);
        if !command.flags.no_auth && !self.may_run(command) {
            return Err(Denied::Command);
        }
        let mut touched = command.keys_and_flags(words).into_iter();
        if let Some((at, _)) =
            touched.find(|(at, flags)| !self.may_touch(words[*at].as_ref(), flags))
        {
            return Err(Denied::Key(at));
        }
        if let Some(at) = self.forbidden_channel(command, words) {
            return Err(Denied::Channel(at));
        }
        if matches!(command.name, "sort" | "sort_ro")
            && !self.has_all_keys(true, false)
            && let Some(option) = sort_reads(words)
        {
            return Err(Denied::Sort(option));
        }
        Ok(())
    }

    fn forbidden_channel<W: AsRef<[u8]>>(&self, command: &Command, words: &[W]) -> Option<usize> {
        let channels = match command.name {
            "publish" | "spublish" => 1..2,
            "subscribe" | "ssubscribe" | "psubscribe" => 1..words.len(),
            _ => return None,
        };
        // A pattern has to be in the rules as it is.
        let literal = command.name == "psubscribe";
        let fits = |rule: &Bytes, channel: &[u8]| match literal {
            true => rule == channel,
            false => glob::matches(rule, channel),
        };
        let may = |channel: &[u8]| self.channels.iter().any(|rule| fits(rule, channel));
        let mut channels = channels.filter(|_| !self.has_all_channels());
        channels.find(|at| words.get(*at).is_some_and(|channel| !may(channel.as_ref())))
    }
}

/// The first option of `SORT` that reads other keys.
fn sort_reads<W: AsRef<[u8]>>(words: &[W]) -> Option<&'static str> {
    let mut at = 2;
    while let Some(word) = words.get(at) {
        let value = words.get(at + 1).map(AsRef::as_ref);
        at += match (word.as_ref().to_ascii_lowercase().as_slice(), value) {
            (b"by", Some(pattern)) if pattern.contains(&b'*') => return Some("BY"),
            (b"get", Some(_)) => return Some("GET"),
            (b"by" | b"store", _) => 2,
            (b"limit", _) => 3,
            _ => 1,
        };
    }
    None
}

impl Denied {
    /// Redis's error.
    pub fn error<W: AsRef<[u8]>>(self, words: &[W]) -> String {
        let of = |what: &str| {
            format!(
                "NOPERM this user has no permissions to access one of the {what} used as arguments"
            )
        };
        match self {
            Denied::Command => format!("NOPERM this {}", not_run(words)),
            Denied::Key(_) => of("keys"),
            Denied::Channel(_) => of("channels"),
            Denied::Sort(option) => {
                format!("ERR {option} option of SORT denied due to insufficient ACL permissions.")
            }
        }
    }

    /// What `ACL DRYRUN` says, which runs nothing; none: it sees no reason.
    pub fn dry<W: AsRef<[u8]>>(self, words: &[W]) -> Option<String> {
        let of = |at: usize, what: &str| {
            let word = String::from_utf8_lossy(words[at].as_ref());
            Some(format!("This user has no permissions to access the '{word}' {what}"))
        };
        match self {
            Denied::Command => Some(format!("This {}", not_run(words))),
            Denied::Key(at) => of(at, "key"),
            Denied::Channel(at) => of(at, "channel"),
            Denied::Sort(_) => None,
        }
    }
}

fn not_run<W: AsRef<[u8]>>(words: &[W]) -> String {
    let command = words.first().and_then(|name| commands::lookup(name.as_ref()));
    let name = command.map_or("", |command| commands::called(command, words).name);
    format!("user has no permissions to run the '{name}' command")
}
