use super::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

const ID: &str = "0123456789012345678901234567890123456789";

fn open(dir: &std::path::Path) -> Log {
    Log::with_memory(Spool::open(dir, 1 << 30).expect("spool"), 2000)
}

/// A log that goes on from this offset.
fn begun(dir: &std::path::Path, at: i64) -> Log {
    let log = open(dir);
    log.restart(Some((ID.into(), at))).expect("restart");
    log
}

fn commands(from: i64, count: i64) -> Vec<Received> {
    let args = |n: i64| vec![Bytes::from_static(b"SET"), Bytes::from(n.to_string())];
    (from + 1..=from + count).map(|n| Received { args: args(n), end_offset: n, at_ms: n }).collect()
}

fn taken(log: &Log, count: usize) -> Vec<Received> {
    let mut entries = Vec::new();
    log.take(count, usize::MAX, &mut entries).expect("take");
    let commands = entries.into_iter().filter_map(|entry| match entry {
        Entry::Command(command) => Some(command),
        Entry::Lineage(replid) => {
            assert_eq!(&*replid, ID, "what was pushed belongs to one lineage");
            None
        }
        Entry::Snapshot(_) => panic!("no snapshot was pushed"),
    });
    commands.collect()
}

/// As [`commands`]; every other stretch of them changes nothing.
fn mixed(from: i64, count: i64) -> Vec<Received> {
    let mut all = commands(from, count);
    let nothing = all.iter_mut().filter(|one| one.end_offset / 20 % 2 == 1);
    nothing.for_each(|one| one.args = vec![Bytes::from_static(b"PING")]);
    all
}

fn changes(commands: &[Received]) -> Vec<Received> {
    commands.iter().filter(|one| one.args[0] == "SET").cloned().collect()
}

/// Whatever happens to PostgreSQL and to the process, every command that changes something is handed
/// out again until it is committed, in order, and the spool is one stretch behind what is committed.
#[test]
fn nothing_is_lost_between_link_and_postgres() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("directory");
    let id: Arc<str> = ID.into();
    let mut log = begun(dir.path(), 0);
    let (mut pushed, mut committed, mut reached) = (0, 0, 0);
    let mut uncommitted: Vec<Received> = Vec::new();
    for step in 0..5000 {
        match rng.random_range(0..24) {
            0..5 => {
                let count = rng.random_range(1..40);
                assert!(log.push(ID, pushed, mixed(pushed, count)).expect("push"));
                pushed += count;
                if rng.random_bool(0.7) {
                    log.outage_over();
                }
            }
            5..16 => {
                // What a restart hands out again is passed over, as the applier does.
                let fresh = taken(&log, rng.random_range(1..40));
                let fresh: Vec<_> =
                    fresh.into_iter().filter(|c| c.end_offset > committed).collect();
                let Some(last) = fresh.last().map(|last| last.end_offset) else { continue };
                uncommitted.extend(fresh);
                let all = changes(&uncommitted);
                let expected = changes(&mixed(committed, last - committed));
                let same = all.iter().map(|c| (&c.args, c.end_offset));
                assert!(
                    same.eq(expected.iter().map(|c| (&c.args, c.end_offset))),
                    "step {step}, seed {seed}"
                );
                // As the applier: what changed nothing is only remembered by its end.
                if all.is_empty() {
                    reached = reached.max(last);
                    uncommitted.clear();
                }
            }
            16..21 => {
                if let Some(last) = uncommitted.last() {
                    committed = last.end_offset;
                    uncommitted.clear();
                    log.committed(committed).expect("committed");
                }
            }
            _ => {
                let uncommitted = std::mem::take(&mut uncommitted);
                log.spill(&id, committed, uncommitted, VecDeque::new(), reached).expect("spill");
                if rng.random_bool(0.5) {
                    drop(log);
                    log = open(dir.path());
                    match log.stretch() {
                        Some((replid, begin, end)) => {
                            assert_eq!(
                                (replid.as_str(), end),
                                (ID, pushed),
                                "step {step}, seed {seed}"
                            );
                            assert!(begin <= committed, "step {step}, seed {seed}");
                        }
                        None => {
                            assert_eq!(committed, pushed, "step {step}, seed {seed}");
                            log.restart(Some((Arc::clone(&id), pushed))).expect("restart");
                        }
                    }
                    reached = committed;
                }
            }
        }
    }
}

