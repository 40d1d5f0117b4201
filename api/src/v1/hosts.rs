//! Host search and detail at the coordinator (contract B3 and 6.3).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa_model::directory::{Cursor, Filter, InvalidQuery, OrderBy, Query as DirectoryQuery, Start};
use hansa_model::limits::search as limits;
use hansa_model::scope::Operator;
use hansa_model::{Host, HostId, SiteId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::rollups::CoverageBody;
use crate::answer::{Answer, Licensed};
use crate::code::Code;
use crate::problem::Problem;
use crate::query::{Query, invalid};
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// A row of the directory.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Host)]
pub(crate) struct HostBody {
    host_id: Uuid,
    /// The site that holds the host; absent in a site's own list.
    #[serde(skip_serializing_if = "Option::is_none")]
    site_id: Option<Uuid>,
    fqdn: String,
    ipv4: Option<String>,
    ipv6: Option<String>,
    public_ip: Option<String>,
    os_family: Option<String>,
    os_version: Option<String>,
    platform: Option<String>,
    status: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// JSON text of a list of tag names.
    tags_json: Option<String>,
    geo_country_code: Option<String>,
    geo_subdivision_code: Option<String>,
    geo_city: Option<String>,
    geo_latitude: Option<f64>,
    geo_longitude: Option<f64>,
    #[schema(value_type = String, format = DateTime)]
    mtime: Timestamp,
}

impl HostBody {
    /// The row as JSON shows it.
    pub(crate) fn new(site: Option<SiteId>, host: Host) -> Self {
        Self {
            host_id: host.host_id.0,
            site_id: site.map(|site| site.0),
            fqdn: host.fqdn,
            ipv4: host.ipv4,
            ipv6: host.ipv6,
            public_ip: host.public_ip,
            os_family: host.os_family,
            os_version: host.os_version,
            platform: host.platform,
            status: host.status,
            last_seen: host.last_seen,
            tags_json: host.tags_json,
            geo_country_code: host.geo_country_code,
            geo_subdivision_code: host.geo_subdivision_code,
            geo_city: host.geo_city,
            geo_latitude: host.geo_latitude,
            geo_longitude: host.geo_longitude,
            mtime: host.mtime,
        }
    }
}

/// A page of hosts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    hosts: Vec<HostBody>,
    /// Matches before paging. Exact.
    total: u64,
    /// Give it as `cursor` to get the next page; null on the last one.
    next_cursor: Option<String>,
    /// What the search covers: hosts of silent sites may have changed since.
    coverage: CoverageBody,
}

/// One host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    host: HostBody,
    /// Null when the site's row is gone.
    site: Option<HostSite>,
    /// The host's page at its own site.
    site_detail_url: Option<String>,
}

/// The site that holds a host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostSite {
    site_id: Uuid,
    name: String,
    url: String,
}

/// The parameters of a site's own list: the search without sites.
pub(crate) const INVENTORY_QUERY: &[Parameter] = &{
    let mut parameters = [SEARCH_QUERY[1]; SEARCH_QUERY.len() - 1];
    let mut index = 0;
    while index < parameters.len() {
        parameters[index] = SEARCH_QUERY[index + 1];
        index += 1;
    }
    parameters
};

/// The parameters of a search. All conditions must hold; empty ones do not bind.
pub(crate) const SEARCH_QUERY: &[Parameter] = &[
    text("site_id", "sites by id, comma-separated"),
    text("fqdn_contains", "part of the name, in any case"),
    text("ipv4_contains", "part of the IPv4 address"),
    text("os_family", "exactly this family of operating systems"),
    text("platform", "exactly this platform"),
    text("status", "exactly this status"),
    text("geo_country_code", "exactly this country"),
    text("geo_subdivision_code", "exactly this subdivision"),
    instant("last_seen_after", "seen then or later"),
    instant("last_seen_before", "seen earlier"),
    text("free_text", "part of the name, the IPv4 address or the public address, in any case"),
    text("order_by", "fqdn (default), last_seen, status, os_family, platform, site_id or geo_country_code"),
    integer("limit", "rows of the page, 1 to 1,000"),
    integer("offset", "rows to leave out"),
    text("cursor", "`next_cursor` of the page before; instead of `offset`"),
];

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Text, description }
}

const fn instant(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Instant, description }
}

const fn integer(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Integer, description }
}

