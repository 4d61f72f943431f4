//! The five strategies, what has to be safe before a write is acknowledged, and the state of the
//! backends that everybody sees.

mod backend;
mod families;
mod following;
mod gate;
mod inspect;
mod meters;
mod presence;
mod status;

pub use backend::{Backend, Condition, Witness};
pub use families::Families;
pub use following::{FollowerStatus, Following};
pub use gate::{Barrier, BarrierSource, CommitGate, Ticket, Watcher};
pub use inspect::{Inspected, Inspections, Question, RedisState, Takeover};
pub use meters::{Buckets, Fault, Histogram, Meter, Meters, SIZES, Tally};
pub use presence::{Gap, Missing, Presence, RecallError, Recalled};
pub use status::{Lead, MirrorState, MirrorStatus, Role, Status, Switched, UNAVAILABLE};
