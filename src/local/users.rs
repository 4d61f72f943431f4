//! The server's own users. They live as long as the process serves: nothing of them is stored.

use std::sync::Arc;

use bytes::Bytes;

use super::period::Credentials;
use crate::acl::{DEFAULT, Denied, Everybody, NO_PASSWORD, User, WRONGPASS};
use crate::engine::{Answer, Stop};

/// Everybody there is.
#[derive(Debug)]
pub(super) struct Users {
    pub all: Everybody,
    /// Who runs the script that runs.
    pub acting: String,
}

impl Users {
    /// The proxy's connections come with the user and password of `redis.url`.
    pub fn new(credentials: &Credentials) -> Users {
        let name = if credentials.user.is_empty() { DEFAULT } else { &credentials.user };
        let full = Arc::new(User::full(&credentials.password));
        let users = [DEFAULT, name].map(|name| (name.into(), Arc::clone(&full)));
        Users { all: users.into(), acting: DEFAULT.into() }
    }

    /// True when clients have to say a password.
    pub fn ask(&self) -> bool {
        self.all.get(DEFAULT).is_none_or(|user| !user.is_open())
    }

    /// The words of `AUTH`; who it is.
    pub fn authenticate(&self, words: &[Bytes]) -> Answer<String> {
        let (name, password) = match words {
            [password] => (DEFAULT.to_owned(), password),
            [user, password] => (String::from_utf8_lossy(user).into_owned(), password),
            _ => return Err(Stop::SYNTAX),
        };
        if words.len() == 1 && !self.ask() {
            return Err(Stop::error(NO_PASSWORD));
        }
        let admitted = self.all.get(&name).is_some_and(|user| user.admits(password));
        admitted.then_some(name).ok_or(Stop::error(WRONGPASS))
    }

    /// Whether this user may run a command.
    pub fn check(&self, user: &str, words: &[Bytes]) -> Result<(), Denied> {
        self.all.get(user).map_or(Err(Denied::Command), |user| user.check(words))
    }
}
