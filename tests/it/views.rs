//! The SQL views that `[[family]]` rules ask for.

use std::time::Duration;

use support::{Client, Postgres, Redis, Tandem, Value, wait_for};
use tandem::config::Config;
use tandem::store::Store;

use crate::store::{block_on, settings};

const SHIPPED: &str = include_str!("../../proxy.toml");
const PAGE: &str = include_str!("../../docs/sql.md");

/// The proxy with the families that it ships with.
fn shipped(redis: &Redis, postgres: &Postgres) -> Tandem {
    let config: toml::Table = SHIPPED.parse().expect("proxy.toml is TOML");
    let families = config["family"].as_array().expect("has families");
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres);
    families
        .iter()
        .fold(options, |options, rule| options.family(&toml::to_string(rule).expect("a rule")))
        .start()
}

fn families(text: &str) -> Vec<tandem::config::Family> {
    Config::parse(text, "proxy.toml", []).expect("valid").family
}

fn run(client: &mut Client, command: &[&str]) {
    let reply = client.call(command);
    assert!(!reply.is_error(), "{command:?}: {reply:?}");
}

/// The examples of the page, each with the line of text before it.
fn examples() -> Vec<(String, String)> {
    let mut examples = Vec::new();
    for (before, block) in PAGE.split("```sql\n").zip(PAGE.split("```sql\n").skip(1)) {
        let title = before.trim_end().lines().last().unwrap_or_default();
        let sql = block.split("```").next().unwrap_or_default();
        examples.push((title.to_owned(), sql.to_owned()));
    }
    examples
}

const KEYS: [&str; 3] = [
    "30212729-11e6-46fc-a68c-f6afbdf33741",
    "3c3aa6bc-c845-47b6-af97-72050a88830f",
    "d7db9c6c-68b1-48d5-ba1c-73bf62574051",
];

