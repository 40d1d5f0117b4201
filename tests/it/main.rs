//! Whole nodes: one module per promise.

#[cfg(test)]
mod alerts;
#[cfg(test)]
mod approles;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod backends;
mod backends_ambient;
#[cfg(test)]
mod backends_aws;
#[cfg(test)]
mod backends_azure;
#[cfg(test)]
mod backends_google;
#[cfg(test)]
mod backends_hostile;
#[cfg(test)]
mod backends_kubernetes;
#[cfg(test)]
mod backends_vault;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod commands_waiting;
#[cfg(test)]
mod connectors;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod dev;
#[cfg(test)]
mod events;
#[cfg(test)]
mod federation;
#[cfg(test)]
mod foreign_tokens;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod http_peer;
#[cfg(test)]
mod https;
#[cfg(test)]
mod inbox;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod kill_commands;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod leases_linked;
#[cfg(test)]
mod leases_vault;
#[cfg(test)]
mod lossy_link;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod open_entries;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod past;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod policies_pushed;
#[cfg(test)]
mod quic_peer;
#[cfg(test)]
mod rate_limits;
#[cfg(test)]
mod rollups;
#[cfg(test)]
mod root_key;
#[cfg(test)]
mod root_key_rotation;
#[cfg(test)]
mod search;
#[cfg(test)]
mod secret_canaries;
#[cfg(test)]
mod secret_events;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod security;
#[cfg(test)]
mod stolen_folder;
#[cfg(test)]
mod supervision;
#[cfg(test)]
mod tidy;
mod vault_surface;
