//! The server's side of SCRAM (RFC 5802), without channel binding: two messages in, two out, no I/O.
//!
//! ```text
//! client-first  n,,n=USER,r=CLIENT                     AwaitingFirst -> AwaitingFinal
//! server-first  r=CLIENT SERVER,s=SALT,i=ITERATIONS
//! client-final  c=BINDING,r=CLIENT SERVER,p=PROOF      AwaitingFinal -> the user's name
//! server-final  v=SIGNATURE
//! ```
//!
//! Kafka's own server forgives more (a wrong channel binding, reserved extensions); the RFC's rules are kept here, and
//! Kafka's clients keep to them.

use super::credential::{hash, keyed};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use waybill_ledger::organisation::{ScramCredential, ScramMechanism, USER_NAME_BYTES_MAX};

/// Client nonces are some 25 characters; ours is appended and both are sent back.
const NONCE_BYTES_MAX: usize = 1_024;

/// What separates fields; no field contains it.
const COMMA: char = ',';

/// Why a message is refused. A client is told only that it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScramError {
    /// It does not follow the grammar, or asks for what is not offered (channel binding, another identity).
    Malformed,
    /// It follows the grammar and belongs to another exchange.
    WrongExchange,
    /// The proof is not one of the password.
    WrongProof,
}

/// The first message of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClientFirst {
    pub(super) user: String,
    /// `gs2-header`, as it stands: the last message repeats it.
    gs2_header: String,
    /// `client-first-message-bare`.
    bare: String,
    nonce: String,
}

impl ClientFirst {
    pub(super) fn parse(token: &[u8]) -> Result<Self, ScramError> {
        use ScramError::Malformed;
        let text = std::str::from_utf8(token).map_err(|_| Malformed)?;
        if text.contains('\0') {
            return Err(Malformed);
        }
        // "y" says that the client knows channel binding and believes that we do not, which is so.
        let rest = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,")).ok_or(Malformed)?;
        let (authorization, bare) = rest.split_once(COMMA).ok_or(Malformed)?;
        let (name, after_name) = bare.strip_prefix("n=").ok_or(Malformed)?.split_once(COMMA).ok_or(Malformed)?;
        let (nonce, extensions) = split_extensions(after_name.strip_prefix("r=").ok_or(Malformed)?)?;
        let user = decode_name(name)?;
        let acts_as = match authorization {
            "" => None,
            other => Some(decode_name(other.strip_prefix("a=").ok_or(Malformed)?)?),
        };
        // A delegation token's id would stand where the user's name does.
        let by_token = extensions.contains(&"tokenauth=true");
        if by_token || acts_as.is_some_and(|other| other != user) || !is_nonce(nonce) {
            return Err(Malformed);
        }
        let gs2_header = text[..text.len() - bare.len()].to_string();
        Ok(ClientFirst { gs2_header, bare: bare.to_string(), nonce: nonce.to_string(), user })
    }

    /// Answers with salt and iterations; the proof is checked against this credential.
    pub(super) fn answer(
        self,
        mechanism: ScramMechanism,
        credential: ScramCredential,
        server_nonce: &str,
    ) -> (AwaitingFinal, Vec<u8>) {
        let nonce = format!("{}{server_nonce}", self.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&credential.salt), credential.iterations);
        let reply = server_first.clone().into_bytes();
        (AwaitingFinal { mechanism, credential, client_first: self, server_first, nonce }, reply)
    }
}

/// The second message of a client.
#[derive(PartialEq, Eq, Debug)]
struct ClientFinal<'a> {
    channel_binding: Vec<u8>,
    nonce: &'a str,
    proof: Vec<u8>,
    /// `client-final-message-without-proof`.
    without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    fn parse(token: &'a [u8]) -> Result<Self, ScramError> {
        use ScramError::Malformed;
        let text = std::str::from_utf8(token).map_err(|_| Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Malformed)?;
        let (binding, rest) = without_proof.strip_prefix("c=").ok_or(Malformed)?.split_once(COMMA).ok_or(Malformed)?;
        let (nonce, _) = split_extensions(rest.strip_prefix("r=").ok_or(Malformed)?)?;
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| Malformed);
        Ok(ClientFinal { channel_binding: decoded(binding)?, nonce, proof: decoded(proof)?, without_proof })
    }
}

