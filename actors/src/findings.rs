//! A site's own results and findings: takes full snapshots in, and tells the coordinator what they come to.
//!
//! A snapshot is stored together with the debt of its rollup; the debt is paid by queueing the rollup under the
//! documented key, and marked as paid after that. A crash in between pays it twice, which the queue's key and
//! the snapshot's instant make harmless.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_model::finding::{Finding, FindingsSummary, Held, HostScan, ScanSummary};
use hansa_model::limits::finding as limits;
use hansa_model::machine::findings::{self as machine, SkippedRow};
use hansa_model::machine::rollup::{self, InvalidRollup};
use hansa_model::report::payload_type::{COMPLIANCE_ROLLUP, VULNERABILITY_ROLLUP};
use hansa_model::{SiteId, Timestamp};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tracing::debug;

use crate::context::Context;
use crate::error::FindingsError;
use crate::membership::Membership;
use crate::persistence::SELF;
use crate::supervision::{Handle, Tied};
use crate::sync_queue::SyncQueueMessage;
use crate::view::{FindingsAnswer, ScansAnswer, Skipped};

/// Everything the findings can be asked.
#[derive(Debug)]
pub(crate) enum FindingsMessage {
    /// A full snapshot of a baseline's results. Answers once it is on disk.
    PutScans {
        baseline: String,
        rows: Vec<Result<HostScan, String>>,
        reply: RpcReplyPort<Result<ScansAnswer, FindingsError>>,
    },
    /// The site holds nothing of a baseline any more. Answers once that is on disk.
    RemoveScans { baseline: String, reply: RpcReplyPort<Result<(), FindingsError>> },
    /// A full snapshot of the findings. Answers once it is on disk.
    PutFindings {
        rows: Vec<Result<Finding, String>>,
        reply: RpcReplyPort<Result<FindingsAnswer, FindingsError>>,
    },
    /// Tell the coordinator everything again. No answer.
    TellAgain,
    /// A new history of the stream opens: either side's disk may have gone back. Everything is told again, as of
    /// now, so that it takes the place of what a lost history said. Answers with whether all of it is queued.
    Restate { reply: RpcReplyPort<bool> },
    /// What is held: the names of baselines, and whether there are findings. Answers at once.
    Held { reply: RpcReplyPort<(Vec<String>, bool)> },
    /// Look whether a rollup is owed. No answer.
    Housekeeping,
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

pub(crate) struct FindingsActor {
    pub(crate) context: Arc<Context>,
    pub(crate) queue: Handle<SyncQueueMessage>,
    pub(crate) membership: Membership,
}

/// What is on disk, without the rows.
pub(crate) struct FindingsState {
    scans: BTreeMap<String, Held<ScanSummary>>,
    findings: Option<Held<FindingsSummary>>,
    _ticker: Tied,
}

impl Actor for FindingsActor {
    type Msg = FindingsMessage;
    type State = FindingsState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<FindingsMessage>,
        (): (),
    ) -> Result<FindingsState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let scans = view.all::<table::Scans>(..)?.into_iter().collect();
        let findings = view.get::<table::FindingsHeld>(SELF)?;
        let interval = self.context.config.housekeeping_interval;
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                if myself.cast(FindingsMessage::Housekeeping).is_err() {
                    return;
                }
            }
        });
        Ok(FindingsState { scans, findings, _ticker: ticker })
    }

    async fn handle(
        &self,
        _myself: ActorRef<FindingsMessage>,
        message: FindingsMessage,
        state: &mut FindingsState,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up has nothing to be told; the same holds for every reply here.
        match message {
            FindingsMessage::PutScans { baseline, rows, reply } => {
                let _ = reply.send(self.put_scans(state, &baseline, rows).await);
            }
            FindingsMessage::RemoveScans { baseline, reply } => {
                let _ = reply.send(self.remove_scans(state, baseline).await);
            }
            FindingsMessage::PutFindings { rows, reply } => {
                let _ = reply.send(self.put_findings(state, rows).await);
            }
            FindingsMessage::TellAgain => state.owe_all(),
            FindingsMessage::Restate { reply } => {
                state.restate(self.context.now());
                self.pay(state).await;
                let _ = reply.send(!state.owes());
            }
            FindingsMessage::Held { reply } => {
                let held = state.scans.iter().filter(|(_, held)| !held.removed);
                let _ = reply.send((held.map(|(name, _)| name.clone()).collect(), state.findings.is_some()));
            }
            FindingsMessage::Housekeeping => {}
            #[cfg(feature = "testing")]
            FindingsMessage::DangerPanic => panic!("asked to fail"),
        }
        self.pay(state).await;
        Ok(())
    }
}

