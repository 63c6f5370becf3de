//! The SASL dialogue of one connection: a mechanism is chosen, tokens go to and fro, and in the end there is an
//! [`Authenticated`], or the connection is closed.
//!
//! The same dialogue serves the log-in and, on the same connection, logging in again (KIP-368): as the same user, with
//! the same mechanism. Nobody has to: sessions do not expire.

use super::plain::PlainToken;
use super::scram::{AwaitingFinal, ClientFirst, ScramError};
use super::{Authenticated, Mechanism, Users};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use thiserror::Error;
use waybill_ledger::organisation::ScramMechanism;

/// Half of what makes an exchange unrepeatable; without padding in Base64.
const SERVER_NONCE_BYTES: usize = 24;

/// Why nobody is authenticated. Each ends the connection, but for a step that comes out of turn later on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AuthenticationError {
    /// A mechanism that is not offered.
    #[error("the mechanism asked for is not offered")]
    UnsupportedMechanism,
    /// A handshake within an exchange, a token without a handshake.
    #[error("a step of SASL came out of turn")]
    OutOfTurn,
    /// User, password, proof or token are wrong: which of them is nobody's business.
    #[error("invalid credentials with {0}")]
    InvalidCredentials(Mechanism),
    /// PLAIN with the right password, to act as somebody else.
    #[error("a user asked to act as another one")]
    OtherIdentity,
    /// Another user than before, on the same connection.
    #[error("re-authentication as another user")]
    OtherUser,
    /// Another mechanism than before, on the same connection.
    #[error("re-authentication with {asked} instead of {before}")]
    OtherMechanism {
        /// The mechanism at first.
        before: Mechanism,
        /// The mechanism now.
        asked: Mechanism,
    },
    /// A fault of this node's.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl AuthenticationError {
    /// What the client is told, in Kafka's words.
    pub fn message(self) -> String {
        match self {
            Self::UnsupportedMechanism => "The broker does not support the requested SASL mechanism.".into(),
            Self::OutOfTurn => "Request is not valid given the current SASL state.".into(),
            Self::InvalidCredentials(Mechanism::Plain) => "Authentication failed: Invalid username or password".into(),
            Self::InvalidCredentials(mechanism) => {
                format!(
                    "Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
                )
            }
            Self::OtherIdentity => {
                "Authentication failed: Client requested an authorization id that is different from username".into()
            }
            Self::OtherUser => "Cannot change principals during re-authentication".into(),
            Self::OtherMechanism { before, asked } => format!(
                "SASL mechanism '{asked}' requested by client is not supported for re-authentication of mechanism '{before}'"
            ),
            Self::NoRandomness => "Authentication failed: Credentials could not be verified".into(),
        }
    }
}

/// The answer to one token.
#[derive(Debug)]
pub struct Step {
    /// What the client is sent.
    pub reply: Vec<u8>,
    /// Who it is, if this was the last token.
    pub authenticated: Option<Authenticated>,
}

/// One connection's dialogue.
pub struct Dialogue {
    users: Arc<Users>,
    state: State,
    before: Option<Authenticated>,
}

enum State {
    AwaitingHandshake,
    AwaitingToken { mechanism: Mechanism, exchange: Exchange, raw: bool },
}

enum Exchange {
    Plain,
    ScramFirst(ScramMechanism),
    ScramFinal { exists: bool, waiting: Box<AwaitingFinal> },
}

impl Dialogue {
    /// A dialogue that awaits the handshake.
    pub fn new(users: Arc<Users>) -> Self {
        Dialogue { users, state: State::AwaitingHandshake, before: None }
    }

    /// Whether the next bytes are a token behind its length, without a request header: what follows a handshake of
    /// version 0.
    pub fn expects_raw_token(&self) -> bool {
        matches!(self.state, State::AwaitingToken { raw: true, .. })
    }

