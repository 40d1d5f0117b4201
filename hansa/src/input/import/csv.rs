//! Tables with a header line, as spreadsheets and asset databases export them.
//!
//! The delimiter (comma, semicolon or tab) is taken from the header. Columns are found by the entry's field
//! names and by names that people commonly use; others are ignored and listed. An empty cell is absent: it
//! keeps what the inventory holds. A column `removed` that says yes names a host that is gone.

use csv::ByteRecord;
use hansa_model::host::{HostEntry, Patch, SkippedEntry};
use hansa_model::{HostId, Timestamp};

use super::{BadRowReason, Imported, Place};
use crate::input::{identity, tags_json};

/// What a column sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    HostId,
    Fqdn,
    Domain,
    /// An address of either kind.
    Address,
    Ipv4,
    Ipv6,
    PublicIp,
    OsFamily,
    OsVersion,
    Platform,
    Status,
    LastSeen,
    Tags,
    Country,
    Subdivision,
    City,
    Latitude,
    Longitude,
    Mtime,
    Removed,
}

/// Header names, lower-case, with `_` for spaces, dashes and dots. The entry's own names stand first.
const COLUMNS: [(Column, &[&str]); 20] = [
    (Column::HostId, &["host_id", "id", "uuid", "system_uuid", "host_uuid"]),
    (Column::Fqdn, &["fqdn", "hostname", "host", "name", "host_name", "dns_name", "server", "computer_name"]),
    (Column::Domain, &["domain", "dns_domain", "dnsdomain"]),
    (Column::Address, &["ip", "address", "ip_address", "ipaddress", "primary_ip", "mgmt_ip"]),
    (Column::Ipv4, &["ipv4", "ipv4_address", "ip4", "primary_ip4"]),
    (Column::Ipv6, &["ipv6", "ipv6_address", "ip6", "primary_ip6"]),
    (Column::PublicIp, &["public_ip", "external_ip", "public_ip_address", "publicip"]),
    (Column::OsFamily, &["os_family", "os", "operating_system", "os_name", "distribution", "distro"]),
    (Column::OsVersion, &["os_version", "os_release", "version", "operating_system_version"]),
    (Column::Platform, &["platform", "kernel_name", "os_type"]),
    (Column::Status, &["status", "state", "power_state"]),
    (Column::LastSeen, &["last_seen", "last_contact", "last_checkin", "lastseen", "last_seen_at"]),
    (Column::Tags, &["tags_json", "tags", "labels", "groups"]),
    (Column::Country, &["geo_country_code", "country_code", "country"]),
    (Column::Subdivision, &["geo_subdivision_code", "subdivision_code", "subdivision", "region_code"]),
    (Column::City, &["geo_city", "city", "location"]),
    (Column::Latitude, &["geo_latitude", "latitude", "lat"]),
    (Column::Longitude, &["geo_longitude", "longitude", "lon", "lng", "long"]),
    (Column::Mtime, &["mtime", "modified", "updated_at", "last_modified"]),
    (Column::Removed, &["removed", "remove", "deleted", "decommissioned", "retired"]),
];

/// Whether the first line names a host; that is how a table is recognised.
pub(super) fn has_known_header(bytes: &[u8]) -> bool {
    let (header, delimiter, _) = header(bytes);
    let Ok(header) = std::str::from_utf8(header) else { return false };
    header
        .split(char::from(delimiter))
        .any(|name| matches!(column(name.trim_matches('"')), Some(Column::HostId | Column::Fqdn)))
}