impl FindingsState {
    /// Every rollup is owed once more, and says how things stand now.
    fn restate(&mut self, now: Timestamp) {
        self.scans.values_mut().for_each(|held| held.summary.taken_at = now);
        self.findings.iter_mut().for_each(|held| held.summary.taken_at = now);
        self.owe_all();
    }

    fn owes(&self) -> bool {
        let scans = self.scans.values().any(|held| held.queued_for.is_none());
        scans || self.findings.as_ref().is_some_and(|held| held.queued_for.is_none())
    }

    /// Every rollup is owed once more.
    fn owe_all(&mut self) {
        for held in self.scans.values_mut() {
            held.queued_for = None;
        }
        if let Some(held) = &mut self.findings {
            held.queued_for = None;
        }
    }
}

impl FindingsActor {
    async fn put_scans(
        &self,
        state: &mut FindingsState,
        baseline: &str,
        rows: Vec<Result<HostScan, String>>,
    ) -> Result<ScansAnswer, FindingsError> {
        let baseline = rollup::baseline(baseline)?;
        let held = state.scans.iter().filter(|(_, held)| !held.removed);
        let others = held.filter(|(name, _)| **name != baseline).count();
        if others >= limits::BASELINES_MAX {
            return Err(InvalidRollup::TooManyBaselines.into());
        }
        let taken_at = self.context.now();
        let (admitted, summary) = self.context.compute.run(|| {
            let admitted = machine::admit_scans(rows);
            let summary = machine::summarise_scans(&admitted.rows, taken_at);
            (admitted, summary)
        });
        let held = Held { summary, rows: admitted.rows.len() as u64, queued_for: None, removed: false };
        let mut batch = Batch::new();
        let mut chunks = 0;
        for chunk in admitted.rows.chunks(limits::CHUNK_ROWS) {
            batch.put::<table::HostScans>(&Named::new(&baseline, chunks), &chunk.to_vec());
            chunks += 1;
        }
        batch.delete_range::<table::HostScans>(
            Named::new(&baseline, chunks)..=Named::new(&baseline, u32::MAX),
        );
        batch.put::<table::Scans>(baseline.as_str(), &held);
        self.context.commit(Lane::Ingest, batch).await?;
        state.scans.insert(baseline.clone(), held);
        Ok(ScansAnswer {
            baseline,
            accepted: admitted.rows.len(),
            skipped: skipped(admitted.skipped),
            summary,
        })
    }

    async fn remove_scans(&self, state: &mut FindingsState, baseline: String) -> Result<(), FindingsError> {
        if state.scans.get(&baseline).is_none_or(|held| held.removed) {
            return Err(FindingsError::BaselineNotFound(baseline));
        }
        let summary = ScanSummary { taken_at: self.context.now(), ..ScanSummary::default() };
        let held = Held { summary, rows: 0, queued_for: None, removed: true };
        let mut batch = Batch::new();
        batch.delete_range::<table::HostScans>(Named::new(&baseline, 0)..=Named::new(&baseline, u32::MAX));
        // Whoever is no member owes nobody a word.
        let told = self.membership.enrollment().is_some();
        if told {
            batch.put::<table::Scans>(baseline.as_str(), &held);
        } else {
            batch.delete::<table::Scans>(baseline.as_str());
        }
        self.context.commit(Lane::Ingest, batch).await?;
        if told {
            state.scans.insert(baseline, held);
        } else {
            state.scans.remove(&baseline);
        }
        Ok(())
    }

