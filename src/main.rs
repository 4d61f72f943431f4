//! The command line starts here.
#![forbid(unsafe_code)]

fn main() {}
