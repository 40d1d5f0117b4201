//! `hansa policy`: what sites should hold, and how far each of them is.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hansa_model::id::{PolicyId, RolloutId};
use hansa_model::policy::WaveSize;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::argument::read_json;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::{Answer, Client};

const POLICIES: &str = "/api/v1/federation/policies";

/// Flags of `hansa policy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa policy add firewall_role web --definition web.json\n  \
    hansa policy assign web berlin oslo\n  \
    hansa policy edit web --definition web.json --hold\n  \
    hansa policy plan web\n  \
    hansa policy push web --waves 1,25% --wait")]
pub struct PolicyArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// Creates a policy; no site has it before it is assigned.
    Add {
        /// Chooses the connector at the site, such as firewall_role.
        policy_type: String,
        /// Name of the policy, unique within its type.
        name: String,
        /// File with the definition, a JSON object; `-` reads standard input.
        #[arg(long, value_name = "FILE")]
        definition: PathBuf,
        /// Free text for people.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Lists policies by type and name.
    List {
        /// Only policies of this type.
        #[arg(long = "type", value_name = "TYPE")]
        policy_type: Option<String>,
        /// Removed policies too.
        #[arg(long)]
        include_inactive: bool,
    },
    /// Shows one policy and how far its sites are.
    Show {
        /// Name, TYPE/NAME or id.
        policy: String,
    },
    /// Changes a policy; its sites get the new version at once, unless it is held back.
    Edit {
        /// Name, TYPE/NAME or id.
        policy: String,
        /// New name.
        #[arg(long)]
        name: Option<String>,
        /// File with the new definition; `-` reads standard input.
        #[arg(long, value_name = "FILE")]
        definition: Option<PathBuf>,
        /// New text for people; an empty one clears it.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Keeps the new version back until `hansa policy push`.
        #[arg(long)]
        hold: bool,
    },
    /// Deactivates a policy for good: it is withdrawn from all of its sites.
    Remove {
        /// Name, TYPE/NAME or id.
        policy: String,
    },
    /// Assigns a policy to sites; other sites keep what they have.
    Assign {
        /// Name, TYPE/NAME or id.
        policy: String,
        /// Names or ids.
        #[arg(required = true)]
        sites: Vec<String>,
        /// Keeps the policy back from these sites until `hansa policy push`.
        #[arg(long)]
        hold: bool,
    },
    /// Takes a policy from sites.
    Unassign {
        /// Name, TYPE/NAME or id.
        policy: String,
        /// Names or ids.
        #[arg(required = true)]
        sites: Vec<String>,
    },
    /// Shows what a push would change at each site.
    Plan {
        /// Name, TYPE/NAME or id.
        policy: String,
    },
    /// Sends a policy to its sites, at once or wave by wave.
    Push(PushArgs),
    /// Shows the rollouts of a policy, or resumes or aborts one.
    Rollout {
        /// Name, TYPE/NAME or id.
        policy: String,
        /// What to do with the rollout that is not over [default: show all].
        #[arg(value_enum)]
        action: Option<RolloutAction>,
        /// Another rollout than the newest.
        #[arg(long, value_name = "ID")]
        id: Option<RolloutId>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RolloutAction {
    /// Goes on after a halt; sites that failed are told once more.
    Resume,
    /// Gives the rollout up; sites of later waves keep what they have.
    Abort,
}

#[derive(Debug, Args)]
struct PushArgs {
    /// Name, TYPE/NAME or id.
    policy: String,
    /// The hash that `hansa policy plan` printed: refused when the world has moved since.
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    /// Sizes of the first waves, such as 1,10,25%; the rest of the sites is the last one.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    waves: Option<Vec<WaveSize>>,
    /// Failed sites at which the rollout halts [default: 1].
    #[arg(long, value_name = "N", requires = "waves")]
    halt_on_errors: Option<u32>,
    /// Seconds that a wave may take [default: 3600].
    #[arg(long, value_name = "SECONDS", requires = "waves")]
    wave_timeout: Option<u32>,
    /// Waves wait only until sites have stored the policy: for sites that never say what they applied.
    #[arg(long, requires = "waves")]
    until_pushed: bool,
    /// Waits and shows progress until every site has acknowledged, or something failed.
    #[arg(long)]
    wait: bool,
}

const ROW: &[Column] = &[
    Column { heading: "TYPE", cell: |policy| field(policy, "policy_type") },
    Column { heading: "NAME", cell: |policy| field(policy, "name") },
    Column { heading: "VERSION", cell: |policy| field(policy, "version") },
    Column { heading: "ACTIVE", cell: |policy| field(policy, "is_active") },
    Column { heading: "HELD", cell: |policy| field(policy, "held") },
    Column { heading: "UPDATED", cell: |policy| instant(policy, "updated_at") },
    Column { heading: "ID", cell: |policy| field(policy, "id") },
];

const SHEET: &[Column] = &[
    Column { heading: "name", cell: |policy| field(policy, "name") },
    Column { heading: "type", cell: |policy| field(policy, "policy_type") },
    Column { heading: "id", cell: |policy| field(policy, "id") },
    Column { heading: "version", cell: |policy| field(policy, "version") },
    Column { heading: "active", cell: |policy| field(policy, "is_active") },
    Column { heading: "held back", cell: |policy| field(policy, "held") },
    Column { heading: "description", cell: |policy| field(policy, "description") },
    Column { heading: "definition", cell: |policy| field(policy, "definition_json") },
    Column { heading: "created by", cell: |policy| field(policy, "created_by") },
    Column { heading: "updated", cell: |policy| instant(policy, "updated_at") },
];

const ASSIGNMENT: &[Column] = &[
    Column { heading: "SITE", cell: |row| field(row, "site_name") },
    Column { heading: "STATUS", cell: |row| field(row, "push_status") },
    Column { heading: "PUSHED", cell: |row| field(row, "pushed_version") },
    Column { heading: "APPLIED", cell: |row| field(row, "applied_version") },
    Column { heading: "TRIES", cell: |row| field(row, "push_attempts") },
    Column { heading: "ERROR", cell: trouble },
];

const PLANNED: &[Column] = &[
    Column { heading: "", cell: |site| mark(site).to_owned() },
    Column { heading: "SITE", cell: |site| field(site, "site_name") },
    Column { heading: "CHANGE", cell: |site| field(site, "change") },
    Column { heading: "VERSION", cell: versions },
    Column { heading: "BLOCKED", cell: |site| field(site, "blocked") },
];

const ROLLOUT: &[Column] = &[
    Column { heading: "ID", cell: |rollout| field(rollout, "id") },
    Column { heading: "VERSION", cell: |rollout| field(rollout, "version") },
    Column { heading: "STATUS", cell: |rollout| field(rollout, "status") },
    Column {
        heading: "WAVE",
        cell: |rollout| format!("{} of {}", field(rollout, "wave"), field(rollout, "wave_count")),
    },
    Column { heading: "SITES", cell: |rollout| tally(rollout, "sites", "progress") },
    Column { heading: "STARTED", cell: |rollout| instant(rollout, "started_at") },
    Column { heading: "REASON", cell: |rollout| field(rollout, "reason") },
];

pub(crate) async fn run(args: PolicyArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Add { policy_type, name, definition, description } => {
            let definition = read_json("definition", &definition)?;
            let body = json!({
                "policy_type": policy_type, "name": name, "definition": definition, "description": description,
            });
            let answer = client.send_json(Method::POST, POLICIES, Some(&body)).await?;
            output::item(format, &answer, Some("policy"), SHEET)
        }
        PolicyVerb::List { policy_type, include_inactive } => {
            let mut query = vec![("active_only", (!include_inactive).to_string())];
            query.extend(policy_type.map(|text| ("policy_type", text)));
            let answer = client.get(POLICIES, &query).await?;
            output::list(format, &answer, "policies", ROW)
        }
        PolicyVerb::Show { policy } => {
            let answer = client.get(&path(client, &policy).await?, &[]).await?;
            if format == Format::Table {
                output::item(format, &answer, Some("policy"), SHEET)?;
            }
            show(format, &answer)
        }
        PolicyVerb::Edit { policy, name, definition, description, hold } => {
            let mut body = Map::new();
            body.extend(name.map(|name| ("name".to_owned(), Value::from(name))));
            if let Some(file) = definition {
                body.insert("definition".to_owned(), read_json("definition", &file)?);
            }
            body.extend(description.map(|text| ("description".to_owned(), Value::from(text))));
            let path = path(client, &policy).await?;
            let answer = client.send_json_with(Method::PATCH, &path, &held(hold), Some(&body)).await?;
            output::item(format, &answer, Some("policy"), SHEET)
        }
        PolicyVerb::Remove { policy } => {
            let path = path(client, &policy).await?;
            let answer = client.send_json::<Value>(Method::DELETE, &path, None).await?;
            output::item(format, &answer, Some("policy"), SHEET)
        }
        PolicyVerb::Assign { policy, sites, hold } => {
            let path = format!("{}/assign", path(client, &policy).await?);
            let body = json!({ "site_ids": site_ids(client, &sites).await? });
            show(format, &client.send_json_with(Method::POST, &path, &held(hold), Some(&body)).await?)
        }
        PolicyVerb::Unassign { policy, sites } => {
            let path = format!("{}/assign", path(client, &policy).await?);
            let body = json!({ "site_ids": site_ids(client, &sites).await? });
            show(format, &client.send_json(Method::DELETE, &path, Some(&body)).await?)
        }
        PolicyVerb::Plan { policy } => {
            let path = format!("{}/plan", path(client, &policy).await?);
            show_plan(format, &client.send_json::<Value>(Method::POST, &path, None).await?)
        }
        PolicyVerb::Push(args) => push(client, format, &args).await,
        PolicyVerb::Rollout { policy, action, id } => {
            rollout(client, format, &path(client, &policy).await?, action, id).await
        }
    }
}

fn held(hold: bool) -> Vec<(&'static str, String)> {
    if hold { vec![("hold", "true".to_owned())] } else { Vec::new() }
}

async fn push(client: &Client, format: Format, args: &PushArgs) -> Result<(), Failure> {
    let path = path(client, &args.policy).await?;
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| body.extend(value.map(|value| (name.to_owned(), value)));
    set("plan_hash", args.plan.as_deref().map(Value::from));
    let waves = args.waves.as_ref();
    set("waves", waves.map(|waves| waves.iter().map(WaveSize::to_string).collect()));
    set("halt_on_errors", args.halt_on_errors.map(Value::from));
    set("wave_timeout_seconds", args.wave_timeout.map(Value::from));
    set("wait_for", args.until_pushed.then(|| Value::from("pushed")));
    let mut answer = client.send_json(Method::POST, &format!("{path}/push"), Some(&body)).await?;
    if args.wait {
        answer = if args.waves.is_some() {
            return wait_for_rollout(client, format, &path).await;
        } else {
            wait_for_sites(client, &path, answer).await?
        };
    }
    show(format, &answer)
}

/// Between two looks while waiting.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

async fn wait_for_sites(client: &Client, path: &str, mut answer: Answer) -> Result<Answer, Failure> {
    let mut told = String::new();
    loop {
        let rows = rows(&answer.json, "assignments");
        let state = tally(&answer.json, "assignments", "push_status");
        if state != told {
            note(&state);
            told = state;
        }
        let ended = |row: &Value| field(row, "push_status") == "acknowledged" || trouble(row) != "-";
        if rows.iter().all(ended) {
            let failed = rows.iter().filter(|row| trouble(row) != "-").count();
            if failed == 0 {
                return Ok(answer);
            }
            return Err(Failure::new(Exit::Failed, format!("{failed} of {} sites failed", rows.len()))
                .next("hansa policy show tells why"));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        answer = client.get(path, &[]).await?;
    }
}

async fn wait_for_rollout(client: &Client, format: Format, path: &str) -> Result<(), Failure> {
    let mut told = String::new();
    loop {
        let answer = client.get(&format!("{path}/rollouts"), &[]).await?;
        let Some(newest) = rows(&answer.json, "rollouts").first() else {
            return Err(Failure::new(Exit::Failed, "the rollout is gone"));
        };
        let status = field(newest, "status");
        let state = format!(
            "wave {} of {}: {} ({status})",
            field(newest, "wave"),
            field(newest, "wave_count"),
            tally(newest, "sites", "progress"),
        );
        if state != told {
            note(&state);
            told = state;
        }
        match status.as_str() {
            "running" => tokio::time::sleep(LOOK_INTERVAL).await,
            "completed" => return output::list(format, &answer, "rollouts", ROLLOUT),
            _ => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("the rollout is {status}: {}", field(newest, "reason")),
                )
                .next("hansa policy rollout POLICY resume, or abort"));
            }
        }
    }
}