    async fn put_findings(
        &self,
        state: &mut FindingsState,
        rows: Vec<Result<Finding, String>>,
    ) -> Result<FindingsAnswer, FindingsError> {
        let taken_at = self.context.now();
        let (admitted, summary) = self.context.compute.run(|| {
            let admitted = machine::admit_findings(rows);
            let summary = machine::summarise_findings(&admitted.rows, taken_at);
            (admitted, summary)
        });
        let held = Held {
            summary: summary.clone(),
            rows: admitted.rows.len() as u64,
            queued_for: None,
            removed: false,
        };
        let mut batch = Batch::new();
        let mut chunks = 0;
        for chunk in admitted.rows.chunks(limits::CHUNK_ROWS) {
            batch.put::<table::Findings>(&chunks, &chunk.to_vec());
            chunks += 1;
        }
        batch.delete_range::<table::Findings>(chunks..=u32::MAX);
        batch.put::<table::FindingsHeld>(SELF, &held);
        self.context.commit(Lane::Ingest, batch).await?;
        state.findings = Some(held);
        Ok(FindingsAnswer { accepted: admitted.rows.len(), skipped: skipped(admitted.skipped), summary })
    }

    /// Queues every rollup that is owed to the present coordinator. What does not succeed stays owed.
    async fn pay(&self, state: &mut FindingsState) {
        let Some(site) = self.membership.enrolled().and_then(|enrollment| enrollment.site_id) else { return };
        let owed: Vec<String> = state
            .scans
            .iter()
            .filter(|(_, held)| held.queued_for != Some(site))
            .map(|(baseline, _)| baseline.clone())
            .collect();
        for baseline in owed {
            if !self.pay_scans(state, &baseline, site).await {
                return;
            }
        }
        let findings = state.findings.as_ref().filter(|held| held.queued_for != Some(site));
        let Some(held) = findings else { return };
        let key = format!("{VULNERABILITY_ROLLUP}:self");
        if !self.enqueue(VULNERABILITY_ROLLUP, key, &held.summary.report()).await {
            return;
        }
        let held = Held { queued_for: Some(site), ..held.clone() };
        let mut batch = Batch::new();
        batch.put::<table::FindingsHeld>(SELF, &held);
        if self.mark(batch).await {
            state.findings = Some(held);
        }
    }

    async fn pay_scans(&self, state: &mut FindingsState, baseline: &str, site: SiteId) -> bool {
        let Some(held) = state.scans.get(baseline) else { return true };
        let key = format!("{COMPLIANCE_ROLLUP}:{baseline}");
        if !self.enqueue(COMPLIANCE_ROLLUP, key, &held.summary.report(baseline)).await {
            return false;
        }
        let held = Held { queued_for: Some(site), ..held.clone() };
        let mut batch = Batch::new();
        if held.removed {
            batch.delete::<table::Scans>(baseline);
        } else {
            batch.put::<table::Scans>(baseline, &held);
        }
        if !self.mark(batch).await {
            return false;
        }
        if held.removed {
            state.scans.remove(baseline);
        } else {
            state.scans.insert(baseline.to_owned(), held);
        }
        true
    }

    async fn enqueue(&self, payload_type: &'static str, dedup_key: String, report: &impl Serialize) -> bool {
        // Through a value, whose members are sorted, as the contract's payloads are.
        let Ok(payload) = serde_json::to_value(report) else { return false };
        let payload = payload.to_string().into_bytes();
        let message = |reply| SyncQueueMessage::Enqueue { payload_type, dedup_key, payload, reply };
        matches!(self.queue.call(message).await, Ok(Ok(())))
    }

    async fn mark(&self, batch: Batch) -> bool {
        let marked = self.context.commit(Lane::Ingest, batch).await;
        if let Err(error) = &marked {
            debug!(%error, "a queued rollup could not be marked; it is queued again");
        }
        marked.is_ok()
    }
}

fn skipped(rows: Vec<SkippedRow>) -> Vec<Skipped> {
    rows.into_iter().map(|(index, host_id, error)| Skipped { index, host_id, error }).collect()
}
