use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::acl::{NO_PASSWORD, WRONGPASS};
use crate::proxy::access::{Answer, Listed};
use crate::proxy::request::{End, Request, number};
use crate::proxy::session::Session;
use crate::resp::{Protocol, Reply};
use crate::upstream::{Credentials, Key, Lost};

const HELLO_NOAUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, \
     otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select \
     the RESP protocol version at the same time";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// A user the client may become.
struct Login {
    credentials: Rc<Credentials>,
    name: String,
    user: Option<Listed>,
}

impl Session {
    /// `AUTH [user] password`.
    pub async fn auth(&mut self, request: &Request) -> Result<(), End> {
        let words = &request.words;
        let (user, password) = match words.len() {
            2 => (&b""[..], words[1].as_slice()),
            3 => (words[1].as_slice(), words[2].as_slice()),
            _ => {
                self.answer_error("ERR syntax error");
                return Ok(());
            }
        };
        match self.login(user, password).await {
            Ok(login) => {
                self.become_user(login);
                self.answer(&Reply::OK);
            }
            Err(error) => self.answer_error(&error),
        }
        Ok(())
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`.
    pub async fn hello(&mut self, request: &Request) -> Result<(), End> {
        match self.greeted(request).await {
            Ok(reply) => self.answer(&reply),
            Err(error) => self.answer_error(&error),
        }
        Ok(())
    }

    async fn greeted(&mut self, request: &Request) -> Result<Reply, String> {
        let words = &request.words;
        let protocol = match words.get(1).map(Vec::as_slice) {
            None => self.key.protocol,
            Some(b"2") => Protocol::Resp2,
            Some(b"3") => Protocol::Resp3,
            Some(other) => {
                let number = number::<i64>(other);
                return Err(match number {
                    Some(_) => "NOPROTO unsupported protocol version".into(),
                    None => "ERR Protocol version is not an integer or out of range".into(),
                });
            }
        };
        let mut at = 2;
        while at < words.len() {
            let left = words.len() - at - 1;
            match request.option(at).as_slice() {
                b"auth" if left >= 2 => {
                    let login = self.login(&words[at + 1], &words[at + 2]).await;
                    let login = login.map_err(|_| WRONGPASS.to_owned())?;
                    self.become_user(login);
                    at += 3;
                }
                b"setname" if left >= 1 => {
                    self.set_name(&words[at + 1])?;
                    at += 2;
                }
                _ => {
                    let option = String::from_utf8_lossy(&words[at]);
                    return Err(format!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        if !self.trusted {
            return Err(HELLO_NOAUTH.into());
        }
        if protocol != self.key.protocol {
            self.change(|key| key.protocol = protocol).await.map_err(|lost| lost.to_string())?;
        }
        let resp = if protocol == Protocol::Resp3 { 3 } else { 2 };
        self.info.resp.store(resp, Ordering::Relaxed);
        Ok(self.facts(resp))
    }

    /// Redis's reply to HELLO, with this client's id.
    fn facts(&self, resp: u32) -> Reply {
        let facts = self.worker.shared.facts.read();
        let or = |text: &str, other: &str| {
            Reply::bulk(if text.is_empty() { other } else { text }.as_bytes().to_vec())
        };
        Reply::Map(vec![
            (Reply::bulk("server"), Reply::bulk("redis")),
            (Reply::bulk("version"), or(&facts.version, "7.0.15")),
            (Reply::bulk("proto"), Reply::Int(i64::from(resp))),
            (Reply::bulk("id"), Reply::Int(self.info.id as i64)),
            (Reply::bulk("mode"), or(&facts.mode, "standalone")),
            (Reply::bulk("role"), or(&facts.role, "master")),
            (Reply::bulk("modules"), Reply::Array(Vec::new())),
        ])
    }

    pub(super) fn set_name(&mut self, name: &[u8]) -> Result<(), String> {
        if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
            return Err(BAD_NAME.into());
        }
        *self.info.name.lock() = name.to_vec();
        Ok(())
    }

    /// Checks credentials; those that the proxy does not know are tried against Redis.
    async fn login(&mut self, user: &[u8], password: &[u8]) -> Result<Login, String> {
        let access = &self.worker.shared.access;
        let answer = match self.peer {
            true => access.judge_peer(user, password),
            false => access.judge(user, password),
        };
        match answer {
            Answer::Wrong => Err(WRONGPASS.into()),
            Answer::Accepted => {
                let name = access.home_name().to_owned();
                Ok(Login { credentials: Rc::clone(&self.home.credentials), name, user: None })
            }
            Answer::As(listed) => Ok(Login {
                credentials: Rc::clone(&self.home.credentials),
                name: listed.name.to_string(),
                user: Some(listed),
            }),
            Answer::NotAsked => Err(NO_PASSWORD.into()),
            Answer::AskRedis => {
                let user = String::from_utf8_lossy(user).into_owned();
                let name = if user.is_empty() { "default".to_owned() } else { user.clone() };
                let credentials = Rc::new(Credentials { user, password: password.to_vec() });
                let key = Key { credentials: Rc::clone(&credentials), ..self.key.clone() };
                match self.worker.pool.try_user(&key).await {
                    Ok(()) => Ok(Login { credentials, name, user: None }),
                    Err(Lost::Refused(reply)) => Err(reply),
                    Err(lost) => Err(lost.to_string()),
                }
            }
        }
    }

    fn become_user(&mut self, login: Login) {
        self.trusted = true;
        *self.info.user.lock() = login.name;
        self.user = login.user;
        let users = self.worker.shared.access.users();
        let known = |listed: &Listed| {
            users.get(&*listed.name).is_some_and(|now| now.goes_on_from(&listed.user))
        };
        if !self.user.as_ref().is_none_or(known) {
            // The users have changed meanwhile, and whoever did that may have missed this client.
            self.info.kill();
        }
        if *self.key.credentials != *login.credentials {
            // State in Redis belongs to the old user's connection.
            self.drop_pin();
            self.key.credentials = login.credentials;
        }
    }
}
