//! Leases of a Vault's database engine (contract 10): OpenBao makes the users, PostgreSQL takes them or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hansa_actors::issuer::{CredentialName, Issuer, Issuers, Order, TrialIssuer};
use hansa_backends::{Leaser, Login, Opening, VendorDrivers};
use hansa_model::enrollment::Role;
use hansa_model::id::LeaseId;
use hansa_model::lease::LeaseKind;
use hansa_model::secrets::address::AddressRules;
use hansa_model::secrets::backend::{BackendConfig, BackendKind};
use hansa_model::{Secret, SiteId, Timestamp};
use hansa_tests::{
    DatabaseEngine, Lessee, Scripted, ScriptedServer, TestNode, TestPair, delivered_lease, eventually,
    loopback_rules, request_lease, revoke_lease, seen_canaries,
};
use serde_json::{Value, json};

async fn lessee_of(engine: &DatabaseEngine) -> Lessee {
    let issuers = Issuers::new(vec![engine.issuer_at(&engine.bao.url())]);
    let coordinator = TestNode::start_with_issuers(Role::Coordinator, issuers).await;
    Box::pin(Lessee::start(coordinator)).await
}

fn order(backend_role: &str, life: u64) -> Order {
    let life = Duration::from_secs(life);
    Order {
        name: CredentialName { node: "01234567".to_owned(), lease: LeaseId(uuid::Uuid::from_u128(1)) },
        site: SiteId(uuid::Uuid::from_u128(2)),
        host_id: "web-1".to_owned(),
        secret_name: "orders".to_owned(),
        backend_role: backend_role.to_owned(),
        kind: LeaseKind::Database,
        password: Secret::new("unused".to_owned()),
        life,
        expires_at: Timestamp::EPOCH.after(life),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leased_user_goes_over_the_link_and_is_refused_by_the_database_after_the_revocation() {
    let engine = DatabaseEngine::start().await;
    let lessee = lessee_of(&engine).await;

    let (key, lease) = lessee.delivered("orders").await;
    let credential = lessee.journal.credential(&key).unwrap();
    let (user, password) = credential.split_once(':').unwrap();
    assert!(engine.opens(&credential).await);
    let rest = engine.rest_of(&lease["vault_lease_id"]).await.unwrap();
    let revoked = lessee.revoke(&lease).await;

    assert!(!engine.opens(&credential).await, "refused at once");
    assert_eq!((&revoked["status"], &revoked["last_error"]), (&json!("revoked"), &Value::Null));
    assert!(engine.users().await.is_empty());
    assert_eq!(engine.rest_of(&lease["vault_lease_id"]).await, None);
    lessee.taken_away(&key).await;
    assert!((590..=600).contains(&rest), "what was asked for, not the role's 90 seconds: {rest}");
    assert!(lease["vault_lease_id"].as_str().unwrap().starts_with("database/creds/orders-read/"));
    assert_eq!(lease["secret_metadata"], json!({"issuer": "vault", "username": user}));
    assert!(!lease.to_string().contains(password) && !revoked.to_string().contains(password));
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_credential_takes_the_place_of_the_old_one_which_the_database_then_refuses() {
    let engine = DatabaseEngine::start().await;
    let mut lessee = lessee_of(&engine).await;
    let (key, before) = lessee.delivered("orders").await;
    let old = lessee.journal.credential(&key).unwrap();

    // A restart looks at once what is due.
    lessee.federation.coordinator.clock.advance(Duration::from_secs(520));
    lessee.federation.coordinator.restart().await;
    let new = eventually("the host has another credential", async || {
        lessee.journal.credential(&key).filter(|credential| *credential != old)
    })
    .await;
    eventually("the old one is refused", async || (!engine.opens(&old).await).then_some(())).await;
    let after = lessee.taken("orders").await;

    assert!(engine.opens(&new).await);
    assert_ne!(before["vault_lease_id"], after["vault_lease_id"]);
    assert_eq!((&after["status"], &after["last_error"]), (&json!("active"), &Value::Null));
    assert!(after["last_renewed_at"].is_string());
    assert_eq!(engine.users().await.len(), 1);
    lessee.revoke(&after).await;
    assert!(!engine.opens(&new).await && engine.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credential_is_taken_away_at_the_database() {
    let engine = DatabaseEngine::start().await;
    let mut lessee = lessee_of(&engine).await;
    let (key, lease) = lessee.delivered("orders").await;
    let credential = lessee.journal.credential(&key).unwrap();
    assert!(engine.opens(&credential).await);

    lessee.federation.coordinator.clock.advance(Duration::from_secs(601));
    lessee.federation.coordinator.restart().await;

    eventually("the lease has expired", async || {
        (lessee.lease("orders").await["status"] == "expired").then_some(())
    })
    .await;
    eventually("the database refuses", async || (!engine.opens(&credential).await).then_some(())).await;
    eventually("the lease has ended", async || {
        engine.rest_of(&lease["vault_lease_id"]).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_that_nobody_takes_away_ends_at_its_server_by_itself() {
    let engine = DatabaseEngine::start().await;
    let config = json!({
        "endpoint": engine.bao.url(), "auth_method": "approle", "auth_config_path": "login",
    });
    let opening = Opening {
        config: BackendConfig::parse(BackendKind::HashicorpVault, &config.to_string()).unwrap(),
        login: Some(Login(Secret::new(std::fs::read_to_string(engine.login_file()).unwrap()))),
        roots: None,
        wall: Arc::new(hansa::system::SystemClock),
        entropy: Arc::new(hansa::system::SystemEntropy),
    };
    let leaser: Arc<dyn Leaser> = VendorDrivers::new(loopback_rules()).open_leaser(&opening).unwrap();

    let leased = leaser.lease("database/creds/orders-read", Duration::from_secs(3)).await.unwrap();
    let data: Value = serde_json::from_str(leased.data.expose()).unwrap();
    let text = |member: &str| data[member].as_str().unwrap().to_owned();
    let credential = format!("{}:{}", text("username"), text("password"));

    assert!(engine.opens(&credential).await);
    assert_eq!(leased.life, Duration::from_secs(3), "shorter than the role's default");
    eventually("it has ended", async || (!engine.opens(&credential).await).then_some(())).await;
    eventually("the user is dropped", async || engine.users().await.is_empty().then_some(())).await;
    leaser.end(&leased.lease_id).await.unwrap();
    leaser.end("database/creds/orders-read/never-was").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_shows_the_end_that_the_server_gave() {
    let engine = DatabaseEngine::start().await;
    let issuer = engine.issuer_at(&engine.bao.url());

    let brief = issuer.issue(&order("brief", 600)).await.unwrap();
    let whole = issuer.issue(&order("reader", 600)).await.unwrap();
    let token = json!({"token_policies": ["leases"], "token_ttl": "70s", "token_max_ttl": "70s"});
    engine.bao.write("auth/approle/role/hansa", &token).await;
    let anew = engine.issuer_at(&engine.bao.url());
    let hanging = anew.issue(&order("reader", 600)).await.unwrap();
    let short = json!({"token_policies": ["leases"], "token_ttl": "20s", "token_max_ttl": "20s"});
    engine.bao.write("auth/approle/role/hansa", &short).await;
    let refused = engine.issuer_at(&engine.bao.url()).issue(&order("reader", 600)).await.unwrap_err();

    assert_eq!(whole.expires_at, Timestamp::from_secs(600));
    assert_eq!(brief.expires_at.as_secs(), 120, "max_ttl of the role");
    assert!(
        (60..=70).contains(&hanging.expires_at.as_secs()),
        "not beyond its login: {}",
        hanging.expires_at
    );
    assert!(refused.to_string().contains("raise max_ttl"), "{refused}");
    assert_eq!(engine.users().await.len(), 3, "what is of no use is taken away");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_leave_nothing_behind() {
    let engine = DatabaseEngine::start().await;
    let url = engine.bao.url();
    let issuer = engine.issuer_at(&url);
    let told = async |issuer: &dyn Issuer, role: &str| {
        issuer.issue(&order(role, 600)).await.unwrap_err().to_string()
    };

    let lost = told(&*issuer, "lost").await;
    engine.allow(&["sys/leases/revoke"]).await;
    let unallowed = told(&*issuer, "reader").await;
    let closed = engine.issuer_under(&url, &VendorDrivers::new(AddressRules::default()));
    let closed = told(&*closed, "reader").await;
    engine.bao.seal().await;
    let sealed = told(&*issuer, "reader").await;
    std::fs::remove_file(engine.login_file()).unwrap();
    let no_login = told(&*issuer, "reader").await;

    for (text, words) in [
        (&lost, "make the role there"),
        (&unallowed, "update on sys/leases/renew"),
        (&closed, "backends.allowed_addresses"),
        (&sealed, "it is sealed"),
        (&no_login, "login_file"),
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(engine.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_that_hangs_holds_up_its_own_leases_alone_and_loses_none() {
    let engine = DatabaseEngine::start().await;
    let hangs = Arc::new(AtomicBool::new(false));
    let (hanging, url) = (Arc::clone(&hangs), engine.bao.url());
    let front = ScriptedServer::start(move |_| {
        if hanging.load(Ordering::Relaxed) { Scripted::Silence } else { Scripted::Forward(url.clone()) }
    })
    .await;
    let trial = Arc::new(TrialIssuer::new("trial".to_owned()));
    let issuers = Issuers::new(vec![engine.issuer_at(&front.url()), trial]);
    let coordinator = TestNode::start_with_issuers(Role::Coordinator, issuers).await;
    let mut lessee = Box::pin(Lessee::start(coordinator)).await;
    let (key, first) = lessee.delivered("orders").await;
    let credential = lessee.journal.credential(&key).unwrap();

    hangs.store(true, Ordering::Relaxed);
    let waiting: Vec<String> = {
        let mut keys = Vec::new();
        for number in 0..12 {
            keys.push(lessee.request(&format!("waiting-{number}")).await);
        }
        keys
    };
    let wish = json!({
        "host_id": "web-2", "secret_name": "other", "backend_role": "any", "kind": "token", "ttl_seconds": 600,
    });
    lessee.site.api().post("/api/v1/site/secret-requests", &wish).await.ok();
    let other = lessee.taken("other").await;
    let held_up = lessee.lease("waiting-11").await;
    let revoked = lessee.revoke(&first).await;
    let error = eventually("the row says what is in the way", async || {
        lessee.lease("waiting-0").await["last_error"].as_str().map(str::to_owned)
    })
    .await;

    assert_eq!((&other["status"], &held_up["status"]), (&json!("active"), &json!("requested")));
    assert_eq!(revoked["status"], "revoked", "on disk, though the server was not told");
    assert!(engine.opens(&credential).await);
    assert!(error.contains("did not answer in time"), "{error}");

    hangs.store(false, Ordering::Relaxed);
    lessee.federation.coordinator.clock.advance(Duration::from_secs(60));
    lessee.federation.coordinator.restart().await;
    eventually("the database refuses", async || (!engine.opens(&credential).await).then_some(())).await;
    for (number, key) in waiting.iter().enumerate() {
        lessee.taken(&format!("waiting-{number}")).await;
        assert!(engine.opens(&lessee.journal.credential(key).unwrap()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_canary_of_a_vault_is_in_no_log_metric_answer_or_file_of_either_process() {
    let engine = DatabaseEngine::start().await;
    let config = format!(
        "{}[backends]\nallowed_addresses = ['127.0.0.1/32']\nhttp_to_loopback = true\n",
        engine.declaration(&engine.bao.url())
    );
    let mut pair = TestPair::start_leasing("trace", &config).await;
    let (coordinator, site) = (pair.coordinator.api().await, pair.site.api().await);
    pair.join(&coordinator, &site, None).await;
    let key = request_lease(&site, "orders").await;
    let lease = delivered_lease(&coordinator, "orders").await;
    let mut canaries = vec![pair.journal.credential(&key).unwrap()];
    assert!(engine.opens(&canaries[0]).await);
    let login: Value = serde_json::from_slice(&std::fs::read(engine.login_file()).unwrap()).unwrap();
    canaries.extend(login.as_object().unwrap().values().map(|value| value.as_str().unwrap().to_owned()));

    // A failure has its words in the log too.
    engine.allow(&[]).await;
    let refused = revoke_lease(&coordinator, &lease).await;
    let seen = seen_canaries(&mut pair, &coordinator, &site, &canaries).await;

    assert!(refused["last_error"].as_str().unwrap().contains("sys/leases/revoke"), "{refused}");
    assert_eq!(seen, Vec::<String>::new());
}