/// The link may still be at work on the stretch that was given up.
#[test]
fn what_does_not_follow_the_end_is_not_taken() {
    let dir = tempfile::tempdir().expect("directory");
    let log = open(dir.path());
    assert!(!log.push(ID, 0, commands(0, 3)).expect("push"), "nothing to follow");
    log.restart(Some((ID.into(), 5))).expect("restart");
    for (id, begin) in [(ID, 4), (ID, 6), ("another", 5)] {
        assert!(!log.push(id, begin, commands(begin, 3)).expect("push"), "{id} {begin}");
    }
    assert!(taken(&log, 10).is_empty());
    assert!(log.push(ID, 5, commands(5, 3)).expect("push"));
    assert_eq!(taken(&log, 10), commands(5, 3));
    assert_eq!(log.end(), Some((ID.into(), 8)));
}

#[test]
fn a_torn_tail_is_cut_off() {
    let dir = tempfile::tempdir().expect("directory");
    let id: Arc<str> = ID.into();
    let log = begun(dir.path(), 0);
    log.spill(&id, 0, commands(0, 10), VecDeque::new(), 0).expect("spill");
    drop(log);
    let file = std::fs::read_dir(dir.path())
        .expect("dir")
        .next()
        .expect("a segment")
        .expect("entry")
        .path();
    let bytes = std::fs::read(&file).expect("read");
    for cut in 0..bytes.len() {
        std::fs::write(&file, &bytes[..cut]).expect("write");
        let log = open(dir.path());
        let whole = taken(&log, 100);
        assert!(whole.len() < 10 && whole == commands(0, whole.len() as i64), "cut at {cut}");
        std::fs::write(&file, &bytes).expect("write");
    }
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&file, &flipped).expect("write");
    assert!(taken(&open(dir.path()), 100).len() < 10);
}

/// What was taken and changed nothing is in nobody's hands when PostgreSQL goes; what comes behind it still follows.
#[test]
fn what_changed_nothing_leaves_no_gap() {
    for (reached, end, sets) in [(10, 15, 10), (9, 8, 5)] {
        let dir = tempfile::tempdir().expect("directory");
        let id: Arc<str> = ID.into();
        let log = begun(dir.path(), 3);
        assert!(log.push(ID, 3, commands(3, 7)).expect("push"));
        assert_eq!(taken(&log, 100).len(), 7);
        log.spill(&id, 3, commands(3, 5), VecDeque::new(), reached).expect("spill");
        assert!(log.push(ID, 10, commands(10, 5)).expect("push"));
        drop(log);
        let log = open(dir.path());
        assert_eq!(log.stretch(), Some((ID.to_owned(), 3, end)));
        // One segment at a time.
        let all: Vec<Received> = (0..5).flat_map(|_| taken(&log, 100)).collect();
        assert_eq!(all.iter().filter(|one| one.args[0] == "SET").count(), sets);
        assert_eq!(all.last().map(|last| last.end_offset), Some(end));
    }
}

/// The commands without effect are on disk, from an earlier outage, and PostgreSQL has what was before them.
#[test]
fn what_changed_nothing_on_disk_does_not_overlap() {
    let dir = tempfile::tempdir().expect("directory");
    let id: Arc<str> = ID.into();
    let log = begun(dir.path(), 3);
    assert!(log.push(ID, 3, commands(3, 7)).expect("push"));
    log.spill(&id, 3, Vec::new(), VecDeque::new(), 3).expect("spill");
    log.outage_over();
    let (mut seen, mut more) = (Vec::new(), taken(&log, 100));
    while !more.is_empty() {
        seen.append(&mut more);
        more = taken(&log, 100);
    }
    assert_eq!(seen, commands(3, 7));
    log.committed(8).expect("committed");
    assert!(log.push(ID, 10, commands(10, 5)).expect("push"));
    assert_eq!(taken(&log, 100), commands(10, 5));
    log.spill(&id, 8, commands(10, 5), VecDeque::new(), 10).expect("spill");
    drop(log);
    assert_eq!(open(dir.path()).stretch(), Some((ID.to_owned(), 3, 15)));
}

/// The commands without effect were in memory, and what follows them went to disk for want of room.
#[test]
fn what_changed_nothing_before_the_disk_leaves_no_gap() {
    let dir = tempfile::tempdir().expect("directory");
    let id: Arc<str> = ID.into();
    let log = begun(dir.path(), 3);
    assert!(log.push(ID, 3, commands(3, 30)).expect("push"));
    assert!(log.push(ID, 33, commands(33, 7)).expect("push"));
    assert_eq!(taken(&log, 31).len(), 30, "and the lineage");
    log.spill(&id, 3, Vec::new(), VecDeque::new(), 33).expect("spill");
    drop(log);
    assert_eq!(open(dir.path()).stretch(), Some((ID.to_owned(), 3, 40)));
}
