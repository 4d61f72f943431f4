//! The mirror: follows Redis's replication stream and brings it to PostgreSQL.

pub mod replica;
