use crate::proxy::request::{End, Request};
use crate::proxy::session::Session;
use crate::resp::Reply;

const HELP: &[&str] = &[
    "TANDEM <subcommand> [<arg> ...]. Subcommands are:",
    "STATUS",
    "    The state of the proxy, of Redis, of PostgreSQL and of the mirror.",
    "STRATEGY",
    "    The configured strategy and the mode it has come to.",
    "MIRROR",
    "    The state of the mirror: position, lag, counters.",
    "HELP",
    "    Print this help.",
];

impl Session {
    /// `TANDEM STATUS | STRATEGY | MIRROR | HELP`.
    pub fn tandem(&mut self, request: &Request) -> Result<(), End> {
        let subcommand = request.option(1);
        let facts = self.facts_of_tandem();
        let map = |wanted: &dyn Fn(&str) -> bool| {
            let pairs = facts.iter().filter(|(name, _)| wanted(name));
            let text = |text: &str| Reply::bulk(text.as_bytes().to_vec());
            Reply::Map(pairs.map(|(name, value)| (text(name), text(value))).collect())
        };
        let reply = match (subcommand.as_slice(), request.words.len()) {
            (b"status", 2) => map(&|_| true),
            (b"strategy", 2) => map(&|name| matches!(name, "strategy" | "mode" | "ack")),
            (b"strategy", 3) => Reply::error(
                "NOPERM changing the strategy needs a user of the admin category, and none is configured",
            ),
            (b"mirror", 2) => map(&|name| name.starts_with("mirror_")),
            (b"peer", 3) => self.admit(&request.words[2]),
            (b"help", 2) => {
                Reply::Array(HELP.iter().map(|line| Reply::Simple((*line).into())).collect())
            }
            _ => {
                let given = String::from_utf8_lossy(request.words.get(1).map_or(b"", |w| w));
                let given: String = given.chars().take(128).collect();
                Reply::error(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{given}'. Try TANDEM HELP."
                ))
            }
        };
        self.answer(&reply);
        Ok(())
    }

    /// `TANDEM PEER <proof>`: another proxy hands on what its clients ask. They have proven there who they are.
    fn admit(&mut self, word: &[u8]) -> Reply {
        if !self.worker.shared.status.admits(word, |secret| self.reader.proof(secret)) {
            return Reply::error("ERR this proxy does not lead, or it is not its secret");
        }
        (self.peer, self.trusted) = (true, true);
        Reply::OK
    }
}
