use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ConnectError, Connector, Key, Stream};
use crate::resp::{Protocol, Reply, ReplyScanner, decode_reply, push_command};

/// Who a connection is to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Empty: the `default` user.
    pub user: String,
    /// Empty: no authentication.
    pub password: Vec<u8>,
}

/// What a server says of itself when greeted.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// Empty when the server knows no `HELLO` (Redis 5).
    pub version: String,
    pub mode: String,
    pub role: String,
    /// The connection's id there.
    pub id: i64,
}

/// The name that the proxy's connections have in Redis's `CLIENT LIST`.
pub(super) const CONNECTION_NAME: &str = "tandem";

/// Why a connection never became ready.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("Redis at {address} accepted the connection and then failed: {reason}")]
    Failed { address: String, reason: String },
    /// The credentials, or the connection as a whole; in Redis's words.
    #[error("{reply}")]
    Refused { reply: String },
    /// Redis has no such database, in its own words.
    #[error("{reply}")]
    Database { reply: String },
}

/// Connects, authenticates, chooses protocol and database: all in one round trip.
pub(super) async fn open(
    connector: &Connector,
    key: &Key,
) -> Result<(Stream, ServerFacts), OpenError> {
    let mut stream = connector.connect().await?;
    match tokio::time::timeout(connector.timeout(), greet(connector, key, &mut stream)).await {
        Ok(facts) => Ok((stream, facts?)),
        Err(_) => Err(OpenError::Failed {
            address: connector.address(),
            reason: format!("no answer within {:?}", connector.timeout()),
        }),
    }
}

async fn greet(
    connector: &Connector,
    key: &Key,
    stream: &mut Stream,
) -> Result<ServerFacts, OpenError> {
    let url = connector.url();
    let own = Credentials { user: url.user.clone(), password: url.password.clone().into_bytes() };
    let mut request = Vec::new();
    // The user may not be allowed to SELECT: that the client is in the database was decided before.
    let becomes = key.db > 0 && *key.credentials != own;
    let first = if becomes { &own } else { &*key.credentials };
    let auths = push_auth(first, &mut request);
    let resp3 = key.protocol == Protocol::Resp3;
    let version: &[u8] = if resp3 { b"3" } else { b"2" };
    push_command(&[b"HELLO", version, b"SETNAME", CONNECTION_NAME.as_bytes()], &mut request);
    let selects = usize::from(key.db > 0);
    if key.db > 0 {
        push_command(&[&b"SELECT"[..], key.db.to_string().as_bytes()], &mut request);
    }
    let last = if becomes { push_auth(&key.credentials, &mut request) } else { 0 };
    let replies = exchange(stream, &request, auths + 1 + selects + last).await;
    let replies = replies.map_err(|error| match error {
        Broken::Refused(reply) => OpenError::Refused { reply },
        Broken::Failed(reason) => OpenError::Failed { address: connector.address(), reason },
    })?;
    let (auth, rest) = replies.split_at(auths);
    if let Some(Reply::Error(text)) = auth.first() {
        return Err(OpenError::Refused { reply: text.to_string() });
    }
    let facts = match &rest[0] {
        // Redis before 6 knows no HELLO, and speaks RESP2 anyway.
        Reply::Error(text) if !resp3 && text.contains("unknown command") => ServerFacts::default(),
        Reply::Error(text) => return Err(OpenError::Refused { reply: text.to_string() }),
        hello => facts(hello),
    };
    let (select, auth) = rest[1..].split_at(selects);
    match (select.first(), auth.first()) {
        (Some(Reply::Error(text)), _) => Err(OpenError::Database { reply: text.to_string() }),
        (_, Some(Reply::Error(text))) => Err(OpenError::Refused { reply: text.to_string() }),
        _ => Ok(facts),
    }
}

/// Adds the `AUTH` that the credentials need; the number of commands.
fn push_auth(credentials: &Credentials, request: &mut Vec<u8>) -> usize {
    let (user, password) = (credentials.user.as_bytes(), credentials.password.as_slice());
    match (user.is_empty(), password.is_empty()) {
        (true, true) => return 0,
        (true, false) => push_command(&[b"AUTH", password], request),
        (false, _) => push_command(&[b"AUTH", user, password], request),
    }
    1
}

/// Why the greeting was not answered.
enum Broken {
    Refused(String),
    Failed(String),
}

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Broken {
        Broken::Failed(error.to_string())
    }
}

/// Sends `request` and reads `count` replies.
async fn exchange(stream: &mut Stream, request: &[u8], count: usize) -> Result<Vec<Reply>, Broken> {
    stream.write_all(request).await?;
    let (mut scanner, mut frame, mut replies) = (ReplyScanner::default(), Vec::new(), Vec::new());
    let mut chunk = [0; 4096];
    while replies.len() < count {
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            // A server that is full, or in protected mode, says why before it closes.
            return Err(match replies.pop() {
                Some(Reply::Error(reply)) => Broken::Refused(reply.into()),
                _ => Broken::Failed("connection closed".into()),
            });
        }
        let mut rest = &chunk[..n];
        while !rest.is_empty() {
            let (used, done) = scanner.feed(rest)?;
            frame.extend_from_slice(&rest[..used]);
            rest = &rest[used..];
            if done {
                replies.push(decode_reply(&frame)?);
                frame.clear();
            }
        }
    }
    Ok(replies)
}

fn facts(hello: &Reply) -> ServerFacts {
    let pairs: Vec<(&Reply, &Reply)> = match hello {
        Reply::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        Reply::Array(flat) => flat.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => Vec::new(),
    };
    let mut facts = ServerFacts::default();
    for (name, value) in pairs {
        match (name, value) {
            (Reply::Bulk(name), Reply::Int(id)) if name == "id" => facts.id = *id,
            (Reply::Bulk(name), Reply::Bulk(value)) => {
                let value = String::from_utf8_lossy(value).into_owned();
                match name.as_ref() {
                    b"version" => facts.version = value,
                    b"mode" => facts.mode = value,
                    b"role" => facts.role = value,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    facts
}
