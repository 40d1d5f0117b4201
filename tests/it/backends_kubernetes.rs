//! Vault's kubernetes login against a real OpenBao, which asks an imitation of a cluster who the caller is.

use std::sync::{Arc, Mutex, PoisonError};

use hansa_model::WallClock as _;
use hansa_model::enrollment::Role;
use hansa_tests::{OpenBao, Scripted, ScriptedServer, SigningKey, TestNode, create_backend, secret_refusal};
use serde_json::{Value, json};

const REVIEWER: &str = "e30.e30.e30";
const ACCOUNT: &str = "system:serviceaccount:apps:hansa";

/// A cluster that knows these tokens of the service account.
async fn cluster(known: Arc<Mutex<Vec<String>>>) -> ScriptedServer {
    ScriptedServer::start(move |asked| {
        let review: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        if asked.path != "/apis/authentication.k8s.io/v1/tokenreviews"
            || asked.header("authorization") != Some(&format!("Bearer {REVIEWER}"))
        {
            return Scripted::status(403);
        }
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        let status = if known.lock().unwrap_or_else(PoisonError::into_inner).contains(&token) {
            json!({
                "authenticated": true,
                "user": {"username": ACCOUNT, "uid": "uid-1", "groups": ["system:authenticated"]},
                "audiences": review["spec"]["audiences"],
            })
        } else {
            json!({"authenticated": false, "error": "unknown token"})
        };
        let answer = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "spec": review["spec"], "status": status,
        });
        Scripted::json(201, answer)
    })
    .await
}

/// An OpenBao that trusts this cluster's word, with a role for its service account and a secret that it may read.
async fn openbao(cluster: &ScriptedServer) -> OpenBao {
    let bao = OpenBao::start().await;
    bao.write("secret/data/app/db", &json!({"data": {"from": "the cluster"}})).await;
    let rules = "path \"secret/data/app/*\" { capabilities = [\"read\"] }";
    bao.write("sys/policies/acl/reader", &json!({"policy": rules})).await;
    bao.write("sys/auth/kubernetes", &json!({"type": "kubernetes"})).await;
    // It wants an authority, also where the cluster is asked without TLS.
    let authority = rcgen::generate_simple_self_signed(vec!["cluster.example".to_owned()]).unwrap();
    let config = json!({
        "kubernetes_host": cluster.url(), "kubernetes_ca_cert": authority.cert.pem(),
        "token_reviewer_jwt": REVIEWER, "disable_local_ca_jwt": true,
    });
    bao.write("auth/kubernetes/config", &config).await;
    let role = json!({
        "bound_service_account_names": "hansa", "bound_service_account_namespaces": "apps",
        "token_policies": "reader", "token_ttl": "1h",
    });
    bao.write("auth/kubernetes/role/reader", &role).await;
    bao
}

/// A token as a cluster gives it to a pod.
fn pod_token(node: &TestNode, key: &SigningKey, number: u32) -> String {
    let now = node.clock.now().as_secs();
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": ["vault"], "sub": ACCOUNT, "jti": number.to_string(),
        "iat": now, "nbf": now, "exp": now + 3_600,
        "kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "hansa", "uid": "uid-1"}},
    });
    key.token("cluster-key", &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn service_account_that_the_cluster_vouches_for_reads_and_others_do_not() {
    let known = Arc::new(Mutex::new(Vec::new()));
    let cluster = cluster(Arc::clone(&known)).await;
    let bao = openbao(&cluster).await;
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    let key = SigningKey::rsa();
    let (good, unknown) = (pod_token(&node, &key, 1), pod_token(&node, &key, 2));
    known.lock().unwrap_or_else(PoisonError::into_inner).push(good.clone());

    for (name, role, jwt) in
        [("good", "reader", &good), ("unknown", "reader", &unknown), ("role", "writer", &good)]
    {
        let place = format!("infra/{name}/login");
        let login = json!({"data": {"role": role, "jwt": jwt}});
        api.put(&format!("/v1/secrets/{place}"), &login).await.ok();
        let backend = json!({
            "name": name, "type": "hashicorp-vault", "mode": "proxy",
            "config": {"endpoint": bao.url(), "auth_method": "kubernetes", "auth_config_path": place},
            "path_mapping": {format!("external/{name}/**"): "secret/data/**"},
        });
        create_backend(&api, &backend).await;
    }
    let read = async |name: &str| api.get(&format!("/v1/secrets/external/{name}/app/db")).await;

    for _ in 0..3 {
        assert_eq!(read("good").await.ok()["data"], json!({"from": "the cluster"}));
    }
    for name in ["unknown", "role"] {
        let error = secret_refusal(&read(name).await, 503, "service_unavailable");
        assert_eq!(error["details"]["reason"], "backend_auth", "{name}: {error}");
        assert!(!error.to_string().contains(unknown.rsplit('.').next().unwrap()));
    }
    let reviews = cluster.requests();
    let of = |token: &str| reviews.iter().filter(|asked| asked.text().contains(token)).count();
    assert!(of(&unknown) >= 1, "the cluster was asked");
    // The probe and the reads share a login.
    assert!(of(&good) <= 2, "{} logins", of(&good));
}
