//! A real PostgreSQL server: a cluster of its own in a temporary folder, on a free loopback port.
//!
//! The programs are Debian's, which `./scripts/test tools` installs. A server that does not come up fails
//! the test: nothing is skipped.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::process::free_port;
use crate::waiting::eventually;

const PASSWORD: &str = "superuser-of-a-test";
/// A role that may make roles, and no more.
const ISSUER: &str = "issuer";
const ISSUER_PASSWORD: &str = "issuer-of-a-test";

/// One server; stopped by its process id when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts its server; returns when it answers.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("hansa-pg").tempdir_in("/tmp").expect("a folder");
        let data = folder.path().join("data");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a file for the password");
        let key = certificate(folder.path());
        let owner = owner();
        if let Some((user, group)) = owner {
            for path in [folder.path(), &password, &key] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may give files away");
            }
        }
        let made = as_owner(owner, &program("initdb"))
            .args(["--auth=scram-sha-256", "--username=postgres", "--no-sync", "--encoding=UTF8"])
            .arg(format!("--pwfile={}", password.display()))
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a file for the log");
        let server = as_owner(owner, &program("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "unix_socket_directories=", "-c", "log_statement=all", "-c", "ssl=on"])
            .arg(format!("--ssl_cert_file={}", folder.path().join("server.pem").display()))
            .arg(format!("--ssl_key_file={}", key.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres starts");
        let server = Self { folder, port, server: Some(server) };
        eventually("PostgreSQL answers", async || server.login("postgres", PASSWORD).await.ok()).await;
        server
    }

    /// Connection string of the superuser, without its password.
    pub fn connection(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    /// A file with the superuser's password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Makes a user that may make roles and is no superuser, the grantor of `roles`; gives its connection
    /// string, over TLS, and the file with its password.
    ///
    /// # Panics
    /// The server refuses.
    pub async fn issuer(&self, roles: &[&str]) -> (String, PathBuf) {
        let mut statements = format!(
            "CREATE ROLE {ISSUER} LOGIN CREATEROLE PASSWORD '{ISSUER_PASSWORD}';
             GRANT pg_signal_backend TO {ISSUER};"
        );
        for role in roles {
            statements.push_str(&format!("GRANT {role} TO {ISSUER} WITH ADMIN OPTION;"));
        }
        self.superuser().await.batch_execute(&statements).await.expect("the superuser makes a role");
        let file = self.folder.path().join("issuer-password");
        std::fs::write(&file, ISSUER_PASSWORD).expect("a file for the password");
        let port = self.port;
        (format!("host=127.0.0.1 port={port} user={ISSUER} dbname=postgres sslmode=require"), file)
    }

    /// Port on loopback.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The authority of the server's certificate, PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The superuser.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn superuser(&self) -> Client {
        self.login("postgres", PASSWORD).await.expect("the superuser may log in")
    }

    /// Logs in.
    ///
    /// # Errors
    /// The server refuses, or is not there.
    pub async fn login(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// What the server has logged: every statement.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let pid = rustix::process::Pid::from_child(&server);
        // Immediate shutdown: its children end with it.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = server.wait();
    }
}

/// Makes an authority and the server's certificate in this folder; gives the file of the server's key.
fn certificate(folder: &Path) -> PathBuf {
    let new_key = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = new_key();
    let ca = authority.self_signed(&ca_key).expect("a certificate");
    let issuer = rcgen::Issuer::from_params(&authority, &ca_key);
    let key = new_key();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let server = server.signed_by(&key, &issuer).expect("a certificate");
    let file = folder.join("server-key.pem");
    for (path, text) in [
        (folder.join("ca.pem"), ca.pem()),
        (folder.join("server.pem"), server.pem()),
        (file.clone(), key.serialize_pem()),
    ] {
        std::fs::write(path, text).expect("a file");
    }
    // The server refuses a key that others may read.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    file
}

/// User and group that run the server when the tests run as root: PostgreSQL refuses root.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("a list of users");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("Debian's user postgres");
    let parts: Vec<&str> = line.split(':').collect();
    Some((parts[2].parse().expect("a user id"), parts[3].parse().expect("a group id")))
}

fn as_owner(owner: Option<(u32, u32)>, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// The newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: ./scripts/test tools does it")
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin").join(name)));
    versions.filter(|path| path.exists()).max().expect("PostgreSQL has its programs")
}
