mod log;
pub mod replica;
mod snapshot;
mod spool;
