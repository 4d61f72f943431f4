//! `[[family]] view`: a SQL view over the keys of a family.

use indexmap::IndexMap;
use serde::Deserialize;

use super::{ConfigError, Family};
use crate::engine::glob;

/// A SQL view over the keys of one family: a row per key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    pub name: String,
    /// How the keys are made up; their parts are the first columns.
    #[serde(deserialize_with = "one_or_many")]
    pub key: Vec<KeyPattern>,
    #[serde(default)]
    pub from: ViewSource,
    /// The database of the keys.
    #[serde(default)]
    pub db: u32,
    /// The fields of the value that are columns, in their order.
    pub columns: IndexMap<String, Column>,
}

/// Where the fields are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewSource {
    /// Fields of a hash.
    #[default]
    Hash,
    /// Members of a JSON object that is the value of a string.
    Json,
    /// One or the other, as the key's type is.
    Any,
    /// The string itself is the only column.
    String,
}

/// `usage:daily:{id}:{date:date}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyPattern {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// A part of the key that is a column.
    Part {
        name: String,
        kind: PartKind,
    },
    /// Text that is a column too.
    Fixed {
        name: String,
        text: String,
    },
}

/// What a part of a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Anything without a colon.
    Text,
    /// Anything.
    Rest,
    Bigint,
    Date,
    Month,
    Hour,
    Uuid,
}

impl PartKind {
    const NAMES: &[(&str, PartKind)] = &[
        ("text", PartKind::Text),
        ("rest", PartKind::Rest),
        ("bigint", PartKind::Bigint),
        ("date", PartKind::Date),
        ("month", PartKind::Month),
        ("hour", PartKind::Hour),
        ("uuid", PartKind::Uuid),
    ];

    /// Something of the kind.
    fn sample(self) -> &'static str {
        match self {
            PartKind::Text | PartKind::Rest => "x",
            PartKind::Bigint => "1",
            PartKind::Date => "2000-01-31",
            PartKind::Month => "2000-01",
            PartKind::Hour => "2000-01-31:23",
            PartKind::Uuid => "00000000-0000-4000-8000-000000000000",
        }
    }
}

/// A column's type, and its name where that is not made from the field's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Column {
    pub kind: ColumnKind,
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Bigint,
    Numeric,
    Double,
    Boolean,
    Timestamptz,
    Date,
    Uuid,
    Jsonb,
}

impl ColumnKind {
    const NAMES: &[(&str, ColumnKind)] = &[
        ("text", ColumnKind::Text),
        ("bigint", ColumnKind::Bigint),
        ("numeric", ColumnKind::Numeric),
        ("double precision", ColumnKind::Double),
        ("boolean", ColumnKind::Boolean),
        ("timestamptz", ColumnKind::Timestamptz),
        ("date", ColumnKind::Date),
        ("uuid", ColumnKind::Uuid),
        ("jsonb", ColumnKind::Jsonb),
    ];
}

/// Columns that every view ends with.
const OURS: [&str; 2] = ["key_expires_at", "key_updated_at"];

fn named<T: Copy>(names: &[(&str, T)], what: &str) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == what).map(|(_, kind)| *kind);
    found.ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("{what:?} is no type here; there are {}", known.join(", "))
    })
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<KeyPattern>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(String),
        Many(Vec<String>),
    }
    let texts = match Given::deserialize(from)? {
        Given::One(text) => vec![text],
        Given::Many(texts) => texts,
    };
    let patterns: Result<Vec<_>, String> = texts.into_iter().map(KeyPattern::try_from).collect();
    patterns.map_err(serde::de::Error::custom)
}

impl TryFrom<String> for Column {
    type Error = String;

    fn try_from(text: String) -> Result<Column, String> {
        let (kind, name) = match text.split_once(" as ") {
            Some((kind, name)) => (kind.trim(), Some(name.trim().to_owned())),
            None => (text.trim(), None),
        };
        Ok(Column { kind: named(ColumnKind::NAMES, kind)?, name })
    }
}

impl TryFrom<String> for KeyPattern {
    type Error = String;