async fn rollout(
    client: &Client,
    format: Format,
    policy: &str,
    action: Option<RolloutAction>,
    id: Option<RolloutId>,
) -> Result<(), Failure> {
    let answer = client.get(&format!("{policy}/rollouts"), &[]).await?;
    let Some(action) = action else { return output::list(format, &answer, "rollouts", ROLLOUT) };
    let newest = || rows(&answer.json, "rollouts").first().map(|rollout| field(rollout, "id"));
    let Some(id) = id.map(|id| id.to_string()).or_else(newest) else {
        return Err(Failure::new(Exit::NotFound, "the policy has no rollout")
            .next("hansa policy push POLICY --waves 1,25% starts one"));
    };
    let verb = match action {
        RolloutAction::Resume => "resume",
        RolloutAction::Abort => "abort",
    };
    let path = format!("{policy}/rollouts/{id}/{verb}");
    let answer = client.send_json::<Value>(Method::POST, &path, None).await?;
    output::item(format, &answer, Some("rollout"), ROLLOUT)
}

fn show(format: Format, answer: &Answer) -> Result<(), Failure> {
    if format == Format::Table {
        let leaving = rows(&answer.json, "withdrawing");
        if !leaving.is_empty() {
            let names: Vec<String> = leaving.iter().map(|row| field(row, "site_name")).collect();
            note(&format!("still to give it up: {}", names.join(", ")));
        }
    }
    output::list(format, answer, "assignments", ASSIGNMENT)
}

