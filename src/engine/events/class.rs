use std::fmt;

/// What an event is about. Source: <https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Generic,
    String,
    List,
    Set,
    Hash,
    ZSet,
    Expired,
    Evicted,
    Stream,
    Module,
    New,
    Miss,
    /// Not a class: publish under the key's name.
    Keyspace,
    /// Not a class: publish under the event's name.
    Keyevent,
}

/// A set of classes: the value of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

/// The letters, in the order in which Redis shows them; those of `A` first.
const LETTERS: [(char, Class); 14] = [
    ('g', Class::Generic),
    ('$', Class::String),
    ('l', Class::List),
    ('s', Class::Set),
    ('h', Class::Hash),
    ('z', Class::ZSet),
    ('x', Class::Expired),
    ('e', Class::Evicted),
    ('t', Class::Stream),
    ('d', Class::Module),
    ('n', Class::New),
    ('K', Class::Keyspace),
    ('E', Class::Keyevent),
    ('m', Class::Miss),
];
const IN_ALL: usize = 10;

impl Classes {
    fn all() -> Classes {
        LETTERS[..IN_ALL].iter().fold(Classes::default(), |all, (_, class)| all.with(*class))
    }

    #[must_use]
    pub fn with(self, class: Class) -> Classes {
        Classes(self.0 | 1 << class as u16)
    }

    /// `None`: a letter that Redis does not know.
    pub fn parse(letters: &str) -> Option<Classes> {
        letters.chars().try_fold(Classes::default(), |so_far, letter| match letter {
            'A' => Some(Classes(so_far.0 | Classes::all().0)),
            _ => LETTERS
                .iter()
                .find(|(known, _)| *known == letter)
                .map(|(_, class)| so_far.with(*class)),
        })
    }

    pub fn contains(self, class: Class) -> bool {
        self.0 & 1 << class as u16 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = Classes::all();
        let all = self.0 & every.0 == every.0;
        if all {
            f.write_str("A")?;
        }
        // As Redis does, `A` hides the letter of new keys too.
        let hidden = |class: Class| all && (every.contains(class) || class == Class::New);
        for (letter, class) in LETTERS {
            if self.contains(class) && !hidden(class) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        for (given, shown) in [
            ("KA", "AK"),
            ("gKE", "gKE"),
            ("$lshzxeKE", "$lshzxeKE"),
            ("g$lshzxetdnEKm", "AKEm"),
            ("nE", "nE"),
        ] {
            assert_eq!(Classes::parse(given).map(|c| c.to_string()).as_deref(), Some(shown));
        }
        assert_eq!(Classes::parse("Kq"), None);
    }
}
