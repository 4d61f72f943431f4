//! What has changed since PostgreSQL took over from a Redis that was gone. It is remembered in PostgreSQL, with the
//! change itself, so that a later process knows it too.

use std::cell::{Cell, RefCell};

use hashbrown::HashSet;

use super::{Name, Plan};
use crate::store::{Debt, Position};

/// Names that are remembered one by one.
const MOST: usize = 1_000_000;

#[derive(Debug, Default)]
pub struct Debts {
    left: RefCell<Option<Position>>,
    names: RefCell<HashSet<Name>>,
    /// More has changed than `names` tells.
    all: Cell<bool>,
}

impl Debts {
    /// As PostgreSQL remembers them.
    pub fn set(&self, debt: Debt) {
        *self.left.borrow_mut() = debt.left;
        *self.names.borrow_mut() = debt.names.into_iter().collect();
        self.all.set(debt.all);
    }

    /// Where Redis's history stood when PostgreSQL took over.
    pub fn left(&self) -> Option<Position> {
        self.left.borrow().clone()
    }

    /// What PostgreSQL does not know yet of what is going to be committed.
    pub fn news(&self, plan: &Plan) -> (Vec<Name>, bool) {
        if self.all.get() {
            return (Vec::new(), false);
        }
        let names = self.names.borrow();
        let runs = plan.runs.iter().filter_map(|run| Some((run.db, run.key.clone()?)));
        let new: HashSet<Name> =
            runs.chain(plan.owed.iter().cloned()).filter(|name| !names.contains(name)).collect();
        let all = plan.runs.iter().any(|run| run.key.is_none()) || names.len() + new.len() > MOST;
        (new.into_iter().collect(), all)
    }

    /// PostgreSQL knows these.
    pub fn known(&self, (names, all): (Vec<Name>, bool)) {
        self.names.borrow_mut().extend(names);
        if all {
            self.all.set(true);
        }
    }

    pub fn set_all(&self) {
        self.all.set(true);
    }

    pub fn all(&self) -> bool {
        self.all.get()
    }

    /// True when Redis lacks nothing.
    pub fn is_empty(&self) -> bool {
        !self.all.get() && self.names.borrow().is_empty()
    }

    pub fn has(&self, name: &Name) -> bool {
        self.names.borrow().contains(name)
    }

    pub fn names(&self) -> Vec<Name> {
        self.names.borrow().iter().cloned().collect()
    }
}
