//! Whether a coordinator applies a batch: order, replay, gaps and divergence of one site's stream.

use std::collections::BTreeSet;

use crate::host::HostChange;
use crate::limits::site as site_limits;
use crate::site::{SiteSync, SyncEvent};
use crate::sync::{BatchHeader, BatchRefusal, Position, SiteMetadata};
use crate::{HostId, Timestamp};

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Store it together with this position, then acknowledge.
    Apply(Position),
    /// It was applied before, or a later one was: acknowledge this position and change nothing.
    Duplicate(Position),
    /// Tell the site why not, and where the coordinator stands.
    Refuse(BatchRefusal),
}

/// Judges a batch by its head and exact payload bytes.
pub fn judge(position: &Position, header: &BatchHeader, payload: &[u8]) -> Verdict {
    let continued = Position { chain: header.previous_chain, ..*position };
    if header.sequence == 0 || header.epoch == 0 {
        return Verdict::Refuse(BatchRefusal::Malformed);
    }
    if header.epoch == position.epoch {
        return match header.sequence {
            sequence if sequence < position.sequence => Verdict::Duplicate(*position),
            sequence if sequence == position.sequence => {
                let base = if header.reset { Position::default() } else { continued };
                if base.advanced(header.epoch, sequence, payload) == *position {
                    Verdict::Duplicate(*position)
                } else {
                    Verdict::Refuse(BatchRefusal::Diverged)
                }
            }
            sequence if sequence == position.sequence + 1 => continue_from(position, header, payload),
            _ => Verdict::Refuse(BatchRefusal::Gap),
        };
    }
    if header.sequence != 1 {
        // Another process of the site, and not its first batch: whatever came before is unknown here.
        return Verdict::Refuse(BatchRefusal::Diverged);
    }
    if header.reset {
        return Verdict::Apply(Position::default().advanced(header.epoch, 1, payload));
    }
    continue_from(position, header, payload)
}

fn continue_from(position: &Position, header: &BatchHeader, payload: &[u8]) -> Verdict {
    if header.previous_chain != position.chain {
        return Verdict::Refuse(BatchRefusal::Diverged);
    }
    Verdict::Apply(position.advanced(header.epoch, header.sequence, payload))
}

/// The hosts that a leaf repair retires: held in the leaf here, not listed by the site.
pub fn retired(held: &[HostId], listed: &[HostId]) -> Vec<HostId> {
    let listed: BTreeSet<HostId> = listed.iter().copied().collect();
    held.iter().copied().filter(|host| !listed.contains(host)).collect()
}

/// Drops the rows that break a bound; the others go on. The count of the dropped is returned.
pub fn drop_invalid(changes: &mut Vec<HostChange<&str>>) -> usize {
    let before = changes.len();
    changes.retain(|change| match change {
        HostChange::Upsert(row) => row.validate().is_ok(),
        HostChange::Remove(_) => true,
    });
    before - changes.len()
}

/// Folds metadata into what is known of the site (contract 7.5). The host count stays the directory's own
/// (contract 13.9: two payloads that count differently made it flap).
pub fn apply_metadata(sync: &mut SiteSync, metadata: &SiteMetadata, now: Timestamp) {
    if let Some(version) = &metadata.sysmanage_version {
        sync.sysmanage_version = Some(cut(version, site_limits::VERSION_BYTES_MAX));
    }
    if let Some(state) = &metadata.connection_state {
        sync.connection_state = Some(cut(state, site_limits::STATE_BYTES_MAX));
    }
    if let Some(capabilities) = &metadata.capabilities {
        sync.capabilities = capabilities
            .iter()
            .take(site_limits::CAPABILITIES_MAX)
            .map(|name| cut(name, site_limits::CAPABILITY_BYTES_MAX))
            .collect();
    }
    if metadata.queue_depth.is_some() {
        sync.queue_depth = metadata.queue_depth;
    }
    sync.last_metadata_at = Some(now);
}

/// Records a successful sync: the site's last contact and one event of its timeline.
pub fn record_sync(
    sync: &mut SiteSync,
    now: Timestamp,
    latency_ms: Option<u32>,
    queue_depth: Option<u64>,
) -> (u64, SyncEvent) {
    sync.last_sync_at = Some(now);
    sync.last_sync_status = Some("success".to_owned());
    let number = sync.next_event;
    sync.next_event += 1;
    let event = SyncEvent {
        recorded_at: now,
        success: true,
        latency_ms,
        queue_depth,
        host_count: Some(sync.host_count),
    };
    (number, event)
}

/// The longest prefix of at most `bytes_max` bytes that ends between characters.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: u64, sequence: u64, previous: &Position) -> BatchHeader {
        BatchHeader { epoch, sequence, previous_chain: previous.chain, reset: false, queue_depth: 1 }
    }

    /// The position after batches 1..=n of epoch 7, each with payload `b"x"`.
    fn after(n: u64) -> Position {
        (1..=n).fold(Position::default(), |position, sequence| position.advanced(7, sequence, b"x"))
    }

    #[test]
    fn next_batch_is_applied() {
        assert_eq!(judge(&after(3), &header(7, 4, &after(3)), b"x"), Verdict::Apply(after(4)));
    }

    #[test]
    fn first_batch_of_a_restarted_site_continues_the_chain() {
        let next = after(3).advanced(8, 1, b"y");

        assert_eq!(judge(&after(3), &header(8, 1, &after(3)), b"y"), Verdict::Apply(next));
    }

    #[test]
    fn replayed_batch_is_acknowledged_and_changes_nothing() {
        for sequence in 1..=3 {
            assert_eq!(
                judge(&after(3), &header(7, sequence, &after(sequence - 1)), b"x"),
                Verdict::Duplicate(after(3)),
                "{sequence}"
            );
        }
    }

    #[test]
    fn gap_is_refused() {
        assert_eq!(judge(&after(3), &header(7, 5, &after(4)), b"x"), Verdict::Refuse(BatchRefusal::Gap));
    }

    #[test]
    fn number_reused_with_other_content_is_refused() {
        assert_eq!(
            judge(&after(3), &header(7, 3, &after(2)), b"other"),
            Verdict::Refuse(BatchRefusal::Diverged)
        );
    }

    #[test]
    fn site_from_an_old_disk_cannot_go_on_silently() {
        assert_eq!(judge(&after(3), &header(9, 1, &after(2)), b"x"), Verdict::Refuse(BatchRefusal::Diverged));
    }

    #[test]
    fn reset_opens_a_new_history_once() {
        let reset = BatchHeader { reset: true, ..header(9, 1, &Position::default()) };
        let Verdict::Apply(opened) = judge(&after(3), &reset, b"r") else { panic!("not applied") };

        assert_eq!(judge(&opened, &reset, b"r"), Verdict::Duplicate(opened));
    }

    #[test]
    fn metadata_is_cut_to_its_columns() {
        let mut sync = SiteSync::default();
        let metadata = SiteMetadata {
            sysmanage_version: Some("é".repeat(40)),
            connection_state: Some("online".to_owned()),
            ..SiteMetadata::default()
        };

        apply_metadata(&mut sync, &metadata, Timestamp::EPOCH);

        assert_eq!(sync.sysmanage_version.unwrap().len(), 32);
        assert_eq!(sync.connection_state.as_deref(), Some("online"));
    }
}