    /// The client has chosen a mechanism. Kafka's clients log in again by SaslAuthenticate only.
    pub fn handle_handshake(&mut self, version: i16, mechanism: &str) -> Result<(), AuthenticationError> {
        let raw = version == 0;
        if !matches!(self.state, State::AwaitingHandshake) || raw && self.before.is_some() {
            return Err(AuthenticationError::OutOfTurn);
        }
        let mechanism = Mechanism::named(mechanism).ok_or(AuthenticationError::UnsupportedMechanism)?;
        let exchange = match mechanism {
            Mechanism::Plain => Exchange::Plain,
            Mechanism::Scram(mechanism) => Exchange::ScramFirst(mechanism),
        };
        self.state = State::AwaitingToken { mechanism, exchange, raw };
        Ok(())
    }

    /// The client has sent a token. After an error the dialogue begins anew, if the connection lasts.
    pub async fn handle_token(&mut self, token: &[u8]) -> Result<Step, AuthenticationError> {
        let state = std::mem::replace(&mut self.state, State::AwaitingHandshake);
        let State::AwaitingToken { mechanism, exchange, raw } = state else {
            return Err(AuthenticationError::OutOfTurn);
        };
        if let Some(before) = self.before.as_ref().map(Authenticated::mechanism).filter(|before| *before != mechanism) {
            return Err(AuthenticationError::OtherMechanism { before, asked: mechanism });
        }
        match exchange {
            Exchange::Plain => {
                let user = self.check_plain(token).await?;
                self.complete(user, mechanism, Vec::new())
            }
            Exchange::ScramFirst(scram) => {
                let first = ClientFirst::parse(token).map_err(|error| refused(mechanism, error))?;
                let lookup = self.users.lookup(&first.user, scram);
                let (waiting, reply) = first.answer(scram, lookup.credential, &server_nonce()?);
                let exchange = Exchange::ScramFinal { exists: lookup.exists, waiting: Box::new(waiting) };
                self.state = State::AwaitingToken { mechanism, exchange, raw };
                Ok(Step { reply, authenticated: None })
            }
            Exchange::ScramFinal { exists, waiting } => {
                let (user, reply) = waiting.finish(token).map_err(|error| refused(mechanism, error))?;
                if !exists {
                    return Err(AuthenticationError::InvalidCredentials(mechanism));
                }
                self.complete(user, mechanism, reply)
            }
        }
    }

    async fn check_plain(&self, token: &[u8]) -> Result<String, AuthenticationError> {
        let invalid = AuthenticationError::InvalidCredentials(Mechanism::Plain);
        let plain = PlainToken::parse(token).map_err(|_| invalid)?;
        if !self.users.check_password(plain.user, plain.password).await {
            return Err(invalid);
        }
        if !plain.authorization.is_empty() && plain.authorization != plain.user {
            return Err(AuthenticationError::OtherIdentity);
        }
        Ok(plain.user.to_string())
    }

    fn complete(&mut self, user: String, mechanism: Mechanism, reply: Vec<u8>) -> Result<Step, AuthenticationError> {
        if self.before.as_ref().is_some_and(|before| before.user() != user) {
            return Err(AuthenticationError::OtherUser);
        }
        let authenticated = Authenticated { user: user.into(), mechanism };
        self.before = Some(authenticated.clone());
        Ok(Step { reply, authenticated: Some(authenticated) })
    }
}

fn refused(mechanism: Mechanism, _: ScramError) -> AuthenticationError {
    AuthenticationError::InvalidCredentials(mechanism)
}

