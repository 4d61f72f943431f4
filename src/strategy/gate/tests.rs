use super::*;

fn parsed(message: &str) -> Barrier {
    Barrier::parse(message.as_bytes()).expect("own message")
}

#[tokio::test]
async fn what_is_sent_while_nobody_answers_waits_for_a_commit() {
    let gate = CommitGate::new("test");
    let source = gate.source();
    gate.hold_fast();
    let ticket = source.ticket().expect("closed");
    gate.open();
    gate.give_up();
    assert!(!source.released(ticket) && !source.given_up(ticket));
    gate.let_go();
    assert!(!source.released(ticket));
    gate.open();
    assert!(source.released(ticket) && !gate.holding());
}

#[tokio::test]
async fn a_source_waits_for_its_own_barrier() {
    let gate = CommitGate::new("test");
    let (one, two) = (gate.source(), gate.source());
    assert_eq!(one.ticket(), None, "an open gate holds nothing");
    gate.close();
    let (n, m) = (one.ticket().expect("closed"), two.ticket().expect("closed"));
    let (mut first, mut second) = (one.watcher(), two.watcher());
    let message = one.issue();
    two.issue();
    assert!(!one.released(n) && !two.released(m));
    gate.commit(&[parsed(&message)]);
    assert!(first.changed().await);
    assert!(one.released(n) && !two.released(m));
    gate.open();
    assert!(second.changed().await);
    assert!(two.released(m));
}

#[test]
fn an_opening_releases_what_waits_and_nothing_that_comes_later() {
    let gate = CommitGate::new("test");
    let source = gate.source();
    gate.close();
    let (issued, unissued) = (source.ticket().expect("closed"), {
        source.issue();
        source.ticket().expect("closed")
    });
    gate.open();
    gate.close();
    assert!(source.released(issued) && source.released(unissued), "for good");
    // The barrier that follows has the number that was waited for when the gate opened.
    let later = source.ticket().expect("closed again");
    assert!(!source.released(later));
    let message = source.issue();
    assert!(!source.released(later));
    gate.commit(&[parsed(&message)]);
    assert!(source.released(later));
}

#[test]
fn what_is_given_up_is_not_taken_for_committed() {
    let gate = CommitGate::new("test");
    let source = gate.source();
    gate.give_up();
    assert!(!gate.holding(), "an open gate has nothing to give up");
    gate.close();
    let done = source.ticket().expect("closed");
    gate.commit(&[parsed(&source.issue())]);
    let waiting = source.ticket().expect("closed");
    gate.give_up();
    assert!(source.released(done) && !source.given_up(done));
    assert!(source.given_up(waiting));
    let later = source.ticket().expect("still closed");
    assert!(!source.released(later) && !source.given_up(later));
    assert!(gate.refuse(true) && !gate.refuse(true) && gate.refusing());
}

#[test]
fn nothing_is_committed_that_was_not_issued() {
    let gate = CommitGate::new("test");
    let source = gate.source();
    gate.close();
    gate.commit(&[Barrier { source: source.id, number: u64::MAX }]);
    let ticket = source.ticket().expect("closed");
    source.issue();
    assert!(!source.released(ticket));
}

#[test]
fn a_barrier_that_redis_has_and_nobody_commits_is_noticed() {
    let gate = CommitGate::new("test");
    let source = gate.source();
    let stalls = || gate.stalled_for() > Duration::ZERO;
    gate.close();
    let message = source.issue();
    assert!(!stalls(), "Redis may be slow, which is not the mirror's fault");
    source.answered(true);
    assert!(stalls());
    gate.commit(&[parsed(&message)]);
    assert!(!stalls());
    source.issue();
    source.answered(false);
    assert!(!stalls(), "it was refused: it cannot come");
    source.issue();
    source.answered(true);
    assert!(stalls());
    source.retire();
    assert!(!stalls());
    source.awaited();
    assert!(stalls(), "a reply that is there does not wait for a connection without end");
    source.issue();
    gate.commit(&[Barrier { source: source.id, number: 4 }]);
    assert!(!stalls());
}

#[test]
fn who_makes_no_progress_is_nudged_once() {
    let gate = CommitGate::new("test");
    let source = gate.source();
    gate.close();
    let lost = source.issue();
    source.answered(true);
    // Somebody else begins to mirror, and closes what is closed.
    gate.close();
    gate.nudge(Duration::from_secs(60));
    assert!(!source.take_nudge(), "it has not waited for long");
    gate.nudge(Duration::ZERO);
    assert!(source.take_nudge() && !source.take_nudge());
    let (number, next) = source.issue_numbered();
    assert!(!source.reached(number));
    gate.commit(&[parsed(&next)]);
    assert!(source.reached(number) && parsed(&lost).number < number);
    gate.nudge(Duration::ZERO);
    assert!(!source.take_nudge(), "nothing waits");
}

#[test]
fn foreign_messages_are_no_barriers() {
    for message in ["", "1", "1.", ".1", "a.b", "1.2.3", "-1.2"] {
        assert_eq!(Barrier::parse(message.as_bytes()), None, "{message}");
    }
}
