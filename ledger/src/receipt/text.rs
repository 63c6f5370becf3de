//! A receipt as text, and back: one spelling for each receipt.

use super::note::Note;
use super::proof::Proof;
use super::{Evidence, Level, RECEIPT_BYTES_MAX, Receipt};
use base64::{Engine, engine::general_purpose::STANDARD};
use core::fmt::{self, Write};
use core::str::FromStr;
use waybill_types::digest::Hasher;
use waybill_types::{Digest, NetworkId, OrgId, TopicId};

const TITLE: &str = "waybill-receipt@v1";
/// More than any honest receipt has; a file cannot make us work for longer.
const EVIDENCE_MAX: usize = 1024;

/// Where and why a text is not a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// More bytes than a receipt can have.
    #[error("the file is larger than any receipt")]
    TooLarge,
    /// A line is not what must stand there.
    #[error("line {line}: expected {expected}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What must stand there.
        expected: &'static str,
    },
    /// The digest in the last line is not that of the lines before.
    #[error("the file was altered or damaged: its digest does not fit its content")]
    Altered,
    /// The content is spelled in a way that no receipt is.
    #[error("the file is not in the canonical form of a receipt")]
    NotCanonical,
}

impl Receipt {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{TITLE}\nnetwork {} {}\ntopic {} {}\npartition {}\noffset {}\n\n",
            self.network_name, self.network.0, self.topic, self.topic_id, self.partition, self.offset
        );
        section(&mut text, "created", &self.owner, &self.created);
        self.system_note.render(&mut text);
        text.push('\n');
        for evidence in &self.evidence {
            section(&mut text, evidence.level.word(), &evidence.org, &evidence.proof);
        }
        self.partition_note.render(&mut text);
        text.push('\n');
        let digest = digest(&text);
        line(&mut text, format_args!("digest {digest}"));
        text
    }

    /// Reads a file's text. Only what [`Receipt::to_text`] writes is accepted.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > RECEIPT_BYTES_MAX {
            return Err(ParseError::TooLarge);
        }
        let mut lines = Lines::new(text);
        let receipt = parse_lines(&mut lines)?;
        // Bases, numbers and labels have several spellings; a receipt has one.
        if receipt.to_text() == text { Ok(receipt) } else { Err(ParseError::NotCanonical) }
    }
}

fn section(text: &mut String, label: &str, org: &OrgId, proof: &Proof) {
    line(text, format_args!("{label} {org}"));
    proof.render(text);
    text.push('\n');
}

/// Appends a line; writing to a `String` cannot fail.
pub(super) fn line(text: &mut String, content: fmt::Arguments<'_>) {
    let _ = text.write_fmt(content);
    text.push('\n');
}

fn digest(before: &str) -> Digest {
    Hasher::digest(b"waybill-receipt-v1", before.as_bytes())
}

fn parse_lines(lines: &mut Lines<'_>) -> Result<Receipt, ParseError> {
    if lines.next()? != TITLE {
        return Err(lines.expected("waybill-receipt@v1"));
    }
    let (network_name, network) = lines.pair("network", "network, its name and its digest")?;
    let network = NetworkId(Digest(hex(network).ok_or_else(|| lines.expected("64 hexadecimal digits"))?));
    let network_name = network_name.to_owned();
    let (topic, topic_id) = lines.pair("topic", "topic, its name and its id")?;
    let topic_id = TopicId(hex(topic_id).ok_or_else(|| lines.expected("32 hexadecimal digits"))?);
    let topic = topic.to_owned();
    let partition = lines.number("partition", "partition and its index")?;
    let offset = lines.number("offset", "offset and its number")?;
    lines.empty()?;
    let (word, owner) = label(lines)?;
    if word != "created" {
        return Err(lines.expected("created and the topic's owner"));
    }
    let created = Proof::parse(lines)?;
    let system_note = Note::parse(lines)?;
    lines.empty()?;
    let mut evidence = Vec::new();
    while !lines.peek()?.starts_with("waybill/") {
        let (word, org) = label(lines)?;
        let level = Level::ALL.into_iter().find(|level| level.word() == word);
        let level = level.ok_or_else(|| lines.expected("sent, retrieved, received, committed or refused"))?;
        if evidence.len() == EVIDENCE_MAX {
            return Err(ParseError::TooLarge);
        }
        evidence.push(Evidence { level, org, proof: Proof::parse(lines)? });
    }
    let partition_note = Note::parse(lines)?;
    lines.empty()?;
    let before = lines.consumed();
    let expected = lines.field("digest", "digest")?;
    if hex(expected) != Some(digest(before).0) {
        return Err(ParseError::Altered);
    }
    if !lines.rest.is_empty() {
        return Err(lines.expected("the end of the file"));
    }
    Ok(Receipt {
        network_name,
        network,
        topic,
        topic_id,
        partition,
        offset,
        owner,
        created,
        system_note,
        evidence,
        partition_note,
    })
}

fn label<'a>(lines: &mut Lines<'a>) -> Result<(&'a str, OrgId), ParseError> {
    let (word, org) = lines.next()?.split_once(' ').ok_or_else(|| lines.expected("a label and an organisation"))?;
    let org = OrgId::new(org).map_err(|_| lines.expected("an organisation's name"))?;
    Ok((word, org))
}

/// Lower-case hexadecimal digits of exactly `N` bytes.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Base64 (RFC 4648, section 4) of exactly `N` bytes.
pub(super) fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// A text, line by line.
pub(super) struct Lines<'a> {
    all: &'a str,
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lines { all: text, rest: text, number: 0 }
    }

    /// The error that the line just read is not `expected`.
    pub(super) fn expected(&self, expected: &'static str) -> ParseError {
        ParseError::Line { line: self.number, expected }
    }

    /// The next line, which stays.
    pub(super) fn peek(&self) -> Result<&'a str, ParseError> {
        let end = self.rest.find('\n');
        let end = end.ok_or(ParseError::Line { line: self.number + 1, expected: "a line ended by a newline" })?;
        Ok(&self.rest[..end])
    }

    /// Takes the next line.
    pub(super) fn next(&mut self) -> Result<&'a str, ParseError> {
        let line = self.peek()?;
        self.rest = &self.rest[line.len() + 1..];
        self.number += 1;
        Ok(line)
    }

    /// Takes an empty line.
    pub(super) fn empty(&mut self) -> Result<(), ParseError> {
        if self.next()?.is_empty() { Ok(()) } else { Err(self.expected("an empty line")) }
    }

    /// Takes a line `name value`.
    pub(super) fn field(&mut self, name: &str, expected: &'static str) -> Result<&'a str, ParseError> {
        let value = self.next()?.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| self.expected(expected))
    }

    /// Takes a line `name number`.
    pub(super) fn number<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<T, ParseError> {
        self.field(name, expected)?.parse().map_err(|_| self.expected(expected))
    }

    /// Takes a line `name first second`.
    pub(super) fn pair(&mut self, name: &str, expected: &'static str) -> Result<(&'a str, &'a str), ParseError> {
        let value = self.field(name, expected)?;
        value.split_once(' ').ok_or_else(|| self.expected(expected))
    }

    /// Everything before the next line.
    fn consumed(&self) -> &'a str {
        &self.all[..self.all.len() - self.rest.len()]
    }
}
