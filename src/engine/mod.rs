//! The command engine: Redis's data types and commands as pure, synchronous code without I/O.

pub mod glob;
