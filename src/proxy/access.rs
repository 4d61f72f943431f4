use std::rc::Rc;

use subtle::ConstantTimeEq;

use crate::config::{Listen, RedisUrl};
use crate::upstream::Credentials;

/// Who clients may be without asking Redis.
#[derive(Clone, Debug)]
pub struct Access {
    /// The password asked of clients; none: everybody is the proxy's own user.
    required: Option<Vec<u8>>,
    /// The proxy's own user in Redis.
    user: String,
    password: Vec<u8>,
}

/// What the proxy itself can say about a client's credentials.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    Wrong,
    /// Another user: Redis knows.
    AskRedis,
}

impl Access {
    pub fn new(listen: &Listen, url: &RedisUrl) -> Access {
        let required = if listen.password.is_empty() { &url.password } else { &listen.password };
        Access {
            required: (!required.is_empty()).then(|| required.clone().into_bytes()),
            user: url.user.clone(),
            password: url.password.clone().into_bytes(),
        }
    }

    /// True when clients must authenticate first.
    pub fn asks(&self) -> bool {
        self.required.is_some()
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
        let own = user.is_empty() || user == b"default" || user == self.user.as_bytes();
        match &self.required {
            Some(required) if own => match bool::from(required.as_slice().ct_eq(password)) {
                true => Answer::Accepted,
                false => Answer::Wrong,
            },
            _ => Answer::AskRedis,
        }
    }
}

impl Access {
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

    #[test]
    fn the_url_password_is_asked_of_clients() {
        let url = RedisUrl::parse("redis://:secret@h").expect("valid");
        let access = Access::new(&Listen::default(), &url);
        assert!(access.asks());
        assert_eq!(access.judge(b"", b"secret"), Answer::Accepted);
        assert_eq!(access.judge(b"default", b"secre"), Answer::Wrong);
        assert_eq!(access.judge(b"alice", b"secret"), Answer::AskRedis);
        let own = Listen { password: "own".into(), ..Listen::default() };
        assert_eq!(Access::new(&own, &url).judge(b"", b"secret"), Answer::Wrong);
        let open = Access::new(&Listen::default(), &RedisUrl::parse("redis://h").expect("valid"));
        let both = Access::new(&own, &url);
        assert_eq!(both.judge_peer(b"", b"secret"), Answer::Accepted);
        assert_eq!(both.judge_peer(b"", b"own"), Answer::AskRedis);
        assert_eq!(both.judge_peer(b"alice", b"secret"), Answer::AskRedis);
        assert!(!open.asks());
        assert_eq!(open.judge(b"", b"x"), Answer::AskRedis);
    }
}
