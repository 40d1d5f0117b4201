//! The driver of AWS Secrets Manager against two emulators, with faults that neither has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hansa_backends::{CallError, Driver, Entry, Write};
use hansa_model::secrets::backend::BackendKind::AwsSecretsManager;
use hansa_model::secrets::value::SecretData;
use hansa_model::{Timestamp, WallClock as _};
use hansa_tests::{
    Ask, AwsEmulator, Scripted, ScriptedServer, TestStores, data_of, hold_to, list_all, outcome, read,
};
use serde_json::{Value, json};

const TOKENS: [&str; 3] = [
    "0123456789abcdef0123456789abcdef",
    "1123456789abcdef0123456789abcdef",
    "2123456789abcdef0123456789abcdef",
];

fn config(url: &str) -> Value {
    json!({"region": "us-east-1", "credentials_path": "infra/aws/sm/reader", "endpoint": url})
}

fn login() -> Value {
    json!({"access_key_id": "AKIDEXAMPLE", "secret_access_key": "very-secret-key"})
}

fn open(url: &str) -> Arc<dyn Driver> {
    TestStores::default().open(AwsSecretsManager, &config(url), &login())
}

fn failed(status: u16, kind: &str) -> Scripted {
    Scripted::json(status, json!({"__type": kind, "message": "no"}))
}

async fn fill(aws: &AwsEmulator) {
    aws.call("CreateSecret", &json!({"Name": "prod/db", "SecretString": "{\"password\":\"old\"}"})).await;
    let put = json!({"SecretId": "prod/db", "SecretString": "{\"password\":\"hunter2\",\"n\":1}"});
    aws.call("PutSecretValue", &put).await;
    aws.call("CreateSecret", &json!({"Name": "prod/text", "SecretString": "plain \"text\""})).await;
    aws.call("CreateSecret", &json!({"Name": "prod/binary", "SecretBinary": "AP8="})).await;
    aws.call("CreateSecret", &json!({"Name": "prod/gone", "SecretString": "x"})).await;
    aws.call("DeleteSecret", &json!({"SecretId": "prod/gone", "RecoveryWindowInDays": 7})).await;
    aws.call("CreateSecret", &json!({"Name": "prod/token-abc123", "SecretString": "tail"})).await;
    for number in 0..105 {
        let name = format!("many/{number:03}");
        aws.call("CreateSecret", &json!({"Name": name, "SecretString": "x"})).await;
    }
}

