//! `[[listen.users]]`: who clients may be, and what each of them may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::{ConfigError, Listen};
use crate::acl::{DEFAULT, User};

/// One user of the clients' port.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct ListenUser {
    pub name: String,
    pub user: Arc<User>,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    /// `sha256:<hex>`.
    #[serde(default)]
    passwords: Vec<String>,
    /// Any password will do.
    #[serde(default)]
    nopass: bool,
    /// Rules of Redis's ACL, such as `+@read`.
    #[serde(default)]
    commands: Vec<String>,
    /// Globs, or rules as `%R~glob`.
    #[serde(default)]
    keys: Vec<String>,
    /// Globs.
    #[serde(default)]
    channels: Vec<String>,
    /// Scripts may be run, although nobody looks at what they do.
    #[serde(default)]
    unchecked_scripts: bool,
}

const HASHED: &str = "each of passwords must be \"sha256:\" and the 64 hexadecimal digits that `printf %s \"$PASSWORD\" | sha256sum` prints";

impl ListenUser {
    pub(super) fn named(&self) -> (String, Arc<User>) {
        (self.name.clone(), Arc::clone(&self.user))
    }
}

impl TryFrom<Written> for ListenUser {
    type Error = String;

    fn try_from(written: Written) -> Result<ListenUser, String> {
        let name = written.name.clone();
        let user = written.user().map_err(|why| format!("user {name:?}: {why}"))?;
        Ok(ListenUser { name, user: Arc::new(user) })
    }
}

impl Written {
    fn user(&self) -> Result<User, String> {
        if self.name.is_empty() || self.name.contains([' ', '\0']) {
            return Err("name must be a word".into());
        }
        let mut user = User::default();
        take(&mut user, "on")?;
        match (self.nopass, self.passwords.is_empty()) {
            (true, false) => return Err("nopass = true and passwords exclude each other".into()),
            (false, true) => {
                return Err("passwords is missing; nopass = true lets everybody in".into());
            }
            (true, true) => take(&mut user, "nopass")?,
            (false, false) => {}
        }
        for password in &self.passwords {
            // What is no hash may be a password: it is not repeated.
            let hash = password.strip_prefix("sha256:").or_else(|| password.strip_prefix('#'));
            let rule = hash.map(|hash| format!("#{hash}")).ok_or(HASHED)?;
            user.apply(&rule.into()).map_err(|_| HASHED)?;
        }
        for rule in &self.commands {
            match rule.as_bytes() {
                [b'+' | b'-', ..] | b"allcommands" | b"nocommands" => take(&mut user, rule)?,
                _ => return Err(format!("commands: {rule:?} must begin with + or -")),
            }
        }
        let lists = [("keys", &self.keys, '~'), ("channels", &self.channels, '&')];
        for (key, rules, sign) in lists {
            for rule in rules {
                if rule.is_empty() || rule.starts_with("all") && rule[3..] == *key {
                    return Err(format!("{key}: {rule:?} must be a pattern; \"*\" is all"));
                }
                let is_rule = rule.starts_with(sign) || sign == '~' && rule.starts_with('%');
                let rule = if is_rule { rule.clone() } else { format!("{sign}{rule}") };
                take(&mut user, &rule)?;
            }
        }
        if user.gains_by_scripts() && !self.unchecked_scripts {
            return Err("a script can do more than this user may, since only the keys that its call names are checked: \
                        add \"-@scripting\" as the last of commands, or set unchecked_scripts = true"
                .into());
        }
        Ok(user)
    }
}

fn take(user: &mut User, rule: &str) -> Result<(), String> {
    let taken = user.apply(&Bytes::copy_from_slice(rule.as_bytes()));
    taken.map_err(|why| format!("{rule:?}: {why}"))
}

/// What is wrong with the users beside each other.
pub(super) fn check(listen: &Listen) -> Result<(), ConfigError> {
    let invalid = |message: String| Err(ConfigError::Invalid { key: "listen.users", message });
    let mut names = BTreeSet::new();
    if let Some(twice) = listen.users.iter().find(|user| !names.insert(&user.name)) {
        return invalid(format!("there are two users {:?}", twice.name));
    }
    if !listen.password.is_empty() && names.iter().any(|name| *name == DEFAULT) {
        return invalid(format!(
            "user {DEFAULT:?} has its own passwords: leave listen.password out"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const HASH: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn parse(user: &str) -> Result<Config, String> {
        let text = format!("[[listen.users]]\n{}", user.replace("HASH", HASH));
        Config::parse(&text, "proxy.toml", []).map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_read_with_their_rules() {
        let config = parse(
            "name = 'a'\npasswords = ['HASH']\ncommands = ['+@read', '-keys', '+config|get']\nkeys = ['a:*', '%R~b:*', '~c']",
        )
        .expect("valid");
        let users = config.now().users;
        let user = users.get("a").expect("listed");
        assert!(user.admits(b"secret") && !user.admits(b"Secret") && !user.admits(b""));
        for (line, allowed) in [
            ("GET a:1", true),
            ("GET b:1", true),
            ("GET c", true),
            ("GET d", false),
            ("KEYS *", false),
            ("SET a:1 x", false),
            ("CONFIG GET x", true),
            ("CONFIG SET x y", false),
            ("PUBLISH c m", false),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(user.check(&words).is_ok(), allowed, "{line}");
        }
    }

    #[test]
    fn mistakes_are_named_and_passwords_are_not_repeated() {
        let with = |more: &str| format!("name = 'a'\npasswords = ['HASH']\n{more}");
        for (user, word) in [
            ("passwords = ['HASH']", "name"),
            ("name = 'a b'\npasswords = ['HASH']", "must be a word"),
            ("name = 'a'", "nopass = true"),
            ("name = 'a'\nnopass = true\npasswords = ['HASH']", "exclude each other"),
            ("name = 'a'\npasswords = ['hidden']", "sha256sum"),
            ("name = 'a'\npasswords = ['sha256:hidden']", "sha256sum"),
            (&with("password = 'hidden'"), "unknown field"),
            (&with("commands = ['get']"), "must begin with"),
            (&with("commands = ['+@reed']"), "Unknown command or category"),
            (&with("commands = ['+gett']"), "Unknown command or category"),
            (&with("commands = ['+config|gett']"), "Unknown command or category"),
            (&with("commands = ['+get', '+eval']\nkeys = ['*']"), "unchecked_scripts"),
            (&with("commands = ['+@all']\nkeys = ['a:*']"), "-@scripting"),
            (&with("keys = ['allkeys']"), "pattern"),
            (&with("keys = ['%X~a']"), "Syntax error"),
            (&with("[[listen.users]]\nname = 'a'\nnopass = true"), "two users"),
            ("name = 'default'\nnopass = true\n[listen]\npassword = 'x'", ""),
        ] {
            let error = parse(user).expect_err(user);
            assert!(error.contains(word) && !error.contains("hidden"), "{user}: {error}");
        }
        for user in [
            with("commands = ['+@all', '-@scripting']\nkeys = ['a:*']"),
            with("commands = ['+@all']\nkeys = ['a:*']\nunchecked_scripts = true"),
            with("commands = ['allcommands']\nkeys = ['*']\nchannels = ['*']"),
            with("commands = ['+@all', '-config']\nkeys = ['*']\nchannels = ['&*']"),
        ] {
            parse(&user).expect(&user);
        }
    }
}