/// An exchange that waits for the client's proof.
pub(super) struct AwaitingFinal {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    client_first: ClientFirst,
    server_first: String,
    /// Both sides' nonces.
    nonce: String,
}

impl AwaitingFinal {
    /// Checks the proof; gives the user's name and the server's own proof.
    pub(super) fn finish(self, token: &[u8]) -> Result<(String, Vec<u8>), ScramError> {
        let last = ClientFinal::parse(token)?;
        if !self.is_own_nonce(last.nonce) || last.channel_binding != self.client_first.gs2_header.as_bytes() {
            return Err(ScramError::WrongExchange);
        }
        let message = [&self.client_first.bare, &*self.server_first, last.without_proof].join(",");
        let client_signature = keyed(self.mechanism, &self.credential.stored_key, message.as_bytes());
        if last.proof.len() != client_signature.as_ref().len() {
            return Err(ScramError::WrongProof);
        }
        let client_key: Vec<u8> =
            last.proof.iter().zip(client_signature.as_ref()).map(|(proof, signature)| proof ^ signature).collect();
        let stored_key = hash(self.mechanism, &client_key);
        if !bool::from(stored_key.as_ref().ct_eq(&self.credential.stored_key)) {
            return Err(ScramError::WrongProof);
        }
        let server_signature = keyed(self.mechanism, &self.credential.server_key, message.as_bytes());
        let reply = format!("v={}", STANDARD.encode(server_signature)).into_bytes();
        Ok((self.client_first.user, reply))
    }
}

impl AwaitingFinal {
    /// librdkafka before 2.6.1 puts its own nonce before both once more; Kafka has let it pass since 3.8.1. Whatever
    /// stands before them, it is ours that makes the exchange unrepeatable.
    fn is_own_nonce(&self, nonce: &str) -> bool {
        let rest = nonce.strip_suffix(self.nonce.as_str());
        rest.is_some_and(|before| before.is_empty() || before == self.client_first.nonce)
    }
}

/// A value, and the extensions behind it; each must look like one. One called `m` is mandatory, and we know none: RFC 5802,
/// section 5.1, has the exchange fail.
fn split_extensions(text: &str) -> Result<(&str, Vec<&str>), ScramError> {
    let mut parts = text.split(COMMA);
    let value = parts.next().ok_or(ScramError::Malformed)?;
    let extensions: Vec<&str> = parts.collect();
    let is_extension = |text: &&str| {
        text.split_once('=').is_some_and(|(name, value)| {
            !name.is_empty() && name != "m" && !value.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())
        })
    };
    if extensions.iter().all(is_extension) { Ok((value, extensions)) } else { Err(ScramError::Malformed) }
}

/// `saslname`: a comma is written `=2C`, an equals sign `=3D`.
fn decode_name(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut decoded = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        decoded.push(character);
        decoded.push_str(rest);
    }
    if (1..=USER_NAME_BYTES_MAX).contains(&decoded.len()) { Ok(decoded) } else { Err(ScramError::Malformed) }
}

