//! The command line: nouns and verbs of the API.
//!
//! `clap` types and their documentation are here and in the noun's file; [`run`] carries them out. Data goes
//! to standard output, everything else to standard error, and the exit codes are those of
//! [`failure::Exit`].

mod access;
mod alert;
mod approle;
mod argument;
mod audit;
mod backend;
mod command;
pub mod connection;
mod events;
pub mod failure;
mod finding;
mod host;
mod identity;
mod import;
mod join;
mod lease;
pub mod output;
mod path_policy;
mod policy;
mod queue;
mod received;
mod role;
mod rollup;
mod root_key;
mod secret;
mod site;
mod store;
mod tenant;
mod token;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::connection::Connection;
use self::failure::{Exit, Failure};
use crate::config;
use crate::{bench, dev, serve};

const AFTER_HELP: &str = "\
Examples:
  hansa dev                                      a whole federation on this machine, to look around
  hansa serve --data-dir /var/lib/hansa --role coordinator
  hansa site add berlin --url https://berlin.example.com --identity-key berlin.pem
  hansa join CODE                                at the site, with the code that `site add` printed
  hansa host search web --status up

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict, 7 unreachable, 130 interrupted";

/// One binary that joins autonomous servers into a federation: a coordinator and its sites.
#[derive(Debug, Parser)]
#[command(name = "hansa", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a coordinator and its sites in one process on loopback, with hosts that live.
    Dev(dev::DevArgs),
    /// Runs one node.
    Serve(serve::ServeArgs),
    /// Shows this node's identity key, which peers pin.
    Identity(identity::IdentityArgs),
    /// Makes operator tokens.
    Token(token::TokenArgs),
    /// Local users, who log in with a password.
    User(access::UserArgs),
    /// Keys for programs, which do not log in.
    ApiKey(access::ApiKeyArgs),
    /// Shows or changes what the node is: none, coordinator or site.
    Role(role::RoleArgs),
    /// Sites of this coordinator: invite, list, suspend, remove.
    Site(site::SiteArgs),
    /// Policies of this coordinator: author, assign, plan, push, roll out.
    Policy(policy::PolicyArgs),
    /// Joins this node to a federation with the code that `hansa site add` printed there.
    Join(join::JoinArgs),
    /// What is wrong at the sites, by the coordinator's thresholds.
    Alert(alert::AlertArgs),
    /// Who is told of alerts.
    Webhook(alert::WebhookArgs),
    /// Commands to sites: dispatch, list, cancel, wait.
    Command(command::CommandArgs),
    /// Hosts of the whole federation, asked at the coordinator.
    Host(host::HostArgs),
    /// What was done, by whom, and whether the log of it is what was written.
    Audit(audit::AuditArgs),
    /// What happens on a node, as it happens.
    Events(events::EventsArgs),
    /// Rollups of the whole federation, asked at the coordinator: dashboard and report.
    Rollup(rollup::RollupArgs),
    /// This site's results against baselines: put them in, list them.
    Compliance(finding::ComplianceArgs),
    /// This site's vulnerabilities: put them in, list them.
    Vulnerabilities(finding::VulnerabilityArgs),
    /// Secret leases: who holds which short-lived credential; take one away.
    Lease(lease::LeaseArgs),
    /// Secret backends: Vault, AWS, Azure and Google stores whose secrets are read here.
    Backend(backend::BackendArgs),
    /// Secrets of this node and of its backends: read, store, delete.
    Secret(secret::SecretArgs),
    /// Who may do what with which secrets.
    PathPolicy(path_policy::PathPolicyArgs),
    /// AppRoles: programs that log in as they do at Vault.
    #[command(name = "approle")]
    AppRole(approle::AppRoleArgs),
    /// Tenants, who each have secrets, backends and policies of their own.
    Tenant(tenant::TenantArgs),
    /// Brings hosts from a file into this site: Ansible facts, osquery results, CSV, NDJSON.
    Import(import::ImportArgs),
    /// Sends everything this site holds to the coordinator again.
    Resync(queue::ResyncArgs),
    /// Shows what this site still has to send, and how its uplink is.
    Queue(queue::QueueArgs),
    /// Shows what the coordinator wants of this site: policies and commands.
    Received(received::ReceivedArgs),
    /// Connectors that carry out what the coordinator wants.
    Connector(received::ConnectorArgs),
    /// Tells this site where its coordinator has moved.
    Relocate(received::RelocateArgs),
    /// Leaves the federation.
    Leave(received::LeaveArgs),
    /// The key that everything sealed hangs on: make, rotate, see how it is kept.
    RootKey(root_key::RootKeyArgs),
    /// Takes a consistent copy of a running node's store.
    Backup(store::BackupArgs),
    /// Puts a backup into a new data folder.
    Restore(store::RestoreArgs),
    /// Verifies every table, index and hash chain of a store that no node is using.
    Check(store::CheckArgs),
    /// Measures this machine: ingest, search, start, change, secret, each beside its floor.
    Bench(bench::BenchArgs),
    /// Prints the completion script of a shell.
    Completions(CompletionsArgs),
    /// Prints the configuration.
    Config(ConfigArgs),
}

