//! Checks that nobody asks for.

use support::compare::Sides;
use support::wait_for;

use crate::admin::{LIMIT, Trio, get};

#[test]
fn checks_run_by_themselves_and_their_result_is_shown() {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.set("sync", "on_startup", true).set("sync", "interval_ms", 200);
    let mut tandem = trio.ready();
    let status = || get(&tandem, "/admin/database/status").data()["consistency"].clone();
    wait_for("the first check", LIMIT, || status()["status"] == "consistent");
    assert!(status()["checkedAt"].is_string());
    tandem.client().run("SET a 1");
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    trio.postgres.sql("UPDATE tandem.strings SET value = '2'");
    wait_for("the difference", LIMIT, || status()["status"] == "inconsistent");
    assert_eq!(status()["different"], 1);
    let metrics = get(&tandem, "/metrics").text;
    assert!(
        metrics.contains("tandem_consistency_differences{kind=\"different\"} 1\n"),
        "{metrics}"
    );
    let line = metrics
        .lines()
        .find(|line| line.starts_with("tandem_consistency_last_check_timestamp_seconds "));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");
    tandem.allow("");
    assert!(tandem.log().contains("are not consistent"), "{}", tandem.log());
    trio.postgres.stop();
    wait_for("a check that fails", LIMIT, || {
        get(&tandem, "/admin/database/status").data()["consistency"]["status"] == "failed"
    });
    let metrics = get(&tandem, "/metrics").text;
    assert!(
        metrics.contains("tandem_consistency_differences{kind=\"different\"} 1\n"),
        "{metrics}"
    );
}
