//! Reading: what is kept here, and what a backend answers.

use std::sync::Arc;
use std::time::Duration;

use hansa_model::audit::Detail;
use hansa_model::secrets::backend::BackendKind;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::policy::Permission;
use hansa_model::secrets::row::{Mode, SecretRow, VersionRow};
use hansa_model::secrets::value::SecretData;
use hansa_model::{Secret, Timestamp};
use hansa_storage::table;

use super::{
    Caller, Federation, Record, SecretSummary, SecretView, SourceView, VersionAsked, ask, key, require,
};
use crate::backends::error::SecretError;
use crate::backends::{BackendMessage, Fetched, Member, Standing, VersionKey, type_of, value_key};
use crate::open_entries::Outcome;

impl Federation {
    /// Reads a secret. That it was read is on disk on return, and also that it was refused.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn read_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionAsked,
    ) -> Result<SecretView, SecretError> {
        let mut record = Record::new("secret_read", path.as_str(), self.now());
        let found = self.find_secret(caller, path, version, &mut record).await;
        if let Ok(view) = &found {
            record.number("version", view.version);
            if view.source.as_ref().is_some_and(|source| source.stale) {
                record.details.push(("stale", Detail::Bool(true)));
            }
        }
        self.write_down(caller, record, found.as_ref().err()).await?;
        found
    }

    async fn find_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionAsked,
        record: &mut Record,
    ) -> Result<SecretView, SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::Read, path)?;
        let Some((member, name)) = self.place(&board, caller, path, record)? else {
            return self.read_here(caller, path, version, None);
        };
        match member.row.mode {
            Mode::Sync => self.read_here(caller, path, version, Some((&member, name))),
            Mode::Proxy => self.read_through(caller, &member, path, name, version, record).await,
        }
    }

    /// Reads what is kept here: a secret of this node, or a backend's copy.
    fn read_here(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionAsked,
        source: Option<(&Member, String)>,
    ) -> Result<SecretView, SecretError> {
        let now = self.now();
        let row = self.live_row(caller, path, now)?;
        let wanted = match version {
            VersionAsked::Current => row.current,
            VersionAsked::Number(number) => number,
            VersionAsked::Backend(name) => {
                let named = row.versions.iter().rev().find(|row| row.backend_version.as_ref() == Some(&name));
                named.ok_or(SecretError::VersionNotFound)?.number
            }
        };
        let kept = row.version(wanted).ok_or(SecretError::VersionNotFound)?;
        let view = self.tree.context.store.read()?;
        let value = view.get_sealed::<table::SecretValues>(&value_key(&key(caller, path), wanted))?;
        let text = value.and_then(|bytes| String::from_utf8(bytes.expose().clone()).ok());
        let data = SecretData::from_canonical(Secret::new(text.ok_or(SecretError::VersionNotFound)?));
        let source = source.map(|(member, name)| copied(member, &row, name, kept, now));
        Ok(SecretView {
            path: path.clone(),
            secret_type: row.secret_type,
            version: wanted,
            data,
            created_at: Some(kept.created_at),
            updated_at: Some(row.updated_at),
            expires_at: row.expires_at,
            metadata: row.metadata,
            source,
        })
    }

    /// Asks the backend, while what is asked is stored. Nothing of the answer is kept.
    async fn read_through(
        &self,
        caller: &Caller,
        member: &Member,
        path: &SecretPath,
        name: String,
        version: VersionAsked,
        record: &mut Record,
    ) -> Result<SecretView, SecretError> {
        let asked = remote_version(member.row.kind, version)?;
        let backend = member.row.id;
        let message = |reply| BackendMessage::Read { name: name.clone(), version: asked, reply };
        let draft = self.tree.context.audit_node(record.action, None, []);
        let mut open =
            self.tree.open_entries.begin(self.entry(caller, record, None, draft), Outcome::Abandoned);
        let (fetched, stored) = tokio::join!(ask(member, message), open.stored());
        stored?;
        record.open = Some(open);
        let fetched = fetched.inspect_err(|error| {
            record.details.push(("backend_status", error.to_string().as_str().into()));
        })?;
        let Fetched { found, latency } = &*fetched;
        record.number("backend_status", u64::from(found.status));
        record.number("backend_latency_ms", u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
        let (data, unfolded) = found.secret.value.unfold();
        let secret = &found.secret;
        Ok(SecretView {
            path: path.clone(),
            secret_type: type_of(unfolded),
            version: secret.version.unwrap_or(1),
            data,
            metadata: "{}".to_owned(),
            created_at: secret.created_at,
            updated_at: secret.updated_at.or(secret.created_at),
            expires_at: secret.expires_at,
            source: Some(SourceView {
                backend,
                name,
                version: secret.backend_version.clone(),
                age: Duration::ZERO,
                stale: false,
            }),
        })
    }

    /// What is known of a secret without its value. For proxied ones the backend is asked whether it is there.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn secret_summary(
        &self,
        caller: &Caller,
        path: &SecretPath,
    ) -> Result<SecretSummary, SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::List, path)?;
        let mut record = Record::new("secret_list", path.as_str(), self.now());
        let place = self.place(&board, caller, path, &mut record)?;
        let backend = place.as_ref().map(|(member, _)| member.row.id);
        if let Some((member, name)) = place
            && member.row.mode == Mode::Proxy
        {
            let message = |reply| BackendMessage::Read { name, version: VersionKey::Current, reply };
            ask(&member, message).await?;
            return Ok(SecretSummary { path: path.clone(), row: None, backend });
        }
        let row = self.live_row(caller, path, self.now())?;
        Ok(SecretSummary { path: path.clone(), row: Some(Arc::new(row)), backend })
    }

    fn live_row(&self, caller: &Caller, path: &SecretPath, now: Timestamp) -> Result<SecretRow, SecretError> {
        let (row, standing) = self.row(caller, path)?.ok_or(SecretError::NotFound)?;
        match standing {
            Standing::Own | Standing::Copy if row.is_live(now) => Ok(row),
            Standing::Own | Standing::Copy | Standing::Orphan => Err(SecretError::NotFound),
        }
    }
}

