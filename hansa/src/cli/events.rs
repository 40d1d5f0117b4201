//! `hansa events`: what happens on a node, as it happens.

use clap::Args;
use hansa_model::event::EventId;
use serde_json::Value;

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Format, field, instant, note};
use super::site;

/// Flags of `hansa events`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa events --follow --kind link_up,link_down\n  \
    hansa events --site berlin -o ndjson")]
pub struct EventsArgs {
    #[command(flatten)]
    connection: Connection,
    /// Goes on with what happens from now on; without it, what the node still knows is printed.
    #[arg(short, long)]
    follow: bool,
    /// Only these kinds, such as site_suspended or sync; may be given several times.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// Only about this site, by name or id.
    #[arg(long)]
    site: Option<String>,
    /// Goes on after this event.
    #[arg(long, value_name = "ID")]
    after: Option<EventId>,
}

pub(crate) async fn run(args: EventsArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = print(access.client(), &args).await;
    access.close().await;
    ended
}

async fn print(client: &crate::client::Client, args: &EventsArgs) -> Result<(), Failure> {
    let mut query = vec![("follow", args.follow.to_string())];
    if !args.kind.is_empty() {
        query.push(("kinds", args.kind.join(",")));
    }
    if let Some(site) = &args.site {
        query.push(("site_id", site::resolve(client, site).await?));
    }
    if let Some(after) = args.after {
        query.push(("after", after.to_string()));
    }
    let mut lines = client.lines("/api/v1/events", &query).await?;
    while let Some(line) = lines.next().await? {
        // Empty lines are signs of life.
        if line.is_empty() {
            continue;
        }
        let event: Value = serde_json::from_str(&line)
            .map_err(|error| Failure::new(Exit::Failed, format!("the node's answer is no event: {error}")))?;
        show(args.connection.output, &line, &event)?;
    }
    if args.follow {
        return Err(Failure::new(Exit::Unreachable, "the node ended the stream")
            .next("the same command again, with a token that is still good"));
    }
    Ok(())
}

fn show(format: Format, line: &str, event: &Value) -> Result<(), Failure> {
    match format {
        Format::Table if event["kind"] == "reset" => {
            note("events were lost: look at what stands now");
            Ok(())
        }
        Format::Table => {
            let (at, kind) = (instant(event, "at"), field(event, "kind"));
            output::write_data(&format!("{at}  {kind:24}  {}", field(event, "details")))
        }
        Format::Json | Format::Ndjson => output::write_data(line),
    }
}
