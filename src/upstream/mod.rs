//! Room `upstream`, see docs/design.md.
