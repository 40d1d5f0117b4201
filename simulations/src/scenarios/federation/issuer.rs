//! The issuer of leases: a database of the world, that ends credentials by itself and does not always answer.

use std::fmt;
use std::time::Duration;

use hansa_actors::issuer::{Credential, CredentialName, Issuer, IssuerError, Issuing, Keep, Order};
use hansa_model::Secret;
use hansa_model::lease::LeaseKind;
use serde_json::Map;
use tokio::time::sleep;

use super::books::Books;
use crate::world::HostEnv;

/// The issuer, as one boot of the coordinator reaches it.
pub(super) struct WorldIssuer {
    env: HostEnv,
    books: Books,
}

impl WorldIssuer {
    pub(super) const fn new(env: HostEnv, books: Books) -> Self {
        Self { env, books }
    }

    /// Does something after a while. While the callers work, the call or its answer gets lost now and then.
    async fn call<T: Send>(&self, act: impl FnOnce(&Books) -> T + Send) -> Result<T, IssuerError> {
        let draw = self.env.entropy.u64();
        let works = self.env.clock.now() < self.books.work_ends;
        // Longer than its caller waits, once in a while.
        let slow = if works && draw.is_multiple_of(50) { 20_000 } else { draw % 1_000 };
        sleep(Duration::from_millis(slow)).await;
        let lost = || Err(IssuerError::Unavailable("the line is down".to_owned()));
        match (draw >> 32) % 10 {
            0 if works => lost(),
            1 if works => {
                act(&self.books);
                lost()
            }
            _ => Ok(act(&self.books)),
        }
    }
}

impl fmt::Debug for WorldIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorldIssuer")
    }
}

impl Issuer for WorldIssuer {
    fn name(&self) -> &'static str {
        "world"
    }

    fn serves(&self, _: LeaseKind, _: &str) -> bool {
        true
    }

    fn issue<'a>(&'a self, order: &'a Order) -> Issuing<'a, Credential> {
        Box::pin(async move {
            let (id, end) = (order.name.lease, order.expires_at);
            self.env.observer.event(&format!("is asked to issue {id}"));
            self.call(move |books| books.open().issued.insert(id, end)).await?;
            Ok(Credential {
                value: Secret::new(format!("{}:{}", order.name.label(), order.password.expose())),
                vault_lease_id: format!("world/{id}"),
                expires_at: end,
                metadata: Map::new(),
            })
        })
    }

    fn revoke<'a>(&'a self, name: &'a CredentialName, _ids: &'a [String]) -> Issuing<'a, ()> {
        Box::pin(async move {
            let id = name.lease;
            self.env.observer.event(&format!("is asked to revoke {id}"));
            self.call(move |books| books.open().issued.remove(&id)).await.map(|_| ())
        })
    }

    fn sweep<'a>(&'a self, keep: &'a Keep) -> Issuing<'a, u64> {
        Box::pin(async move {
            let swept = |books: &Books| {
                let mut books = books.open();
                let before = books.issued.len();
                books.issued.retain(|id, _| {
                    let name = CredentialName { node: keep.node.clone(), lease: *id };
                    keep.leftover(&name.label()).is_none()
                });
                before - books.issued.len()
            };
            Ok(self.call(swept).await? as u64)
        })
    }
}