/// `printable`: visible ASCII but the comma, at which it was split.
fn is_nonce(nonce: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    //! The RFCs' own examples, what each rule refuses, and hostile bytes.

    use super::super::credential::{from_salted_password, salted_password};
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn credential(mechanism: ScramMechanism, password: &str, salt: &str, iterations: u32) -> ScramCredential {
        let salt = STANDARD.decode(salt).unwrap();
        let salted = salted_password(mechanism, password.as_bytes(), &salt, iterations);
        from_salted_password(mechanism, Bytes::from(salt), iterations, &salted)
    }

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn begun(first: &[u8], password: &str) -> (AwaitingFinal, Vec<u8>) {
        let credential = credential(ScramMechanism::Sha256, password, SALT, 4_096);
        ClientFirst::parse(first).unwrap().answer(ScramMechanism::Sha256, credential, SERVER_NONCE)
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let (waiting, reply) = begun(FIRST, "pencil");
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(reply, expected.as_bytes());
        let (user, reply) = waiting.finish(LAST.as_bytes()).unwrap();
        assert_eq!(user, "user");
        assert_eq!(reply, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    /// No RFC has one for SHA-512; this one is in wide use among implementations.
    #[test]
    fn the_customary_example_for_sha_512() {
        let mechanism = ScramMechanism::Sha512;
        let credential = credential(mechanism, "pencil", "Yin2FuHTt/M0kJWb0t9OI32n2VmOGi3m+JfjOvuDF88=", 4_096);
        let nonce = "02431b08-2f89-4bad-a4e6-80c0564ec865";
        let (waiting, _) = ClientFirst::parse(FIRST).unwrap().answer(mechanism, credential, nonce);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865,\
                    p=Hc5yec3NmCD7t+kFRw4/3yD6/F3SQHc7AVYschRja+Bc3sbdjlA0eH1OjJc0DD4ghn1tnXN5/Wr6qm9xmaHt4A==";
        let (_, reply) = waiting.finish(last.as_bytes()).unwrap();
        let expected = "v=BQuhnKHqYDwQWS5jAw4sZed+C9KFUALsbrq81bB0mh+bcUUbbMPNNmBIupnS2AmyyDnG5CTBQtkjJ9kyY4kzmw==";
        assert_eq!(reply, expected.as_bytes());
    }

    /// Its hash is SHA-1, which is not offered; its messages have the same form.
    #[test]
    fn the_messages_of_rfc_5802_are_read() {
        let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
        assert_eq!((&*first.user, &*first.nonce, &*first.gs2_header), ("user", "fyko+d2lbbFgONRv9qkxdawL", "n,,"));
        assert_eq!(first.bare, "n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let token = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
        let last = ClientFinal::parse(token).unwrap();
        assert_eq!((&*last.channel_binding, last.proof.len()), (&b"n,,"[..], 20));
        assert_eq!(last.without_proof, "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j");
    }

    #[test]
    fn the_doubled_nonce_of_old_librdkafka_is_taken_and_no_other() {
        let own = begun(FIRST, "pencil").0;
        let both = format!("rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
        assert!(own.is_own_nonce(&both) && own.is_own_nonce(&format!("rOprNGfwEbeRWgbNEkqO{both}")));
        for other in ["", "rOprNGfwEbeRWgbNEkqO", SERVER_NONCE, &format!("x{both}"), &format!("{both}x")] {
            assert!(!own.is_own_nonce(other), "{other}");
        }
    }

    #[test]
    fn names_identities_and_extensions() {
        let user = |first: &[u8]| ClientFirst::parse(first).map(|first| first.user);
        assert_eq!(user(b"n,,n=a=2Cb=3Dc,r=x"), Ok("a,b=c".to_string()));
        assert_eq!(user(b"n,a=alice,n=alice,r=x"), Ok("alice".to_string()));
        assert_eq!(user(b"y,,n=alice,r=x"), Ok("alice".to_string()));
        assert_eq!(user("n,,n=größe,r=x".as_bytes()), Ok("größe".to_string()));
        assert_eq!(user(b"n,,n=alice,r=x,tokenauth=false,e=1=2"), Ok("alice".to_string()));
        for refused in [
            &b"n,a=bob,n=alice,r=x"[..],
            b"n,,n=alice,r=x,tokenauth=true",
            b"p=tls-unique,,n=alice,r=x",
            b"n,,m=required,n=alice,r=x",
            b"n,,n=alice,r=",
            b"n,,n=alice,r=x,",
            b"n,,n=alice,r=x,=y",
            b"n,,n=alice,r=x,m=y",
            b"n,,n=alice,r=a b",
            b"n,,n=,r=x",
            b"n,,n==2c,r=x",
            b"n,,n=a=,r=x",
            b"n,,n=a\0b,r=x",
            b"n,,n=alice",
            b"n,",
            b"n",
            b"",
            b"\xff",
        ] {
            assert_eq!(user(refused), Err(ScramError::Malformed), "{:?}", String::from_utf8_lossy(refused));
        }
        let long = format!("n,,n={},r=x", "a".repeat(USER_NAME_BYTES_MAX + 1));
        assert_eq!(user(long.as_bytes()), Err(ScramError::Malformed));
        let long = format!("n,,n=a,r={}", "x".repeat(NONCE_BYTES_MAX + 1));
        assert_eq!(user(long.as_bytes()), Err(ScramError::Malformed));
    }

    #[test]
    fn a_last_message_of_another_exchange_or_password_is_refused() {
        let finish = |last: &str| begun(FIRST, "pencil").0.finish(last.as_bytes()).unwrap_err();
        assert_eq!(finish(&LAST.replace("k0,p", "k1,p")), ScramError::WrongExchange);
        assert_eq!(finish(&LAST.replace("c=biws", "c=eSws")), ScramError::WrongExchange);
        assert_eq!(finish(&LAST.replace("p=dHzb", "p=dHzc")), ScramError::WrongProof);
        assert_eq!(
            finish("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=AAAA"),
            ScramError::WrongProof
        );
        assert_eq!(finish(&LAST.replace("p=dHzb", "p=*")), ScramError::Malformed);
        assert_eq!(finish(""), ScramError::Malformed);
        assert_eq!(begun(FIRST, "pencils").0.finish(LAST.as_bytes()), Err(ScramError::WrongProof));
        assert_eq!(begun(b"n,,n=user,r=another", "pencil").0.finish(LAST.as_bytes()), Err(ScramError::WrongExchange));
    }

    /// Pieces of the grammar and noise between them.
    fn scramble() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                "n,",
                "y,",
                "p=tls-unique,",
                "a=",
                "n=",
                "r=",
                ",",
                "=2C",
                "=3D",
                "=",
                "c=biws",
                "p=",
                "m=",
                "user",
                "\0",
                "rOprNGfwEbeRWgbNEkqO",
                "AAAA",
                "ü",
                "tokenauth=true",
                ",,",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn no_bytes_make_it_panic(token in scramble()) {
            let _ = ClientFirst::parse(&token);
            let _ = ClientFinal::parse(&token);
        }

        #[test]
        fn what_is_read_is_what_was_written(
            user in "[^\0]{1,40}",
            nonce in "[!-+\\--~]{1,40}",
            flag in "[ny]",
            explicit: bool,
        ) {
            let name = user.replace('=', "=3D").replace(',', "=2C");
            let authorization = if explicit { format!("a={name}") } else { String::new() };
            let token = format!("{flag},{authorization},n={name},r={nonce}");
            let first = ClientFirst::parse(token.as_bytes()).unwrap();
            prop_assert_eq!(format!("{}{}", first.gs2_header, first.bare), token);
            prop_assert_eq!((first.user, first.nonce), (user, nonce));
        }

        #[test]
        fn no_proof_but_the_right_one_passes(place in 0_usize..32, change in 1_u8..) {
            let (waiting, _) = begun(FIRST, "pencil");
            let (message, proof) = LAST.split_once(",p=").unwrap();
            let mut proof = STANDARD.decode(proof).unwrap();
            proof[place] ^= change;
            let last = format!("{message},p={}", STANDARD.encode(proof));
            prop_assert_eq!(waiting.finish(last.as_bytes()), Err(ScramError::WrongProof));
        }
    }
}