fn show_plan(format: Format, answer: &Answer) -> Result<(), Failure> {
    let Some(plan) = answer.json.get("plan").filter(|_| format == Format::Table) else {
        return output::item(format, answer, None, &[]);
    };
    let counts = ["add", "update", "nothing", "withdraw", "blocked"].map(|what| match what {
        "nothing" => format!("{} unchanged", field(plan, what)),
        _ => format!("{} to {what}", field(plan, what)).replace("to blocked", "blocked"),
    });
    let sites = Answer { text: String::new(), json: plan.clone() };
    output::list(format, &sites, "sites", PLANNED)?;
    note(&format!("version {}: {}", field(plan, "version"), counts.join(", ")));
    note(&format!("to push exactly this: hansa policy push POLICY --plan {}", field(plan, "plan_hash")));
    Ok(())
}

fn mark(site: &Value) -> &'static str {
    match (site.get("blocked").is_some_and(Value::is_string), site.get("change").and_then(Value::as_str)) {
        (true, _) => "!",
        (false, Some("add")) => "+",
        (false, Some("update")) => "~",
        (false, Some("withdraw")) => "-",
        (false, _) => "=",
    }
}

fn versions(site: &Value) -> String {
    match (field(site, "from_version").as_str(), field(site, "to_version").as_str()) {
        ("-", to) => to.to_owned(),
        (from, to) => format!("{from} → {to}"),
    }
}

