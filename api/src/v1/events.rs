//! Live events (ours): what changes on the node, as server-sent events or as lines of JSON.
//!
//! Nobody is waited for: a watcher that has missed events is told to load again. Each event is shown only to
//! those who may see it, by the scopes and sites that their token has at that moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hansa_actors::{EventReader, EventsRead, EventsStart, Federation};
use hansa_model::audit::Detail;
use hansa_model::event::{Event, EventFilter, EventId};
use hansa_model::limits::events as limits;
use hansa_model::scope::Operator;
use hansa_model::{Secret, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::query::{Query, invalid};
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// The kind that tells a watcher to load again what it shows.
const RESET: &str = "reset";

/// The parameters of a stream.
pub(crate) const QUERY: &[Parameter] = &[
    Parameter {
        name: "after",
        kind: ParameterKind::Text,
        description: "id of the last event seen; a Last-Event-ID header goes before it",
    },
    Parameter { name: "kinds", kind: ParameterKind::Text, description: "only these kinds, comma-separated" },
    Parameter { name: "site_id", kind: ParameterKind::Text, description: "only events about this site" },
    Parameter {
        name: "follow",
        kind: ParameterKind::Boolean,
        description: "true (default): the stream goes on; false: it ends with the newest event, and begins \
                      with the oldest that is kept when no place is given",
    },
];

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventBody {
    /// The event's place: give it as `after` or `Last-Event-ID` to go on from here.
    id: String,
    /// What happened, such as `site_suspended`, `link_up` or `sync`; `reset`: events are lost, load again.
    kind: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The site that it is about.
    site_id: Option<Uuid>,
    /// The audit entry that says the same.
    audit_entry_id: Option<Uuid>,
    #[schema(value_type = Object)]
    details: Map<String, Value>,
}

impl From<&Event> for EventBody {
    fn from(event: &Event) -> Self {
        let draft = &event.draft;
        Self {
            id: event.id.to_string(),
            kind: draft.kind.clone(),
            at: draft.at,
            site_id: draft.site.map(|site| site.0),
            audit_entry_id: draft.audit_entry.map(|entry| entry.0),
            details: json(&draft.details),
        }
    }
}

/// Details as JSON shows them.
pub(crate) fn json(details: &std::collections::BTreeMap<String, Detail>) -> Map<String, Value> {
    details.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect()
}

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    ServerSent,
    Ndjson,
}

impl Format {
    const fn content_type(self) -> &'static str {
        match self {
            Self::ServerSent => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    fn event(self, body: &EventBody, into: &mut Vec<u8>) {
        // Texts and numbers always have a JSON form, on one line.
        let data = serde_json::to_string(body).unwrap_or_default();
        let text = match self {
            Self::ServerSent => format!("id: {}\nevent: {}\ndata: {data}\n\n", body.id, body.kind),
            Self::Ndjson => format!("{data}\n"),
        };
        into.extend_from_slice(text.as_bytes());
    }

    /// A sign of life that also moves the watcher's place over events it was not shown.
    fn heartbeat(self, place: EventId) -> Bytes {
        match self {
            Self::ServerSent => format!(": alive\nid: {place}\n\n").into(),
            Self::Ndjson => Bytes::from_static(b"\n"),
        }
    }
}

/// One watcher.
struct Watch {
    federation: Federation,
    reader: EventReader,
    filter: EventFilter,
    format: Format,
    follow: bool,
    operator: Arc<Operator>,
    /// Looked at again and again: the stream ends with the token. None for the local operator.
    token: Option<Secret<String>>,
    stopping: watch::Receiver<bool>,
    /// What is written before anything else.
    first: Option<Bytes>,
    /// When something was last written.
    written: Instant,
    _room: OwnedSemaphorePermit,
}

impl Watch {
    /// The next piece of the stream; none at its end.
    async fn next(&mut self) -> Option<Bytes> {
        let piece = self.wait().await;
        self.written = Instant::now();
        piece
    }

