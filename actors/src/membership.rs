//! A site's membership as everyone on the site sees it: stored row, connection, and who may change them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use hansa_model::enrollment::{Enrollment, EnrollmentStatus};
use hansa_model::machine::link::Connection;
use hansa_storage::{Batch, Lane, table};
use tokio::sync::Mutex;

use crate::context::Context;
use crate::error::Unavailable;
use crate::persistence::SELF;

/// Shared by the site's actors and the facade. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    context: Arc<Context>,
    enrollment: Arc<ArcSwapOption<Enrollment>>,
    connection: Arc<ArcSwap<Connection>>,
    latency_ms: Arc<AtomicU32>,
    /// One change at a time: what the coordinator says must not bring back what an operator has ended.
    changing: Arc<Mutex<()>>,
}

impl Membership {
    /// Reads the stored membership.
    pub(crate) fn open(context: Arc<Context>) -> Result<Self, hansa_storage::ReadError> {
        let enrollment = context.store.read()?.get::<table::Enrollments>(SELF)?;
        Ok(Self {
            context,
            enrollment: Arc::new(ArcSwapOption::from_pointee(enrollment)),
            connection: Arc::new(ArcSwap::from_pointee(Connection::default())),
            latency_ms: Arc::new(AtomicU32::new(0)),
            changing: Arc::default(),
        })
    }

    pub(crate) fn enrollment(&self) -> Option<Arc<Enrollment>> {
        self.enrollment.load_full()
    }

    /// The membership, while the coordinator takes us or has only put us on hold.
    pub(crate) fn enrolled(&self) -> Option<Arc<Enrollment>> {
        self.enrollment().filter(|enrollment| {
            matches!(enrollment.status, EnrollmentStatus::Enrolled | EnrollmentStatus::Suspended)
        })
    }

    pub(crate) fn connection(&self) -> Arc<Connection> {
        self.connection.load_full()
    }

    pub(crate) fn set_connection(&self, connection: Connection) {
        let (state, before) = (connection.state, self.connection.load().state);
        self.connection.store(Arc::new(connection));
        if state != before {
            self.context.publish("uplink_changed", None, [("connection_state", state.as_str().into())]);
        }
    }

    /// Milliseconds that the last exchange took; none before the first.
    pub(crate) fn latency_ms(&self) -> Option<u32> {
        Some(self.latency_ms.load(Ordering::Relaxed)).filter(|latency| *latency > 0)
    }

    pub(crate) fn set_latency(&self, latency: std::time::Duration) {
        let millis = u32::try_from(latency.as_millis()).unwrap_or(u32::MAX);
        self.latency_ms.store(millis.max(1), Ordering::Relaxed);
    }

    /// Stores a membership, with whatever else belongs to the same step; shows it once it is on disk.
    pub(crate) async fn store(&self, enrollment: Enrollment, batch: Batch) -> Result<(), Unavailable> {
        let _changing = self.changing.lock().await;
        self.put(enrollment, batch).await
    }

    /// Ends the membership, with whatever else belongs to the same step; nothing of it is left.
    pub(crate) async fn clear(&self, mut batch: Batch) -> Result<(), Unavailable> {
        let _changing = self.changing.lock().await;
        batch.delete::<table::Enrollments>(SELF).delete::<table::SyncBearerSecret>(SELF);
        self.context.commit(Lane::Control, batch).await?;
        self.enrollment.store(None);
        self.latency_ms.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Notes where the coordinator is reached from now on, with whatever else belongs to the same step. False
    /// without a membership, and then nothing is stored.
    pub(crate) async fn relocate(
        &self,
        coordinator_url: String,
        quic_address: Option<String>,
        batch: Batch,
    ) -> Result<bool, Unavailable> {
        let _changing = self.changing.lock().await;
        let Some(enrollment) = self.enrolled() else { return Ok(false) };
        let moved = Enrollment { coordinator_url, quic_address, ..(*enrollment).clone() };
        self.put(moved, batch).await?;
        Ok(true)
    }

    async fn put(&self, enrollment: Enrollment, mut batch: Batch) -> Result<(), Unavailable> {
        batch.put::<table::Enrollments>(SELF, &enrollment);
        self.context.commit(Lane::Control, batch).await?;
        self.enrollment.store(Some(Arc::new(enrollment)));
        Ok(())
    }

    /// Notes what the coordinator thinks of us, if it is news.
    pub(crate) async fn set_status(&self, status: EnrollmentStatus) -> Result<(), Unavailable> {
        let _changing = self.changing.lock().await;
        let Some(enrollment) = self.enrollment().filter(|enrollment| enrollment.status != status) else {
            return Ok(());
        };
        self.put(Enrollment { status, ..(*enrollment).clone() }, Batch::new()).await
    }
}
