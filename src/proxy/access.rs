use std::rc::Rc;
use std::sync::Arc;

use parking_lot::RwLock;
use subtle::ConstantTimeEq;

use crate::acl::{DEFAULT, Everybody, User};
use crate::config::{Config, RedisUrl};
use crate::upstream::Credentials;

/// Who clients may be without asking Redis.
#[derive(Debug)]
pub struct Access {
    /// The password asked of clients; none: everybody is the proxy's own user.
    required: Option<Vec<u8>>,
    /// The proxy's own user in Redis.
    user: String,
    password: Vec<u8>,
    /// `[[listen.users]]`. With any, these and the proxy's own user are all there are.
    users: RwLock<Arc<Everybody>>,
}

/// A user of `[[listen.users]]` that a client has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: Arc<str>,
    pub user: Arc<User>,
}

/// What the proxy itself can say about a client's credentials.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// As this user.
    As(Listed),
    Wrong,
    /// A password without a name, where none is asked.
    NotAsked,
    /// Another user: Redis knows.
    AskRedis,
}

impl Access {
    pub fn new(config: &Config, url: &RedisUrl) -> Access {
        let listen = &config.listen;
        let required = if listen.password.is_empty() { &url.password } else { &listen.password };
        Access {
            required: (!required.is_empty()).then(|| required.clone().into_bytes()),
            user: url.user.clone(),
            password: url.password.clone().into_bytes(),
            users: RwLock::new(config.now().users),
        }
    }

    /// True when clients must authenticate first to be the proxy's own user.
    pub fn asks(&self) -> bool {
        self.required.is_some()
    }

    /// Who a client is that has not said it, and whether it may do anything as that.
    pub fn stranger(&self) -> (Option<Listed>, bool) {
        let users = self.users();
        let open = users.get(DEFAULT).filter(|user| user.is_open());
        let open = open.map(|user| Listed { name: DEFAULT.into(), user: Arc::clone(user) });
        let trusted = open.is_some() || users.is_empty() && !self.asks();
        (open, trusted)
    }

    pub fn users(&self) -> Arc<Everybody> {
        Arc::clone(&self.users.read())
    }

    /// Takes over other users; returns the former ones.
    pub fn set_users(&self, users: Arc<Everybody>) -> Arc<Everybody> {
        std::mem::replace(&mut *self.users.write(), users)
    }

    /// Whether a client with this name may go on, that came when there were the users `before`.
    pub fn keeps(&self, name: &str, before: &Everybody) -> bool {
        let users = self.users();
        match (before.get(name), users.get(name)) {
            (Some(before), Some(now)) => now.goes_on_from(before),
            // The proxy's own user, one of Redis, or nobody yet: with the first users only who gave a password stays.
            (None, None) => {
                users.is_empty() || !before.is_empty() || self.asks() && name == self.home_name()
            }
            _ => false,
        }
    }

    /// The proxy's own credentials.
    pub fn home(&self) -> Rc<Credentials> {
        Rc::new(Credentials { user: self.user.clone(), password: self.password.clone() })
    }

    /// The name a client of the proxy's own user is shown under.
    pub fn home_name(&self) -> &str {
        if self.user.is_empty() { "default" } else { &self.user }
    }

    /// Judges `AUTH [user] password`; `user` is empty when it was left out.
    pub fn judge(&self, user: &[u8], password: &[u8]) -> Answer {
        let users = self.users();
        if !users.is_empty() {
            let name = if user.is_empty() { DEFAULT.as_bytes() } else { user };
            let name = std::str::from_utf8(name).unwrap_or_default();
            let nobody = User::default();
            let found = users.get(name);
            // Nobody's takes as long as somebody's.
            let admitted = found.map_or(&nobody, |user| user).admits(password);
            match found {
                Some(found) if user.is_empty() && found.is_open() => return Answer::NotAsked,
                Some(found) if admitted => {
                    return Answer::As(Listed { name: name.into(), user: Arc::clone(found) });
                }
                Some(_) => return Answer::Wrong,
                None => {}
            }
        }
        let own = user.is_empty() || user == b"default" || user == self.user.as_bytes();
        match &self.required {
            Some(required) if own => match bool::from(required.as_slice().ct_eq(password)) {
                true => Answer::Accepted,
                false => Answer::Wrong,
            },
            _ if users.is_empty() => Answer::AskRedis,
            _ => Answer::Wrong,
        }
    }