/// Reads the parameters of a search.
///
/// # Errors
/// Names the parameter that is bad.
pub(crate) fn directory_query(query: &Query, limit_default: usize) -> Result<DirectoryQuery, Problem> {
    let filter = Filter {
        fqdn_contains: query.text("fqdn_contains")?,
        ipv4_contains: query.text("ipv4_contains")?,
        os_family: query.text("os_family")?,
        platform: query.text("platform")?,
        status: query.text("status")?,
        geo_country_code: query.text("geo_country_code")?,
        geo_subdivision_code: query.text("geo_subdivision_code")?,
        last_seen_after: query.instant("last_seen_after")?,
        last_seen_before: query.instant("last_seen_before")?,
        free_text: query.text("free_text")?,
    };
    let limit = query.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limit_default);
    let offset = query.number("offset", 0..=usize::MAX)?;
    let order_by = query.text("order_by")?.map(|text| text.parse::<OrderBy>()).transpose()?;
    let cursor = query.opaque("cursor")?.map(decode_cursor).transpose()?;
    let (order_by, start) = match (cursor, offset) {
        (Some(_), Some(offset)) if offset > 0 => {
            return Err(invalid("cursor", format_args!("cannot be combined with offset")));
        }
        (Some(cursor), _) => (order_by.unwrap_or_else(|| cursor.key.order_by()), Start::After(cursor)),
        (None, offset) => (order_by.unwrap_or_default(), Start::Offset(offset.unwrap_or(0) as u64)),
    };
    Ok(DirectoryQuery::new(filter, order_by, limit, start)?)
}

impl From<InvalidQuery> for Problem {
    fn from(error: InvalidQuery) -> Self {
        Self::new(Code::InvalidQuery, error.to_string())
    }
}

/// A cursor as one opaque text.
pub(crate) fn encode_cursor(cursor: &Cursor) -> String {
    // Texts and ids always have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}

fn decode_cursor(text: &str) -> Result<Cursor, Problem> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| invalid("cursor", format_args!("is not one of ours: start again without it")))
}

pub(crate) fn search(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let sites = query.sites("site_id")?;
    let directory = directory_query(&query, limits::LIMIT_DEFAULT)?;
    let page = request.federation.search_hosts(operator, sites.as_deref(), &directory);
    Answer::ok(&HostsAnswer {
        licensed: Licensed,
        hosts: page.rows.into_iter().map(|(site, host)| HostBody::new(Some(site), host)).collect(),
        total: page.total,
        next_cursor: page.next.as_ref().map(encode_cursor),
        coverage: request.federation.coverage(operator, sites.as_deref()).into(),
    })
}

pub(crate) async fn show(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let id: HostId = request.id("host_id")?;
    let view = match request.query()?.instant("at")? {
        Some(at) => request.federation.host_at(&operator, id, at).await?,
        None => request.federation.host(&operator, id)?,
    };
    let url = view.site.as_ref().map(|site| site.url.trim_end_matches('/')).filter(|url| !url.is_empty());
    Answer::ok(&HostAnswer {
        licensed: Licensed,
        site_detail_url: url.map(|url| format!("{url}/hosts/{id}")),
        site: view.site.as_ref().map(|site| HostSite {
            site_id: site.id.0,
            name: site.name.to_string(),
            url: site.url.clone(),
        }),
        host: HostBody::new(Some(view.site_id), view.host),
    })
}

#[cfg(test)]
mod tests {
    use hansa_model::directory::CursorKey;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<DirectoryQuery, Problem> {
        directory_query(&Query::parse(text).unwrap(), 100)
    }

    #[test]
    fn every_documented_parameter_is_read() {
        let query = read(
            "fqdn_contains=w%25_&ipv4_contains=10.&os_family=debian&platform=linux&status=up&geo_country_code=DE\
             &geo_subdivision_code=HE&last_seen_after=2026-11-22T08:00:00Z&last_seen_before=2026-11-22T09:00:00\
             &free_text=web&order_by=last_seen&limit=50&offset=7",
        )
        .unwrap();

        assert_eq!((query.limit(), query.order_by()), (50, OrderBy::LastSeen));
        assert_eq!(query.start(), &Start::Offset(7));
        insta::assert_debug_snapshot!(query.filter());
    }

    #[test]
    fn empty_texts_do_not_bind_and_defaults_are_the_documented_ones() {
        let query = read("fqdn_contains=&status=&free_text=&site_id=").unwrap();

        assert_eq!(query, DirectoryQuery::default());
        assert_eq!(query.limit(), 100);
    }

    #[test]
    fn bad_limit_offset_order_and_cursor_are_refused() {
        for text in [
            "limit=0",
            "limit=1001",
            "limit=ten",
            "offset=-1",
            "order_by=mtime",
            "cursor=x",
            "last_seen_after=x",
        ] {
            assert_eq!(read(text).unwrap_err().code(), Code::InvalidQuery, "{text}");
        }
    }

    #[test]
    fn cursor_survives_the_url_and_brings_its_order() {
        let cursor = Cursor {
            key: CursorKey::Status(Some("up & down?".to_owned())),
            host_id: HostId(Uuid::from_u128(7)),
        };
        let text = encode_cursor(&cursor);

        let query = read(&format!("cursor={text}")).unwrap();

        assert_eq!((query.order_by(), query.start()), (OrderBy::Status, &Start::After(cursor)));
        assert!(read(&format!("cursor={text}&order_by=fqdn")).is_err());
        assert!(read(&format!("cursor={text}&offset=5")).is_err());
    }

    proptest! {
        #[test]
        fn any_cursor_is_answered(text in "[A-Za-z0-9_-]{0,60}") {
            let _ = decode_cursor(&text);
        }
    }
}