/// Flags of `hansa completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa completions bash > /etc/bash_completion.d/hansa")]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

/// Flags of `hansa config`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa config --defaults > /etc/hansa/hansa.toml\n  \
    hansa config --config /etc/hansa/hansa.toml")]
pub struct ConfigArgs {
    /// Prints every key with its default and meaning, ready to be edited.
    #[arg(long)]
    pub defaults: bool,
    /// Configuration file to read beside the environment [default: /etc/hansa/hansa.toml when it exists].
    #[arg(long, value_name = "FILE", env = "HANSA_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// Carries out a command.
///
/// # Errors
/// The failure to print and the code to exit with.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => Box::pin(dev::run(args)).await,
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Identity(args) => identity::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::User(args) => access::run_user(args).await,
        Command::ApiKey(args) => access::run_api_key(args).await,
        Command::Role(args) => role::run(args).await,
        Command::Alert(args) => alert::run(args).await,
        Command::Webhook(args) => alert::webhook(args).await,
        Command::Site(args) => site::run(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Join(args) => join::run(args).await,
        Command::Command(args) => command::run(args).await,
        Command::Host(args) => host::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Rollup(args) => rollup::run(args).await,
        Command::Compliance(args) => finding::run_compliance(args).await,
        Command::Vulnerabilities(args) => finding::run_vulnerabilities(args).await,
        Command::Lease(args) => lease::run(args).await,
        Command::Backend(args) => backend::run(args).await,
        Command::Secret(args) => secret::run(args).await,
        Command::PathPolicy(args) => path_policy::run(args).await,
        Command::AppRole(args) => approle::run(args).await,
        Command::Tenant(args) => tenant::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Resync(args) => queue::resync(args).await,
        Command::Queue(args) => queue::run(args).await,
        Command::Received(args) => received::run(args).await,
        Command::Connector(args) => received::connectors(args).await,
        Command::Relocate(args) => received::relocate(args).await,
        Command::Leave(args) => received::leave(args).await,
        Command::RootKey(args) => root_key::run(args).await,
        Command::Backup(args) => store::backup(args).await,
        Command::Restore(args) => store::restore(&args),
        Command::Check(args) => store::check(&args).await,
        Command::Bench(args) => Box::pin(bench::run(args)).await,
        Command::Completions(args) => completions(&args),
        Command::Config(args) => show_config(&args),
    }
}

fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hansa", &mut script);
    output::write_data(&String::from_utf8_lossy(&script))
}

fn show_config(args: &ConfigArgs) -> Result<(), Failure> {
    if args.defaults {
        return output::write_data(config::DEFAULTS);
    }
    let layers = config::Layer::of_files_and_environment(args.config.as_deref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let text = layers.to_toml().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    output::write_data(&text)
}

/// Flags shared by verbs that take nothing but a node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// See [`Connection`].
    #[command(flatten)]
    pub connection: Connection,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_every_command_is_reviewed() {
        let mut pages = String::new();
        let mut root = Cli::command().term_width(100);
        root.build();

        collect_help(&mut root, &mut pages);

        insta::assert_snapshot!("help", pages);
    }

    fn collect_help(command: &mut clap::Command, pages: &mut String) {
        let name = command.get_bin_name().unwrap_or("hansa").to_owned();
        pages.push_str(&format!("==== {name} ====\n{}\n\n", command.render_long_help()));
        let names: Vec<String> = command
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .filter(|name| name != "help")
            .collect();
        for verb in names {
            if let Some(verb) = command.find_subcommand_mut(&verb) {
                collect_help(verb, pages);
            }
        }
    }
}