/// What stands in the way at a site: applying it, or pushing it. An outage ends by itself.
fn trouble(row: &Value) -> String {
    match field(row, "apply_error") {
        none if none == "-" => field(row, "last_push_error"),
        error => error,
    }
}

fn rows<'a>(body: &'a Value, key: &str) -> &'a [Value] {
    body.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// How many rows are in which state, such as `3 acknowledged, 1 pending`.
fn tally(body: &Value, key: &str, state: &str) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for row in rows(body, key) {
        *counts.entry(field(row, state)).or_insert(0_usize) += 1;
    }
    let texts: Vec<String> = counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    if texts.is_empty() { "no sites".to_owned() } else { texts.join(", ") }
}

async fn path(client: &Client, policy: &str) -> Result<String, Failure> {
    Ok(format!("{POLICIES}/{}", resolve(client, policy).await?))
}

/// The id behind an id, a name or TYPE/NAME. Among policies of one name, the one that is active.
async fn resolve(client: &Client, policy: &str) -> Result<String, Failure> {
    if let Ok(id) = policy.parse::<PolicyId>() {
        return Ok(id.to_string());
    }
    let answer = client.get(POLICIES, &[("active_only", "false".to_owned())]).await?;
    find(policy, rows(&answer.json, "policies"))
}

