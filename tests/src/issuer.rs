//! An OpenID Connect issuer as small as one can be: real HTTP on loopback, keys of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A key that an issuer signs with.
#[derive(Debug)]
pub enum SigningKey {
    /// RS256.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    Ec(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// A new RSA key of 2,048 bits.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key")))
    }

    /// A new key on P-256.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn ec() -> Self {
        Self::Ec(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key")))
    }

    /// The algorithm's name in a token.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    /// The public key as a key set holds it.
    pub fn published(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let public = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({
                    "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
                    "n": text(n.big_endian_without_leading_zero()),
                    "e": text(e.big_endian_without_leading_zero()),
                })
            }
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
        }
    }

    /// The public key's DER: what key confusion would take for a shared secret.
    ///
    /// # Panics
    /// The key has no DER.
    pub fn public_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Ec(key) => key.public_key().as_der().expect("a DER").as_ref().to_vec(),
        }
    }

    /// A signature as a token carries it.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Self::Ec(key) => key.sign(&random, message).expect("a signature").as_ref().to_vec(),
        }
    }

    /// A token with these claims.
    pub fn token(&self, kid: &str, claims: &Value) -> String {
        let head = json!({"alg": self.algorithm(), "typ": "JWT", "kid": kid});
        self.token_with(&head.to_string(), &claims.to_string())
    }

    /// A token with exactly these parts.
    pub fn token_with(&self, head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())))
    }
}

/// An issuer that serves its discovery document and its keys.
#[derive(Debug)]
pub struct TestIssuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    silent: AtomicBool,
}

impl TestIssuer {
    /// Starts an issuer without keys.
    ///
    /// # Panics
    /// It cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, address, Arc::clone(&serving)));
            }
        });
        Self { address, shared, server }
    }

    /// The issuer's name.
    pub fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/keys", self.name())
    }

    /// Publishes exactly these keys.
    pub fn publish(&self, keys: Vec<Value>) {
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// How often the keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// From now on it takes connections and never answers, or answers again.
    pub fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut connection: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
    }
    if shared.silent.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
    let name = format!("http://{address}");
    let body = match path.as_str() {
        "/.well-known/openid-configuration" => json!({"issuer": name, "jwks_uri": format!("{name}/keys")}),
        "/keys" => {
            shared.asked.fetch_add(1, Ordering::Relaxed);
            json!({"keys": *shared.keys.lock().unwrap_or_else(PoisonError::into_inner)})
        }
        _ => Value::Null,
    };
    let body = body.to_string();
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = connection.write_all(text.as_bytes()).await;
}