pub(super) fn parse(bytes: &[u8], imported: &mut Imported) {
    let (_, delimiter, table) = header(bytes);
    // Excel's line `sep=;` stands before the table and counts as a line of the file.
    let mut lines = Lines { bytes, at: 0, line: 1 };
    let table_at = bytes.len() - table.len();
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).trim(csv::Trim::All).from_reader(table);
    let columns: Vec<_> = match reader.byte_headers() {
        Ok(names) => names.iter().map(|name| column(&String::from_utf8_lossy(name))).collect(),
        Err(_) => return imported.refuse(Place::Line(1), BadRowReason::NotUtf8),
    };
    if let Ok(names) = reader.byte_headers() {
        let ignored = names.iter().zip(&columns).filter(|(_, column)| column.is_none());
        imported.columns_ignored =
            ignored.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    }
    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {
                let record_at = record.position().map_or(0, csv::Position::byte);
                let line = lines.of(table_at + usize::try_from(record_at).unwrap_or(0));
                take(Place::Line(line), &columns, &record, imported);
            }
            Ok(false) => return,
            // A reader of bytes in memory that accepts any number of fields has no error left.
            Err(_) => return imported.refuse(Place::Line(0), BadRowReason::NotUtf8),
        }
    }
}

/// Tells the line of each record. The reader's own count lags by one where lines end with CR LF.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that begins at or after `at`, behind line ends that the reader left there.
    fn of(&mut self, at: usize) -> u64 {
        let ends = self.bytes[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &self.bytes[self.at..at + ends];
        self.line += passed.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        self.at = at + ends;
        self.line
    }
}

fn take(place: Place, columns: &[Option<Column>], record: &ByteRecord, imported: &mut Imported) {
    if record.iter().all(<[u8]>::is_empty) {
        return;
    }
    match Row::of(columns, record).and_then(|row| if row.is_removed()? { row.removal() } else { row.entry() })
    {
        Ok(Taken::Entry(entry)) => imported.take(place, *entry),
        Ok(Taken::Removal(host_id)) => imported.take_removal(place, host_id),
        Err(reason) => imported.refuse(place, reason),
    }
}

/// The header line, its delimiter, and the table from its header on.
fn header(bytes: &[u8]) -> (&[u8], u8, &[u8]) {
    let first = first_line(bytes);
    if let Some([delimiter]) = first.strip_prefix(b"sep=") {
        let table = bytes.get(first.len()..).unwrap_or_default().trim_ascii_start();
        return (first_line(table), *delimiter, table);
    }
    let count = |delimiter: u8| first.iter().filter(|byte| **byte == delimiter).count();
    let delimiter =
        [b',', b';', b'\t'].into_iter().max_by_key(|delimiter| (count(*delimiter), *delimiter == b','));
    (first, delimiter.unwrap_or(b','), bytes)
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default()
}

fn column(name: &str) -> Option<Column> {
    let name = name.trim().to_lowercase().replace([' ', '-', '.'], "_");
    COLUMNS.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(column, _)| *column)
}

enum Taken {
    Entry(Box<HostEntry>),
    Removal(HostId),
}

/// The cells of one row that have a column and are not empty.
struct Row<'a>(Vec<(Column, &'a str)>);

impl<'a> Row<'a> {
    fn of(columns: &[Option<Column>], record: &'a ByteRecord) -> Result<Self, BadRowReason> {
        if record.len() > columns.len() {
            let reason = "more cells than the header has columns: quote cells that hold the delimiter";
            return Err(BadRowReason::Malformed(reason.to_owned()));
        }
        let mut cells = Vec::with_capacity(record.len());
        for (column, cell) in columns.iter().zip(record) {
            let cell = std::str::from_utf8(cell).map_err(|_| BadRowReason::NotUtf8)?.trim();
            if let (Some(column), false) = (column, cell.is_empty()) {
                cells.push((*column, cell));
            }
        }
        Ok(Self(cells))
    }

