//! Room `rdb`, see docs/design.md.