    fn try_from(text: String) -> Result<KeyPattern, String> {
        let wrong = |what: &str| Err(format!("key pattern {text:?}: {what}"));
        let (mut pieces, mut rest) = (Vec::new(), text.as_str());
        while !rest.is_empty() {
            let Some((before, behind)) = rest.split_once('{') else {
                pieces.push(Piece::Text(rest.to_owned()));
                break;
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let Some((part, behind)) = behind.split_once('}') else {
                return wrong("a { without its }");
            };
            pieces.push(piece(part).map_err(|what| format!("key pattern {text:?}: {what}"))?);
            rest = behind;
        }
        if pieces.is_empty() {
            return wrong("is empty");
        }
        if text.len() > 512 {
            return wrong("is longer than 512 bytes");
        }
        let open = |piece: &Piece| matches!(piece, Piece::Part { .. });
        if pieces.windows(2).any(|two| open(&two[0]) && open(&two[1])) {
            return wrong("two parts need text between them");
        }
        Ok(KeyPattern { pieces })
    }
}

fn piece(part: &str) -> Result<Piece, String> {
    if let Some((name, text)) = part.split_once('=') {
        return Ok(Piece::Fixed { name: column_name(name)?, text: text.to_owned() });
    }
    let (name, kind) = match part.split_once(':') {
        Some((name, kind)) => (name, named(PartKind::NAMES, kind)?),
        None => (part, PartKind::Text),
    };
    Ok(Piece::Part { name: column_name(name)?, kind })
}

/// Names that need no quotes in SQL, apart from its own words.
fn column_name(name: &str) -> Result<String, String> {
    let ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if !first || name.len() > 63 || !name.bytes().all(ok) {
        return Err(format!(
            "{name:?} is not usable as a name in SQL: small letters, digits and _, at most 63"
        ));
    }
    Ok(name.to_owned())
}

/// `lastUsedAt` becomes `last_used_at`.
fn snake_case(field: &str) -> String {
    let chars: Vec<char> = field.chars().collect();
    let mut name = String::new();
    for (at, &char) in chars.iter().enumerate() {
        if !char.is_ascii_alphanumeric() {
            name.push('_');
            continue;
        }
        let before = at.checked_sub(1).map(|before| chars[before]);
        let behind = chars.get(at + 1);
        let begins = before.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            || (before.is_some_and(|c| c.is_ascii_uppercase())
                && behind.is_some_and(char::is_ascii_lowercase));
        if char.is_ascii_uppercase() && begins {
            name.push('_');
        }
        name.push(char.to_ascii_lowercase());
    }
    name
}

impl KeyPattern {
    /// The columns that the key's parts are.
    pub fn part_names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Part { name, .. } | Piece::Fixed { name, .. } => Some(name.as_str()),
        })
    }

    fn sample(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) | Piece::Fixed { text, .. } => text.clone(),
            Piece::Part { kind, .. } => kind.sample().to_owned(),
        };
        self.pieces.iter().map(text).collect()
    }
}

impl View {
    /// The columns that the parts of the keys are; a key pattern may lack some.
    pub fn part_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for name in self.key.iter().flat_map(KeyPattern::part_names) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Field, name and type of the columns that are no part of the key.
    pub fn fields(&self) -> impl Iterator<Item = (&str, String, ColumnKind)> {
        self.columns.iter().map(|(field, column)| {
            let name = column.name.clone().unwrap_or_else(|| snake_case(field));
            (field.as_str(), name, column.kind)
        })
    }

    fn check(&self, rules: &[Family], own: &Family) -> Result<(), String> {
        column_name(&self.name)?;
        if self.key.is_empty() {
            return Err("key must have at least one pattern".into());
        }
        if self.columns.is_empty() || (self.from == ViewSource::String && self.columns.len() != 1) {
            let many = if self.from == ViewSource::String { "exactly" } else { "at least" };
            return Err(format!("columns must have {many} one column"));
        }
        for pattern in &self.key {
            let mut names: Vec<&str> = Vec::new();
            for name in pattern.part_names() {
                if names.contains(&name) {
                    return Err(format!("two parts of the key are named {name:?}"));
                }
                names.push(name);
            }
            let sample = pattern.sample();
            if !glob::matches(own.pattern.as_bytes(), sample.as_bytes()) {
                return Err(format!(
                    "a key such as {sample} is not of this family, whose match is {:?}",
                    own.pattern
                ));
            }
            let rule =
                rules.iter().find(|rule| glob::matches(rule.pattern.as_bytes(), sample.as_bytes()));
            if let Some(rule) = rule.filter(|rule| !rule.mirror) {
                return Err(format!(
                    "a key such as {sample} never reaches PostgreSQL: the rule {:?} says mirror = false",
                    rule.pattern
                ));
            }
        }
        let mut names: Vec<String> = self.part_names().into_iter().map(str::to_owned).collect();
        names.extend(OURS.map(str::to_owned));
        for (field, name, _) in self.fields() {
            let name = column_name(&name)
                .map_err(|what| format!("{what}; name it: {field:?} = \"<type> as <name>\""))?;
            if names.contains(&name) {
                return Err(format!(
                    "there is another column {name:?}; rename it: {field:?} = \"<type> as <name>\""
                ));
            }
            names.push(name);
        }
        Ok(())
    }
}

