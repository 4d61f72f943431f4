//! Writes `src/commands/table.tsv` from a running server's `COMMAND` reply:
//! `cargo run --example command_table -- 127.0.0.1:6379 > src/commands/table.tsv`.
//! The tree's table comes from Redis 7.0.15. Format: see `tandem::commands`.

use std::io::{Read, Write};

use tandem::resp::{Reply, ReplyScanner, decode_reply};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: command_table host:port")?;
    let mut socket = std::net::TcpStream::connect(address)?;
    socket.write_all(b"HELLO 2\r\nCOMMAND\r\n")?;
    let (mut scanner, mut bytes, mut replies) = (ReplyScanner::default(), Vec::new(), Vec::new());
    let mut chunk = vec![0; 1 << 16];
    while replies.len() < 2 {
        let n = socket.read(&mut chunk)?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        let mut rest = &chunk[..n];
        while !rest.is_empty() {
            let (used, done) = scanner.feed(rest)?;
            bytes.extend_from_slice(&rest[..used]);
            rest = &rest[used..];
            if done {
                replies.push(decode_reply(&std::mem::take(&mut bytes))?);
            }
        }
    }
    let mut lines = Vec::new();
    for command in array(&replies[1]) {
        line(command, &mut lines);
        for subcommand in array(&array(command)[9]) {
            line(subcommand, &mut lines);
        }
    }
    lines.sort();
    println!(
        "# name\tarity\tflags\tkeys\tcategories; made by examples/command_table.rs, do not edit"
    );
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn line(command: &Reply, lines: &mut Vec<String>) {
    let fields = array(command);
    let flags: Vec<String> = array(&fields[2]).iter().map(text).collect();
    let keys: Vec<String> = array(&fields[8]).iter().map(key_spec).collect();
    let categories: Vec<String> = array(&fields[6])
        .iter()
        .map(|category| text(category).trim_start_matches('@').to_owned())
        .collect();
    lines.push(format!(
        "{}\t{}\t{}\t{}\t{}",
        text(&fields[0]),
        text(&fields[1]),
        or_dash(flags.join(",")),
        or_dash(keys.join(" ")),
        or_dash(categories.join(","))
    ));
}

/// One key specification as `begin/find/flags`, such as `index:1/range:0,1,0/RO,access`.
fn key_spec(spec: &Reply) -> String {
    let begin = field(spec, "begin_search");
    let begin_spec = field(begin, "spec");
    let begin = match text(field(begin, "type")).as_str() {
        "index" => format!("index:{}", text(field(begin_spec, "index"))),
        "keyword" => format!(
            "keyword:{},{}",
            text(field(begin_spec, "keyword")),
            text(field(begin_spec, "startfrom"))
        ),
        _ => "unknown".into(),
    };
    let find = field(spec, "find_keys");
    let find_spec = field(find, "spec");
    let numbers = |names: &[&str]| {
        names.iter().map(|name| text(field(find_spec, name))).collect::<Vec<_>>().join(",")
    };
    let find = match text(field(find, "type")).as_str() {
        "range" => format!("range:{}", numbers(&["lastkey", "keystep", "limit"])),
        "keynum" => format!("keynum:{}", numbers(&["keynumidx", "firstkey", "keystep"])),
        _ => "unknown".into(),
    };
    let flags: Vec<String> = array(field(spec, "flags")).iter().map(text).collect();
    format!("{begin}/{find}/{}", flags.join(","))
}

fn array(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(items) => items,
        _ => &[],
    }
}

/// The value behind `name` in a flat list of pairs.
fn field<'a>(reply: &'a Reply, name: &str) -> &'a Reply {
    let pair = array(reply).chunks(2).find(|pair| text(&pair[0]) == name);
    pair.map_or(&Reply::Nil, |pair| &pair[1])
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) => text.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Int(n) => n.to_string(),
        _ => String::new(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}
