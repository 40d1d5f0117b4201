//! A site's link: taken over, lost, and offered what was given up elsewhere.

use std::sync::Arc;

use hansa_model::machine::{checkpoints, registry};
use hansa_model::site::SiteStatus;
use hansa_model::sync::Position;
use hansa_storage::{Batch, Lane, table};
use hansa_transport::wire::{BranchLeaves, Down};
use hansa_transport::{CloseCode, LaneReceiver, Link};
use ractor::ActorRef;

use super::{LiveLink, SiteActor, SiteMessage, SiteState};
use crate::directory::SharedShard;
use crate::error::Unavailable;
use crate::persistence;
use crate::supervision::Tied;

impl SiteActor {
    pub(super) async fn link_up(
        &self,
        state: &mut SiteState,
        myself: &ActorRef<SiteMessage>,
        link: Link,
        control: LaneReceiver,
    ) -> Result<Position, CloseCode> {
        match state.site.status {
            SiteStatus::Enrolled => {}
            SiteStatus::Suspended => return Err(CloseCode::Suspended),
            SiteStatus::Removed => return Err(CloseCode::Removed),
            SiteStatus::Pending => return Err(CloseCode::NotEnrolled),
        }
        if self.first_contact(state).await.is_err() {
            return Err(CloseCode::ShuttingDown);
        }
        if let Some(older) = state.link.take() {
            older.link.close(CloseCode::Replaced);
        }
        state.links += 1;
        state.heard_over_quic();
        state.deliveries.link_lost();
        let number = state.links;
        let serving = Tied::spawn(crate::endpoint::serve_link(
            Arc::clone(&self.context),
            myself.clone(),
            link.clone(),
            number,
            control,
        ));
        state.link =
            Some(LiveLink { number, link, compared: false, checkpoint: None, push: None, _serving: serving });
        state.publish();
        Ok(state.sync.position)
    }

    /// The answer to the enrollment has arrived, so a repeat of its token is a repeat no more.
    pub(super) async fn first_contact(&self, state: &mut SiteState) -> Result<(), Unavailable> {
        let Some(site) = registry::first_contact(&state.site) else { return Ok(()) };
        let mut batch = Batch::new();
        batch.put::<table::Sites>(&site.id, &site);
        persistence::index_site(&mut batch, Some(&state.site), &site);
        self.context.commit(Lane::Operator, batch).await?;
        state.site = Arc::new(site);
        Ok(())
    }
}

impl SiteActor {
    /// Gives the site the newest checkpoint of our audit log to keep, now and then.
    pub(super) fn offer_checkpoint(&self, state: &mut SiteState) {
        let Some(live) = state.link.as_mut() else { return };
        let (Some(push), Some(checkpoint)) = (live.push.as_mut(), self.context.checkpoint.load_full()) else {
            return;
        };
        let now = self.context.now();
        if checkpoints::offer_due(checkpoint.number, live.checkpoint, now)
            && push.send(Down::Checkpoint((*checkpoint).clone()).encode())
        {
            live.checkpoint = Some((checkpoint.number, now));
        }
    }

    /// Asks the site to compare digests when hosts were given up since it was refused some: it then sends
    /// again what it holds and we do not.
    pub(super) fn offer_freed_hosts(&self, state: &mut SiteState) {
        let freed = self.roster.directory.freed();
        let due = state.refused_at.is_some_and(|at| at != freed);
        let Some(push) = state.link.as_mut().and_then(|live| live.push.as_mut()).filter(|_| due) else {
            return;
        };
        // A link that is gone compares when it is back.
        push.send(Down::Resync.encode());
        state.refused_at = None;
    }
}

/// The leaves of the branches in which the coordinator's directory differs from the site's.
pub(super) fn differing(shard: &SharedShard, theirs: &[u64]) -> Vec<BranchLeaves> {
    let shard = shard.read();
    let ours = shard.branches();
    ours.iter()
        .enumerate()
        .filter(|(branch, digest)| theirs.get(*branch) != Some(*digest))
        .map(|(branch, _)| BranchLeaves {
            branch: u16::try_from(branch).unwrap_or(u16::MAX),
            leaves: shard.leaves(branch).to_vec(),
        })
        .collect()
}
