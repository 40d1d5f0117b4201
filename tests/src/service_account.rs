//! A Google service account as its key file describes it, and the other side of its signatures.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

fn key() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"))
}

/// The key file, one for the whole run. Its addresses lead where no test may ever get.
///
/// # Panics
/// No key can be made.
pub fn service_account_key() -> Value {
    let der: Pkcs8V1Der<'_> = key().as_der().expect("a DER");
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    json!({
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "key-1",
        "private_key": pem,
        "client_email": "reader@example.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://169.254.169.254/token",
    })
}

/// The claims of a token that this account signed.
///
/// # Panics
/// It did not.
pub fn claims_of(token: &str) -> Value {
    let mut parts = token.rsplitn(2, '.');
    let signature = URL_SAFE_NO_PAD.decode(parts.next().unwrap_or_default()).expect("base64");
    let signed = parts.next().expect("three parts");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key().public_key().as_ref())
        .verify(signed.as_bytes(), &signature)
        .expect("the account's own signature");
    let claims = signed.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON")
}
