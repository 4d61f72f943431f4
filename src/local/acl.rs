//! The command `ACL`.

use bytes::Bytes;
use rand::RngExt;

use super::session::Session;
use super::users::{DEFAULT, Denied, Keys, User, What, digest};
use crate::commands;
use crate::engine::{Answer, Stop, number};
use crate::resp::Reply;

const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const HELP: [&str; 29] = [
    "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
    "HELP",
    "    Prints this help.",
];

impl Session {
    pub fn acl(&mut self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        let text = |at: usize| String::from_utf8_lossy(&args[at]).into_owned();
        let mut users = self.period.users.lock();
        Ok(match (sub, args.len()) {
            (b"whoami", _) => Reply::bulk(self.peer.user.borrow().clone()),
            (b"users", _) => {
                Reply::Array(users.all.keys().map(|name| Reply::bulk(name.clone())).collect())
            }
            (b"list", _) => {
                let line = |(name, user): (&String, &User)| Reply::bulk(user.line(name));
                Reply::Array(users.all.iter().map(line).collect())
            }
            (b"getuser", _) => users.all.get(&text(2)).map_or(Reply::Nil, User::reply),
            (b"setuser", _) => {
                let name = text(2);
                if name.contains([' ', '\0']) {
                    return Err(Stop::error(
                        "ERR Usernames can't contain spaces or null characters",
                    ));
                }
                let mut user = users.all.get(&name).cloned().unwrap_or_default();
                for rule in &args[3..] {
                    user.apply(rule).map_err(|why| {
                        let rule = String::from_utf8_lossy(rule);
                        Stop::failed(format!("ERR Error in ACL SETUSER modifier '{rule}': {why}"))
                    })?;
                }
                users.all.insert(name, user);
                Reply::OK
            }
            (b"deluser", _) => {
                let names: Vec<String> = (2..args.len()).map(text).collect();
                if names.iter().any(|name| name == DEFAULT) {
                    return Err(Stop::error("ERR The 'default' user cannot be removed"));
                }
                let gone = names.iter().filter(|name| users.all.remove(*name).is_some()).count();
                for peer in self.period.peers.borrow().values() {
                    if names.contains(&peer.user.borrow()) {
                        peer.killed.set(true);
                        peer.wake.notify_one();
                    }
                }
                Reply::Int(gone as i64)
            }
            (b"cat", 2) => Reply::Array(CATEGORIES.iter().map(|name| Reply::bulk(*name)).collect()),
            (b"cat", _) => {
                let name = text(2).to_ascii_lowercase();
                if !CATEGORIES.contains(&&*name) {
                    return Err(Stop::failed(format!("ERR Unknown category '{}'", text(2))));
                }
                let found = commands::all().filter(|command| command.in_category(&name));
                Reply::Array(found.map(|command| Reply::bulk(command.name)).collect())
            }
            (b"genpass", _) => Reply::bulk(password(args.get(2))?),
            (b"log", 3) if args[2].eq_ignore_ascii_case(b"reset") => Reply::OK,
            (b"log", _) => Reply::Array(Vec::new()),
            (b"dryrun", _) => {
                let (name, words) = (text(2), &args[3..]);
                let Some(user) = users.all.get(&name) else {
                    return Err(Stop::failed(format!("ERR User '{name}' not found")));
                };
                let Some(command) = commands::lookup(&words[0]) else {
                    return Err(Stop::failed(format!("ERR Command '{}' not found", text(3))));
                };
                if !command.takes(words.len()) {
                    return Err(Stop::failed(format!(
                        "ERR wrong number of arguments for '{}' command",
                        command.name
                    )));
                }
                match user.check(words) {
                    Ok(()) => Reply::OK,
                    Err(denied) => Reply::bulk(format!("This {}", denied.text(words))),
                }
            }
            (b"help", _) => {
                let lines = HELP.iter().filter(|line| !line.is_empty());
                Reply::Array(lines.map(|line| Reply::Simple((*line).into())).collect())
            }
            (b"load" | b"save", _) => {
                return Err(Stop::error("ERR users are not stored in postgres_only"));
            }
            _ => {
                let sub = String::from_utf8_lossy(&args[1]);
                return Err(Stop::failed(format!("ERR unknown subcommand '{sub}'. Try ACL HELP.")));
            }
        })
    }
}

