//! `hansa token`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use hansa_model::SiteId;
use hansa_model::limits::token::{TTL_DEFAULT, TTL_MAX};
use hansa_model::scope::Scope;
use hansa_model::secrets::id::TenantId;
use serde_json::json;

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::{output, site};
use crate::client::Client;
use crate::mint::{self, MintRequest};

/// Flags of `hansa token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa token mint --data-dir /var/lib/hansa --scope 'hosts:read sites:read' --ttl 8h\n  \
    export HANSA_TOKEN=$(hansa token mint --scope all --userid ada@example.com)\n\nScopes: identity:read \
    identity:write role:write sites:read sites:write hosts:read rollups:read\n  policies:read policies:write \
    commands:read commands:dispatch audit:read alerts:read\n  alerts:write leases:read leases:revoke site:read \
    site:write admin\n  federation:read federation:write secrets:read secrets:write secrets:delete \
    secrets:list\n  secrets:rotate")]
pub struct TokenArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Makes a token and prints it; it is stored nowhere and cannot be shown again.
    Mint {
        /// What the token allows: scopes separated by spaces or commas, or `all`; may be given several times.
        #[arg(long, required = true, value_name = "SCOPES")]
        scope: Vec<String>,
        /// How long it is accepted, such as 15m, 24h or 7d; at most 365d.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_ttl)]
        ttl: Duration,
        /// Who uses it; stands in the audit log.
        #[arg(long, value_name = "NAME", default_value = "cli")]
        userid: String,
        /// Only these sites, by name or id; may be given several times [default: all].
        #[arg(long, value_delimiter = ',')]
        site: Vec<String>,
        /// Whose secrets it sees [default: the default tenant's].
        #[arg(long, value_name = "TENANT")]
        tenant: Option<TenantId>,
    },
}

pub(crate) async fn run(args: TokenArgs) -> Result<(), Failure> {
    let TokenVerb::Mint { scope, ttl, userid, site, tenant } = args.verb;
    let scopes = parse_scopes(&scope)?;
    if args.connection.addr.is_some() {
        return Err(Failure::new(Exit::NotAllowed, "tokens are made on the node's own machine only")
            .next("hansa token mint --data-dir DIR there"));
    }
    let access = args.connection.open().await?;
    let minted = async {
        let sites = if site.is_empty() { None } else { Some(resolve_all(access.client(), &site).await?) };
        let request = MintRequest { userid, scopes, sites, tenant, ttl_seconds: ttl.as_secs() };
        mint::ask(&args.connection.data_dir()?, &request).await
    }
    .await;
    access.close().await;
    let token = minted?;
    output::value(args.connection.output, &json!({"token": token, "expires_in": ttl.as_secs()}), &token)
}

async fn resolve_all(client: &Client, sites: &[String]) -> Result<BTreeSet<SiteId>, Failure> {
    let mut ids = BTreeSet::new();
    for name in sites {
        let id = site::resolve(client, name).await?;
        ids.insert(id.parse().map_err(|error| Failure::new(Exit::Failed, format!("site {name}: {error}")))?);
    }
    Ok(ids)
}

fn parse_scopes(texts: &[String]) -> Result<BTreeSet<Scope>, Failure> {
    let mut scopes = BTreeSet::new();
    for name in texts.iter().flat_map(|text| text.split([' ', ','])).filter(|name| !name.is_empty()) {
        if name == "all" {
            scopes.extend(Scope::ALL);
        } else {
            let scope: Scope =
                name.parse().map_err(|error| Failure::usage(format!("--scope: {name} {error}")))?;
            scopes.insert(scope);
        }
    }
    if scopes.is_empty() {
        return Err(Failure::usage("--scope names no scope").next("hansa token mint --help"));
    }
    Ok(scopes)
}

/// A duration as people write it: `15m`, `24h`, `7d`, `1h30m`.
fn parse_ttl(text: &str) -> Result<Duration, String> {
    let bad = || format!("is not a duration such as {}h or 7d", TTL_DEFAULT.as_secs() / 3_600);
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = rest[digits..].chars().next().ok_or_else(bad)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(bad()),
        };
        total += Duration::from_secs(count.checked_mul(seconds).ok_or_else(bad)?);
        rest = &rest[digits + unit.len_utf8()..];
    }
    if total.is_zero() {
        return Err(bad());
    }
    if total > TTL_MAX {
        return Err(format!("is longer than {} days", TTL_MAX.as_secs() / 86_400));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_ttl("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_ttl("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "24", "h", "1w", "0h", "400d", "99999999999999999999h"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_may_be_separated_or_all() {
        let some = parse_scopes(&["hosts:read sites:read".to_owned(), "admin".to_owned()]).unwrap();

        assert_eq!(some.len(), 3);
        assert_eq!(parse_scopes(&["all".to_owned()]).unwrap().len(), Scope::ALL.len());
        assert!(parse_scopes(&["hosts:wrote".to_owned()]).is_err());
    }

    #[test]
    fn help_lists_every_scope() {
        let help = <super::super::Cli as clap::CommandFactory>::command()
            .find_subcommand_mut("token")
            .map(|token| token.render_long_help().to_string())
            .unwrap();

        assert!(Scope::ALL.iter().all(|scope| help.contains(scope.as_str())));
    }
}
