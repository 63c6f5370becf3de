//! Kafka's rules for topic names.

use std::borrow::Cow;

/// The longest name of a topic (Kafka's, since a directory is named after it).
const NAME_LENGTH_MAX: usize = 249;

/// Why a name is none for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Empty, or longer than 249 characters.
    #[error("a topic's name has 1 to 249 characters")]
    Length,
    /// `.` or `..`.
    #[error("a topic's name is not '.' or '..'")]
    Dots,
    /// A character outside of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`.
    #[error("a topic's name consists of ASCII letters, digits, '.', '_' and '-'")]
    Character,
    /// `__system` is not a topic.
    #[error("this name is reserved")]
    Reserved,
}

/// Checks a name as Kafka does.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() || name.len() > NAME_LENGTH_MAX {
        return Err(TopicNameError::Length);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(TopicNameError::Character);
    }
    if collision_key(name) == "__system" { Err(TopicNameError::Reserved) } else { Ok(()) }
}

/// Two topics must differ in this: Kafka's metric names turn `.` into `_`, so it refuses names that differ only there.
pub(super) fn collision_key(name: &str) -> Cow<'_, str> {
    if name.contains('.') { name.replace('.', "_").into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafka() {
        for good in ["a", "lab-results", "A.b_c-9", "...", &"x".repeat(249), "__consumer_offsets"] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        let bad = [
            ("", TopicNameError::Length),
            (&"x".repeat(250), TopicNameError::Length),
            (".", TopicNameError::Dots),
            ("..", TopicNameError::Dots),
            ("a b", TopicNameError::Character),
            ("a/b", TopicNameError::Character),
            ("\u{e9}", TopicNameError::Character),
            ("__system", TopicNameError::Reserved),
            ("._system", TopicNameError::Reserved),
        ];
        for (name, error) in bad {
            assert_eq!(check_topic_name(name), Err(error), "{name}");
        }
    }
}
