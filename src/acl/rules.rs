use bytes::Bytes;

use super::command::CATEGORIES;
use super::user::{Keys, User, What, digest};
use crate::commands;
use crate::resp::Reply;

impl User {
    /// Takes one attribute of `ACL SETUSER`.
    ///
    /// # Errors
    /// Redis's words on what is wrong with it.
    pub fn apply(&mut self, rule: &Bytes) -> Result<(), &'static str> {
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
            [b'(', ..] => return Err("Selectors are not available"),
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
    pub(super) fn line(&self, name: &str) -> String {
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
    pub(super) fn reply(&self) -> Reply {
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
