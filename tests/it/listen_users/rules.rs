//! What the rules say of a call, beside `ACL DRYRUN` of Redis.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use support::{Redis, Value, seed};
use tandem::acl::{Denied, User};

/// Words that commands take for keys, options, numbers or channels.
const WORDS: &[&str] = &[
    "app:1", "other", "1", "2", "0", "get", "set", "store", "by", "streams", "*", "n*", "news",
    "count", "9", "incrby", "group", "limit",
];

const RULES: &[&str] = &[
    "+@all",
    "+@read",
    "+@write",
    "-@dangerous",
    "+@fast",
    "-@pubsub",
    "+set",
    "-get",
    "+config|get",
    "-config",
    "+client",
    "-client|kill",
    "~app:*",
    "%R~other",
    "%W~app:*",
    "%RW~n*",
    "~*",
    "%R~*",
    "&news",
    "&n*",
    "&*",
];

/// Their specifications take the value of one option for another: the keys that the command itself would find count here.
const BY_OPTIONS: &[&str] =
    &["sort", "georadius", "georadiusbymember", "migrate", "xread", "xreadgroup"];

#[test]
fn rules_decide_as_in_redis() {
    let seed = seed(11);
    let mut rng = StdRng::seed_from_u64(seed);
    let redis = Redis::start();
    let mut client = redis.client();
    let mut commands: Vec<_> = tandem::commands::all()
        .filter(|command| !command.container && !command.name.starts_with("tandem"))
        .filter(|command| !BY_OPTIONS.contains(&command.name))
        .collect();
    commands.sort_by_key(|command| command.name);
    for round in 0..15 {
        let rules: Vec<&str> =
            (0..rng.random_range(2..7)).map(|_| *RULES.choose(&mut rng).expect("some")).collect();
        let mut user = User::default();
        let mut line = vec!["ACL", "SETUSER", "u", "reset"];
        // A pattern that all contains is an error in Redis.
        for rule in &rules {
            let mut next = user.clone();
            next.apply(&(*rule).into()).expect(rule);
            let set = client.call([&line[..], &[rule]].concat());
            if set == Value::ok() {
                (user, _) = (next, line.push(rule));
            }
        }
        for command in &commands {
            let most = command.arity.unsigned_abs() as usize;
            let count = if command.arity < 0 { most + rng.random_range(0..4) } else { most };
            let mut words: Vec<&str> = command.name.split('|').collect();
            while words.len() < count {
                words.push(WORDS.choose(&mut rng).expect("some"));
            }
            let run = client.call([&["ACL", "DRYRUN", "u"], &words[..]].concat());
            if run.is_error() {
                continue;
            }
            let expected = run == Value::ok();
            let checked = user.check(&words);
            if expected && matches!(checked, Err(Denied::Key(_))) {
                // Where one number of keys makes no sense Redis looks at no key, and the command fails.
                let keys = client.call([&["COMMAND", "GETKEYS"], &words[..]].concat());
                assert!(keys.is_error(), "{line:?} {words:?}: {keys:?}");
                continue;
            }
            assert_eq!(checked.is_ok(), expected, "{round}: {line:?} {words:?}: {run:?}");
            let run = if expected { Value::bulk("OK") } else { run };
            let said = checked.err().and_then(|denied| denied.dry(&words));
            assert_eq!(said.unwrap_or_else(|| "OK".into()), run.text(), "{line:?} {words:?}");
        }
    }
}

/// Redis itself looks for the keys of these by the first or the last word that looks like the option.
#[test]
fn the_value_of_an_option_hides_no_key() {
    let mut user = User::default();
    for rule in ["+@all", "~app:*"] {
        user.apply(&rule.into()).expect(rule);
    }
    for (line, allowed) in [
        ("sort app:1 store other by store", false),
        ("sort app:1 by store store app:2", true),
        ("xreadgroup count 1 group streams c streams other app:1 > >", false),
        ("xreadgroup group streams c streams app:1 >", true),
        ("migrate h 1  0 10 keys other keys app:1", false),
        ("migrate h 1  0 10 auth keys keys app:1", true),
        ("georadius app:1 1 1 1 m store app:1 store other", false),
        ("georadius app:1 1 1 1 m count store storedist other", false),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(user.check(&words).is_ok(), allowed, "{line}");
    }
}