fn server_nonce() -> Result<String, AuthenticationError> {
    let mut bytes = [0; SERVER_NONCE_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthenticationError::NoRandomness)?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    //! Whole dialogues, in and out of turn; what a mechanism itself refuses is tested beside it.

    use super::*;
    use crate::security::derive;
    use waybill_ledger::organisation::{Command, Organisation, SetCredential, UserChange};
    use waybill_types::Codec;

    fn dialogue() -> Dialogue {
        let organisation = Arc::new(Organisation::new(1).unwrap());
        for user in ["alice", "bob"] {
            let mechanism = ScramMechanism::Sha256;
            let credential = derive(mechanism, "secret").unwrap();
            let set = UserChange::Set(SetCredential { user: user.into(), mechanism, credential });
            organisation.apply(&Command::AlterUsers(vec![set]).to_bytes());
        }
        Dialogue::new(Arc::new(Users::new(organisation, b"secret")))
    }

    async fn plain(dialogue: &mut Dialogue, token: &[u8]) -> Result<Step, AuthenticationError> {
        dialogue.handle_handshake(1, "PLAIN")?;
        dialogue.handle_token(token).await
    }

    const INVALID: AuthenticationError = AuthenticationError::InvalidCredentials(Mechanism::Plain);

    #[tokio::test]
    async fn a_password_logs_in() {
        let step = plain(&mut dialogue(), b"\0alice\0secret").await.unwrap();
        let authenticated = step.authenticated.unwrap();
        assert_eq!((authenticated.user(), authenticated.mechanism()), ("alice", Mechanism::Plain));
        assert!(step.reply.is_empty());
        assert_eq!(plain(&mut dialogue(), b"\0alice\0wrong").await.unwrap_err(), INVALID);
        assert_eq!(plain(&mut dialogue(), b"\0eve\0secret").await.unwrap_err(), INVALID);
        assert_eq!(plain(&mut dialogue(), b"x").await.unwrap_err(), INVALID);
        let other = plain(&mut dialogue(), b"bob\0alice\0secret").await.unwrap_err();
        assert_eq!(other, AuthenticationError::OtherIdentity);
    }

    #[tokio::test]
    async fn steps_out_of_turn_are_refused() {
        let mut fresh = dialogue();
        assert_eq!(fresh.handle_token(b"\0alice\0secret").await.unwrap_err(), AuthenticationError::OutOfTurn);
        assert_eq!(fresh.handle_handshake(1, "GSSAPI"), Err(AuthenticationError::UnsupportedMechanism));
        assert_eq!(fresh.handle_handshake(1, "plain"), Err(AuthenticationError::UnsupportedMechanism));
        assert_eq!(fresh.handle_handshake(0, "SCRAM-SHA-256"), Ok(()));
        assert!(fresh.expects_raw_token());
        assert_eq!(fresh.handle_handshake(0, "SCRAM-SHA-256"), Err(AuthenticationError::OutOfTurn));
    }

    #[tokio::test]
    async fn one_logs_in_again_as_oneself_and_as_before() {
        let mut dialogue = dialogue();
        plain(&mut dialogue, b"\0alice\0secret").await.unwrap();
        plain(&mut dialogue, b"\0alice\0secret").await.unwrap();
        assert_eq!(plain(&mut dialogue, b"\0bob\0secret").await.unwrap_err(), AuthenticationError::OtherUser);
        assert_eq!(plain(&mut dialogue, b"\0alice\0wrong").await.unwrap_err(), INVALID);
        assert_eq!(dialogue.handle_handshake(0, "PLAIN"), Err(AuthenticationError::OutOfTurn));
        dialogue.handle_handshake(1, "SCRAM-SHA-256").unwrap();
        let refused = dialogue.handle_token(b"n,,n=alice,r=x").await.unwrap_err();
        assert!(matches!(refused, AuthenticationError::OtherMechanism { .. }));
    }

    #[tokio::test]
    async fn the_server_chooses_a_fresh_nonce_each_time() {
        let mut replies = Vec::new();
        for _ in 0..2 {
            let mut dialogue = dialogue();
            dialogue.handle_handshake(1, "SCRAM-SHA-256").unwrap();
            replies.push(dialogue.handle_token(b"n,,n=eve,r=x").await.unwrap().reply);
        }
        assert!(replies.iter().all(|reply| reply.starts_with(b"r=x")) && replies[0] != replies[1]);
    }
}