fn find(policy: &str, policies: &[Value]) -> Result<String, Failure> {
    let fits = |row: &&Value| {
        let name = field(row, "name");
        name == policy || format!("{}/{name}", field(row, "policy_type")) == policy
    };
    let active = |row: &&&Value| row.get("is_active") == Some(&Value::Bool(true));
    let found: Vec<&Value> = policies.iter().filter(fits).collect();
    let live: Vec<&Value> = found.iter().filter(active).copied().collect();
    match (live.as_slice(), found.as_slice()) {
        ([one], _) | ([], [one]) => Ok(field(one, "id")),
        ([], []) => {
            Err(Failure::new(Exit::NotFound, format!("there is no policy {policy}"))
                .next("hansa policy list"))
        }
        _ => {
            Err(Failure::usage(format!("several policies are called {policy}")).next("name it as TYPE/NAME"))
        }
    }
}

async fn site_ids(client: &Client, sites: &[String]) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::with_capacity(sites.len());
    for name in sites {
        ids.push(site::resolve(client, name).await?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(id: &str, policy_type: &str, name: &str, is_active: bool) -> Value {
        json!({ "id": id, "policy_type": policy_type, "name": name, "is_active": is_active })
    }

    #[test]
    fn policy_is_found_by_its_name_and_by_type_where_names_repeat() {
        let policies = [
            policy("1", "firewall_role", "web", true),
            policy("2", "update_profile", "web", true),
            policy("3", "firewall_role", "db", true),
            policy("4", "update_profile", "db", false),
        ];

        assert_eq!(find("db", &policies).unwrap(), "3");
        assert_eq!(find("update_profile/web", &policies).unwrap(), "2");
        assert_eq!(find("web", &policies).unwrap_err().exit, Exit::Usage);
        assert_eq!(find("mail", &policies).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn plan_shows_each_kind_of_change_at_a_glance() {
        let site = |change, blocked: Option<&str>| json!({ "change": change, "blocked": blocked });

        let marks = [site("add", None), site("update", None), site("nothing", None), site("withdraw", None)];

        assert_eq!(marks.each_ref().map(mark), ["+", "~", "=", "-"]);
        assert_eq!(mark(&site("add", Some("suspended"))), "!");
        assert_eq!(versions(&json!({ "from_version": 1, "to_version": 2 })), "1 → 2");
    }

    #[test]
    fn progress_counts_the_sites_of_each_state() {
        let body = json!({ "assignments": [{ "push_status": "pushed" }, { "push_status": "pending" }, { "push_status": "pushed" }] });

        assert_eq!(tally(&body, "assignments", "push_status"), "1 pending, 2 pushed");
        assert_eq!(tally(&json!({}), "assignments", "push_status"), "no sites");
    }
}
