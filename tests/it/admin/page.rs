//! The status page: open, whole, and with nothing from elsewhere.

use std::collections::BTreeSet;

use support::{Redis, Tandem};

/// What stands between `start` and `end`, wherever that is.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

#[test]
fn the_page_is_whole_and_runs_nothing_but_its_own() {
    let redis = Redis::start();
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .mode("redis_only")
        .set("admin", "token", "s3cret")
        .start();
    let url = format!("http://127.0.0.1:{}/", tandem.admin_port());
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut response = ureq::get(&url).call().expect("open without a token");
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        let policy = header("content-security-policy");
        let page = response.body_mut().read_to_string().expect("text");
        let nonce = between(&policy, "script-src 'nonce-", "'").next().expect("a nonce").to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "style and script");
        assert!(!page.contains("{{") && !page.contains("s3cret"), "placeholders or secrets");
        for word in ["https:", "onclick", "onload", "innerHTML", " style=", "eval(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
        // The namespaces of SVG are names, nothing is loaded from there.
        let foreign =
            page.matches("http:").count() - page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(foreign, 0);
        let ids: BTreeSet<&str> = between(&page, "id=\"", "\"").collect();
        for call in ["at('", "text('", "list('"] {
            for id in between(&page, call, "'") {
                assert!(ids.contains(id), "the script looks for #{id}");
            }
        }
        // What it asks for is there, but for the switch, which may be refused as unknown.
        for path in between(&page, "ask('GET', '", "'").chain(between(&page, "send('GET', '", "'"))
        {
            let path = path.split('?').next().unwrap_or(path);
            assert!(tandem::admin::ENDPOINTS.iter().any(|known| known.path == path), "{path}");
        }
        seen.insert(nonce);
    }
    assert_eq!(seen.len(), 2, "a nonce is used once");
}
