//! Fixtures for tests of whole nodes: real sockets, real files, real processes.
//!
//! | noun | is |
//! | --- | --- |
//! | [`TestNode`] | one node in this process: a temporary folder, QUIC and HTTP on free loopback ports |
//! | [`TestFederation`] | a coordinator with enrolled sites |
//! | [`TestProcess`] | the real program, killed by its process id |
//! | [`TestPair`], [`Journal`] | two of them, and what the site's connector wrote down |
//! | [`Relay`] | a way between them that loses, doubles, delays and reorders, and can be cut |
//! | [`Canaries`] | secrets that must not be found where a test looks |
//! | [`Dice`] | chance with a seed that is printed |
//! | [`Api`], [`Answer`] | plain HTTP, as any client would speak it |
//! | [`HttpCoordinator`] | a coordinator that has nothing but HTTP and two keys |
//! | [`HttpSite`] | a site that has nothing but an HTTP client and a key |
//! | [`HttpPeerServer`] | the server side of such a site: records the documented pushes |
//! | [`ScriptedServer`] | a server, or one before a real one, that resets, throttles and never ends |
//! | [`TestStores`], [`Ask`] | drivers of secret stores, and the table of cases that each is held to |
//! | [`AwsEmulator`] | moto, ministack, microburst: emulators of AWS by third parties |
//! | [`AzureImitation`], [`GoogleImitation`] | what nobody can run: judged by the vendors' clients |
//! | [`MetadataImitation`] | the services that tell a machine of AWS or Google who it is |
//! | [`OpenBao`] | a real OpenBao server on a free loopback port |
//! | [`TestIssuer`] | an issuer of operator tokens: keys over HTTP on loopback |
//! | [`OauthServer`] | a third party's issuer of tokens on a free loopback port |
//! | [`Postgres`] | a real PostgreSQL server on a free loopback port |
//! | [`DatabaseEngine`] | the two together: an OpenBao that makes users of a PostgreSQL |
//! | [`Lessee`] | a linked site that is leased credentials, and what its hosts hold |
//! | [`Schemathesis`] | a client that makes requests up from an OpenAPI document |
//! | [`eventually`] | the only way to wait: for a state, never for a time |

mod canaries;
mod canary;
mod cases;
mod database_engine;
mod dice;
mod federation;
mod hosts;
mod http;
mod http_coordinator;
mod http_peer_server;
mod http_site;
mod imitation;
mod issuer;
mod journal;
mod lessee;
mod memory_store;
mod moto;
mod node;
mod oauth_server;
mod openbao;
mod pair;
mod postgres;
mod process;
mod raw;
mod relay;
mod schemathesis;
mod scripted;
mod secret_calls;
mod service_account;
mod stores;
mod tools;
mod waiting;

pub use canaries::Canaries;
pub use canary::seen_canaries;
pub use cases::{Ask, hold_to, outcome, outcome_of};
pub use database_engine::DatabaseEngine;
pub use dice::Dice;
pub use federation::{TestFederation, TestSite};
pub use hosts::{host, host_id, rows_of};
pub use http::{Answer, Api, EventStream};
pub use http_coordinator::HttpCoordinator;
pub use http_peer_server::{HttpPeerServer, PeerPush};
pub use http_site::{HttpSite, VECTOR_CERTIFICATE, VECTOR_PROOF_COORDINATOR, VECTOR_PROOF_SITE};
pub use imitation::{AzureImitation, GoogleImitation, MetadataImitation};
pub use issuer::{SigningKey, TestIssuer};
pub use journal::Journal;
pub use lessee::{LEASES, Lessee, delivered_lease, lease_named, request_lease, revoke_lease};
pub use memory_store::{MemoryStore, MemoryStores, Mood};
pub use moto::AwsEmulator;
pub use node::{TestClock, TestNode, all_scopes};
pub use oauth_server::OauthServer;
pub use openbao::OpenBao;
pub use pair::TestPair;
pub use postgres::Postgres;
pub use process::{TestProcess, binary, free_port};
pub use raw::raw_exchange;
pub use relay::{Fates, Relay, Weather};
pub use schemathesis::Schemathesis;
pub use scripted::{Scripted, ScriptedRequest, ScriptedServer};
pub use secret_calls::{create_backend, secret_refusal, sync_backend};
pub use service_account::{claims_of, service_account_key};
pub use stores::{TestLookup, TestStores, data_of, list_all, loopback_rules, read};
pub use tools::{judge, program};
pub use waiting::{WAIT_MAX, eventually, eventually_within};