/// Writes keys as the relay does.
fn fill(client: &mut Client, postgres: &Postgres) {
    let now = |format: &str| postgres.sql(&format!("SELECT to_char(now(), '{format}')"));
    let (month, day) = (now("YYYY-MM"), now("YYYY-MM-DD"));
    let ago = |days: u32| {
        postgres.sql(&format!(
            "SELECT to_char((now() - interval '{days} days') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        ))
    };
    let used = [ago(1), ago(40), String::new()];
    for (at, id) in KEYS.iter().enumerate() {
        let name = format!("key {at}");
        run(
            client,
            &[
                "HSET",
                &format!("apikey:{id}"),
                "id",
                id,
                "name",
                &name,
                "isActive",
                "true",
                "createdAt",
                &ago(50),
                "lastUsedAt",
                &used[at],
                "expiresAt",
                "",
                "tags",
                "[\"a\"]",
                "tokenLimit",
                "0",
                "dailyCostLimit",
                "2.5",
            ],
        );
        let cost = ["0.5", "12.25", "3"][at];
        run(client, &["INCRBYFLOAT", &format!("usage:cost:monthly:{id}:{month}"), cost]);
        let per_model = format!("usage:{id}:model:daily:us.claude-opus-4:0:{day}");
        run(client, &["HINCRBY", &per_model, "realCostMicro", "1500000"]);
    }
    run(client, &["HSET", "apikey:hash_map", "abc", KEYS[0]]);
    run(client, &["INCRBYFLOAT", &format!("usage:cost:monthly:{}:2020-01", KEYS[0]), "99"]);
    for (model, tokens) in [("claude-opus-4", "300"), ("us.claude:0", "500")] {
        let key = format!("usage:model:daily:{model}:2026-11-23");
        run(client, &["HINCRBY", &key, "allTokens", tokens]);
        run(client, &["HINCRBY", &key, "requests", "2"]);
    }
    run(client, &["SADD", "usage:model:daily:index:2026-11-23", "claude-opus-4"]);
    let account = format!("claude:account:{}", KEYS[0]);
    run(
        client,
        &[
            "HSET",
            &account,
            "name",
            "one",
            "isActive",
            "true",
            "schedulable",
            "true",
            "status",
            "active",
        ],
    );
    let account = format!("ccr_account:{}", KEYS[1]);
    run(
        client,
        &[
            "HSET",
            &account,
            "name",
            "two",
            "isActive",
            "true",
            "schedulable",
            "false",
            "status",
            "active",
        ],
    );
    let bedrock =
        r#"{"name":"three","isActive":false,"priority":50,"schedulable":true,"status":null}"#;
    run(client, &["SET", &format!("bedrock_account:{}", KEYS[2]), bedrock]);
    for (id, ms) in [("a", 10), ("b", 30)] {
        let request =
            format!(r#"{{"model":"claude-opus-4","durationMs":{ms},"apiKeyId":"{}"}}"#, KEYS[0]);
        run(client, &["SET", &format!("request_detail:item:{id}"), &request, "EX", "3600"]);
    }
}

#[test]
fn the_examples_of_the_page_answer_what_they_promise() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = shipped(&redis, &postgres);
    tandem.wait_holding(true);
    fill(&mut tandem.client(), &postgres);
    let mut examples = examples().into_iter();
    let (_, role) = examples.next().expect("the role comes first");
    postgres.sql(&role);
    let today = postgres.sql("SELECT (now() AT TIME ZONE 'UTC' - interval '40 days')::date");
    let created = postgres.sql("SELECT (now() AT TIME ZONE 'UTC' - interval '50 days')::date");
    let mut expected = vec![
        ("The ten API keys", "key 1|12.25\nkey 2|3\nkey 0|0.5".to_owned()),
        ("API keys that nobody", format!("key 2|{created}\nkey 1|{today}")),
        ("Tokens per model", "2026-11-23|us.claude:0|500|2\n2026-11-23|claude-opus-4|300|2".into()),
        (
            "What each API key",
            (0..3)
                .map(|n| format!("key {n}|us.claude-opus-4:0|1.5000"))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        ("Accounts that take", "bedrock_account|three|||\nccr_account|two|active||".into()),
        ("How long requests", "claude-opus-4|2|29".into()),
    ];
    for (title, sql) in examples {
        let at = expected.iter().position(|(start, _)| title.starts_with(start));
        let (_, wanted) =
            expected.remove(at.unwrap_or_else(|| panic!("no answer is known: {title}")));
        let sql = sql.trim().trim_end_matches(';');
        let answer = postgres.sql(&format!(
            "SET timezone = 'UTC'; SET ROLE analyst; SET search_path = tandem; {sql}"
        ));
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            // Rows of one rank come in any order.
            lines.sort();
            lines
        };
        match title.starts_with("What each") {
            true => assert_eq!(sorted(&answer), sorted(&wanted), "{title}"),
            false => assert_eq!(answer, wanted, "{title}"),
        }
    }
    assert!(expected.is_empty(), "the page lacks {expected:?}");
    // All views can be read in full, and none has a row of what is no such key.
    let views = postgres.sql("SELECT name FROM tandem.family_views");
    assert!(views.lines().count() > 10, "{views}");
    for view in views.lines() {
        postgres.sql(&format!("SELECT * FROM tandem.{view}"));
        assert!(PAGE.contains(&format!("`{view}`")), "docs/sql.md lacks {view}");
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM tandem.api_keys"), "3");
}

#[test]
fn a_cell_that_is_not_of_its_type_is_null() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .family(
            "match = \"it's:*\"\n[view]\nname = 'cells'\nkey = \"it's:{id}:{n:bigint}\"\n[view.columns]\n\
             bigint = 'bigint'\nnumeric = 'numeric'\ndouble = 'double precision'\nboolean = 'boolean'\n\
             timestamptz = 'timestamptz'\ndate = 'date'\nuuid = 'uuid'\njsonb = 'jsonb'\n'a\"b' = 'text'",
        )
        .start();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    let fields =
        ["bigint", "numeric", "double", "boolean", "timestamptz", "date", "uuid", "jsonb", "a\"b"];
    let mut fill = |key: &[u8], values: &[&[u8]]| {
        let mut command: Vec<&[u8]> = vec![b"HSET", key];
        for (field, value) in fields.iter().zip(values) {
            command.extend([field.as_bytes(), value]);
        }
        let reply = client.call(command);
        assert!(matches!(reply, Value::Int(_)), "{reply:?}");
    };
    let uuid = b"30212729-11e6-46fc-a68c-f6afbdf33741".as_slice();
    fill(
        b"it's:good:1",
        &[
            b"-5",
            b"1.5e3",
            b"0.25",
            b"true",
            b"2026-11-23T01:35:24.111Z",
            b"2026-11-23",
            uuid,
            b"{\"a\":1}",
            b"x",
        ],
    );
    fill(
        b"it's:ms:2",
        &[b"+7", b".5", b"-inf", b"0", b"1795397711046", b"2026-02", uuid, b"[]", b""],
    );
    for (n, bad) in [&b"many"[..], b"\xff\xfe", b"", b"\0", b"99999999999999999999999999999x"]
        .iter()
        .enumerate()
    {
        fill(format!("it's:bad:{}", n + 10).as_bytes(), &[*bad; 8]);
    }
    let near: [&[u8]; 8] = [
        b"9223372036854775808",
        b"NaN",
        b"1e999",
        b"yes",
        b"now",
        b"2026-02-30",
        b"3021",
        b"{\"a\":\"\\u0000\"}",
    ];
    fill(b"it's:near:20", &near);
    fill(b"it's:other", &[b"1"]);
    fill(b"it's:\xff:30", &[b"1"]);
    fill(b"it's:a:b:31", &[b"1"]);
    let rows = |which: &str| {
        postgres.sql(&format!(
            "SET timezone = 'UTC'; SELECT id, bigint, numeric, double, boolean, timestamptz, date, uuid, jsonb, a_b
             FROM tandem.cells WHERE {which} ORDER BY n"
        ))
    };
    let uuid = "30212729-11e6-46fc-a68c-f6afbdf33741";
    assert_eq!(
        rows("n < 10"),
        format!(
            "good|-5|1500|0.25|t|2026-11-23 01:35:24.111+00|2026-11-23|{uuid}|{{\"a\": 1}}|x\n\
             ms|7|0.5|-Infinity|f|2026-11-23 01:35:11.046+00|2026-02-01|{uuid}|[]|"
        )
    );
    assert_eq!(rows("n BETWEEN 10 AND 19"), ["bad|||||||||"; 5].join("\n"));
    assert_eq!(rows("n = 20"), "near|||||||||");
    assert_eq!(rows("n >= 30"), "\\377|1||||||||");
    client.call(["PEXPIREAT", "it's:good:1", "9999999999999"]);
    let times = "SELECT extract(year FROM key_expires_at), key_updated_at IS NOT NULL FROM tandem.cells WHERE n = 1";
    assert_eq!(postgres.sql(times), "2286|t");
}

#[test]
fn views_follow_the_configuration_and_nothing_else_is_touched() {
    let postgres = Postgres::start();
    block_on(async {
        let store = Store::connect(&settings(&postgres)).await.expect("connects");
        store.migrate().await.expect("migrates");
        let one = |name: &str, columns: &str| {
            families(&format!(
                "[[family]]\nmatch = 'a:*'\nview = {{ name = '{name}', key = 'a:{{id}}', columns = {{ {columns} }} }}"
            ))
        };
        let made = |families: Vec<tandem::config::Family>| {
            let store = &store;
            async move { store.make_views(&families).await.expect("connected") }
        };
        let columns = |view: &str| {
            postgres.sql(&format!(
                "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) FROM information_schema.columns
                 WHERE table_name = '{view}'"
            ))
        };
        assert!(made(one("mine", "x = 'text'")).await.is_empty());
        postgres.sql("CREATE ROLE reader; GRANT SELECT ON tandem.mine TO reader; CREATE VIEW tandem.theirs AS SELECT 1 AS n");
        let before = postgres.sql("SELECT changed_at FROM tandem.family_views");
        assert!(made(one("mine", "x = 'text'")).await.is_empty());
        assert_eq!(
            postgres.sql("SELECT changed_at FROM tandem.family_views"),
            before,
            "nothing to do"
        );
        assert!(made(one("mine", "y = 'bigint', x = 'text'")).await.is_empty());
        assert_eq!(columns("mine"), "id,y,x,key_expires_at,key_updated_at");
        let problems = made(one("theirs", "x = 'text'")).await;
        assert!(problems.len() == 1 && problems[0].contains("something else"), "{problems:?}");
        let problems = made(one("keys", "x = 'text'")).await;
        assert!(problems.len() == 1 && problems[0].contains("something else"), "{problems:?}");
        assert_eq!(columns("mine"), "", "its rule is gone");
        assert_eq!(postgres.sql("SELECT n FROM tandem.theirs"), "1");

        assert!(made(one("mine", "x = 'text'")).await.is_empty());
        postgres.sql("CREATE VIEW public.built AS SELECT x FROM tandem.mine");
        let problems = made(Vec::new()).await;
        assert!(problems.len() == 1 && problems[0].contains("built on it"), "{problems:?}");
        postgres.sql("DROP VIEW public.built; DROP VIEW tandem.mine");
        assert!(made(one("mine", "x = 'text'")).await.is_empty());
        assert_eq!(
            columns("mine"),
            "id,x,key_expires_at,key_updated_at",
            "dropped by somebody, made again"
        );
    });
}

#[test]
fn a_long_reader_holds_up_nobody() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut tandem = shipped(&redis, &postgres);
    tandem.wait_holding(true);
    let mut client = tandem.client();
    run(&mut client, &["HSET", &format!("apikey:{}", KEYS[0]), "name", "before"]);
    block_on(async {
        let (reader, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls)
            .await
            .expect("connects");
        tokio::spawn(connection);
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM tandem.api_keys";
        reader.batch_execute(begin).await.expect("reads");
        run(&mut client, &["HSET", &format!("apikey:{}", KEYS[0]), "name", "behind"]);
        run(&mut client, &["FLUSHALL"]);
        run(&mut client, &["HSET", &format!("apikey:{}", KEYS[1]), "name", "new"]);
        assert_eq!(postgres.sql("SELECT name FROM tandem.api_keys"), "new");
        let name: String =
            reader.query_one("SELECT name FROM tandem.api_keys", &[]).await.expect("reads").get(0);
        assert_eq!(name, "before");
        // Not even a start that wants the view otherwise.
        postgres.sql("UPDATE tandem.family_views SET definition = '' WHERE name = 'api_keys'");
        tandem.allow("somebody is reading it");
        tandem.kill9();
        tandem.restart();
        tandem.wait_holding(true);
        wait_for("the warning", Duration::from_secs(10), || {
            tandem.log().contains("somebody is reading it")
        });
        run(&mut tandem.client(), &["HSET", &format!("apikey:{}", KEYS[1]), "name", "newer"]);
        reader.batch_execute("COMMIT").await.expect("ends");
    });
    assert_eq!(postgres.sql("SELECT name FROM tandem.api_keys"), "newer");
}