    async fn wait(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if *self.stopping.borrow() || !self.is_still_allowed().await {
                return None;
            }
            let piece = self.read();
            if !piece.is_empty() {
                return Some(piece);
            }
            if !self.follow && self.reader.is_at_end() {
                return None;
            }
            tokio::select! {
                biased;
                // An error means that the surface is gone, which ends the stream as well.
                _ = self.stopping.changed() => {}
                // Before the events: those that are not shown must not keep the stream silent.
                () = tokio::time::sleep_until(self.written + limits::HEARTBEAT) => {
                    let allowed = self.is_still_allowed().await;
                    return allowed.then(|| self.format.heartbeat(self.reader.place()));
                }
                () = self.reader.changed() => {}
            }
        }
    }

    /// What has come and may be shown; empty when nothing has.
    fn read(&mut self) -> Bytes {
        let mut piece = Vec::new();
        match self.reader.read() {
            EventsRead::Reset(newest) => self.format.event(&self.reset(newest), &mut piece),
            EventsRead::Events(events) => {
                let shown = events.iter().filter(|event| {
                    self.filter.takes(event) && self.federation.may_see(&self.operator, event)
                });
                for event in shown {
                    self.format.event(&EventBody::from(event), &mut piece);
                }
            }
        }
        piece.into()
    }

    fn reset(&self, newest: EventId) -> EventBody {
        EventBody {
            id: newest.to_string(),
            kind: RESET.to_owned(),
            at: self.federation.now(),
            site_id: None,
            audit_entry_id: None,
            details: Map::new(),
        }
    }

    async fn is_still_allowed(&mut self) -> bool {
        let Some(token) = &self.token else { return true };
        match self.federation.authenticate(token.expose()).await {
            Ok(operator) => {
                self.operator = operator;
                true
            }
            Err(_) => false,
        }
    }
}

pub(crate) fn watch(request: &Request, operator: &Arc<Operator>) -> Result<Answer, Problem> {
    let query = request.query()?;
    let filter = filter(&query)?;
    let follow = query.text("follow")?.is_none() || query.flag("follow")?;
    let place = query.opaque("after")?.map(|text| parse("after", text)).transpose()?;
    let format = match request.header("accept") {
        Some(accept) if accept.contains("ndjson") => Format::Ndjson,
        Some(_) | None => Format::ServerSent,
    };
    // The browser sends the header when it comes back; the address is still that of the first time.
    let (start, lost) = match (request.header("last-event-id").filter(|text| !text.is_empty()), place) {
        (Some(text), _) => match text.parse() {
            Ok(place) => (EventsStart::After(place), false),
            // A refusal would keep the browser from ever coming back.
            Err(_) => (EventsStart::Now, true),
        },
        (None, Some(place)) => (EventsStart::After(place), false),
        (None, None) if follow => (EventsStart::Now, false),
        (None, None) => (EventsStart::Oldest, false),
    };
    let (room, stopping) = request.stream_room().ok_or_else(|| {
        let text =
            format!("{} streams of events are open: close one, or try again later", limits::STREAMS_MAX);
        Problem::new(Code::Busy, text)
    })?;
    let mut watch = Watch {
        reader: request.federation.events(start),
        filter,
        format,
        follow,
        operator: Arc::clone(operator),
        token: request.credential(),
        stopping,
        first: None,
        written: Instant::now(),
        federation: request.federation.clone(),
        _room: room,
    };
    watch.first = Some(if lost {
        let mut piece = Vec::new();
        format.event(&watch.reset(watch.reader.place()), &mut piece);
        piece.into()
    } else {
        // At once, so that the watcher knows its place before anything has happened.
        format.heartbeat(watch.reader.place())
    });
    let stream = futures_util::stream::unfold(watch, |mut watch| async move {
        let piece = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), watch))
    });
    Ok(Answer::stream(format.content_type(), Body::from_stream(stream)))
}

fn filter(query: &Query) -> Result<EventFilter, Problem> {
    let kinds: Option<BTreeSet<String>> = query.opaque("kinds")?.map(|text| {
        text.split(',').map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
    });
    if kinds.as_ref().is_some_and(|kinds| kinds.len() > limits::KINDS_MAX) {
        return Err(invalid("kinds", format_args!("may name at most {}", limits::KINDS_MAX)));
    }
    Ok(EventFilter { kinds: kinds.filter(|kinds| !kinds.is_empty()), site: query.word("site_id")? })
}

fn parse(name: &'static str, text: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|error| invalid(name, format_args!("{error}")))
}
