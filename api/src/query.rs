//! The query of a URL: named parameters, each at most once, checked as they are read.
//!
//! Parameters that a route does not know are ignored: clients of the documented API send some.

use axum::http::Uri;
use hansa_model::limits::search;
use hansa_model::{SiteId, Timestamp};

use crate::code::Code;
use crate::problem::Problem;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes a query string.
    ///
    /// # Errors
    /// It does not decode.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let uri = Uri::builder().path_and_query(format!("/?{text}")).build();
        let pairs = uri
            .ok()
            .and_then(|uri| axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).ok())
            .ok_or_else(|| {
                Problem::new(Code::InvalidQuery, "the query does not decode: escape its values")
            })?;
        Ok(Self { pairs: pairs.0 })
    }

    /// The parameters as a body's object gives them.
    pub(crate) fn of_members(members: std::collections::BTreeMap<String, String>) -> Self {
        Self { pairs: members.into_iter().collect() }
    }

    /// A text; empty is none.
    ///
    /// # Errors
    /// The parameter comes twice, or is longer than any value it could match.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.one(name)? {
            Some(text) if text.len() > search::PATTERN_BYTES_MAX => {
                Err(invalid(name, format_args!("may have at most {} bytes", search::PATTERN_BYTES_MAX)))
            }
            Some("") | None => Ok(None),
            Some(text) => Ok(Some(text.to_owned())),
        }
    }

    /// A text of any length that the route's header bound allows; empty is none.
    ///
    /// # Errors
    /// The parameter comes twice.
    pub(crate) fn opaque(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        Ok(self.one(name)?.filter(|text| !text.is_empty()))
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// It is none, or out of bounds.
    pub(crate) fn number(
        &self,
        name: &'static str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(Some(number)),
            _ if *bounds.end() == usize::MAX => {
                Err(invalid(name, format_args!("must be a whole number from {}", bounds.start())))
            }
            _ => Err(invalid(
                name,
                format_args!("must be a whole number from {} to {}", bounds.start(), bounds.end()),
            )),
        }
    }

    /// A truth value; absent and empty are false.
    ///
    /// # Errors
    /// Neither `true` nor `false`.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.one(name)? {
            Some("true") => Ok(true),
            Some("false" | "") | None => Ok(false),
            Some(_) => Err(invalid(name, format_args!("must be true or false"))),
        }
    }

    /// A truth value that may be left open.
    ///
    /// # Errors
    /// Neither `true` nor `false`.
    pub(crate) fn choice(&self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.one(name)? {
            None | Some("") => Ok(None),
            Some(_) => self.flag(name).map(Some),
        }
    }

    /// Whether the parameter is there at all and not `false`, as in `?verbose`.
    pub(crate) fn present(&self, name: &'static str) -> bool {
        self.pairs.iter().any(|(key, value)| key == name && value != "false")
    }

    /// An instant; empty is none. A plus sign that nobody escaped arrives as a space and is taken for one.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn instant(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        match self.one(name)? {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .or_else(|error| match text.rsplit_once(' ') {
                    Some((instant, zone)) => format!("{instant}+{zone}").parse(),
                    None => Err(error),
                })
                .map(Some)
                .map_err(|error| invalid(name, format_args!("{error}"))),
        }
    }

    /// One of a closed set of words; empty is none.
    ///
    /// # Errors
    /// Another word.
    pub(crate) fn word<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        match self.one(name)? {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error| invalid(name, format_args!("{error}"))),
        }
    }

    /// Sites, comma-separated or repeated; none given is none, not an empty list.
    ///
    /// # Errors
    /// One is no id, or there are too many.
    pub(crate) fn sites(&self, name: &'static str) -> Result<Option<Vec<SiteId>>, Problem> {
        let given = self.pairs.iter().filter(|(key, _)| key == name).flat_map(|(_, value)| value.split(','));
        let sites: Vec<SiteId> = given
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(|error| invalid(name, format_args!("{error}"))))
            .collect::<Result<_, _>>()?;
        if sites.len() > search::SITES_MAX {
            return Err(invalid(name, format_args!("may name at most {} sites", search::SITES_MAX)));
        }
        Ok((!sites.is_empty()).then_some(sites))
    }

    /// This query as text, with one parameter set to another value.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let others = self.pairs.iter().filter(|(key, _)| key != name && key != "offset");
        let pairs = others.map(|(key, value)| (key.as_str(), value.as_str())).chain([(name, value)]);
        let escaped: Vec<String> =
            pairs.map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
        escaped.join("&")
    }

    fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(invalid(name, format_args!("may come only once"))),
        }
    }
}

/// Escapes all but the characters that mean themselves everywhere.
pub(crate) fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hansa_model::secret::hex(&[byte]));
        }
        escaped
    })
}

/// The refusal of one parameter. Names it, not its value.
pub(crate) fn invalid(name: &str, what: std::fmt::Arguments<'_>) -> Problem {
    Problem::new(Code::InvalidQuery, format!("{name} {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_none() {
        let query = query("a=x%25_%20y&b=&limit=10&flag=true&verbose");

        assert_eq!(query.text("a").unwrap().as_deref(), Some("x%_ y"));
        assert_eq!(query.text("b").unwrap(), None);
        assert_eq!(query.number("limit", 1..=1_000).unwrap(), Some(10));
        assert!(query.flag("flag").unwrap() && !query.flag("other").unwrap());
        assert!(query.present("verbose"));
    }

    #[test]
    fn bad_numbers_flags_and_repeats_are_refused() {
        for text in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=1", "limit=1.0"]
        {
            assert!(query(text).number("limit", 1..=1_000).is_err(), "{text}");
        }
        assert!(query("flag=TRUE").flag("flag").is_err());
        assert!(query(&format!("a={}", "x".repeat(256))).text("a").is_err());
        assert!(query("site_id=x").sites("site_id").is_err());
    }

    #[test]
    fn instant_survives_a_plus_sign_that_nobody_escaped() {
        let expected = "2026-11-22T09:30:00+01:00".parse().ok();

        assert_eq!(query("t=2026-11-22T09:30:00%2B01:00").instant("t").unwrap(), expected);
        assert_eq!(query("t=2026-11-22T09:30:00+01:00").instant("t").unwrap(), expected);
        assert_eq!(query("t=2026-11-22T08:30:00").instant("t").unwrap(), expected);
        assert!(query("t=yesterday").instant("t").is_err());
    }

    #[test]
    fn sites_may_be_a_list_or_repeated() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";

        assert_eq!(query(&format!("s={id},{id}&s={id}")).sites("s").unwrap().unwrap().len(), 3);
        assert_eq!(query("s=").sites("s").unwrap(), None);
    }

    #[test]
    fn next_page_keeps_the_other_parameters() {
        let text = query("status=a%26b&offset=7&cursor=old").with("cursor", "n=w");

        assert_eq!(text, "status=a%26b&cursor=n%3dw");
    }

    proptest! {
        #[test]
        fn any_query_is_answered(text in "[!-~]{0,80}") {
            if let Ok(query) = Query::parse(&text) {
                let _ = (query.text("a"), query.number("a", 0..=9), query.instant("a"), query.sites("a"));
            }
        }
    }
}
