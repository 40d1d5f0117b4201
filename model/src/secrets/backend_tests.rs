//! Each kind accepts what the contract shows, and refuses the rest by name.

use super::*;

fn parse(kind: BackendKind, config: serde_json::Value) -> Result<BackendConfig, InvalidConfig> {
    BackendConfig::parse(kind, &config.to_string())
}

fn refused(kind: BackendKind, config: serde_json::Value) -> String {
    parse(kind, config).unwrap_err().field
}

#[test]
fn documented_configurations_are_taken() {
    let vault = parse(
        BackendKind::HashicorpVault,
        serde_json::json!({
            "endpoint": "https://vault.internal:8200",
            "auth_method": "approle",
            "auth_config_path": "infra/hashicorp/approle-creds",
            "tls_verify": true,
        }),
    );
    let BackendConfig::Vault(vault) = vault.unwrap() else { panic!("another kind") };
    assert_eq!(vault.endpoint.as_str(), "https://vault.internal:8200");
    assert_eq!((vault.auth_mount.as_str(), vault.kv_version, vault.tls_verify), ("approle", None, true));
    assert_eq!(vault.common.timeout, Duration::from_secs(5));

    let aws = parse(
        BackendKind::AwsSecretsManager,
        serde_json::json!({ "region": "us-east-1", "credentials_path": "infra/aws/sm/reader" }),
    );
    assert_eq!(aws.unwrap().login_path().unwrap().1.as_str(), "infra/aws/sm/reader");
}

#[test]
fn configuration_never_takes_a_credential() {
    for name in CREDENTIALS {
        let config = serde_json::json!({ "region": "us-east-1", "credentials_path": "a", name: "value" });
        assert_eq!(refused(BackendKind::AwsSecretsManager, config), name);
    }
}

#[test]
fn member_that_is_unknown_or_out_of_range_is_named() {
    let aws = |extra: serde_json::Value| {
        let mut config = serde_json::json!({ "region": "us-east-1", "credentials_path": "a" });
        for (name, value) in extra.as_object().unwrap() {
            config[name] = value.clone();
        }
        refused(BackendKind::AwsSecretsManager, config)
    };

    assert_eq!(aws(serde_json::json!({ "regoin": "x" })), "regoin");
    assert_eq!(aws(serde_json::json!({ "a\nb": "x" })), "");
    assert_eq!(aws(serde_json::json!({ "timeout": "31s" })), "timeout");
    assert_eq!(aws(serde_json::json!({ "timeout": 5 })), "timeout");
    assert_eq!(aws(serde_json::json!({ "max_concurrency": 0 })), "max_concurrency");
    assert_eq!(aws(serde_json::json!({ "region": "us/../x" })), "region");
    assert_eq!(aws(serde_json::json!({ "name_separator": "--" })), "name_separator");
    assert_eq!(refused(BackendKind::GoogleSecretManager, serde_json::json!({})), "project_id");
    assert_eq!(
        refused(BackendKind::AzureKeyVault, serde_json::json!({ "vault_url": "http://v" })),
        "vault_url"
    );
}

#[test]
fn endpoint_is_a_base_address_and_nothing_else() {
    for wrong in [
        "vault.internal",
        "ftp://vault",
        "https://",
        "https://user@vault",
        "https://user:password@vault",
        "https://vault/v1",
        "https://vault?x=1",
        "https://vault#x",
        "https://va ult",
        "https://vault\n",
    ] {
        assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
    }
    let endpoint: Endpoint = "HTTPS://Vault.Internal".parse().unwrap();
    assert_eq!((endpoint.as_str(), endpoint.port()), ("https://vault.internal", 443));
    // Spellings of an address that the URL standard knows become that address, so the rules meet it.
    let spelled: Endpoint = "http://0x7f.1".parse().unwrap();
    assert_eq!(spelled.host(), Host::<&str>::Ipv4(std::net::Ipv4Addr::LOCALHOST));
}
