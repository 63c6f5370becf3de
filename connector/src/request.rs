//! The signed pull request: what a receiver asks for, signed by its node, kept by the sender as evidence.
//!
//! It travels in the header [`PULL_HEADER`], in hexadecimal. The mutual-TLS peer must be its signer, so nobody else can
//! replay it; it names the connector that is asked, so that connector cannot replay it elsewhere.

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use waybill_ledger::identity::{Directory, Identity, Peer};
use waybill_types::codec::{Codec, DecodeError};
use waybill_types::digest::Hasher;
use waybill_types::{Digest, LedgerId, NetworkId, NodeId, Offset, OrgId, Signature, codec_struct};

/// The HTTP header that carries a signed pull request.
pub const PULL_HEADER: &str = "waybill-pull";

/// Encoded request and signature are shorter: an organisation's name has at most 63 bytes.
const ENCODED_BYTES_MAX: usize = 320;

/// What a receiver asks a sender's connector for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// The network.
    pub network: NetworkId,
    /// The ledger whose batches are asked for.
    pub ledger: LedgerId,
    /// Who asks.
    pub receiver: OrgId,
    /// The receiver's node that signs.
    pub signer: NodeId,
    /// The node whose connector is asked.
    pub connector: NodeId,
    /// The first batch asked for, by its first offset.
    pub first: Offset,
    /// The last batch asked for, by its first offset.
    pub last: Offset,
    /// The receiver's clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// Random, so that two requests differ.
    pub nonce: [u8; 16],
}
codec_struct!(PullRequest { network, ledger, receiver, signer, connector, first, last, time_ms, nonce });

/// A pull request with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPullRequest {
    /// What is signed.
    pub request: PullRequest,
    /// By the signer's node key, over `"waybill-pull-request-v1\0" | encoded request`.
    pub signature: Signature,
}
codec_struct!(SignedPullRequest { request, signature });

/// Why a pull request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is none, or more than one.
    #[error("the request lacks its one {PULL_HEADER} header")]
    Missing,
    /// It is not the canonical encoding.
    #[error("the pull request is malformed: {0}")]
    Malformed(DecodeError),
    /// It was made for another network or another connector.
    #[error("the pull request is for another connector")]
    ElsewhereAddressed,
    /// It speaks for somebody else than the TLS peer.
    #[error("the pull request is not the peer's own")]
    NotThePeers,
    /// The receiver's clock and ours differ too much.
    #[error("the pull request's time is more than {limit_s} s from this node's clock")]
    Stale {
        /// The largest difference that is accepted, in seconds.
        limit_s: u64,
    },
    /// The signature is not of the peer's key.
    #[error("the pull request's signature does not verify")]
    BadSignature,
}

impl PullRequest {
    fn preimage(&self) -> Vec<u8> {
        let mut preimage = b"waybill-pull-request-v1\0".to_vec();
        self.encode(&mut preimage);
        preimage
    }
}

impl SignedPullRequest {
    /// Asks `connector` for the batches from `first` to `last`; none if the system gives no random bytes.
    pub fn sign(
        identity: &Identity,
        network: NetworkId,
        connector: NodeId,
        ledger: LedgerId,
        first: Offset,
        last: Offset,
    ) -> Option<Self> {
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let (receiver, signer) = (identity.org.clone(), identity.node);
        let time_ms = now_ms();
        let request = PullRequest { network, ledger, receiver, signer, connector, first, last, time_ms, nonce };
        let signature = identity.sign(&request.preimage());
        Some(SignedPullRequest { request, signature })
    }

    /// The digest that a `Retrieve` transaction carries. Over the signature too: the sender shows both.
    pub fn digest(&self) -> Digest {
        Hasher::digest(b"waybill-signed-pull-v1", &self.to_bytes())
    }

    /// The header's value.
    pub fn to_header(&self) -> String {
        let bytes = self.to_bytes();
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }

    /// The inverse of [`to_header`](Self::to_header).
    pub fn from_header(text: &[u8]) -> Result<Self, RequestError> {
        if text.len() > 2 * ENCODED_BYTES_MAX {
            return Err(RequestError::Malformed(DecodeError::TrailingBytes));
        }
        let bytes =
            from_hex(text).ok_or(RequestError::Malformed(DecodeError::Invalid("not lower-case hexadecimal")))?;
        Self::from_bytes(&bytes).map_err(RequestError::Malformed)
    }

    /// Checks that `peer` itself made this for us, just now.
    pub fn check(
        &self,
        peer: &Peer,
        directory: &Directory,
        network: NetworkId,
        own: NodeId,
        clock_skew_limit: Duration,
    ) -> Result<(), RequestError> {
        let request = &self.request;
        if request.network != network || request.connector != own {
            return Err(RequestError::ElsewhereAddressed);
        }
        if request.receiver != peer.org || request.signer != peer.node {
            return Err(RequestError::NotThePeers);
        }
        if u128::from(now_ms().abs_diff(request.time_ms)) > clock_skew_limit.as_millis() {
            return Err(RequestError::Stale { limit_s: clock_skew_limit.as_secs() });
        }
        let key = directory.key(peer.node).ok_or(RequestError::BadSignature)?;
        if key.verifies(&request.preimage(), &self.signature) { Ok(()) } else { Err(RequestError::BadSignature) }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal only, so that one value has one text.
pub(crate) fn from_hex(text: &[u8]) -> Option<Bytes> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect::<Option<Vec<u8>>>().map(Bytes::from)
}

/// The machine's clock, in milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_types::TopicId;

    fn sample() -> SignedPullRequest {
        let request = PullRequest {
            network: NetworkId(Digest([1; 32])),
            ledger: LedgerId::new(TopicId([2; 16]), 3),
            receiver: OrgId::new("globex").expect("well-formed"),
            signer: NodeId(4),
            connector: NodeId(5),
            first: 6,
            last: 7,
            time_ms: 8,
            nonce: [9; 16],
        };
        SignedPullRequest { request, signature: Signature([10; 64]) }
    }

    #[test]
    fn golden_header_and_digest() {
        let expected = [
            "01".repeat(32),
            "02".repeat(16) + "00000003",
            "00000006676c6f626578".into(),
            "0000000400000005".into(),
            "00000000000000060000000000000007".into(),
            "0000000000000008".into(),
            "09".repeat(16),
            "0a".repeat(64),
        ];
        assert_eq!(sample().to_header(), expected.concat());
        assert_eq!(sample().digest().to_string(), "f368b447ac17a4611ce585b93fbf333bda0da47d1deea8783f7042d4a29ef7ab");
    }

    #[test]
    fn a_header_is_read_back_and_nothing_else_is_read() {
        let header = sample().to_header();
        assert_eq!(SignedPullRequest::from_header(header.as_bytes()), Ok(sample()));
        for bad in
            ["", "0", "zz", &header[2..], &header[..header.len() - 2], &header.to_uppercase(), &(header.clone() + "00")]
        {
            assert!(matches!(SignedPullRequest::from_header(bad.as_bytes()), Err(RequestError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn the_longest_request_fits() {
        let mut longest = sample();
        longest.request.receiver = OrgId::new(&"x".repeat(63)).expect("well-formed");
        assert!(longest.to_bytes().len() <= ENCODED_BYTES_MAX);
        assert_eq!(SignedPullRequest::from_header(longest.to_header().as_bytes()), Ok(longest));
    }
}
