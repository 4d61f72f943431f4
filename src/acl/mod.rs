//! Users, the rules about what they may do, and the command `ACL`, for the server that answers from PostgreSQL and for
//! `[[listen.users]]`.
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>.

mod command;
mod rules;
mod user;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use command::acl;
pub use user::{Denied, User};

/// Users by their names.
pub type Everybody = BTreeMap<String, Arc<User>>;

/// The user of those who name none.
pub const DEFAULT: &str = "default";

/// Redis's words.
pub const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
pub const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
