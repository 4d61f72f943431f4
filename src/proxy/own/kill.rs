use std::sync::Arc;

use super::client::{SYNTAX, unknown_kind};
use crate::proxy::registry::{ClientInfo, ClientKind};
use crate::proxy::request::{End, Request};
use crate::proxy::session::Session;
use crate::resp::{Reply, command, decode_reply};

/// Which clients `CLIENT KILL` is about; what is absent matches all.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<ClientKind>,
    address: Option<String>,
    local_address: Option<String>,
    user: Option<String>,
    /// Old form or `SKIPME no`: the caller itself may be among them.
    own: bool,
}

impl Session {
    /// `CLIENT KILL addr` or `CLIENT KILL [ID id] [TYPE t] [ADDR a] [LADDR a] [USER u] [SKIPME yes|no]`.
    pub(super) async fn client_kill(&mut self, request: &Request) -> Result<(), End> {
        self.refresh();
        let old_form = request.words.len() == 3;
        let filter = match parse(request, old_form) {
            Ok(filter) => filter,
            Err(error) => {
                self.answer(&error);
                return Ok(());
            }
        };
        let clients = self.worker.shared.registry.all();
        if let Some(user) = &filter.user
            && !self.worker.shared.access.users().contains_key(user)
            && !clients.iter().any(|client| *client.user.lock() == *user)
            && self.no_such_user(user).await
        {
            self.answer_error(&format!("ERR No such user '{user}'"));
            return Ok(());
        }
        let (mut killed, mut myself) = (0, false);
        for client in clients.iter().filter(|client| filter.matches(client)) {
            if client.id == self.info.id {
                if !filter.own {
                    continue;
                }
                myself = true;
            } else {
                client.kill();
            }
            killed += 1;
        }
        self.answer(&match (old_form, killed) {
            (true, 0) => Reply::error("ERR No such client"),
            (true, _) => Reply::OK,
            (false, killed) => Reply::Int(killed),
        });
        if myself { Err(End::Finish) } else { Ok(()) }
    }
}

impl Session {
    /// Whether there is such a user, only Redis knows.
    async fn no_such_user(&mut self, user: &str) -> bool {
        let Ok(lane) = self.current_lane() else { return false };
        let question = command(&["ACL", "GETUSER", user]);
        match lane.call(&question, false).await {
            Ok(reply) => matches!(decode_reply(&reply.frame), Ok(Reply::Nil | Reply::NilArray)),
            Err(_) => false,
        }
    }
}

fn parse(request: &Request, old_form: bool) -> Result<Filter, Reply> {
    let text = |at: usize| String::from_utf8_lossy(&request.words[at]).into_owned();
    if old_form {
        return Ok(Filter { address: Some(text(2)), own: true, ..Filter::default() });
    }
    let mut filter = Filter::default();
    for at in (2..request.words.len()).step_by(2) {
        if at + 1 == request.words.len() {
            return Err(Reply::error(SYNTAX));
        }
        match request.option(at).as_slice() {
            b"id" => {
                let id = text(at + 1).parse().ok().filter(|id| *id > 0 && *id <= i64::MAX as u64);
                let wrong = || Reply::error("ERR client-id should be greater than 0");
                filter.id = Some(id.ok_or_else(wrong)?);
            }
            b"type" => {
                let word = &request.words[at + 1];
                filter.kind = Some(ClientKind::parse(word).ok_or_else(|| unknown_kind(word))?);
            }
            b"addr" => filter.address = Some(text(at + 1)),
            b"laddr" => filter.local_address = Some(text(at + 1)),
            b"user" => filter.user = Some(text(at + 1)),
            b"skipme" => match request.option(at + 1).as_slice() {
                b"yes" => filter.own = false,
                b"no" => filter.own = true,
                _ => return Err(Reply::error(SYNTAX)),
            },
            _ => return Err(Reply::error(SYNTAX)),
        }
    }
    Ok(filter)
}

impl Filter {
    fn matches(&self, client: &Arc<ClientInfo>) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == client.kind())
            && self.address.as_ref().is_none_or(|address| *address == client.address)
            && self.local_address.as_ref().is_none_or(|address| *address == client.local_address)
            && self.user.as_ref().is_none_or(|user| *user == *client.user.lock())
    }
}
