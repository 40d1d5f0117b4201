//! Tokens of our own and of a shared secret, without a node.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa_storage::testing::SeededEntropy;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);
const INVALID: OperatorAuthenticationError = OperatorAuthenticationError::Invalid;

fn operators(seed: u8) -> Operators {
    let secret = SharedSecret {
        secret: Secret::new(b"an old secret of thirty-two bytes".to_vec()),
        grant: Grant { scopes: [Scope::HostsRead].into(), ..Grant::default() },
    };
    let config = OperatorsConfig { shared: Some(secret), issuers: Vec::new() };
    Operators::new(&IdentityKey::from_seed(&Secret::new([seed; 32])), &config, &SeededEntropy::new(1))
}

fn request() -> TokenRequest {
    TokenRequest {
        userid: "ada".to_owned(),
        scopes: [Scope::HostsRead, Scope::SitesRead].into_iter().collect(),
        sites: None,
        tenant: None,
        ttl: Duration::from_secs(60),
    }
}

fn verify(operators: &Operators, token: &str) -> Result<Verified, OperatorAuthenticationError> {
    let head = Head::of(token)?;
    match head.issuer {
        Some(_) => operators.verify_own(&head, token),
        None => operators.verify_shared(&head, token),
    }
}

fn shared(claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
}

#[test]
fn minted_token_verifies_with_its_scopes() {
    let operators = operators(1);
    let token = operators.mint(NOW, &request()).unwrap();

    let verified = verify(&operators, token.expose()).unwrap();

    assert_eq!(verified.operator.userid, "ada");
    assert!(verified.operator.may(Scope::HostsRead) && !verified.operator.may(Scope::Admin));
    assert_eq!(verified.expires, NOW.after(Duration::from_secs(60)));
}

#[test]
fn token_of_another_node_is_nothing_here() {
    let token = operators(1).mint(NOW, &request()).unwrap();

    assert_eq!(verify(&operators(2), token.expose()).map(drop), Err(INVALID));
}

#[test]
fn other_algorithms_are_refused() {
    let token = operators(1).mint(NOW, &request()).unwrap();
    let (_, rest) = token.expose().split_once('.').unwrap();
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256"}"#] {
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));

        assert_eq!(verify(&operators(1), &forged).map(drop), Err(INVALID), "{header}");
    }
}

#[test]
fn shared_secret_vouches_for_its_own_claims_with_its_own_scopes_alone() {
    let secret = b"an old secret of thirty-two bytes";
    let expires = NOW.as_secs() + 60;
    let good = shared(&json!({"user_id": "ada@example.com", "expires": expires, "scope": "admin"}), secret);

    let verified = verify(&operators(1), &good).unwrap();

    assert_eq!(verified.operator.userid, "ada@example.com");
    assert_eq!(verified.operator.scopes, [Scope::HostsRead].into());
    for (what, token) in [
        ("another secret", shared(&json!({"user_id": "ada", "expires": expires}), &[b'x'; 32])),
        ("no end", shared(&json!({"user_id": "ada"}), secret)),
        ("an end of another name", shared(&json!({"user_id": "ada", "exp": expires}), secret)),
        ("no user", shared(&json!({"expires": expires}), secret)),
        (
            "our issuer",
            shared(&json!({"iss": operators(1).issuer, "user_id": "ada", "expires": expires}), secret),
        ),
    ] {
        assert_eq!(verify(&operators(1), &token).map(drop), Err(INVALID), "{what}");
    }
}

#[test]
fn token_of_our_own_shape_without_an_issuer_is_not_taken_for_a_shared_one() {
    let token = operators(1).mint(NOW, &request()).unwrap();
    let [_, claims, signature]: [&str; 3] = token.expose().split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims.as_object_mut().unwrap().remove("iss");
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    for header in [r#"{"alg":"EdDSA"}"#, r#"{"alg":"HS256"}"#] {
        let forged = format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(header));

        assert_eq!(verify(&operators(1), &forged).map(drop), Err(INVALID), "{header}");
    }
}