    /// The same for another proxy: it has the credentials that Redis knows.
    pub fn judge_peer(&self, user: &[u8], password: &[u8]) -> Answer {
        let own = user == self.user.as_bytes() || user.is_empty() && self.home_name() == "default";
        match own && bool::from(self.password.as_slice().ct_eq(password)) {
            true => Answer::Accepted,
            false => Answer::AskRedis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str, url: &str) -> Access {
        let config = Config::parse(text, "proxy.toml", []).expect("valid");
        Access::new(&config, &RedisUrl::parse(url).expect("valid"))
    }

    #[test]
    fn the_url_password_is_asked_of_clients() {
        let url = "redis://:secret@h";
        let open = access("", "redis://h");
        let both = access("[listen]\npassword = 'own'", url);
        let access = access("", url);
        assert!(access.asks() && !access.stranger().1);
        assert_eq!(access.judge(b"", b"secret"), Answer::Accepted);
        assert_eq!(access.judge(b"default", b"secre"), Answer::Wrong);
        assert_eq!(access.judge(b"alice", b"secret"), Answer::AskRedis);
        assert_eq!(both.judge(b"", b"secret"), Answer::Wrong);
        assert_eq!(both.judge_peer(b"", b"secret"), Answer::Accepted);
        assert_eq!(both.judge_peer(b"", b"own"), Answer::AskRedis);
        assert_eq!(both.judge_peer(b"alice", b"secret"), Answer::AskRedis);
        assert!(!open.asks() && open.stranger() == (None, true));
        assert_eq!(open.judge(b"", b"x"), Answer::AskRedis);
    }

    #[test]
    fn with_users_there_is_nobody_else_but_the_own_user_with_a_password() {
        let alice = "[[listen.users]]\nname = 'alice'\nnopass = true";
        let closed = access(alice, "redis://h");
        assert_eq!(closed.stranger(), (None, false));
        assert!(
            matches!(closed.judge(b"alice", b"x"), Answer::As(listed) if &*listed.name == "alice")
        );
        for (user, password) in [("", ""), ("default", ""), ("bob", "x"), ("", "x")] {
            assert_eq!(closed.judge(user.as_bytes(), password.as_bytes()), Answer::Wrong, "{user}");
        }
        let own = access(alice, "redis://svc:secret@h");
        assert_eq!(own.judge(b"svc", b"secret"), Answer::Accepted);
        assert_eq!(own.judge(b"default", b"secret"), Answer::Accepted);
        let taken = access(&alice.replace("alice", "default"), "redis://:secret@h");
        assert!(taken.stranger().1 && taken.judge(b"", b"secret") == Answer::NotAsked);
        assert!(matches!(taken.judge(b"default", b"x"), Answer::As(_)));
    }

    #[test]
    fn who_has_other_rights_does_not_go_on() {
        let user = |more: &str| format!("[[listen.users]]\nname = 'a'\nnopass = true\n{more}");
        let users = |text: &str| access(text, "redis://h").users();
        let now = access(&user("keys = ['x']"), "redis://:secret@h");
        for (before, name, kept) in [
            (user("keys = ['x']"), "a", true),
            (user("keys = ['y']"), "a", false),
            (user("keys = ['x']"), "default", true),
            (String::new(), "default", true),
            (String::new(), "a", false),
            (String::new(), "bob", false),
        ] {
            assert_eq!(now.keeps(name, &users(&before)), kept, "{name}, before: {before}");
        }
        let open = access("", "redis://h");
        assert!(open.keeps("default", &users("")) && !open.keeps("a", &users(&user(""))));
        let closed = access(&user(""), "redis://h");
        assert!(!closed.keeps("default", &users("")));
        assert!(
            closed.keeps("default", &users(&user("keys = ['y']"))),
            "who has not logged in yet"
        );
    }
}
