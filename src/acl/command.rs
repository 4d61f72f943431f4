//! The command `ACL`.

use std::sync::Arc;

use bytes::Bytes;
use rand::RngExt;

use super::{Everybody, User};
use crate::commands;
use crate::engine::{Answer, Stop, number};
use crate::resp::Reply;

pub(super) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const HELP: [&str; 29] = [
    "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
    "HELP",
    "    Prints this help.",
];

/// `ACL …` of `user`, as far as it changes nothing. `args` are the whole command, which has the right number of words.
///
/// # Errors
/// Redis's, and one for a subcommand that would change users.
pub fn acl(users: &Everybody, user: &str, args: &[Bytes]) -> Answer<Reply> {
    let text = |at: usize| String::from_utf8_lossy(&args[at]).into_owned();
    let sub = args.get(1).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    Ok(match (sub.as_slice(), args.len()) {
        (b"whoami", _) => Reply::bulk(user.to_owned()),
        (b"users", _) => Reply::Array(users.keys().map(|name| Reply::bulk(name.clone())).collect()),
        (b"list", _) => {
            let line = |(name, user): (&String, &Arc<User>)| Reply::bulk(user.line(name));
            Reply::Array(users.iter().map(line).collect())
        }
        (b"getuser", _) => users.get(&text(2)).map_or(Reply::Nil, |user| user.reply()),
        (b"cat", 2) => Reply::Array(CATEGORIES.iter().map(|name| Reply::bulk(*name)).collect()),
        (b"cat", _) => {
            let name = text(2).to_ascii_lowercase();
            if !CATEGORIES.contains(&&*name) {
                return Err(Stop::failed(format!("ERR Unknown category '{}'", text(2))));
            }
            let found = commands::all().filter(|command| command.in_category(&name));
            Reply::Array(found.map(|command| Reply::bulk(command.name)).collect())
        }
        (b"genpass", _) => Reply::bulk(password(args.get(2))?),
        (b"log", 3) if args[2].eq_ignore_ascii_case(b"reset") => Reply::OK,
        (b"log", _) => Reply::Array(Vec::new()),
        (b"dryrun", _) => dry_run(users, &text(2), &args[3..])?,
        (b"help", _) => {
            let lines = HELP.iter().filter(|line| !line.is_empty());
            Reply::Array(lines.map(|line| Reply::Simple((*line).into())).collect())
        }
        (b"setuser" | b"deluser" | b"load" | b"save", _) => {
            return Err(Stop::error("ERR users are configured in proxy.toml ([[listen.users]])"));
        }
        _ => {
            let sub = String::from_utf8_lossy(&args[1]);
            return Err(Stop::failed(format!("ERR unknown subcommand '{sub}'. Try ACL HELP.")));
        }
    })
}

fn dry_run(users: &Everybody, name: &str, words: &[Bytes]) -> Answer<Reply> {
    let Some(user) = users.get(name) else {
        return Err(Stop::failed(format!("ERR User '{name}' not found")));
    };
    let Some(command) = words.first().and_then(|name| commands::lookup(name)) else {
        let name = String::from_utf8_lossy(words.first().map_or(b"", |name| name));
        return Err(Stop::failed(format!("ERR Command '{name}' not found")));
    };
    if !command.takes(words.len()) {
        return Err(Stop::failed(format!(
            "ERR wrong number of arguments for '{}' command",
            command.name
        )));
    }
    let denied = user.check(words).err().and_then(|denied| denied.dry(words));
    Ok(denied.map_or(Reply::OK, Reply::bulk))
}

/// `ACL GENPASS [bits]`.
fn password(bits: Option<&Bytes>) -> Answer<String> {
    let bits = bits.map_or(Ok(256), |bits| number::int(bits))?;
    let bits = usize::try_from(bits).ok().filter(|bits| (1..=4096).contains(bits));
    let bits = bits.ok_or(Stop::error(
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive \
         number up to 4096",
    ))?;
    let mut rng = rand::rng();
    Ok((0..bits.div_ceil(4))
        .map(|_| char::from(b"0123456789abcdef"[rng.random_range(0..16)]))
        .collect())
}
