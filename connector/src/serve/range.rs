//! The `Range` header (RFC 9110, section 14), as far as resuming a payload needs it: one range of bytes.

/// What of a representation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, or one that we do not understand, which counts as none.
    All,
    /// Bytes from the first to the last, both included.
    Range(usize, usize),
    /// Nothing of the representation is in the range.
    Unsatisfiable,
}

/// Reads `bytes=first-last`, `bytes=first-` and `bytes=-suffix` for a representation of `length` bytes.
pub(super) fn parse(header: Option<&[u8]>, length: usize) -> Wanted {
    let parsed = || {
        let range = std::str::from_utf8(header?).ok()?.strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // What does not fit is beyond every payload.
            digits.then(|| text.parse::<usize>().unwrap_or(usize::MAX))
        };
        Some(match (first, last) {
            ("", suffix) => match number(suffix)? {
                0 => Wanted::Unsatisfiable,
                suffix => Wanted::Range(length.saturating_sub(suffix), length.saturating_sub(1)),
            },
            (first, "") => from(number(first)?, usize::MAX, length)?,
            (first, last) => from(number(first)?, number(last)?, length)?,
        })
    };
    parsed().unwrap_or(Wanted::All)
}

fn from(first: usize, last: usize, length: usize) -> Option<Wanted> {
    if first > last {
        return None;
    }
    Some(if first < length { Wanted::Range(first, last.min(length - 1)) } else { Wanted::Unsatisfiable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_of_rfc_9110() {
        let table = [
            (None, Wanted::All),
            (Some("bytes=0-"), Wanted::Range(0, 99)),
            (Some("bytes=10-"), Wanted::Range(10, 99)),
            (Some("bytes=10-19"), Wanted::Range(10, 19)),
            (Some("bytes=10-1000"), Wanted::Range(10, 99)),
            (Some("bytes=-32"), Wanted::Range(68, 99)),
            (Some("bytes=-1000"), Wanted::Range(0, 99)),
            (Some("bytes=100-"), Wanted::Unsatisfiable),
            (Some("bytes=-0"), Wanted::Unsatisfiable),
            (Some("bytes=99999999999999999999999-"), Wanted::Unsatisfiable),
            (Some("bytes=20-10"), Wanted::All),
            (Some("bytes=0-1,5-6"), Wanted::All),
            (Some("bytes=+1-"), Wanted::All),
            (Some("bytes=-"), Wanted::All),
            (Some("lines=1-2"), Wanted::All),
        ];
        for (header, wanted) in table {
            assert_eq!(parse(header.map(str::as_bytes), 100), wanted, "{header:?}");
        }
    }
}
