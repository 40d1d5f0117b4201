//! Keeps a running node's root key, and the next one while a rotation begins.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hansa_actors::{HolderError, Holding, RootKeyHolder};
use hansa_model::{Entropy, Secret};
use hansa_storage::RootKey;

use super::transit::TransitEngine;
use super::{Place, Way, derive_anew, forget_former, key_text, remove, rename, wrapped_text, write};
use crate::cli::failure::Failure;
use crate::system::{SystemEntropy, compute};

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    place: Place,
    keys: Mutex<Keys>,
}

#[derive(Debug)]
struct Keys {
    present: (RootKey, Way),
    prepared: Option<(RootKey, Way)>,
    /// The present key's file still has the name of the next one.
    misplaced: bool,
}

impl Keeper {
    pub(super) fn new(place: Place, key: RootKey, way: Way) -> Self {
        Self { place, keys: Mutex::new(Keys { present: (key, way), prepared: None, misplaced: false }) }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, passphrase: Option<Secret<String>>) -> Result<RootKey, HolderError> {
        self.put_in_place()?;
        let (present, way) = self.keys().present.clone();
        let refused = |why: &str| Err(HolderError::Refused(why.to_owned()));
        let entropy: &dyn Entropy = &SystemEntropy;
        let (key, way, text) = match (way, passphrase) {
            (Way::Transit, Some(_)) => {
                return refused(
                    "a transit engine wraps the root key, so it takes no passphrase: rotate without one",
                );
            }
            (Way::Passphrase, None) => {
                return refused(
                    "the root key is a passphrase: name a file with the next one, --passphrase-file FILE",
                );
            }
            (Way::Transit, None) => {
                let key = RootKey::new(entropy.bytes()).after(&present);
                let text = Secret::new(self.wrap(&key).await.map_err(|failure| failed(&failure))?);
                (key, Way::Transit, text)
            }
            (Way::KeyFile | Way::Passphrase, Some(passphrase)) => {
                let mut derived = None;
                // Derivation holds the processor for a good part of a second.
                (compute().run)(&mut || derived = derive_anew(&passphrase, entropy));
                let Some((first, key)) = derived else { return refused("the passphrase is empty") };
                let key = key.after(&present);
                let text = Secret::new(key_text(&first, &key));
                (key, Way::Passphrase, text)
            }
            (Way::KeyFile, None) => {
                let key = RootKey::new(entropy.bytes()).after(&present);
                let text = key.file_text(entropy);
                (key, Way::KeyFile, text)
            }
        };
        write(&self.place.next(), text.expose()).map_err(|error| self.unwritten(&error))?;
        self.keys().prepared = Some((key.clone(), way));
        Ok(key)
    }

    /// Gives the present key's file its name, if that has failed before: nothing may be written over it.
    fn put_in_place(&self) -> Result<(), HolderError> {
        let mut keys = self.keys();
        if keys.misplaced {
            rename(&self.place.next(), &self.place.file).map_err(|error| self.unwritten(&error))?;
            keys.misplaced = false;
        }
        Ok(())
    }

    async fn wrap(&self, key: &RootKey) -> Result<String, Failure> {
        let transit =
            self.place.transit.as_ref().ok_or_else(|| Failure::usage("no transit engine is configured"))?;
        let engine = TransitEngine::open(transit).await?;
        let text = wrapped_text(&engine, key).await;
        engine.close().await;
        text
    }

    fn unwritten(&self, error: &std::io::Error) -> HolderError {
        HolderError::Failed(format!(
            "{}: {error}: the node must be able to replace its key file, so let it write that folder",
            self.place.next().display()
        ))
    }
}

fn failed(failure: &Failure) -> HolderError {
    HolderError::Failed(failure.to_string())
}

impl RootKeyHolder for Keeper {
    fn way(&self) -> &'static str {
        self.keys().present.1.as_str()
    }

    fn prepare(&self, passphrase: Option<Secret<String>>) -> Holding<'_, RootKey> {
        Box::pin(self.make(passphrase))
    }

    fn adopt(&self) -> Holding<'_, ()> {
        Box::pin(async {
            {
                let mut keys = self.keys();
                let Some(prepared) = keys.prepared.take() else { return Ok(()) };
                // The store hangs on it, whatever its file is called.
                keys.present = prepared;
                keys.misplaced = true;
            }
            self.put_in_place()
        })
    }

    fn discard(&self) -> Holding<'_, ()> {
        Box::pin(async {
            self.keys().prepared = None;
            remove(&self.place.next()).map_err(|error| self.unwritten(&error))
        })
    }

    fn forget_former(&self) -> Holding<'_, ()> {
        Box::pin(async {
            self.put_in_place()?;
            forget_former(&self.place.file).map_err(|error| self.unwritten(&error))?;
            let mut keys = self.keys();
            keys.present.0 = keys.present.0.alone();
            Ok(())
        })
    }
}
