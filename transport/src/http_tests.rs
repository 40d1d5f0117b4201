//! The client against servers that answer well, badly, hugely, never, or with a redirect.

use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::tls::TlsAcceptor;

fn client() -> PeerClient {
    let wait_max = Duration::from_secs(5);
    PeerClient::new(&PeerClientConfig { wait_max, body_bytes_max: 1_000, ..Default::default() }).unwrap()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads one request whose last bytes are known, and answers.
async fn answer_one(mut stream: impl AsyncRead + AsyncWrite + Unpin, end: &str, answer: &str) -> String {
    let mut request = Vec::new();
    while !request.ends_with(end.as_bytes()) {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the client left early");
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(request).unwrap()
}

async fn called(
    request: impl FnOnce(String) -> PeerRequest,
    end: &'static str,
    answer: String,
) -> (String, Result<PeerAnswer, PeerHttpError>) {
    let (listener, url) = listener().await;
    let server =
        tokio::spawn(async move { answer_one(listener.accept().await.unwrap().0, end, &answer).await });
    let answer = client().call(request(url)).await;
    (server.await.unwrap(), answer)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn post_sends_exactly_the_bytes_with_bearer_and_signature() {
    let (request, answer) = called(
        |url| {
            PeerRequest::post(format!("{url}/api"), r#"{"b": 1, "a": 2}"#)
                .bearer(Secret::new("bearer-text".to_owned()))
                .header("x-federation-signature", "c2ln")
        },
        r#"{"b": 1, "a": 2}"#,
        ok("{}"),
    )
    .await;

    assert_eq!(answer, Ok(PeerAnswer { status: 200, body: Bytes::from_static(b"{}") }));
    assert!(request.starts_with("POST /api HTTP/1.1\r\n"), "{request}");
    let request = request.to_ascii_lowercase();
    for line in [
        "authorization: bearer bearer-text",
        "x-federation-signature: c2ln",
        "content-type: application/json",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn error_status_is_an_answer_and_a_redirect_is_not_followed() {
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned();

    let (_, answer) = called(PeerRequest::get, "\r\n\r\n", redirect).await;

    let answer = answer.unwrap();
    assert_eq!(answer.status, 302);
    assert!(!answer.is_success());
}

#[tokio::test]
async fn answer_beyond_the_bound_is_refused_announced_or_not() {
    let long = "x".repeat(1_001);
    let unannounced = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}");

    let (_, announced) = called(PeerRequest::get, "\r\n\r\n", ok(&long)).await;
    let (_, unannounced) = called(PeerRequest::get, "\r\n\r\n", unannounced).await;

    assert_eq!(announced, Err(PeerHttpError::TooLong { bytes_max: 1_000 }));
    assert_eq!(unannounced, Err(PeerHttpError::TooLong { bytes_max: 1_000 }));
}

#[tokio::test]
async fn silence_times_out_and_a_closed_port_is_unreachable() {
    let (silent, silent_url) = listener().await;
    let (gone, gone_url) = listener().await;
    drop(gone);
    let config = PeerClientConfig { wait_max: Duration::from_millis(200), ..PeerClientConfig::default() };
    let impatient = PeerClient::new(&config).unwrap();

    assert_eq!(impatient.call(PeerRequest::get(silent_url)).await, Err(PeerHttpError::TimedOut));
    let unreachable = client().call(PeerRequest::get(format!("{gone_url}/secret-token"))).await.unwrap_err();

    assert!(matches!(unreachable, PeerHttpError::Unreachable(_)));
    assert!(!unreachable.to_string().contains("secret-token"), "{unreachable}");
    drop(silent);
}

/// sec_11, the part of this crate: addresses that no peer has, in every spelling.
#[tokio::test]
async fn sec_11_forbidden_addresses_are_not_dialled_in_any_spelling() {
    for host in [
        "169.254.169.254",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "2852039166",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[ff02::1]",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
    ] {
        let answer = client().call(PeerRequest::get(format!("http://{host}/latest"))).await;
        assert_eq!(answer, Err(PeerHttpError::ForbiddenAddress), "{host}");
    }
}

#[test]
fn sec_11_name_with_one_forbidden_address_is_refused_as_a_whole() {
    let good: SocketAddr = "10.0.0.1:0".parse().unwrap();
    let bad: SocketAddr = "169.254.169.254:0".parse().unwrap();

    assert!(checked(vec![good, bad]).is_err());
    assert_eq!(checked(vec![good]).map(Iterator::count).ok(), Some(1));
}

#[tokio::test]
async fn request_that_cannot_be_sent_says_why() {
    for url in ["", "ftp://a/", "http://user:pw@127.0.0.1/", "file:///etc/passwd", "//host"] {
        let refused = client().call(PeerRequest::get(url)).await.unwrap_err();
        assert!(matches!(refused, PeerHttpError::Request(_)), "{url}");
    }
    let split = PeerRequest::get("http://127.0.0.1:1/").bearer(Secret::new("a\r\nb: c".to_owned()));
    assert!(matches!(client().call(split).await, Err(PeerHttpError::Request(_))));
}

#[test]
fn request_prints_neither_path_nor_bearer() {
    let request = PeerRequest::post("http://host/enrollment/tok/complete", "body")
        .bearer(Secret::new("bearer".to_owned()))
        .header("x-federation-signature", "sig");

    assert_eq!(format!("{request:?}"), "PeerRequest(POST to host)");
}

#[tokio::test]
async fn https_is_trusted_by_the_given_authority_and_refused_without_it() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server_pem = server.signed_by(&server_key, &issuer).unwrap().pem();
    let acceptor = TlsAcceptor::from_pem(&server_pem, &Secret::new(server_key.serialize_pem())).unwrap();
    let (listener, url) = listener().await;
    let url = url.replace("http:", "https:");
    let serving = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(tcp).await {
                assert!(!stream.is_http2());
                answer_one(stream, "\r\n\r\n", &ok("safe")).await;
            }
        }
    });
    let trusting = PeerClient::new(&PeerClientConfig {
        authorities_pem: Some(authority_pem),
        ..PeerClientConfig::default()
    });

    let trusted = trusting.unwrap().call(PeerRequest::get(&url)).await.unwrap();
    let refused = client().call(PeerRequest::get(&url)).await;

    assert_eq!(trusted.body.as_ref(), b"safe");
    assert!(matches!(refused, Err(PeerHttpError::Unreachable(_))), "{refused:?}");
    let nothing = PeerClientConfig { authorities_pem: Some(String::new()), ..PeerClientConfig::default() };
    assert!(matches!(PeerClient::new(&nothing), Err(TlsSetupError::NoAuthority)));
    serving.abort();
}
