use bytes::Bytes;
use support::Postgres;
use tandem::config;
use tandem::engine::{Call, Expiry, Keyspace, execute};
use tandem::resp::Protocol;
use tandem::store::{Commit, Position, Store};

use super::{block_on, content, settings, stored};

/// Of every table something that is made, changed and taken away. The first holds what is rare.
const COMMITS: [&str; 5] = [
    "XGROUP CREATE x g 0 MKSTREAM",
    "SET s 1|SET gone 1|HSET h a 1 b 2|SADD t a b|ZADD z 1 a 2 b|RPUSH l a b c|XADD x 1-1 f v\
     |XADD x 2-1 f v|XREADGROUP GROUP g c COUNT 2 STREAMS x >|SET moves 1",
    "APPEND s 2|DEL gone|HSET h a 2|HDEL h b|SREM t a|SADD t c|ZADD z 3 a|ZREM z b|LSET l 0 x|RPOP l\
     |LPUSH l y|XADD x 3-1 f w|XDEL x 1-1|XACK x g 2-1|RENAME moves moved|EXPIREAT s 99999999999",
    "DEL h t l|SET z string|SET new 1",
    "HSET h back again|DEL s z",
];

fn run(keyspace: &mut Keyspace, line: &str) {
    let args: Vec<Bytes> =
        line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
    let call = Call { db: 0, protocol: Protocol::Resp2, args: &args, from_log: false };
    execute(keyspace, &call).unwrap_or_else(|stop| panic!("{line}: {stop:?}"));
}

/// Commits as `user`, and compares what arrives; each time the statement that the session ran last.
fn commit_as(postgres: &Postgres, user: &str, schema: &str) -> Vec<String> {
    let url = postgres.url().replace("postgres@", &format!("{user}@"));
    assert!(url.contains(user), "{url}");
    let settings = config::Postgres { url, schema: schema.into(), ..settings(postgres) };
    block_on(async {
        let store = Store::connect(&settings).await.expect("connects");
        store.migrate().await.expect("migrates");
        store.position().await.expect("has a position");
        let mut keyspace = Keyspace::new(1, true, Expiry::ByLog, 1);
        let mut statements = Vec::new();
        for (offset, commit) in (1..).zip(COMMITS) {
            commit.split('|').for_each(|line| run(&mut keyspace, line));
            let position = Some(Position { replid: "r".into(), offset, db: 0 });
            let delta = keyspace.take_delta().0;
            store.persist(&Commit { delta, position, ..Commit::default() }).await.expect("writes");
            statements.push(postgres.sql(&format!(
                "SELECT query FROM pg_stat_activity
                  WHERE application_name = 'tandem' AND usename = '{user}' AND datname IS NOT NULL"
            )));
            let names: Vec<_> = ["s", "gone", "h", "t", "z", "l", "x", "moves", "moved", "new"]
                .map(|name| (0, Bytes::from_static(name.as_bytes())))
                .into();
            let found = stored(&store, &names).await;
            for (db, name) in &names {
                let known = keyspace.peek(*db, name).map(|entry| content(&entry.value));
                let there = found.get(&(*db, name.clone())).map(|there| there.3.clone());
                assert_eq!(there, known, "{name:?} after commit {offset}");
            }
        }
        statements
    })
}

#[test]
fn an_ordinary_commit_is_one_statement_where_the_role_may() {
    let postgres = Postgres::start();
    let statements = commit_as(&postgres, "postgres", "one");
    assert_eq!(statements[0], "COMMIT");
    for statement in &statements[1..] {
        assert!(statement.starts_with("SELECT pg_temp.tandem_commit"), "{statement}");
    }

    postgres.sql("REVOKE TEMP ON DATABASE postgres FROM PUBLIC; CREATE ROLE plain LOGIN");
    postgres.sql("GRANT CREATE ON DATABASE postgres TO plain");
    assert_eq!(commit_as(&postgres, "plain", "two"), ["COMMIT"; COMMITS.len()]);
}
