//! A checkpoint with its cosignatures as text: a C2SP signed note (`tlog-checkpoint`).

use super::text::{Lines, ParseError, base64, hex, line};
use base64::{Engine, engine::general_purpose::STANDARD};
use waybill_types::checkpoint::{CertificateError, note_name};
use waybill_types::{
    Certificate, Checkpoint, ClusterId, DecodeError, Digest, LedgerId, Membership, NetworkId, Signature, TopicId,
};

/// A cluster has far fewer replicas.
const COSIGNATURES_MAX: usize = 255;

/// A signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// By whom.
    pub cosignatures: Vec<Cosignature>,
}

/// One signature line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// The replica's name, `node-3.acme`.
    pub name: String,
    /// The key's short hash, then the signature.
    pub blob: [u8; 68],
}

impl Note {
    /// A certificate as a note.
    pub fn new(certificate: &Certificate, membership: &Membership) -> Result<Self, DecodeError> {
        let text = certificate.note(membership)?;
        let mut lines = Lines::new(&text);
        Note::parse(&mut lines).map_err(|_| DecodeError::Invalid("a certificate is no signed note"))
    }

    /// The certificate that this note is, if it is one under `membership`: a quorum of its replicas' signatures, of
    /// enough different organisations.
    pub(super) fn certificate(&self, membership: &Membership) -> Result<Certificate, CertificateError> {
        let mut signatures = Vec::with_capacity(self.cosignatures.len());
        for (place, cosignature) in self.cosignatures.iter().enumerate() {
            let unknown = CertificateError::UnknownSigner(place as u8);
            let index = membership.members.iter().position(|member| note_name(member) == cosignature.name);
            let index = index.and_then(|index| u8::try_from(index).ok()).ok_or(unknown)?;
            let mut signature = [0; 64];
            signature.copy_from_slice(&cosignature.blob[4..]);
            signatures.push((index, Signature(signature)));
        }
        let certificate = Certificate { checkpoint: self.checkpoint.clone(), signatures };
        certificate.verify(membership)?;
        // The short hashes of the keys are under no signature: they are right if the certificate's own note has them.
        let same = Note::new(&certificate, membership).is_ok_and(|note| note == *self);
        if same { Ok(certificate) } else { Err(CertificateError::UnknownSigner(0)) }
    }

    pub(super) fn render(&self, text: &mut String) {
        text.push_str(&self.checkpoint.text());
        text.push('\n');
        for cosignature in &self.cosignatures {
            let blob = STANDARD.encode(cosignature.blob);
            line(text, format_args!("\u{2014} {} {blob}", cosignature.name));
        }
    }

    /// Takes a note; it ends before the first line that is no cosignature.
    pub(super) fn parse(lines: &mut Lines<'_>) -> Result<Self, ParseError> {
        let checkpoint = parse_checkpoint(lines)?;
        lines.empty()?;
        let mut cosignatures = Vec::new();
        while lines.peek().is_ok_and(|line| line.starts_with('\u{2014}')) {
            if cosignatures.len() == COSIGNATURES_MAX {
                return Err(ParseError::TooLarge);
            }
            let (name, blob) = lines.pair("\u{2014}", "a cosignature: a dash, a name, base64")?;
            let blob = base64(blob).ok_or_else(|| lines.expected("base64 of a cosignature's 68 bytes"))?;
            cosignatures.push(Cosignature { name: name.to_owned(), blob });
        }
        Ok(Note { checkpoint, cosignatures })
    }
}

/// Reads what [`Checkpoint::text`] writes.
fn parse_checkpoint(lines: &mut Lines<'_>) -> Result<Checkpoint, ParseError> {
    let origin = lines.next()?;
    let origin = parse_origin(origin).ok_or_else(|| lines.expected("waybill/network/ledger/cluster/epoch"))?;
    let (network, ledger, cluster, epoch) = origin;
    let tree_size = lines.next()?.parse().map_err(|_| lines.expected("the tree's size"))?;
    let tree_root = Digest(base64(lines.next()?).ok_or_else(|| lines.expected("the tree's root"))?);
    let height = lines.number("height", "height")?;
    let head = lines.field("head", "head")?;
    let head = Digest(base64(head).ok_or_else(|| lines.expected("base64 of the chain's head"))?);
    let time_ms = lines.number("time", "time")?;
    let state = lines.field("state", "state")?;
    let state_root = Digest(base64(state).ok_or_else(|| lines.expected("base64 of the state's digest"))?);
    Ok(Checkpoint { network, ledger, cluster, epoch, height, head, time_ms, tree_size, tree_root, state_root })
}

fn parse_origin(line: &str) -> Option<(NetworkId, LedgerId, ClusterId, u32)> {
    let mut parts = line.strip_prefix("waybill/")?.split('/');
    let network = NetworkId(Digest(hex(parts.next()?)?));
    let ledger = parse_ledger(parts.next()?)?;
    let cluster = ClusterId(Digest(hex(parts.next()?)?));
    let epoch = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((network, ledger, cluster, epoch))
}

fn parse_ledger(text: &str) -> Option<LedgerId> {
    if text == "__system" {
        return Some(LedgerId::SYSTEM);
    }
    let (topic, partition) = text.split_once('-')?;
    Some(LedgerId::new(TopicId(hex(topic)?), partition.parse().ok()?))
}
