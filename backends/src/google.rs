//! Google Secret Manager: the vendor's client and types, over our connector.

mod way;

use google_cloud_secretmanager_v1::client::SecretManagerService;
use google_cloud_secretmanager_v1::model::{Replication, Secret as RemoteName, SecretPayload, replication};

use hansa_model::Secret;
use hansa_model::secrets::backend::GoogleConfig;
use hansa_model::secrets::value::{Mark, RemoteSecret, RemoteValue};

use self::way::{Way, failure};
use crate::connect::Connector;
use crate::driver::{
    Call, CallError, Driver, Entry, Found, ListPage, Login, OpenError, ReadVersion, Write, Written,
};
use crate::vendor::Ambient;

/// Names on one page: with labels and annotations they are to stay below the bound of an answer.
const PAGE: i32 = 250;

/// The secrets of one project, global or of one region.
#[derive(Debug)]
pub(crate) struct Google {
    client: SecretManagerService,
    /// Such as `projects/p` or `projects/p/locations/l`.
    parent: String,
    is_regional: bool,
}

impl Google {
    pub(crate) fn open(
        config: &GoogleConfig,
        login: Option<&Login>,
        connector: &Connector,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        let way = Way::new(config, login, connector.clone(), ambient)?;
        let project = format!("projects/{}", config.project_id);
        let parent = match &config.location {
            Some(location) => format!("{project}/locations/{location}"),
            None => project,
        };
        let client = SecretManagerService::from_stub::<Way>(way);
        Ok(Self { client, parent, is_regional: config.location.is_some() })
    }

    fn secret(&self, name: &str) -> Result<String, CallError> {
        check(name, 255).then(|| format!("{}/secrets/{name}", self.parent)).ok_or(CallError::Name)
    }

    async fn read_value(&self, name: &str, version: ReadVersion<'_>) -> Result<Found, CallError> {
        let secret = self.secret(name)?;
        let (wanted, gone) = match version {
            ReadVersion::Current => ("latest".to_owned(), CallError::NotFound),
            ReadVersion::Number(0) => return Err(CallError::VersionNotFound),
            ReadVersion::Number(number) => (number.to_string(), CallError::VersionNotFound),
            ReadVersion::Named(version) if check(version, 63) => {
                (version.to_owned(), CallError::VersionNotFound)
            }
            ReadVersion::Named(_) => return Err(CallError::VersionNotFound),
        };
        let call = self.client.access_secret_version().set_name(format!("{secret}/versions/{wanted}"));
        let found = match call.send().await.map_err(failure) {
            Ok(found) => found,
            // There, but disabled or destroyed.
            Err(Failure::Unready) => return Err(gone),
            Err(Failure::Call(CallError::NotFound)) if gone == CallError::VersionNotFound => {
                return Err(self.missing_version(&secret).await?);
            }
            Err(failure) => return Err(failure.into()),
        };
        // Answers name the project by its number: only the ends are compared.
        let mut ends = found.name.rsplit('/');
        let (number, of) = (ends.next().unwrap_or_default(), ends.nth(1).unwrap_or_default());
        let counted: Option<u64> = number.parse().ok();
        if of != name || counted.is_none() {
            return Err(CallError::BadAnswer { reason: "it answers another secret than was asked for" });
        }
        let payload = found.payload.ok_or(CallError::BadAnswer { reason: "it answers no value" })?;
        check_sum(&payload)?;
        let value = match String::from_utf8(payload.data.to_vec()) {
            Ok(text) => RemoteValue::Text(Secret::new(text)),
            Err(bytes) => RemoteValue::Binary(Secret::new(bytes.into_bytes())),
        };
        let secret = RemoteSecret {
            value,
            version: counted,
            backend_version: Some(number.to_owned()),
            mark: matches!(version, ReadVersion::Current).then(|| Mark(number.to_owned())),
            created_at: None,
            updated_at: None,
            expires_at: None,
        };
        Ok(Found { secret, status: 200 })
    }

