//! The handshake of a replica: log in, say what it can, ask for the stream.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::ReplicaError;
use super::event::{Event, Resume};
use crate::config::RedisUrl;
use crate::upstream::Stream;

/// Longest reply line that is read.
const MAX_LINE: usize = 64 * 1024;

/// Runs the handshake and returns [`Event::FullResync`] or [`Event::Continue`]. What has arrived
/// behind it stays in `input`.
pub(super) async fn run(
    stream: &mut Stream,
    input: &mut BytesMut,
    url: &RedisUrl,
    resume: Option<&Resume>,
    timeout: Duration,
) -> Result<Event, ReplicaError> {
    let mut talk = Talk { stream, input, timeout };
    if !url.password.is_empty() {
        let user = Some(url.user.as_bytes()).filter(|user| !user.is_empty());
        let words: Vec<&[u8]> = [Some(&b"AUTH"[..]), user, Some(url.password.as_bytes())]
            .into_iter()
            .flatten()
            .collect();
        match talk.ask(&words).await {
            // The URL has a password and Redis asks for none: ordinary clients go on, too.
            Err(Refusal::Said(text)) if text.contains("without any password configured") => {}
            Err(Refusal::Said(text)) if !is_transient(&text) => {
                return Err(ReplicaError::Auth(text));
            }
            other => drop(other?),
        }
    }
    talk.ask(&[b"PING"]).await?;
    talk.ask(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).await?;
    let (replid, next) = match resume {
        Some(resume) => (resume.replid.as_str(), resume.offset.saturating_add(1)),
        None => ("?", -1),
    };
    let next = next.to_string();
    let reply = talk.ask(&[b"PSYNC", replid.as_bytes(), next.as_bytes()]).await?;
    answer(&reply, resume).ok_or_else(|| ReplicaError::Protocol {
        offset: 0,
        problem: format!("PSYNC was answered by {reply:?}"),
    })
}

/// What `PSYNC` was answered, without the leading `+`.
fn answer(reply: &str, resume: Option<&Resume>) -> Option<Event> {
    let mut words = reply.split_ascii_whitespace();
    match (words.next()?, words.next(), words.next(), resume) {
        ("FULLRESYNC", Some(replid), Some(offset), _) => {
            Some(Event::FullResync { replid: replid.into(), offset: offset.parse().ok()? })
        }
        ("CONTINUE", replid, _, Some(resume)) => Some(Event::Continue {
            replid: replid.unwrap_or(&resume.replid).into(),
            offset: resume.offset,
        }),
        _ => None,
    }
}

/// Why a question got no good answer.
enum Refusal {
    /// Redis's error, without the leading `-`.
    Said(String),
    Broken(ReplicaError),
}

impl From<Refusal> for ReplicaError {
    fn from(refusal: Refusal) -> ReplicaError {
        match refusal {
            Refusal::Broken(error) => error,
            Refusal::Said(text) => classify(text),
        }
    }
}

fn is_transient(text: &str) -> bool {
    const PASSING: &[&str] =
        &["LOADING", "MASTERDOWN", "NOMASTERLINK", "BUSY", "TRYAGAIN", "ERR max number of clients"];
    PASSING.iter().any(|prefix| text.starts_with(prefix))
}

fn classify(text: String) -> ReplicaError {
    const CREDENTIALS: &[&str] = &["NOAUTH", "WRONGPASS", "DENIED"];
    if is_transient(&text) {
        ReplicaError::NotReady(text)
    } else if CREDENTIALS.iter().any(|prefix| text.starts_with(prefix)) {
        ReplicaError::Auth(text)
    } else if text.starts_with("NOPERM") {
        ReplicaError::NotPermitted(text)
    } else {
        ReplicaError::Unsupported(text)
    }
}

struct Talk<'a> {
    stream: &'a mut Stream,
    input: &'a mut BytesMut,
    timeout: Duration,
}

impl Talk<'_> {
    /// Sends one command and returns its reply line, which must be a simple string.
    async fn ask(&mut self, words: &[&[u8]]) -> Result<String, Refusal> {
        let send = async {
            self.stream.write_all(&command(words)).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(self.timeout, send).await {
            Ok(sent) => sent.map_err(broken)?,
            Err(_) => return Err(Refusal::Broken(ReplicaError::Timeout(self.timeout))),
        }
        let line = self.line().await.map_err(Refusal::Broken)?;
        match line.split_at_checked(1) {
            Some(("+", text)) => Ok(text.to_owned()),
            Some(("-", text)) => Err(Refusal::Said(text.to_owned())),
            _ => Err(Refusal::Broken(ReplicaError::Protocol {
                offset: 0,
                problem: format!("the handshake was answered by {line:?}"),
            })),
        }
    }

    /// One line; empty lines before it are keep-alives of a Redis that is not ready yet.
    async fn line(&mut self) -> Result<String, ReplicaError> {
        loop {
            while self.input.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                self.input.advance(1);
            }
            if let Some(end) = memchr::memchr(b'\n', self.input) {
                let line = self.input.split_to(end + 1);
                return Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            }
            if self.input.len() > MAX_LINE {
                let problem = "a reply line without end".to_owned();
                return Err(ReplicaError::Protocol { offset: 0, problem });
            }
            read_some(self.stream, self.input, self.timeout).await?;
        }
    }
}

fn broken(error: std::io::Error) -> Refusal {
    Refusal::Broken(ReplicaError::Io(error))
}

/// Reads what there is, waiting for at least one byte.
pub(super) async fn read_some(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    input: &mut BytesMut,
    timeout: Duration,
) -> Result<usize, ReplicaError> {
    match tokio::time::timeout(timeout, from.read_buf(input)).await {
        Err(_) => Err(ReplicaError::Timeout(timeout)),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(ReplicaError::Closed)
        }
        Ok(Err(error)) => Err(ReplicaError::Io(error)),
        Ok(Ok(0)) => Err(ReplicaError::Closed),
        Ok(Ok(count)) => Ok(count),
    }
}

/// A command as an array of bulk strings.
pub(super) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_psync() {
        let resume = Resume { replid: "old".into(), offset: 7 };
        let full = Event::FullResync { replid: "new".into(), offset: 42 };
        assert_eq!(answer("FULLRESYNC new 42", Some(&resume)), Some(full));
        let go_on = |replid: &str| Some(Event::Continue { replid: replid.into(), offset: 7 });
        assert_eq!(answer("CONTINUE", Some(&resume)), go_on("old"));
        assert_eq!(answer("CONTINUE new", Some(&resume)), go_on("new"));
        assert_eq!(answer("CONTINUE new", None), None);
        assert_eq!(answer("FULLRESYNC new", None), None);
        assert_eq!(answer("OK", None), None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let error =
            classify("NOPERM this user has no permissions to run the 'psync' command".into());
        assert!(!error.is_transient() && error.to_string().contains("+psync +replconf +ping"));
        assert!(classify("LOADING Redis is loading the dataset in memory".into()).is_transient());
        assert!(classify("NOMASTERLINK Can't SYNC while not connected".into()).is_transient());
        assert!(matches!(
            classify("NOAUTH Authentication required.".into()),
            ReplicaError::Auth(_)
        ));
        let unknown = classify("ERR unknown command 'psync'".into());
        assert!(matches!(unknown, ReplicaError::Unsupported(_)));
    }
}
