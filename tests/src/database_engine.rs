//! A real OpenBao whose database engine makes users of a real PostgreSQL, both on loopback.

use std::path::PathBuf;
use std::sync::Arc;

use hansa_actors::issuer::Issuer;
use hansa_backends::VendorDrivers;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::openbao::OpenBao;
use crate::postgres::Postgres;
use crate::stores::loopback_rules;

/// Both servers, and a login for a coordinator. The engine's role `orders-read` may select from the table
/// `orders`, and `orders-brief` the same for two minutes at most.
#[derive(Debug)]
pub struct DatabaseEngine {
    /// Makes the users.
    pub bao: OpenBao,
    /// Has them.
    pub postgres: Postgres,
    folder: TempDir,
}

impl DatabaseEngine {
    /// Starts both and makes the roles.
    ///
    /// # Panics
    /// One of them does not come up.
    pub async fn start() -> Self {
        let postgres = Postgres::start().await;
        let tables = "CREATE ROLE readers; CREATE TABLE orders(id int); GRANT SELECT ON orders TO readers";
        postgres.superuser().await.batch_execute(tables).await.expect("a table");
        let bao = OpenBao::start().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = Self { bao, postgres, folder };
        engine.set_up().await;
        engine
    }

    /// What an operator does at OpenBao: the engine, its roles, a policy, an AppRole.
    async fn set_up(&self) {
        let bao = &self.bao;
        let password = std::fs::read_to_string(self.postgres.password_file()).expect("a password");
        bao.write("sys/mounts/database", &json!({"type": "database"})).await;
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            self.postgres.port()
        );
        let connection = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
            "connection_url": url, "username": "postgres", "password": password,
        });
        bao.write("database/config/orders", &connection).await;
        for (role, max_ttl) in [("orders-read", "24h"), ("orders-brief", "2m")] {
            let statements = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' \
                              VALID UNTIL '{{expiration}}' IN ROLE readers;";
            let role_of = json!({
                "db_name": "orders", "creation_statements": [statements],
                "default_ttl": "90s", "max_ttl": max_ttl,
            });
            bao.write(&format!("database/roles/{role}"), &role_of).await;
        }
        self.allow(&["sys/leases/renew", "sys/leases/revoke"]).await;
        let (role_id, secret_id) = bao.approle("hansa", &["leases"]).await;
        // The default policy allows renewals; what hansa needs is to stand in its own.
        let own = json!({"token_policies": ["leases"], "token_no_default_policy": true});
        bao.write("auth/approle/role/hansa", &own).await;
        let login = json!({"role_id": role_id, "secret_id": secret_id}).to_string();
        std::fs::write(self.login_file(), login).expect("a file for the login");
    }

    /// Lets the login read credentials, and update these paths.
    pub async fn allow(&self, updates: &[&str]) {
        let mut rules = "path \"database/creds/*\" { capabilities = [\"read\"] }\n".to_owned();
        for path in updates {
            rules.push_str(&format!("path \"{path}\" {{ capabilities = [\"update\"] }}\n"));
        }
        self.bao.write("sys/policies/acl/leases", &json!({"policy": rules})).await;
    }

    /// The file with the coordinator's login.
    pub fn login_file(&self) -> PathBuf {
        self.folder.path().join("login.json")
    }

    /// The table of a coordinator's configuration; `address` is that of OpenBao or of what stands before it.
    pub fn declaration(&self, address: &str) -> String {
        format!(
            "[[lease_issuer]]\nname = 'vault'\ntype = 'vault'\naddress = '{address}'\nlogin_file = '{}'\n\
             timeout_seconds = 2\n[lease_issuer.backend_roles]\nreader = 'orders-read'\n\
             brief = 'orders-brief'\nlost = 'no-such-role'\n",
            self.login_file().display(),
        )
    }

    /// The issuer at this address.
    ///
    /// # Panics
    /// The configuration is none.
    pub fn issuer_at(&self, address: &str) -> Arc<dyn Issuer> {
        self.issuer_under(address, &VendorDrivers::new(loopback_rules()))
    }

    /// The same with other drivers.
    ///
    /// # Panics
    /// The configuration is none.
    pub fn issuer_under(&self, address: &str, drivers: &VendorDrivers) -> Arc<dyn Issuer> {
        let layer: hansa::config::Layer = toml::from_str(&self.declaration(address)).expect("it parses");
        let config = layer.resolve().expect("it is valid");
        let mut issuers = hansa::issuer::open(&config.lease_issuers, drivers).expect("nothing is asked yet");
        issuers.remove(0)
    }

    /// The users that the engine has made and not yet dropped.
    ///
    /// # Panics
    /// PostgreSQL does not answer.
    pub async fn users(&self) -> Vec<String> {
        let query = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, 'v-') ORDER BY 1";
        let rows = self.postgres.superuser().await.query(query, &[]).await.expect("a list of roles");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Seconds that OpenBao still gives a lease; none when it has ended.
    pub async fn rest_of(&self, vault_lease_id: &Value) -> Option<u64> {
        let body = json!({"lease_id": vault_lease_id});
        let answer = self.bao.call(reqwest::Method::POST, "sys/leases/lookup", Some(&body)).await;
        (answer.status == 200).then(|| answer.body["data"]["ttl"].as_u64().unwrap_or_default())
    }

    /// Whether the database takes a credential, `user:password`.
    pub async fn opens(&self, credential: &str) -> bool {
        let Some((user, password)) = credential.split_once(':') else { return false };
        let Ok(session) = self.postgres.login(user, password).await else { return false };
        session.query("SELECT id FROM orders", &[]).await.is_ok()
    }
}
