//! Copying beside random traffic, whole databases flushed and swapped: no write is lost, and nothing comes back
//! from the dead.

use std::time::Duration;

use support::compare::Sides;
use support::load::RandomLoad;
use support::seed;

use crate::admin::{Trio, get, post};

/// Calls that go on while the load does.
const CALLS: &[(&str, &str)] = &[
    ("/admin/database/sync/redis-to-postgres", r#"{"rate":0}"#),
    ("/admin/database/sync/postgres-to-redis", r#"{"rate":0}"#),
    ("/admin/database/consistency-fix", r#"{"repair":"postgres","rate":0}"#),
    ("/admin/database/cache/warm", r#"{"rate":0}"#),
];

#[test]
fn copying_both_ways_beside_random_traffic_changes_nothing() {
    let seed = seed(21);
    let trio = Trio::new("dual_write");
    let mut tandem = trio.ready();
    // An unoptimised engine on a busy machine falls behind.
    tandem.allow("acknowledged by Redis");
    let time = Duration::from_secs(5);
    let load = RandomLoad { clients: 4, ..RandomLoad::new(tandem.port(), seed, time) };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        while !load.is_finished() {
            for (path, body) in CALLS {
                let done = post(&tandem, path, body).data();
                assert_eq!(done["errors"], 0, "{path}: {done}");
            }
            let report = get(&tandem, "/admin/database/consistency-check?rate=0").data();
            assert_eq!(report["differences"], serde_json::json!([]), "{report}");
        }
        load.join().expect("the load ends well");
    });
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
}
