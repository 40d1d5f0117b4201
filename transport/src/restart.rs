//! How peers of a node that crashed learn of it at once: stateless resets (RFC 9000, section 10.3).
//!
//! A node that is up again knows no old link. What arrives for one it answers with the reset token of that
//! link's id, which its peer was told while the link lived. Tokens follow from the identity, so that the node
//! can still make them; without that a peer would wait for its idle time.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::identity::IdentityKey;

/// Signed to make the key of all tokens. Nothing else that a node signs begins so, and the signature never
/// leaves it.
const LABEL: &[u8] = b"hansa/1 stateless reset key";
/// Bytes of a connection id: enough that none of before a crash is met again.
const ID_BYTES: usize = 8;

/// The configuration of an endpoint whose peers notice its restarts.
pub(crate) fn endpoint_config(identity: &IdentityKey) -> quinn::EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &identity.sign(LABEL));
    let mut config = quinn::EndpointConfig::new(Arc::new(key));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Connection ids without a mark of this start. Quinn's own have one, and would make the packets of an older
/// start noise that is not answered.
#[derive(Debug)]
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        SystemRandom::new().fill(&mut id).expect("the system has randomness, or no key was ever made");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
