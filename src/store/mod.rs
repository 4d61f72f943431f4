//! Room `store`, see docs/design.md.