impl Denied {
    /// Redis's words, behind `NOPERM this ` or `This `.
    pub fn text(self, words: &[Bytes]) -> String {
        match self {
            Denied::Command => {
                let command = words.first().and_then(|name| commands::lookup(name));
                let sub = command
                    .zip(words.get(1))
                    .and_then(|(command, word)| commands::lookup_sub(command, word));
                let name = sub.or(command).map_or("", |command| command.name);
                format!("user has no permissions to run the '{name}' command")
            }
            Denied::Key => {
                "user has no permissions to access one of the keys used as arguments".into()
            }
            Denied::Channel => {
                "user has no permissions to access one of the channels used as arguments".into()
            }
        }
    }
}

/// `ACL GENPASS [bits]`.
fn password(bits: Option<&Bytes>) -> Answer<String> {
    let bits = bits.map_or(Ok(256), |bits| number::int(bits))?;
    let bits = usize::try_from(bits).ok().filter(|bits| (1..=4096).contains(bits));
    let bits = bits.ok_or(Stop::error(
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive \
         number up to 4096",
    ))?;
    let mut rng = rand::rng();
    Ok((0..bits.div_ceil(4))
        .map(|_| char::from(b"0123456789abcdef"[rng.random_range(0..16)]))
        .collect())
}

impl User {
    /// One attribute of `ACL SETUSER`.
    fn apply(&mut self, rule: &Bytes) -> Result<(), &'static str> {
        let lower = rule.to_ascii_lowercase();
        let name = |from: usize| String::from_utf8_lossy(&lower[from..]).into_owned();
        let any = Bytes::from_static(b"*");
        match &lower[..] {
            b"on" => self.on = true,
            b"off" => self.on = false,
            b"nopass" => (self.no_password, self.passwords) = (true, Vec::new()),
            b"resetpass" => (self.no_password, self.passwords) = (false, Vec::new()),
            b"allkeys" => self.keys = vec![Keys { pattern: any, read: true, write: true }],
            b"resetkeys" => self.keys.clear(),
            b"allchannels" => self.channels = vec![any],
            b"resetchannels" => self.channels.clear(),
            b"allcommands" | b"+@all" => self.commands = vec![(true, What::All)],
            b"nocommands" | b"-@all" => self.commands.clear(),
            b"reset" => *self = User::default(),
            b"clearselectors" | b"sanitize-payload" | b"skip-sanitize-payload" => {}
            [b'>', ..] => self.add_password(digest(&rule[1..])),
            [b'<', ..] => self.remove_password(&digest(&rule[1..]))?,
            [b'#', ..] if lower.len() == 65 && lower[1..].iter().all(u8::is_ascii_hexdigit) => {
                self.add_password(name(1));
            }
            [b'#', ..] => {
                return Err("The password hash must be exactly 64 characters and contain only \
                            lowercase hexadecimal characters");
            }
            [b'!', ..] => self.remove_password(&name(1))?,
            [b'~', ..] => self.add_keys(rule.slice(1..), true, true),
            [b'%', b'r', b'~', ..] => self.add_keys(rule.slice(3..), true, false),
            [b'%', b'w', b'~', ..] => self.add_keys(rule.slice(3..), false, true),
            [b'%', b'r', b'w', b'~', ..] => self.add_keys(rule.slice(4..), true, true),
            [b'&', ..] => self.channels.push(rule.slice(1..)),
            [sign @ (b'+' | b'-'), b'@', ..] => {
                let category = name(2);
                if !CATEGORIES.contains(&&*category) {
                    return Err("Unknown command or category name in ACL");
                }
                self.add_command(*sign == b'+', What::Category(category));
            }
            [sign @ (b'+' | b'-'), ..] => {
                let command = name(1);
                if commands::lookup(command.as_bytes()).is_none() {
                    return Err("Unknown command or category name in ACL");
                }
                self.add_command(*sign == b'+', What::Command(command));
            }
            [b'(', ..] => return Err("Selectors are not available in postgres_only"),
            _ => return Err("Syntax error"),
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        self.no_password = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: &String) -> Result<(), &'static str> {
        let at = self.passwords.iter().position(|known| known == hash);
        let at = at.ok_or("The password you are trying to remove from the user does not exist")?;
        self.passwords.remove(at);
        Ok(())
    }

    fn add_keys(&mut self, pattern: Bytes, read: bool, write: bool) {
        self.keys.push(Keys { pattern, read, write });
    }

    fn add_command(&mut self, on: bool, what: What) {
        self.commands.retain(|(_, known)| *known != what);
        self.commands.push((on, what));
    }

    fn command_rules(&self) -> String {
        let rule = |(on, what): &(bool, What)| {
            let sign = if *on { '+' } else { '-' };
            match what {
                What::All => format!("{sign}@all"),
                What::Category(name) => format!("{sign}@{name}"),
                What::Command(name) => format!("{sign}{name}"),
            }
        };
        let base = match self.commands.first() {
            Some((true, What::All)) => None,
            _ => Some("-@all".to_owned()),
        };
        base.into_iter().chain(self.commands.iter().map(rule)).collect::<Vec<_>>().join(" ")
    }

    fn key_rules(&self) -> String {
        let rule = |keys: &Keys| {
            let sign = match (keys.read, keys.write) {
                (true, true) => "~",
                (true, false) => "%R~",
                _ => "%W~",
            };
            format!("{sign}{}", String::from_utf8_lossy(&keys.pattern))
        };
        self.keys.iter().map(rule).collect::<Vec<_>>().join(" ")
    }

    fn channel_rules(&self) -> String {
        let rule = |channel: &Bytes| format!("&{}", String::from_utf8_lossy(channel));
        self.channels.iter().map(rule).collect::<Vec<_>>().join(" ")
    }

    /// As in Redis's configuration file.
    fn line(&self, name: &str) -> String {
        let mut words = vec!["user".into(), name.into(), if self.on { "on" } else { "off" }.into()];
        words.extend(self.no_password.then(|| "nopass".into()));
        words.extend(self.passwords.iter().map(|hash| format!("#{hash}")));
        words.extend(Some(self.key_rules()).filter(|rules| !rules.is_empty()));
        let channels = self.channel_rules();
        words.push(match channels.is_empty() {
            true => "resetchannels".into(),
            false if channels == "&*" => channels,
            false => format!("resetchannels {channels}"),
        });
        words.push(self.command_rules());
        words.join(" ")
    }

    /// `ACL GETUSER`.
    fn reply(&self) -> Reply {
        let mut flags = vec![if self.on { "on" } else { "off" }];
        flags.extend(self.no_password.then_some("nopass"));
        let passwords = self.passwords.iter().map(|hash| Reply::bulk(hash.clone()));
        Reply::Map(vec![
            (Reply::bulk("flags"), Reply::Set(flags.into_iter().map(Reply::bulk).collect())),
            (Reply::bulk("passwords"), Reply::Array(passwords.collect())),
            (Reply::bulk("commands"), Reply::bulk(self.command_rules())),
            (Reply::bulk("keys"), Reply::bulk(self.key_rules())),
            (Reply::bulk("channels"), Reply::bulk(self.channel_rules())),
            (Reply::bulk("selectors"), Reply::Array(Vec::new())),
        ])
    }
}