async fn answers_the_fourteen_cases(aws: &AwsEmulator) {
    fill(aws).await;
    let front = ScriptedServer::before(aws.url()).await;
    let store = open(&front.url());
    let many = (0..105).map(|number| format!("many/{number:03}")).collect::<Vec<_>>().join(" ");
    let many = format!("{many} on 2");
    let listed = "prod/binary prod/db prod/text prod/token-abc123 on 1";
    let missing_id = "f".repeat(32);
    let whole = r#"{"n":1,"password":"hunter2"}"#;
    let refused = "the backend refuses our credentials: the key or its permission is refused";
    let gone = "the backend has no such secret";

    hold_to(
        &store,
        &front,
        [
            ("found", Ask::Read("prod/db"), whole),
            ("not found", Ask::Read("prod/none"), gone),
            ("deleted", Ask::Read("prod/gone"), gone),
            ("old version", Ask::Named("prod/db", "AWSPREVIOUS".into()), r#"{"password":"old"}"#),
            ("missing version", Ask::Named("prod/db", missing_id.clone()), "the backend has no such version"),
            ("version of nothing", Ask::Named("prod/none", missing_id), gone),
            ("version 1 is the newest", Ask::Number("prod/db", 1), whole),
            ("versions have no numbers", Ask::Number("prod/db", 2), "the backend has no such version"),
            ("empty listing", Ask::List("nothing/"), "on 1"),
            ("two-page listing", Ask::List("many/"), &many),
            ("listing without the deleted", Ask::List("prod/"), listed),
            ("text", Ask::Read("prod/text"), r#"{"value":"plain \"text\""}"#),
            ("binary", Ask::Read("prod/binary"), r#"{"value_base64":"AP8="}"#),
            ("name that ends as a full one", Ask::Read("prod/token-abc123"), r#"{"value":"tail"}"#),
            ("impossible name", Ask::Read("prod/a b"), "the backend cannot have a secret of this name"),
            (
                "permission refused",
                Ask::Spoiled(vec![failed(400, "AccessDeniedException")], "prod/db"),
                refused,
            ),
            (
                "refused with a prefix",
                Ask::Spoiled(vec![failed(403, "com.amazon.coral#ExpiredTokenException")], "prod/db"),
                refused,
            ),
            (
                "key service",
                Ask::Spoiled(vec![failed(400, "DecryptionFailure")], "prod/db"),
                "the backend refuses our credentials: its key service cannot decrypt",
            ),
            ("throttled", Ask::Spoiled(vec![failed(400, "ThrottlingException")], "prod/db"), "throttled"),
            (
                "throttled with a wait",
                Ask::Spoiled(
                    vec![failed(429, "TooManyRequestsException").with("Retry-After", "9")],
                    "prod/db",
                ),
                "throttled for 9",
            ),
            (
                "error of its own",
                Ask::Spoiled(vec![failed(500, "InternalServiceError")], "prod/db"),
                "unavailable: it answers with an error of its own",
            ),
            (
                "a proxy's error",
                Ask::Spoiled(vec![Scripted::Answer(502, vec![], b"<html>".to_vec())], "prod/db"),
                "unavailable: it answers with an error of its own",
            ),
            ("then success", Ask::Read("prod/db"), whole),
            (
                "redirect",
                Ask::Spoiled(vec![Scripted::status(307).with("Location", "http://127.0.0.1:1/")], "prod/db"),
                "the backend answered what cannot be used: it sends us elsewhere",
            ),
            (
                "reset midway",
                Ask::Spoiled(vec![Scripted::Reset], "prod/db"),
                "unavailable: the connection broke",
            ),
            (
                "too large",
                Ask::Spoiled(vec![Scripted::Oversized], "prod/db"),
                "the backend answered what cannot be used: the answer is too large",
            ),
            (
                "endless",
                Ask::Spoiled(vec![Scripted::Endless], "prod/db"),
                "the backend answered what cannot be used: the answer is too large",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_answers_the_fourteen_cases() {
    answers_the_fourteen_cases(&AwsEmulator::moto().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_answers_the_fourteen_cases() {
    answers_the_fourteen_cases(&AwsEmulator::ministack().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_as_aws_words_them_are_understood() {
    let aws = AwsEmulator::moto().await;

    for (error, expected) in [
        (json!({"code": "ThrottlingException"}), "throttled"),
        (
            json!({"code": "InternalServiceError", "status": 500}),
            "unavailable: it answers with an error of its own",
        ),
        (
            json!({"code": "UnrecognizedClientException"}),
            "the backend refuses our credentials: the key or its permission is refused",
        ),
    ] {
        let faults = AwsEmulator::microburst(&aws.url()).await;
        let store = open(&faults.url());
        assert_eq!(outcome(read(&store, "prod/db").await), "the backend has no such secret");
        faults.fail_with(&error).await;

        assert_eq!(outcome(read(&store, "prod/db").await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mark_stands_in_listing_read_and_description() {
    for aws in [AwsEmulator::moto().await, AwsEmulator::ministack().await] {
        aws.call("CreateSecret", &json!({"Name": "prod/db", "SecretString": "one"})).await;
        let store = open(&aws.url());
        let listed = async || {
            let page = store.list("prod/", None).await.unwrap();
            match &page.entries[..] {
                [Entry::Secret { mark, .. }] => mark.clone(),
                other => panic!("{other:?}"),
            }
        };

        let first = listed().await;
        assert!(first.is_some());
        assert_eq!(store.mark("prod/db").await.unwrap(), first);
        assert_eq!(read(&store, "prod/db").await.unwrap().secret.mark, first);
        aws.call("PutSecretValue", &json!({"SecretId": "prod/db", "SecretString": "two"})).await;

        assert_ne!(listed().await, first);
        assert_eq!(store.mark("prod/db").await.unwrap(), listed().await);
        assert_eq!(store.mark("prod/none").await, Err(CallError::NotFound));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_reads_what_it_can_and_is_not_asked_again_without_the_right() {
    for aws in [AwsEmulator::moto().await, AwsEmulator::ministack().await] {
        let mut names = vec!["prod/none".to_owned()];
        for number in 0..25 {
            let name = format!("prod/{number}");
            aws.call("CreateSecret", &json!({"Name": name, "SecretString": number.to_string()})).await;
            names.push(name);
        }
        let front = ScriptedServer::before(aws.url()).await;
        let store = open(&front.url());

        let found = store.read_many(&names).await.unwrap();
        assert_eq!(found.len(), 26);
        for (name, found) in found {
            match name.as_str() {
                "prod/none" => assert_eq!(outcome(found), "the backend has no such secret"),
                name => assert_eq!(data_of(found)["value"], name.trim_start_matches("prod/")),
            }
        }
        assert_eq!(front.requests().len(), 2, "twenty at a time");

        front.queue(vec![failed(400, "AccessDeniedException"); 2]);
        assert_eq!(store.read_many(&names).await.unwrap().len(), 0);
        let asked = front.requests().len();
        assert_eq!(store.read_many(&names).await.unwrap().len(), 0);
        assert_eq!(front.requests().len(), asked);
        assert_eq!(data_of(read(&store, "prod/7").await)["value"], "7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn write_is_known_again_by_its_token() {
    let aws = AwsEmulator::moto().await;
    let store = open(&aws.url());
    let data = SecretData::parse(r#"{"password":"new"}"#).unwrap();
    let write = |expected, token| Write { data: &data, expected, token };

    let written = store.write("prod/new", write(Some(0), TOKENS[0])).await.unwrap();
    assert_eq!(written.mark.unwrap().0, TOKENS[0]);
    assert_eq!(store.write("prod/new", write(Some(0), TOKENS[1])).await, Err(CallError::Conflict));
    let again = store.write("prod/new", write(None, TOKENS[2])).await.unwrap();
    assert_eq!(store.write("prod/new", write(None, TOKENS[2])).await.unwrap(), again);
    store.write("prod/other", write(None, TOKENS[0])).await.unwrap();

    assert_eq!(data_of(read(&store, "prod/new").await), json!({"password": "new"}));
    assert_eq!(list_all(&store, "prod/").await.0, ["prod/new", "prod/other"]);
}

/// The emulators check no signature and let no role end, so the server before them plays both.
#[tokio::test(flavor = "multi_thread")]
async fn role_is_taken_on_first_and_again_when_it_ends() {
    let aws = AwsEmulator::moto().await;
    aws.call("CreateSecret", &json!({"Name": "prod/db", "SecretString": "x"})).await;
    let (url, taken) = (aws.url(), Arc::new(AtomicUsize::new(0)));
    let counter = taken.clone();
    let front = ScriptedServer::start(move |request| {
        if request.path != "/" || !request.text().starts_with("Action=AssumeRole") {
            return Scripted::Forward(url.clone());
        }
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let ends: Timestamp = hansa::system::SystemClock.now().after(Duration::from_secs(2));
        let body = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA{number}</AccessKeyId>\
             <SecretAccessKey>role-key</SecretAccessKey><SessionToken>role-token-{number}</SessionToken>\
             <Expiration>{ends}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        Scripted::Answer(200, vec![("Content-Type", "text/xml".to_owned())], body.into_bytes())
    })
    .await;
    let mut config = config(&front.url());
    config["role_arn"] = json!("arn:aws:iam::123456789012:role/reader");
    config["external_id"] = json!("tenant&one");
    let store = TestStores::default().open(AwsSecretsManager, &config, &login());

    let calls = (0..10).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { read(&store, "prod/db").await })
    });
    for call in calls.collect::<Vec<_>>() {
        data_of(call.await.unwrap());
    }
    assert_eq!(taken.load(Ordering::Relaxed), 1, "one role for all");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    data_of(read(&store, "prod/db").await);

    assert_eq!(taken.load(Ordering::Relaxed), 2, "login expired midway");
    let requests = front.requests();
    assert!(requests[0].text().contains("ExternalId=tenant%26one"), "{}", requests[0].text());
    assert!(requests[0].header("authorization").unwrap().contains("Credential=AKIDEXAMPLE/"));
    let last = requests.last().unwrap();
    assert_eq!(last.header("x-amz-security-token"), Some("role-token-1"));
    assert!(last.header("authorization").unwrap().contains("Credential=ASIA1/"));
    assert!(!requests.iter().any(|request| format!("{request:?}").contains("very-secret-key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_role_is_not_asked_for_at_once_again() {
    let sts = ScriptedServer::start(|_| {
        let body = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".to_vec();
        Scripted::Answer(403, vec![], body)
    })
    .await;
    let mut config = config(&sts.url());
    config["role_arn"] = json!("arn:aws:iam::123456789012:role/reader");
    let store = TestStores::default().open(AwsSecretsManager, &config, &login());

    for _ in 0..5 {
        let refusal = "the backend refuses our credentials: the role is refused";
        assert_eq!(outcome(read(&store, "prod/db").await), refusal);
    }

    assert_eq!(sts.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signature_out_of_time_names_the_clock() {
    let aws = AwsEmulator::moto().await;
    let front = ScriptedServer::before(aws.url()).await;
    let stores = TestStores::default();
    stores.clock.advance(Duration::from_secs(900));
    let store = stores.open(AwsSecretsManager, &config(&front.url()), &login());
    let dated = || failed(400, "InvalidSignatureException").with("Date", "Sun, 22 Nov 2026 08:00:00 GMT");

    front.queue([dated(), failed(400, "RequestExpired")]);

    for _ in 0..2 {
        let refusal = read(&store, "prod/db").await.unwrap_err();
        assert!(refusal.to_string().contains("check the clock"), "{refusal}");
    }
}
