//! Room `proxy`, see docs/design.md.
