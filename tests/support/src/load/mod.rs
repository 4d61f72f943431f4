//! Load on a running proxy: the relay's recorded traffic, random commands of all types, and counters that are
//! checked to the last increment.

mod counters;
mod random;
mod template;
mod trace;

pub use counters::{Counters, Tally};
pub use random::RandomLoad;
pub use trace::{Command, Replay, Trace};
