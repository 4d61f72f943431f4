//! What the proxy answers itself, with Redis's exact words.

mod auth;
mod client;
mod info;
mod kill;
mod state;
mod tandem;
mod tracking;