    fn cell(&self, wanted: Column) -> Option<&'a str> {
        self.0.iter().find(|(column, _)| *column == wanted).map(|(_, cell)| *cell)
    }

    fn text(&self, wanted: Column) -> Patch<String> {
        self.cell(wanted).map(|cell| Some(cell.to_owned()))
    }

    fn is_removed(&self) -> Result<bool, BadRowReason> {
        match self.cell(Column::Removed).unwrap_or("no").to_lowercase().as_str() {
            "yes" | "y" | "true" | "1" => Ok(true),
            "no" | "n" | "false" | "0" => Ok(false),
            _ => Err(BadRowReason::BadValue { field: "removed", expected: "yes or no" }),
        }
    }

    fn removal(&self) -> Result<Taken, BadRowReason> {
        let host_id = self.host_id()?.parse().map_err(SkippedEntry::InvalidId)?;
        Ok(Taken::Removal(host_id))
    }

    fn entry(&self) -> Result<Taken, BadRowReason> {
        let address = |wanted: Column, is_kind: fn(&std::net::IpAddr) -> bool| {
            let of_either =
                self.cell(Column::Address).filter(|cell| cell.parse().as_ref().is_ok_and(is_kind));
            self.text(wanted).or_else(|| of_either.map(|cell| Some(cell.to_owned())))
        };
        Ok(Taken::Entry(Box::new(HostEntry {
            host_id: self.host_id()?,
            fqdn: self.fqdn(),
            ipv4: address(Column::Ipv4, std::net::IpAddr::is_ipv4),
            ipv6: address(Column::Ipv6, std::net::IpAddr::is_ipv6),
            public_ip: self.text(Column::PublicIp),
            os_family: self.text(Column::OsFamily),
            os_version: self.text(Column::OsVersion),
            platform: self.text(Column::Platform),
            status: self.text(Column::Status),
            last_seen: self.instant(Column::LastSeen, "last_seen")?.map(Some),
            tags_json: self.cell(Column::Tags).map(|cell| Some(tags(cell))),
            geo_country_code: self.text(Column::Country),
            geo_subdivision_code: self.text(Column::Subdivision),
            geo_city: self.text(Column::City),
            geo_latitude: self.degrees(Column::Latitude, "geo_latitude")?,
            geo_longitude: self.degrees(Column::Longitude, "geo_longitude")?,
            mtime: self.instant(Column::Mtime, "mtime")?,
        })))
    }

    fn host_id(&self) -> Result<String, BadRowReason> {
        if let Some(host_id) = self.cell(Column::HostId) {
            return Ok(host_id.to_owned());
        }
        let hint = "fill a column host_id or fqdn";
        let fqdn = self.fqdn().ok_or(BadRowReason::Nameless { hint })?;
        Ok(identity::from_fqdn(&fqdn).to_string())
    }

    /// The name, with the domain of its own column where it has none.
    fn fqdn(&self) -> Option<String> {
        let name = self.cell(Column::Fqdn)?;
        match self.cell(Column::Domain) {
            Some(domain) if !name.contains('.') => Some(format!("{name}.{}", domain.trim_start_matches('.'))),
            _ => Some(name.to_owned()),
        }
    }

    fn instant(&self, wanted: Column, field: &'static str) -> Result<Option<Timestamp>, BadRowReason> {
        let Some(cell) = self.cell(wanted) else { return Ok(None) };
        let instant = cell.parse().or_else(|error| match cell.parse::<i64>() {
            Ok(seconds) => Ok(Timestamp::from_secs(seconds)),
            Err(_) => Err(error),
        });
        let expected = "an instant such as 2026-11-22T08:30:00Z or seconds since 1970";
        instant.map(Some).map_err(|_| BadRowReason::BadValue { field, expected })
    }

    /// Spreadsheets of many countries write a comma before the fraction.
    fn degrees(&self, wanted: Column, field: &'static str) -> Result<Patch<f64>, BadRowReason> {
        let Some(cell) = self.cell(wanted) else { return Ok(None) };
        let degrees: f64 = cell
            .replace(',', ".")
            .parse()
            .map_err(|_| BadRowReason::BadValue { field, expected: "a number of degrees" })?;
        Ok(Some(Some(degrees)))
    }
}

/// A JSON list as it stands; else words between commas, semicolons or bars.
fn tags(cell: &str) -> String {
    if serde_json::from_str::<Vec<String>>(cell).is_ok() {
        return cell.to_owned();
    }
    tags_json(cell.split([',', ';', '|']).map(str::trim).filter(|tag| !tag.is_empty()))
}
