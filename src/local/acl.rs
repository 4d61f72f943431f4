//! The command `ACL`, where it changes users.

use std::sync::Arc;

use bytes::Bytes;

use super::session::Session;
use crate::acl::{self, DEFAULT, User};
use crate::engine::{Answer, Stop};
use crate::resp::Reply;

impl Session {
    pub fn acl(&mut self, sub: &[u8], args: &[Bytes]) -> Answer<Reply> {
        let text = |at: usize| String::from_utf8_lossy(&args[at]).into_owned();
        let mut users = self.period.users.lock();
        Ok(match sub {
            b"setuser" => {
                let name = text(2);
                if name.contains([' ', '\0']) {
                    return Err(Stop::error(
                        "ERR Usernames can't contain spaces or null characters",
                    ));
                }
                let mut user =
                    users.all.get(&name).map(|user| User::clone(user)).unwrap_or_default();
                for rule in &args[3..] {
                    user.apply(rule).map_err(|why| {
                        let rule = String::from_utf8_lossy(rule);
                        Stop::failed(format!("ERR Error in ACL SETUSER modifier '{rule}': {why}"))
                    })?;
                }
                users.all.insert(name, Arc::new(user));
                Reply::OK
            }
            b"deluser" => {
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
            b"load" | b"save" => {
                return Err(Stop::error("ERR users are not stored in postgres_only"));
            }
            _ => return acl::acl(&users.all, &self.peer.user.borrow(), args),
        })
    }
}