    /// One type of error stands for a missing secret and for a missing version.
    async fn missing_version(&self, secret: &str) -> Result<CallError, CallError> {
        match self.client.get_secret().set_name(secret).send().await.map_err(failure) {
            Ok(_) | Err(Failure::Unready | Failure::Call(CallError::Refused { .. })) => {
                Ok(CallError::VersionNotFound)
            }
            Err(Failure::Call(CallError::NotFound)) => Ok(CallError::NotFound),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn list_page(&self, prefix: &str, page: Option<&str>) -> Result<ListPage, CallError> {
        let call = self.client.list_secrets().set_parent(&self.parent).set_page_size(PAGE);
        let call = call.set_page_token(page.unwrap_or_default());
        let listed = call.send().await.map_err(failure)?;
        let entries = listed
            .secrets
            .iter()
            .filter_map(|secret| secret.name.rsplit('/').next())
            .filter(|name| !name.is_empty() && name.starts_with(prefix))
            .map(|name| Entry::Secret { name: name.to_owned(), mark: None })
            .collect();
        let next = (!listed.next_page_token.is_empty()).then_some(listed.next_page_token);
        Ok(ListPage { entries, next })
    }

    async fn newest(&self, name: &str) -> Result<Option<Mark>, CallError> {
        let call = self.client.list_secret_versions().set_parent(self.secret(name)?);
        let listed = call.set_page_size(1).set_filter("state:ENABLED").send().await.map_err(failure)?;
        let newest = listed.versions.first().ok_or(CallError::NotFound)?;
        let number = newest.name.rsplit('/').next().unwrap_or_default();
        // A version's value never changes, and its number is all of the mark that a read brings along.
        Ok(Some(Mark(number.to_owned())))
    }

    async fn write_value(&self, name: &str, write: Write<'_>) -> Result<Written, CallError> {
        let secret = self.secret(name)?;
        let add = || {
            let data = bytes::Bytes::copy_from_slice(write.data.expose().as_bytes());
            let sum = i64::from(crc32c::crc32c(&data));
            let payload = SecretPayload::new().set_data(data).set_data_crc32c(sum);
            self.client.add_secret_version().set_parent(&secret).set_payload(payload).send()
        };
        let written = match add().await.map_err(failure) {
            Err(Failure::Call(CallError::NotFound)) if write.expected.is_none_or(|version| version == 0) => {
                let mut new = RemoteName::new();
                // A regional secret lies where it lies; a global one says how it is spread.
                if !self.is_regional {
                    let automatic = Replication::new().set_automatic(replication::Automatic::new());
                    new = new.set_replication(automatic);
                }
                let call = self.client.create_secret().set_parent(&self.parent).set_secret_id(name);
                call.set_secret(new).send().await.map_err(failure)?;
                add().await.map_err(failure)?
            }
            written => written?,
        };
        let number = written.name.rsplit('/').next().and_then(|number| number.parse().ok());
        let mark = number.map(|number: u64| Mark(number.to_string()));
        Ok(Written { version: number, mark })
    }
}

impl Driver for Google {
    fn probe(&self) -> Call<'_, ()> {
        Box::pin(async move {
            let call = self.client.list_secrets().set_parent(&self.parent).set_page_size(1);
            call.send().await.map_err(failure)?;
            Ok(())
        })
    }

    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found> {
        Box::pin(self.read_value(name, version))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage> {
        Box::pin(self.list_page(prefix, page))
    }

    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>> {
        Box::pin(self.newest(name))
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        Box::pin(self.write_value(name, write))
    }
}

/// Why a call failed, with what only some callers tell apart.
#[derive(Debug)]
enum Failure {
    /// The version is disabled or destroyed.
    Unready,
    Call(CallError),
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unready => Self::NotFound,
            Failure::Call(error) => error,
        }
    }
}

/// What can stand in a resource's name without ending it.
fn check(text: &str, bytes_max: usize) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(known)
}

/// The vendor's client leaves the sum to us.
fn check_sum(payload: &SecretPayload) -> Result<(), CallError> {
    let ours = i64::from(crc32c::crc32c(&payload.data));
    match payload.data_crc32c {
        Some(theirs) if theirs != ours => Err(CallError::BadAnswer { reason: "the checksum is wrong" }),
        Some(_) | None => Ok(()),
    }
}
