//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`.

use waybill_ledger::organisation::USER_NAME_BYTES_MAX;

/// Longer ones are taken for garbage; RFC 4616 asks for 255 bytes.
const PASSWORD_BYTES_MAX: usize = 4_096;

/// What the one token says.
#[derive(PartialEq, Eq)]
pub(super) struct PlainToken<'a> {
    /// Whom to act as; empty for oneself.
    pub(super) authorization: &'a str,
    pub(super) user: &'a str,
    pub(super) password: &'a str,
}

/// The bytes are no such token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotPlain;

impl<'a> PlainToken<'a> {
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, NotPlain> {
        let text = std::str::from_utf8(token).map_err(|_| NotPlain)?;
        let mut parts = text.split('\0');
        let (Some(authorization), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotPlain);
        };
        let bounded = |text: &str, max: usize| (1..=max).contains(&text.len());
        if bounded(user, USER_NAME_BYTES_MAX) && bounded(password, PASSWORD_BYTES_MAX) {
            Ok(PlainToken { authorization, user, password })
        } else {
            Err(NotPlain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(token: &[u8]) -> Option<(&str, &str, &str)> {
        PlainToken::parse(token).ok().map(|token| (token.authorization, token.user, token.password))
    }

    #[test]
    fn the_examples_of_rfc_4616() {
        assert_eq!(parsed(b"\0tim\0tanstaaftanstaaf"), Some(("", "tim", "tanstaaftanstaaf")));
        assert_eq!(parsed(b"Ursel\0Kurt\0xipj3plmq"), Some(("Ursel", "Kurt", "xipj3plmq")));
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [b"\0".as_slice(), &[b'x'; 256], b"\0password"].concat();
        for token in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\0user\0",
            b"\0\0password",
            b"user\0password",
            b"\0a\0b\0c",
            b"\0a\0\xff",
            &long,
        ] {
            assert_eq!(parsed(token), None, "{token:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(token in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..40)) {
            let _ = PlainToken::parse(&token);
        }
    }
}
