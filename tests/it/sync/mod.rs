//! The operator's work on data: comparing, copying, dropping copies, over HTTP and by command line.

mod background;
mod cache;
mod check;
mod copy;
mod jobs;
mod large;
mod million;
mod plants;
mod together;
