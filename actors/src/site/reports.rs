//! What a site reports beside its hosts: one decision each, whichever way it came.
//!
//! A report is put into the site's batch, and what it means beyond the disk takes effect after the commit
//! and before the acknowledgement.

use std::sync::Arc;

use hansa_model::command::Command;
use hansa_model::id::{LeaseId, PolicyId};
use hansa_model::machine::rollup::SiteRollups;
use hansa_model::report::{Report, UnreadableReport};
use hansa_model::rollup::{ComplianceRollup, VulnerabilityRollup};
use hansa_model::sync::Payload;
use hansa_storage::{Batch, Lane};

use super::{SiteActor, SiteState};
use crate::error::IngestError;
use crate::leases::LeasesMessage;
use crate::view::ReportAnswer;

/// What a stored report means beyond the disk.
#[derive(Debug)]
pub(super) enum ReportEffect {
    /// A score is on disk.
    Compliance(Arc<ComplianceRollup>),
    /// Counted findings are on disk.
    Vulnerabilities(Arc<VulnerabilityRollup>),
    /// What the site holds of a policy has changed.
    Policy(PolicyId),
    /// Nothing.
    Nothing,
    /// A command has moved on.
    Command(Box<Command>),
    /// A lease was asked for, or once more.
    LeaseRequested(LeaseId),
}

/// Why a payload of a batch was dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum DroppedPayload {
    #[error(transparent)]
    Unreadable(#[from] UnreadableReport),
    #[error(transparent)]
    Refused(#[from] IngestError),
}

impl SiteActor {
    /// A documented report over HTTP. Durable on return.
    pub(super) async fn report(
        &self,
        state: &mut SiteState,
        report: Report,
    ) -> Result<ReportAnswer, IngestError> {
        self.contact(state).await?;
        let mut rollups = Arc::clone(&state.rollups);
        let mut batch = Batch::new();
        let (effect, answer) = self.put_report(&mut batch, state, &mut rollups, &[], report)?;
        if !batch.is_empty() {
            self.context.commit(Lane::Ingest, batch).await?;
        }
        state.rollups = rollups;
        self.take_effects(state, vec![effect]);
        state.publish();
        Ok(answer)
    }

    /// A payload of a batch. `earlier` are the effects of the payloads before it, which are not in the state yet.
    pub(super) fn put_payload(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        rollups: &mut Arc<SiteRollups>,
        earlier: &[ReportEffect],
        payload: &Payload,
    ) -> Result<ReportEffect, DroppedPayload> {
        let report = Report::parse(&payload.payload_type, &payload.body)?;
        Ok(self.put_report(batch, state, rollups, earlier, report)?.0)
    }

    pub(super) fn put_report(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        rollups: &mut Arc<SiteRollups>,
        earlier: &[ReportEffect],
        report: Report,
    ) -> Result<(ReportEffect, ReportAnswer), IngestError> {
        match report {
            Report::Compliance(report) => {
                let rollup = self.put_compliance(batch, state, rollups, &report)?;
                Ok((ReportEffect::Compliance(Arc::clone(&rollup)), ReportAnswer::Compliance(rollup)))
            }
            Report::Vulnerabilities(report) => {
                let rollup = self.put_vulnerabilities(batch, state, rollups, report)?;
                Ok((
                    ReportEffect::Vulnerabilities(Arc::clone(&rollup)),
                    ReportAnswer::Vulnerabilities(rollup),
                ))
            }
            Report::Policy(report) => {
                let (moved, row) = self.put_policy_report(batch, state, &report)?;
                let effect = moved.map_or(ReportEffect::Nothing, ReportEffect::Policy);
                Ok((effect, ReportAnswer::Policy(row.map(Box::new))))
            }
            Report::Command(report) => self.put_command_report(batch, state, earlier, &report),
            Report::LeaseRequest(request) => {
                let lease = self.put_lease_request(batch, state, &request)?;
                Ok((ReportEffect::LeaseRequested(lease.id), ReportAnswer::Lease(Box::new(lease))))
            }
        }
    }

    /// After the commit, before the acknowledgement.
    pub(super) fn take_effects(&self, state: &mut SiteState, effects: Vec<ReportEffect>) {
        for effect in effects {
            match effect {
                ReportEffect::Compliance(rollup) => self.tell_compliance(state, &rollup),
                ReportEffect::Vulnerabilities(rollup) => self.tell_vulnerabilities(state, &rollup),
                ReportEffect::Policy(policy) => self.policy_reported(state, policy),
                ReportEffect::Nothing => {}
                ReportEffect::Command(command) => self.take_command(state, *command),
                ReportEffect::LeaseRequested(lease) => {
                    self.leases.cast(LeasesMessage::Requested { lease });
                }
            }
        }
    }
}