/// What a version means to a backend: two of them count as we do, the others have one version, the newest.
fn remote_version(kind: BackendKind, version: VersionAsked) -> Result<VersionKey, SecretError> {
    match (kind, version) {
        (_, VersionAsked::Current) => Ok(VersionKey::Current),
        (BackendKind::HashicorpVault | BackendKind::GoogleSecretManager, VersionAsked::Number(number)) => {
            Ok(VersionKey::Number(number))
        }
        (BackendKind::AwsSecretsManager | BackendKind::AzureKeyVault, VersionAsked::Number(1)) => {
            Ok(VersionKey::Current)
        }
        (BackendKind::AwsSecretsManager | BackendKind::AzureKeyVault, VersionAsked::Number(_)) => {
            Err(SecretError::VersionNotFound)
        }
        (_, VersionAsked::Backend(name)) => Ok(VersionKey::Named(name)),
    }
}

/// How old a copy is: since its backend last confirmed it, by a fetch or by a complete run that listed it.
fn copied(member: &Member, row: &SecretRow, name: String, kept: &VersionRow, now: Timestamp) -> SourceView {
    let confirmed = member.published.sync.load().completed.as_ref().map(|run| run.begun_at);
    let confirmed = confirmed.filter(|_| row.copy.as_ref().is_none_or(|copy| copy.absent == 0));
    let seen = row.copy.as_ref().map(|copy| copy.seen_at).max(confirmed).unwrap_or(row.updated_at);
    let age = now.since(seen);
    SourceView {
        backend: member.row.id,
        name,
        version: kept.backend_version.clone(),
        age,
        stale: age > member.interval() * 2,
    }
}
