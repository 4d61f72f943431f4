//! Real clients log in as users.

use std::process::Command;

use support::Redis;

use super::{tandem, with_users};
use crate::clients::installed;

const IN_PYTHON: &str = r#"
import os, redis
for protocol in (2, 3):
    client = redis.Redis(port=int(os.environ["TANDEM_PORT"]), username="app", password="secret", protocol=protocol)
    assert client.set("app:1", "v") and client.acl_whoami() in ("app", b"app")
    try:
        client.get("other")
        raise SystemExit("allowed")
    except redis.exceptions.NoPermissionError:
        pass
try:
    redis.Redis(port=int(os.environ["TANDEM_PORT"]), username="app", password="wrong").ping()
    raise SystemExit("let in")
except redis.exceptions.AuthenticationError:
    pass
"#;

const IN_NODE: &str = r#"
const Redis = require("ioredis");
const client = new Redis({ port: Number(process.env.TANDEM_PORT), username: "app", password: "secret" });
(async () => {
  if ((await client.set("app:1", "v")) !== "OK" || (await client.acl("WHOAMI")) !== "app") process.exit(2);
  const replies = await client.multi().get("app:1").get("other").exec().catch((error) => error.message);
  if (!String(replies).startsWith("EXECABORT")) process.exit(3);
  const text = await client.get("other").catch((error) => error.message);
  process.exit(text.startsWith("NOPERM") ? 0 : 4);
})();
"#;

#[test]
fn libraries_log_in_as_a_user() {
    let redis = Redis::start();
    let options = tandem().redis(&redis).mode("redis_only");
    let tandem = with_users(options, &[("app", "+@all -@scripting ~app:* &*")]).start();
    let run = |command: &mut Command| {
        let run = command.env("TANDEM_PORT", tandem.port().to_string()).output().expect("run");
        assert!(run.status.success(), "{run:?}");
    };
    if let Some(dir) = installed("venv/bin/python") {
        run(Command::new(dir.join("venv/bin/python")).args(["-c", IN_PYTHON]));
    }
    if let Some(dir) = installed("node_modules/ioredis") {
        let modules = dir.join("node_modules");
        run(Command::new("node").args(["-e", IN_NODE]).env("NODE_PATH", modules));
    }
}

#[test]
fn redis_cli_logs_in_as_a_user() {
    let redis = Redis::start();
    let options = tandem().redis(&redis).mode("redis_only");
    let tandem = with_users(options, &[("app", "+@all -@scripting ~app:* &*")]).start();
    for protocol in ["-2", "-3"] {
        let run = |words: &[&str]| {
            let port = tandem.port().to_string();
            let login =
                ["-p", &port, protocol, "--user", "app", "--pass", "secret", "--no-auth-warning"];
            let run = Command::new("redis-cli").args(login).args(words).output().expect("run");
            String::from_utf8_lossy(&run.stdout).trim().to_owned()
        };
        assert_eq!(run(&["SET", "app:1", "v"]), "OK");
        assert_eq!(run(&["ACL", "WHOAMI"]), "app");
        assert!(run(&["SET", "b", "v"]).starts_with("NOPERM this user has no permissions"));
    }
}
