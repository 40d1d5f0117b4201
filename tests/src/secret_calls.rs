//! What tests of the secrets API ask again and again.

use serde_json::Value;

use crate::{Answer, Api, eventually};

/// Makes a secret backend; its id.
pub async fn create_backend(api: &Api, body: &Value) -> String {
    let answer = api.post("/v1/federation/backends", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body["id"].as_str().expect("an id").to_owned()
}

/// Starts a sync, or joins the running one, and waits until it has ended; the status then.
pub async fn sync_backend(api: &Api, id: &str, body: &Value) -> Value {
    let started = api.post(&format!("/v1/federation/backends/{id}/sync"), body).await;
    assert_eq!(started.status, 202, "{}", started.text);
    eventually("the sync has ended", async || {
        let status = api.get(&format!("/v1/federation/backends/{id}/status")).await.ok();
        (status["last_run"]["sync_id"] == started.body["sync_id"]).then_some(status)
    })
    .await
}

/// The refusal of the secrets API: its code, once all of the envelope is there (contract A.5).
pub fn secret_refusal(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    let error = &answer.body["error"];
    assert_eq!(error["code"], code, "{}", answer.text);
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", answer.text);
    assert_eq!(error["request_id"], answer.body["request_id"], "{}", answer.text);
    error.clone()
}
