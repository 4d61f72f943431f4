//! Room `commands`, see docs/design.md.
