//! Both sides page by page: what may be wrong is looked at again at a place in the stream, where it is
//! reported, or put right.

use std::collections::VecDeque;

use super::compare::difference;
use super::copy::Action;
use super::jobs::Place;
use super::large::{Finding, is_large};
use super::mark::needs;
use super::pace::Pace;
use super::redis_side::RedisSide;
use super::report::{Report, Verdict};
use super::{Job, Name, PAGE, Scope, SyncError, Syncer};
use crate::engine::Part;
use crate::store::{Size, Store, StoreError};

/// Keys that are looked at together at a place in the stream: the mirror stands still meanwhile.
pub const TOGETHER: usize = 64;
/// Keys that are copied together.
pub const COPIED: usize = 512;
/// Elements and bytes read at once from either side.
const MOST_ELEMENTS: u64 = 20_000;
const MOST_BYTES: u64 = 8 << 20;
/// Memory that an element stands for, roughly.
const ELEMENT: u64 = 128;

/// A key that may be wrong.
pub struct Suspect {
    pub name: Name,
    /// Only whether it is there is in doubt.
    pub presence: bool,
    /// Bytes, roughly.
    pub weight: u64,
    pub attempts: usize,
}

impl Suspect {
    pub fn content(name: Name) -> Suspect {
        Suspect { name, presence: false, weight: 0, attempts: 0 }
    }
}

/// Which sides are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    pub redis: bool,
    pub postgres: bool,
}

pub struct Walk<'a> {
    pub syncer: &'a Syncer,
    pub job: &'a Job,
    pub scope: Scope,
    pub tolerance_ms: u64,
    /// What is done to what is wrong.
    pub action: Option<Action>,
    pub redis: RedisSide,
    pub store: Store,
    pub suspects: VecDeque<Suspect>,
    pub report: Report,
    /// Keys copied at once, while nobody gets in the way.
    pub at_once: usize,
    pace: Pace,
}

