//! JWTs that a Google service account signs for itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use hansa_model::Secret;

use crate::driver::OpenError;
use crate::login::LoginData;

/// A service account that can sign.
pub(crate) struct ServiceAccount {
    pub(crate) email: String,
    key_id: String,
    key: RsaKeyPair,
}

impl ServiceAccount {
    /// Reads the key file that Google hands out. Its addresses are not used: a tenant wrote them.
    pub(crate) fn parse(file: &LoginData) -> Result<Self, OpenError> {
        let pem = file.block("private_key")?;
        let bad_key = OpenError::Login { field: "private_key", reason: "is not an RSA key in PEM" };
        let key = match PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(_) | Err(_) => return Err(bad_key),
        };
        Ok(Self {
            email: file.text("client_email")?.expose().clone(),
            key_id: file.text("private_key_id")?.expose().clone(),
            key: key.map_err(|_| bad_key)?,
        })
    }

    /// Signs these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Option<Secret<String>> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let mut text = URL_SAFE_NO_PAD.encode(header.to_string());
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(&signature));
        Some(Secret::new(text))
    }
}