/// Checks the views of all families against each other and against the rules.
pub(super) fn check(families: &[Family]) -> Result<(), ConfigError> {
    let mut names: Vec<&str> = Vec::new();
    for family in families {
        let Some(view) = &family.view else { continue };
        let wrong = |what: String| ConfigError::Invalid {
            key: "family.view",
            message: format!("{}: {what}", view.name),
        };
        view.check(families, family).map_err(wrong)?;
        if names.contains(&view.name.as_str()) {
            return Err(wrong(
                "another family has a view of this name; list the keys of both in one".into(),
            ));
        }
        names.push(&view.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::snake_case;
    use crate::config::Config;

    fn view(text: &str) -> Result<Config, String> {
        let text = format!("[[family]]\nmatch = 'usage:*'\nview = {{ {text} }}");
        Config::parse(&text, "proxy.toml", []).map_err(|error| error.to_string())
    }

    #[test]
    fn a_view_in_full() {
        let config = view(
            "name = 'usage_daily', key = ['usage:daily:{id}:{date:date}', 'usage:{kind=total}:{id:uuid}'], \
             columns = { allTokens = 'bigint', cost = 'numeric as money' }",
        )
        .expect("valid");
        let view = config.family[0].view.as_ref().expect("has a view");
        assert_eq!(view.part_names(), ["id", "date", "kind"]);
        let names: Vec<String> = view.fields().map(|(_, name, _)| name).collect();
        assert_eq!(names, ["all_tokens", "money"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("name = 'A', key = 'usage:{id}', columns = { a = 'text' }", "\"A\""),
            ("name = 'a', key = 'usage:{id', columns = { a = 'text' }", "without its }"),
            ("name = 'a', key = 'usage:{a}{b}', columns = { x = 'text' }", "text between"),
            ("name = 'a', key = 'usage:{id:int}', columns = { a = 'text' }", "bigint, date"),
            ("name = 'a', key = 'usage:{id}', columns = { a = 'money' }", "numeric"),
            ("name = 'a', key = 'usage:{id}', columns = {}", "at least one"),
            ("name = 'a', key = 'usage:{id}', columns = { id = 'text' }", "another column"),
            ("name = 'a', key = 'usage:{a}:{a}', columns = { id = 'text' }", "two parts"),
            ("name = 'a', key = 'use:{id}', columns = { a = 'text' }", "use:x is not of"),
            ("name = 'a', key = 'usage:{id}', columns = { 1a = 'text' }", "<type> as"),
            (
                "name = 'a', key = 'usage:{id}', from = 'string', columns = { a = 'text', b = 'text' }",
                "exactly one",
            ),
            ("name = 'a', key = 'usage:{id}', columns = { a = 'text' }, colums = 1", "colums"),
        ] {
            let error = view(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        let local = "[[family]]\nmatch = 'a:*'\nmirror = false\n[[family]]\nmatch = '*'\n\
                     view = { name = 'v', key = 'a:{id}', columns = { x = 'text' } }";
        let error = Config::parse(local, "proxy.toml", []).expect_err("not mirrored").to_string();
        assert!(error.contains("never reaches PostgreSQL"), "{error}");
    }

    #[test]
    fn names_of_fields() {
        for (field, name) in [
            ("lastUsedAt", "last_used_at"),
            ("ephemeral5mTokens", "ephemeral5m_tokens"),
            ("enableOpenAIResponses", "enable_open_ai_responses"),
            ("a-b", "a_b"),
            ("requests", "requests"),
        ] {
            assert_eq!(snake_case(field), name);
        }
    }
}