impl<'a> Walk<'a> {
    pub async fn new(
        syncer: &'a Syncer,
        job: &'a Job,
        scope: Scope,
        tolerance_ms: u64,
        report: Report,
    ) -> Result<Walk<'a>, SyncError> {
        syncer.ready()?;
        Ok(Walk {
            redis: syncer.redis().await?,
            store: syncer.postgres().await?,
            pace: Pace::new(scope.rate),
            suspects: VecDeque::new(),
            at_once: COPIED,
            action: None,
            syncer,
            job,
            scope,
            tolerance_ms,
            report,
        })
    }

    /// Goes through `sides`, on from where another walk was interrupted.
    pub async fn run(&mut self, sides: Sides, from: Option<Place>) -> Result<(), SyncError> {
        let run_id = self.redis.run_id().await?;
        // The cursors of another process mean nothing.
        let from = from.filter(|place| place.run_id == run_id);
        let passed = matches!(from, Some(Place { id: Some(_), .. }));
        if sides.redis && !passed {
            self.walk_redis(&run_id, from.as_ref().map(|place| (place.db, place.cursor))).await?;
        }
        if sides.postgres {
            self.walk_postgres(&run_id, from.and_then(|place| place.id)).await?;
        }
        self.settle(0).await?;
        self.job.note(self.report.progress());
        Ok(())
    }

    async fn walk_redis(
        &mut self,
        run_id: &str,
        from: Option<(u32, u64)>,
    ) -> Result<(), SyncError> {
        let mut databases = self.redis.databases().await?;
        databases.sort_unstable();
        let (first, mut cursor) = from.unwrap_or_default();
        databases.retain(|(db, _)| *db >= first);
        self.job.begin("redis", databases.iter().map(|(_, keys)| keys).sum());
        for (db, keys) in databases {
            if db != first {
                cursor = 0;
            }
            let mut looked_at = 0;
            loop {
                let pattern = self.scope.pattern.clone();
                let pattern = pattern.as_ref().map(|pattern| pattern.as_bytes());
                let (next, found) = self.redis.scan(db, cursor, pattern, PAGE).await?;
                // Those that the pattern leaves out are not told, but there are no more than there are.
                let passed =
                    PAGE.min(usize::try_from(keys).unwrap_or(PAGE).saturating_sub(looked_at));
                let step = if pattern.is_some() { passed.max(found.len()) } else { found.len() };
                let names: Vec<Name> = found.into_iter().map(|key| (db, key)).collect();
                self.page(names).await?;
                self.step(step).await?;
                looked_at += step;
                cursor = next;
                if cursor == 0 {
                    break;
                }
                self.reached(|| Place { run_id: run_id.to_owned(), db, cursor, id: None });
            }
        }
        Ok(())
    }

    /// Compares a page of keys that Redis has.
    async fn page(&mut self, mut names: Vec<Name>) -> Result<(), SyncError> {
        let families = &self.syncer.families;
        let before = names.len();
        names.retain(|(_, key)| families.mirrors(key));
        self.report.excluded += (before - names.len()) as u64;
        names.iter().for_each(|(_, key)| self.report.in_redis(families, key));
        let sizes = self.store.sizes(&names).await?;
        let (mut group, mut missing) = (Vec::new(), Vec::new());
        let mut room = Room::default();
        for (name, size) in names.into_iter().zip(sizes) {
            let Some(size) = size else {
                missing.push(name);
                continue;
            };
            if is_large(size) {
                self.large(name, size).await?;
                continue;
            }
            if !room.takes(size) {
                self.compare(std::mem::take(&mut group)).await?;
                room = Room::of(size);
            }
            group.push((name, weight(size)));
        }
        // Whoever copies them reads them whole.
        let weights = match self.action {
            Some(_) => self.redis.weigh(&missing).await?,
            None => vec![0; missing.len()],
        };
        let suspect = |(name, weight)| Suspect { name, presence: true, weight, attempts: 0 };
        self.suspects.extend(missing.into_iter().zip(weights).map(suspect));
        self.compare(group).await
    }

    /// A value that is too large to be read whole only to be compared.
    async fn large(&mut self, name: Name, size: Size) -> Result<(), SyncError> {
        match Box::pin(self.compare_large(&name)).await? {
            Finding::Equal => {}
            // Whoever copies it reads it whole, where it is looked at again.
            Finding::Different(_) | Finding::Unsettled if self.action.is_some() => {
                self.suspects.push_back(in_content((name, weight(size))));
            }
            Finding::Different(aspect) => {
                let (families, kind) = (&self.syncer.families, Verdict::Different);
                self.report.wrong(families, &name, kind, Some(aspect.what), aspect.detail);
            }
            Finding::Unsettled => self.report.unsettled += 1,
        }
        Ok(())
    }

    /// Compares values as they are now; what differs becomes a suspect.
    async fn compare(&mut self, keys: Vec<(Name, u64)>) -> Result<(), SyncError> {
        let names: Vec<Name> = keys.iter().map(|(name, _)| name.clone()).collect();
        let wanted = needs(&names, Part::All);
        let loaded = async {
            match self.store.load(&wanted).await {
                // The keys and their rows are read by several statements, between which the mirror writes.
                Err(StoreError::Corrupt(_)) => Ok(None),
                loaded => Ok(Some(loaded?)),
            }
        };
        let (states, loaded) = tokio::try_join!(self.redis.read(&names), loaded)?;
        let Some(loaded) = loaded else {
            self.suspects.extend(keys.into_iter().map(in_content));
            return Ok(());
        };
        for ((key, state), loaded) in keys.into_iter().zip(states).zip(loaded) {
            let equal = match (&state, &loaded.found) {
                (Some((object, at)), Some(found)) => {
                    difference(object, *at, found, self.tolerance_ms).is_none()
                }
                (None, None) => true,
                _ => false,
            };
            if !equal {
                self.suspects.push_back(in_content(key));
            }
        }
        Ok(())
    }

    /// Looks for keys that PostgreSQL alone has.
    async fn walk_postgres(&mut self, run_id: &str, from: Option<i64>) -> Result<(), SyncError> {
        self.job.begin("postgres", self.store.count().await?);
        let mut id = from.unwrap_or(i64::MIN);
        loop {
            let keys = self.store.keys_after(id, PAGE).await?;
            let Some((last, ..)) = keys.last() else { return Ok(()) };
            id = *last;
            let seen = keys.len();
            let families = &self.syncer.families;
            let names: Vec<Name> = keys
                .into_iter()
                .map(|(_, db, key)| (db, key))
                .filter(|(_, key)| families.mirrors(key) && self.scope.takes(key))
                .collect();
            names.iter().for_each(|(_, key)| self.report.in_postgres(families, key));
            let there = self.redis.exist(&names).await?;
            let missing = names.into_iter().zip(there).filter(|(_, there)| !there);
            let missing: Vec<Name> = missing.map(|(name, _)| name).collect();
            let sizes = match self.action {
                Some(_) => self.store.sizes(&missing).await?,
                None => vec![None; missing.len()],
            };
            let suspect = |(name, size): (Name, Option<Size>)| {
                let weight = size.map_or(0, weight);
                Suspect { name, presence: true, weight, attempts: 0 }
            };
            self.suspects.extend(missing.into_iter().zip(sizes).map(suspect));
            self.step(seen).await?;
            self.reached(|| Place { run_id: run_id.to_owned(), db: 0, cursor: 0, id: Some(id) });
        }
    }

    async fn step(&mut self, keys: usize) -> Result<(), SyncError> {
        // A place is passed when nothing before it is left to do.
        self.settle(if self.action.is_some() { 0 } else { TOGETHER }).await?;
        self.job.advance(keys as u64);
        self.job.note(self.report.progress());
        self.pace.after(keys).await;
        Ok(())
    }

    fn reached(&self, place: impl FnOnce() -> Place) {
        if self.action.is_some() {
            self.job.reached(place());
        }
    }

    /// Looks at suspects at places in the stream, until no more than `left` are left.
    async fn settle(&mut self, left: usize) -> Result<(), SyncError> {
        while self.suspects.len() > left {
            match self.action {
                Some(action) => {
                    let some = self.take(self.at_once);
                    self.act(action, some).await?;
                }
                None => {
                    let some = self.take(TOGETHER);
                    let (presence, content) = some.into_iter().partition(|some| some.presence);
                    self.look_for(presence).await?;
                    self.look_at(content).await?;
                }
            }
        }
        Ok(())
    }

    /// The next suspects, as many as fit into memory.
    fn take(&mut self, most: usize) -> Vec<Suspect> {
        let mut weight = 0;
        let fits = |suspect: &&Suspect| {
            weight += suspect.weight;
            weight <= MOST_BYTES
        };
        let fitting = self.suspects.iter().take(most).take_while(fits).count().max(1);
        self.suspects.drain(..fitting.min(self.suspects.len())).collect()
    }
}

/// What is read at once.
#[derive(Debug, Default)]
pub struct Room {
    elements: u64,
    bytes: u64,
}

impl Room {
    pub fn of(size: Size) -> Room {
        Room { elements: size.len, bytes: size.bytes }
    }

    /// False when this is too much; a single one never is.
    pub fn takes(&mut self, size: Size) -> bool {
        let Size { len, bytes } = size;
        let fits = self.elements + len <= MOST_ELEMENTS && self.bytes + bytes <= MOST_BYTES;
        if fits || self.elements == 0 {
            (self.elements, self.bytes) = (self.elements + len, self.bytes + bytes);
            return true;
        }
        false
    }
}

fn in_content((name, weight): (Name, u64)) -> Suspect {
    Suspect { name, presence: false, weight, attempts: 0 }
}

fn weight(size: Size) -> u64 {
    size.len * ELEMENT + size.bytes
}
