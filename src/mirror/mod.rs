//! Room `mirror`, see docs/design.md.
