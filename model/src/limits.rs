//! Every bound of the system on one page, each with its reason.
//!
//! What breaks on either side is said where it is not obvious. A bound that an operator may change is a
//! default here and a key in the configuration.

use std::time::Duration;

/// Sizes of a directory row: the columns of contract 6.1.
pub mod host {
    /// Longest name of DNS is 253; the contract's column has 255.
    pub const FQDN_BYTES_MAX: usize = 255;
    /// The longest IPv6 text with an embedded IPv4 address has 45 characters.
    pub const ADDRESS_BYTES_MAX: usize = 45;
    /// `os_family`, `os_version`, `platform`.
    pub const LABEL_BYTES_MAX: usize = 64;
    /// `status`.
    pub const STATUS_BYTES_MAX: usize = 32;
    /// The contract leaves tags unbounded; one row must fit a frame many times over.
    pub const TAGS_BYTES_MAX: usize = 4_096;
    /// The contract says 2 characters.
    pub const COUNTRY_BYTES_MAX: usize = 2;
    /// The contract says 10 characters.
    pub const SUBDIVISION_BYTES_MAX: usize = 10;
    /// The contract says 200 characters; in UTF-8 that is up to 800 bytes.
    pub const CITY_BYTES_MAX: usize = 800;
}

/// Sizes of a site's row: contract B2.
pub mod site {
    /// Bytes of a site's name and location label.
    pub const NAME_BYTES_MAX: usize = 255;
    /// Bytes of a site's URL.
    pub const URL_BYTES_MAX: usize = 512;
    /// Bytes of `agent_version_min`, `sysmanage_version`.
    pub const VERSION_BYTES_MAX: usize = 32;
    /// Bytes of `connection_state`.
    pub const STATE_BYTES_MAX: usize = 16;
    /// Bytes of a stored certificate or key in PEM; an RSA-4096 certificate has about 2,400.
    pub const PEM_BYTES_MAX: usize = 16 * 1024;
    /// Entries of `capabilities`, and bytes of each.
    pub const CAPABILITIES_MAX: usize = 64;
    /// Bytes of one capability's name.
    pub const CAPABILITY_BYTES_MAX: usize = 64;
    /// A day between two syncs is the longest that the frontend's health chip can judge.
    pub const SYNC_INTERVAL_SECONDS_MAX: u32 = 86_400;
    /// The contract's floor of the drain loop.
    pub const SYNC_INTERVAL_SECONDS_MIN: u32 = 5;
    /// The contract's default.
    pub const SYNC_INTERVAL_SECONDS_DEFAULT: u32 = 300;
    /// The contract's default life of an enrollment token.
    pub const TOKEN_TTL_HOURS_DEFAULT: u32 = 24;
    /// Thirty days: a token that lives longer is a password.
    pub const TOKEN_TTL_HOURS_MAX: u32 = 720;
    /// Sites of one coordinator. The index visits every shard on each search; 100 is the stated target.
    pub const SITES_MAX: usize = 4_096;
}

/// Rollups of a site (contract 7).
pub mod rollup {
    /// Largest count of a rollup: no fleet has as many hosts or findings, and the sums of 4,096 sites stay
    /// below 2⁵³, where every whole number has an exact float in JSON.
    pub const COUNT_MAX: u64 = 1_000_000_000_000;
    /// The contract says 64 characters.
    pub const BASELINE_CHARS_MAX: usize = 64;
    /// Baselines of one site; the contract expects one to three. Each keeps ninety snapshots.
    pub const BASELINES_MAX: usize = 64;
    /// CVEs that one rollup names; ours names ten.
    pub const TOP_CVES_MAX: usize = 100;
    /// Bytes of one of them; the longest CVE has about 20.
    pub const CVE_BYTES_MAX: usize = 64;
    /// Rows of one page of snapshots when none is asked for (contract B3).
    pub const LIMIT_DEFAULT: usize = 100;
    /// Rows of one page at most (contract B3).
    pub const LIMIT_MAX: usize = 1_000;
    /// Rows that a page may leave out: beyond it ask by time. So many keys are held while a series is read.
    pub const OFFSET_MAX: usize = 100_000;
    /// Silent sites that one answer names; it counts all of them.
    pub const SILENT_LISTED_MAX: usize = 100;
}

/// Sync between a site and its coordinator.
pub mod sync {
    use super::Duration;

    /// Rows of one ingest batch. At 300 B a row it is one 300 kB record: large enough to amortise a
    /// sync, small enough that a batch is applied to the index in about 2 ms.
    pub const BATCH_ROWS_MAX: usize = 1_000;
    /// Bytes of one frame. A batch of the largest rows must fit: 1,000 rows of at most 6 kB.
    pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
    /// Bytes of the rows in one batch; below the frame's bound by the room that the header needs.
    pub const BATCH_BYTES_MAX: usize = 6 * 1024 * 1024;
    /// Bytes of the payloads in one batch, beside its rows; a single larger one travels alone. The result of a
    /// command at 10,000 hosts has about 1 MB.
    pub const PAYLOADS_BYTES_MAX: usize = 1024 * 1024;
    /// Bytes of a frame before the peer is enrolled: a token, a certificate and a proof.
    pub const FRAME_BYTES_MAX_UNENROLLED: usize = 32 * 1024;
    /// Largest frame on the control lane of a linked site: what it holds of 10,000 policies, 23 bytes each.
    pub const CONTROL_FRAME_BYTES_MAX: usize = 512 * 1024;
    /// First wait of an entry's or a push's back-off (contract 3.5).
    pub const RETRY_FIRST: Duration = Duration::from_secs(10);
    /// Longest wait of an entry's back-off (contract 3.5).
    pub const RETRY_MAX: Duration = Duration::from_secs(1_200);
    /// Permanent refusals after which an entry is dead (contract 3.5, architecture 11).
    pub const ATTEMPTS_MAX: u32 = 8;
    /// First wait before the next contact after a failed one (contract 3.6).
    pub const RECONNECT_FIRST: Duration = Duration::from_secs(30);
    /// Longest wait between contacts (contract 3.6).
    pub const RECONNECT_MAX: Duration = Duration::from_secs(900);
    /// Failures in a row from which a site calls itself offline (contract 3.6).
    pub const OFFLINE_AFTER_FAILURES: u32 = 3;
    /// First wait before a QUIC link is dialled again. The contract's 30 s are for an HTTP tick; a link
    /// that broke is usually back at once, and one datagram is cheap to lose.
    pub const LINK_RETRY_FIRST: Duration = Duration::from_millis(250);
    /// Longest wait between dials of a QUIC link: a coordinator that comes back is found within it.
    pub const LINK_RETRY_MAX: Duration = Duration::from_secs(30);
    /// Longest time that an acknowledgement waits for another write to take it to the disk. A crash before costs
    /// one question at the next link, never a change.
    pub const SETTLE_WAIT: Duration = Duration::from_secs(1);
    /// Between digest comparisons of a quiet, healthy link. They cost one frame of 1 kB.
    pub const DIGEST_INTERVAL: Duration = Duration::from_secs(600);
    /// Between two words of a linked site on how it is: its clock, its dead letters.
    pub const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
    /// Wait for an answer on a link before it is called half-open and closed.
    pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
    /// Newest sync events kept for each site (contract 7.2).
    pub const EVENTS_MAX: u64 = 500;
    /// Newest snapshots kept of each rollup series (contract 7.2).
    pub const ROLLUPS_MAX: u64 = 90;
    /// Distinct keys of a breakdown: operating systems and states have few; a hostile site has many.
    pub const BREAKDOWN_KEYS_MAX: usize = 256;
}

/// Alerts about sites.
pub mod alert {
    use super::Duration;

    /// Difference of two clocks that is tolerated; half of what a stamp allows, a leeway of tokens.
    pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
    /// Between two writes of an open alert whose title stays: its numbers grow older with every sweep.
    pub const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
    /// Resolved alerts are kept for so long (contract 7.2).
    pub const RESOLVED_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
    /// Alerts of one answer when no limit is given (contract B5), and at most.
    pub const LIST_DEFAULT: usize = 100;
    /// See [`LIST_DEFAULT`].
    pub const LIST_MAX: usize = 1_000;
}

/// Webhooks.
pub mod webhook {
    use super::Duration;

    /// Between two looks whether a webhook is due; a new event looks at once.
    pub const TICK: Duration = Duration::from_secs(5);
    /// Events are kept for so long, to be told again.
    pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
    /// Bytes of a signature's key: the convention's least.
    pub const SECRET_BYTES_MIN: usize = 24;
    /// Webhooks of one node; each may hold one connection.
    pub const WEBHOOKS_MAX: usize = 16;
}

/// Pushes from a coordinator to a site.
pub mod push {
    use super::Duration;

    /// Pushes out on one link without an answer. The site answers each within a disk sync; more would
    /// only wait there, and be sent again when the link breaks.
    pub const OUT_MAX: usize = 64;
    /// Between two passes over what is due for HTTP peers (contract 4).
    pub const TICK: Duration = Duration::from_secs(30);
    /// Floor of [`TICK`] (contract 4).
    pub const TICK_MIN: Duration = Duration::from_secs(5);
}

/// Policies and their rollouts.
pub mod policy {
    /// How far above a policy's version a site's may be to be believed. A coordinator's backup is not so many
    /// edits of one policy behind; a site that lies would use the numbers up for all others.
    pub const VERSIONS_LOST_MAX: u32 = 10_000;
    /// Bytes of `policy_type` (contract B4).
    pub const TYPE_BYTES_MAX: usize = 64;
    /// Bytes of a policy's name (contract B4).
    pub const NAME_BYTES_MAX: usize = 255;
    /// Bytes of a description; the contract leaves it unbounded, people read a page.
    pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
    /// Bytes of a definition in its canonical text. A link has 64 pushes out, which is 16 MB at most; a
    /// profile of 2,000 rules at 100 bytes fits.
    pub const DEFINITION_BYTES_MAX: usize = 256 * 1024;
    /// Policies of one coordinator, inactive ones included. The contract's list has no pages, so an answer
    /// holds them all; sites may have all of them.
    pub const POLICIES_MAX: usize = 1_024;
    /// Sites that one call assigns or unassigns: all of them.
    pub const ASSIGN_SITES_MAX: usize = super::site::SITES_MAX;
    /// Bytes kept of why a push or its application failed; a site has a part in the text.
    pub const ERROR_BYTES_MAX: usize = 1_024;
    /// Waves of one rollout. More than a person would watch.
    pub const WAVES_MAX: usize = 100;
    /// Failed sites at which a rollout halts when nothing is said: the first one.
    pub const HALT_ON_ERRORS_DEFAULT: u32 = 1;
    /// Seconds that a wave may take when nothing is said: an hour, so that a site that restarts is back.
    pub const WAVE_TIMEOUT_SECONDS_DEFAULT: u32 = 3_600;
    /// Seconds that a wave may take at most: a week.
    pub const WAVE_TIMEOUT_SECONDS_MAX: u32 = 7 * 86_400;
    /// Newest rollouts kept of each policy.
    pub const ROLLOUTS_KEPT: usize = 20;
}

/// What a site holds and does of what its coordinator wants.
pub mod inbox {
    use super::Duration;

    /// Commands that wait or run. A further one waits at the coordinator, unanswered.
    pub const OPEN_COMMANDS_MAX: usize = 10_000;
    /// Ended commands that are shown with their results; of older ones only the id is kept, for ever.
    pub const ENDED_COMMANDS_MAX: u64 = 1_000;
    /// Ended commands beyond it before they are cleared away, so that not each command pays for one.
    pub const ENDED_COMMANDS_SLACK: u64 = 100;
    /// Policies that a site keeps rows of; withdrawn ones make room.
    pub const POLICIES_MAX: usize = 10_000;
    /// Commands that run at once. More would only wait for [`RUNS_AT_ONCE`].
    pub const COMMANDS_AT_ONCE: usize = 32;
    /// Policies that are tried at once.
    pub const POLICIES_AT_ONCE: usize = 4;
    /// Runs of connectors at once; each may be a process.
    pub const RUNS_AT_ONCE: usize = 16;
    /// Between two reports of a command that runs: people watch it.
    pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
    /// First wait before a connector is offered a credential again.
    pub const LEASE_RETRY_FIRST: Duration = Duration::from_secs(1);
    /// Longest wait before a connector is offered a credential again.
    pub const LEASE_RETRY_MAX: Duration = Duration::from_secs(60);
    /// How long a credential without an end is offered to a connector that does not take it.
    pub const LEASE_OFFER_MAX: Duration = Duration::from_secs(3_600);
    /// Leases that a site keeps rows of; the oldest that have ended make room.
    pub const LEASES_MAX: usize = 10_000;
    /// Bytes of a type that chooses a connector, of a policy's name, and of a lease's texts.
    pub const LABEL_BYTES_MAX: usize = 255;
    /// Bytes of a lease's metadata.
    pub const METADATA_BYTES_MAX: usize = 16 * 1024;
    /// Characters kept of what a connector says about one host, or of an error.
    pub const DETAIL_CHARS_MAX: usize = 2_000;
    /// Rows of a list at most.
    pub const LIMIT_MAX: usize = 1_000;
    /// Rows of a list when none is asked for.
    pub const LIMIT_DEFAULT: usize = 200;
    /// Shortest and longest life of a credential that may be asked for, in seconds (contract 10).
    pub const LEASE_TTL_SECONDS: std::ops::RangeInclusive<u64> = 60..=86_400;
}

/// Connectors.
pub mod connector {
    use super::Duration;

    /// Connectors of one node; the first that serves a kind is taken.
    pub const CONNECTORS_MAX: usize = 256;
    /// Kinds of one connector.
    pub const KINDS_MAX: usize = 256;
    /// Time for one run unless the configuration says otherwise.
    pub const WAIT_DEFAULT: Duration = Duration::from_secs(300);
    /// Longest time for one run that may be configured: a day.
    pub const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// Bytes read of a program's standard output, or of a webhook's answer: the results of 10,000 hosts have
    /// about 1 MB.
    pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
    /// Bytes read of a program's standard error; the end of it goes into the report of a failure.
    pub const ERROR_BYTES_MAX: usize = 16 * 1024;
    /// Bytes of a bearer file.
    pub const BEARER_BYTES_MAX: usize = 8 * 1024;
}

/// Commands.
pub mod command {
    use super::Duration;

    /// Bytes of `command_type` (contract B4).
    pub const TYPE_BYTES_MAX: usize = 64;
    /// Bytes of the parameters as JSON; a script with its data fits, and 1,000 open commands of a site stay
    /// below what the site's hosts take.
    pub const PARAMETERS_BYTES_MAX: usize = 64 * 1024;
    /// Hosts that one command names. A site has about 10,000; all of them is the empty list.
    pub const HOSTS_MAX: usize = 10_000;
    /// Open commands of one site; they are held in memory. A site that is gone for long must not gather
    /// more than anybody would want to run when it is back.
    pub const OPEN_MAX: usize = 1_000;
    /// Longest life of a command that has not started: what is still wanted a month later is dispatched anew.
    pub const LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
    /// How long after its expiry a command is waited for that the site may have: its clock may be behind, and
    /// its word on the way.
    pub const EXPIRY_GRACE: Duration = Duration::from_secs(300);
    /// Bytes kept of a summary or of a push's error.
    pub const SUMMARY_BYTES_MAX: usize = 512;
    /// Bytes kept of what a site says of one host.
    pub const DETAIL_BYTES_MAX: usize = 2_048;
    /// Hosts whose outcome is kept of one command.
    pub const OUTCOMES_MAX: usize = 100_000;
    /// Bytes of one record of outcomes; see the logs' pieces in `docs/storage.md`.
    pub const OUTCOMES_CHUNK_BYTES: usize = 60_000;
    /// Bytes of one call with results; what a frame of a link may carry.
    pub const RESULTS_BYTES_MAX: usize = 8 * 1024 * 1024;
    /// Results of one call.
    pub const RESULTS_MAX: usize = 1_000;
    /// Commands of a page when none is asked for (contract B4).
    pub const LIMIT_DEFAULT: usize = 100;
    /// Commands, or outcomes, of a page at most.
    pub const LIMIT_MAX: usize = 1_000;
    /// Hosts that one bulk dispatch reaches by a query.
    pub const BULK_HOSTS_MAX: usize = 100_000;
    /// Age of a remembered idempotency key.
    pub const IDEMPOTENCY_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// Old idempotency keys of a site that a new one clears away; at more than one they cannot pile up.
    pub const IDEMPOTENCY_KEYS_SWEPT: usize = 16;
    /// Bytes of an idempotency key; a UUID has 36.
    pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
    /// Ended commands are kept for so long unless told otherwise: a quarter, which reviews look back at. The
    /// audit log keeps for ever that they were dispatched and how they ended.
    pub const KEPT_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3_600);
    /// Shortest time that ended commands may be kept: as long as an idempotency key that names them.
    pub const KEPT_MIN: Duration = IDEMPOTENCY_AGE_MAX;
    /// Commands forgotten in one commit; each may have megabytes of outcomes.
    pub const FORGOTTEN_MAX: usize = 64;
}

/// Leases of short-lived credentials (contract 10).
pub mod lease {
    use super::Duration;

    /// Shortest life of a credential: two ticks of the reconcile pass.
    pub const TTL_SECONDS_MIN: u32 = 60;
    /// Longest life: a credential that lives longer than a day is a password.
    pub const TTL_SECONDS_MAX: u32 = 86_400;
    /// Life when the request names none.
    pub const TTL_SECONDS_DEFAULT: u32 = 1_800;
    /// A delivered credential is replaced this long before its end: three ticks, so that one may fail.
    pub const RENEW_BEFORE: Duration = Duration::from_secs(90);
    /// Ended leases are kept for so long after their request (contract 7.2).
    pub const KEPT: Duration = Duration::from_secs(14 * 24 * 3_600);
    /// Replaced credentials of a lease that the issuer still has, before they are taken away although the site
    /// has not taken what replaced them. The waits until the fifth are longer than [`RENEW_BEFORE`].
    pub const LEFTOVERS_MAX: usize = 5;
    /// Leases issued in one pass, oldest first (contract 10).
    pub const ISSUED_MAX: usize = 100;
    /// Calls of one issuer under way at once; a database takes a few connections of ours, not hundreds.
    pub const CALLS_MAX: usize = 8;
    /// Leases of one issuer that is being asked, or will be. A pass leaves the others to the next one.
    pub const BUSY_MAX: usize = 256;
    /// Time for one call of an issuer. A database that is up answers in milliseconds.
    pub const CALL_WAIT_MAX: Duration = Duration::from_secs(15);
    /// Time that a revocation's answer waits for the issuer; the lease is revoked on disk before.
    pub const REVOKE_WAIT_MAX: Duration = Duration::from_secs(5);
    /// Between two looks at an issuer for credentials of leases that are not live any more.
    pub const SWEEP_INTERVAL: Duration = Duration::from_secs(3_600);
    /// A credential younger than this is never swept: its lease may be in the making.
    pub const SWEEP_AGE_MIN: Duration = Duration::from_secs(3_600);
    /// Leases of one site with something left to do. A site chooses how many it asks for; each takes about
    /// a kilobyte of the coordinator's memory.
    pub const SITE_OPEN_MAX: usize = 4_096;
    /// Bytes of `correlation_key`; the documented ones have 32.
    pub const KEY_BYTES_MAX: usize = 64;
    /// Bytes of `host_id`: a UUID, or the name that another make uses.
    pub const HOST_BYTES_MAX: usize = 255;
    /// Bytes of `secret_name` and `backend_role`.
    pub const NAME_BYTES_MAX: usize = 255;
    /// Characters that are kept of an error.
    pub const ERROR_CHARS_MAX: usize = 500;
    /// Forgotten leases deleted in one pass.
    pub const PRUNED_MAX: usize = 1_000;
    /// Leases of one answer when no limit is given (contract B5), and at most.
    pub const LIST_DEFAULT: usize = 200;
    /// See [`LIST_DEFAULT`].
    pub const LIST_MAX: usize = 1_000;
}

/// QUIC links.
pub mod link {
    use super::Duration;

    /// Nothing heard for this long: the link is dead. Three lost keep-alives; a NAT forgets UDP after 30 s.
    pub const IDLE_MAX: Duration = Duration::from_secs(15);
    /// Between keep-alives of a quiet link; only the dialling side sends them.
    pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
    /// Time for a handshake, on either side. Five lost first datagrams still fit.
    pub const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);
    /// Open handshakes from which a newcomer must first prove its address by a Retry: below it nobody pays
    /// the round trip, above it a spoofed address costs us one datagram and no memory.
    pub const HANDSHAKES_UNPROVEN_MAX: usize = 64;
    /// Open handshakes at once; a newcomer above it is not answered and tries again. Each holds about 20 kB,
    /// so strangers get 20 MB.
    pub const HANDSHAKES_MAX: usize = 1_024;
    /// Handshakes that wait to be looked at, and bytes kept of all of them.
    pub const INCOMING_MAX: usize = 1_024;
    /// See [`INCOMING_MAX`].
    pub const INCOMING_BYTES_MAX: u64 = 4 * 1024 * 1024;
    /// Bytes kept of one handshake that waits; a client's first flight has about 2,500.
    pub const INCOMING_ONE_BYTES_MAX: u64 = 16 * 1024;
    /// Bytes of datagrams that may wait for the process in the socket. A thousand sites that answer at once send a few
    /// thousand datagrams, which Linux counts at 1 to 2 kB each; what finds no room is lost, and costs its link a
    /// pause of a tenth of a second and more. The system may allow less (Linux: `net.core.rmem_max`).
    pub const SOCKET_RECEIVE_BYTES: usize = 4 * 1024 * 1024;
    /// Lanes that a peer may have open. Three are in use; one more is there for a newer version.
    pub const LANES_MAX: u32 = 4;
    /// Bytes of one lane that may be under way unread. It bounds one lane's speed to this per round trip:
    /// 100 ms away that is 20 MB/s.
    pub const LANE_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
    /// Bytes of one link that may be under way unread: all lanes full, so that a full lane never stops another.
    pub const LINK_WINDOW_BYTES: u32 = LANES_MAX * LANE_WINDOW_BYTES;
    /// Bytes written and not yet acknowledged by the peer's QUIC; a writer waits beyond it.
    pub const SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
    /// Time to tell peers that the node stops.
    pub const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);
}

/// Inventory of a site.
pub mod inventory {
    /// Entries of one call (architecture 9).
    pub const CALL_ENTRIES_MAX: usize = 100_000;
    /// Bytes of one entry's JSON or NDJSON line.
    pub const ENTRY_BYTES_MAX: usize = 64 * 1024;
    /// Bytes of one call's body: 100,000 entries of 1 kB and room.
    pub const CALL_BYTES_MAX: usize = 256 * 1024 * 1024;
    /// Refused rows named in an answer; the count is exact beyond it.
    pub const SKIPPED_LISTED_MAX: usize = 1_000;
    /// A snapshot that would remove more hosts than this ...
    pub const REMOVAL_GUARD_HOSTS: usize = 10;
    /// ... and more than this share of all, in per cent, needs a confirmation (architecture 9).
    pub const REMOVAL_GUARD_PERCENT: usize = 20;
    /// Bytes of one system file the local collector reads; the largest, a hosts file, has a few kB.
    pub const SYSTEM_FILE_BYTES_MAX: u64 = 64 * 1024;
    /// Bytes of a package database that is counted; 5,000 packages of dpkg take about 6 MB.
    pub const PACKAGE_DATABASE_BYTES_MAX: u64 = 64 * 1024 * 1024;
    /// Bytes of one imported file, held in memory while it is read.
    pub const IMPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;
    /// Files of one imported folder; a fact cache has one file for each host.
    pub const IMPORT_FILES_MAX: usize = 1_000_000;
}

/// Results and findings of a site (architecture 9).
pub mod finding {
    /// Findings of one call. Ten thousand hosts with fifty each; held in memory at 24 bytes while they are
    /// summed, and stored in one transaction of about 11 MB.
    pub const FINDINGS_MAX: usize = 500_000;
    /// Rows of one stored record: about 100 kB, and what one page of a list decodes at most twice.
    pub const CHUNK_ROWS: usize = 4_096;
    /// Baselines that a site holds at once: what its coordinator keeps of it.
    pub const BASELINES_MAX: usize = super::rollup::BASELINES_MAX;
    /// CVEs that a rollup of ours names.
    pub const TOP_CVES: usize = 10;
}

/// Search (contract 6.3).
pub mod search {
    /// Rows of a page when none is asked for.
    pub const LIMIT_DEFAULT: usize = 100;
    /// Rows of a page at most.
    pub const LIMIT_MAX: usize = 1_000;
    /// Bytes of a search text: no field is longer.
    pub const PATTERN_BYTES_MAX: usize = 255;
    /// Sites of one `site_id` filter.
    pub const SITES_MAX: usize = super::site::SITES_MAX;
    /// Rows of one segment of the index: whole words of bits, and below 2¹⁶ so that row numbers take two
    /// bytes and a column has a code for every row's value. Smaller segments cost each search more
    /// visits, larger ones each merge more time.
    pub const SEGMENT_ROWS_MAX: usize = 65_472;
    /// Texts from which a list of them is indexed by n-grams. Below it reading them all takes about 2 µs.
    pub const GRAM_ROWS_MIN: usize = 1_024;
    /// Segments of similar size that are merged at a time. Fewer copy rows more often, more leave more
    /// segments to visit.
    pub const MERGE_FACTOR: usize = 4;
    /// Rows of a merge that a batch does by itself; about 0.5 ms.
    pub const MERGE_INLINE_ROWS_MAX: usize = 1_024;
    /// Share of a segment's rows, in per cent, whose room is wasted before the segment is rewritten ...
    pub const SEGMENT_WASTE_PERCENT_MAX: usize = 25;
    /// ... beside this many, so that small segments are left to the next merge.
    pub const SEGMENT_WASTE_FREE: usize = 64;
    /// Rows up to the end of a page that are found by keeping the best ones; deeper pages partition all hits.
    pub const KEPT_MAX: usize = 4_096;
    /// Hits that an offset passes one by one at the end of its leaps.
    pub const STEPS_MAX: usize = 128;
}

/// HTTP surface.
pub mod http {
    use super::Duration;

    /// How far a request's stamp may lie from this node's clock. Sites keep time to seconds; replays wait.
    pub const STAMP_AGE_MAX: Duration = Duration::from_secs(300);
    /// Bytes of a stamp's nonce: 22 hold 128 bits in base64.
    pub const STAMP_NONCE_BYTES_MAX: usize = 64;
    /// Stamps remembered at once: what 4,096 sites send in ten minutes at one request a minute, and room.
    pub const STAMPS_MAX: usize = 65_536;
    /// Bytes of a body where a route names no other bound.
    pub const BODY_BYTES_MAX: usize = 1024 * 1024;
    /// Bytes of a directory snapshot over HTTP: 10,000 hosts take about 3 MB, 100,000 about 40.
    pub const DIRECTORY_BYTES_MAX: usize = 64 * 1024 * 1024;
    /// Bytes of a request's headers in total.
    pub const HEADER_BYTES_MAX: usize = 32 * 1024;
    /// Connections at once; each costs a task and two buffers.
    pub const CONNECTIONS_MAX: usize = 4_096;
    /// Time to receive a request's headers.
    pub const HEADER_WAIT_MAX: Duration = Duration::from_secs(10);
    /// Time for one request and its answer; streaming routes set their own.
    pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(60);
    /// Time for one upload of an inventory or directory and its answer: 256 MiB at 1 MiB/s and room.
    pub const UPLOAD_WAIT_MAX: Duration = Duration::from_secs(300);
    /// Bytes of uploads in flight at once; a further one waits. 64 sites may push 4 MiB together.
    pub const UPLOADS_BYTES_MAX: usize = 256 * 1024 * 1024;
    /// What one upload counts for at most: beyond it the rows are read as they arrive.
    pub const UPLOAD_WEIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;
    /// Time between two chunks of a body. A caller that stops sending holds memory.
    pub const BODY_IDLE_WAIT_MAX: Duration = Duration::from_secs(30);
    /// Bytes read between two yields while a large body is cut into entries: below 1 ms of work.
    pub const SCAN_BYTES_MAX: usize = 64 * 1024;
    /// Wait after an accept that failed.
    pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
    /// Streams at once of one HTTP/2 connection.
    pub const STREAMS_MAX: u32 = 100;
    /// What a caller is asked to wait when the node is busy.
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);
    /// Characters of a request id that a caller sends; a UUID has 36.
    pub const REQUEST_ID_BYTES_MAX: usize = 64;
    /// Characters of a refusal's text where a peer had a part in it.
    pub const DETAIL_CHARS_MAX: usize = 500;
    /// Time to finish open requests after a stop was asked for.
    pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(25);
    /// Time for one call to a peer over HTTP, connect included.
    pub const PEER_WAIT_MAX: Duration = Duration::from_secs(30);
    /// Bytes of a peer's answer over HTTP.
    pub const PEER_BODY_BYTES_MAX: usize = 1024 * 1024;
}

/// Live events.
pub mod events {
    use super::Duration;

    /// Events kept for readers that come back: at about 500 bytes each 4 MB. A command to 1,000 sites makes
    /// about 3,000, so a reader may miss the better part of three before it has to load again.
    pub const KEPT_MAX: usize = 8_192;
    /// Events that a reader takes at a time; 256 are about 100 kB of JSON.
    pub const READ_MAX: usize = 256;
    /// Streams at once. Each holds a connection and a place; 256 people may watch one node.
    pub const STREAMS_MAX: usize = 256;
    /// Between signs of life on a quiet stream: proxies close what says nothing for 30 to 60 s. The token is
    /// looked at again each time.
    pub const HEARTBEAT: Duration = Duration::from_secs(15);
    /// Between two `sync` events of one site: what is shown of a sync is read by people.
    pub const SYNC_PAUSE: Duration = Duration::from_secs(2);
    /// Kinds that one filter may name.
    pub const KINDS_MAX: usize = 64;
}

/// The audit log.
pub mod audit {
    use super::Duration;

    /// Entries of a page when none is asked for (contract B5).
    pub const LIMIT_DEFAULT: usize = 100;
    /// Entries of a page at most.
    pub const LIMIT_MAX: usize = 1_000;
    /// Entries after which the next checkpoint is due: what an attacker could rewrite unseen between two.
    pub const CHECKPOINT_ENTRIES: u64 = 1_000;
    /// ... or this long after the one before, when there is news.
    pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
    /// Between two checkpoints that one site is sent over its link. Each costs the site a commit and a signature to
    /// check, and a later one covers those before it; a busy coordinator signs one a second.
    pub const OFFER_INTERVAL: Duration = Duration::from_secs(60);
    /// Newest checkpoints shown by one call.
    pub const CHECKPOINTS_LISTED_MAX: usize = 1_000;
    /// Between two looks whether a checkpoint is due. A look reads one record.
    pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
    /// Entries verified at one look: about 50 ms of work, so that a long log after an upgrade stops nobody.
    pub const VERIFIED_AT_ONCE_MAX: usize = 25_000;
    /// Checkpoints of its coordinator that a site keeps; the oldest go first, as each later one covers them.
    /// One a minute at most: they reach back a week, of a quiet coordinator more than a month, in 2.5 MB.
    pub const KEPT_MAX: usize = 10_000;
    /// Operations that one audit entry may name have at most 64 characters (contract 9).
    pub const OPERATION_BYTES_MAX: usize = 64;
}

/// Actors and the writer.
pub mod actor {
    use super::Duration;

    /// Time for one call to an actor. Longer than a slow disk's sync, shorter than a request.
    pub const CALL_WAIT_MAX: Duration = Duration::from_secs(30);
    /// Batches that wait for the writer. Beyond it a caller waits, which is the back-pressure.
    pub const WRITER_QUEUE_MAX: usize = 1_024;
    /// Bytes of one commit's ingest lane, so that a resync delays a command by milliseconds.
    pub const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
    /// Batches of one commit.
    pub const COMMIT_BATCHES_MAX: usize = 256;
    /// Length of a store's file up to which a start after a crash walks it: reading 16 MiB takes a disk of
    /// 200 MB/s less than 100 ms. A larger file notes with each commit which of its pages are free.
    pub const REPAIR_WALK_BYTES_MAX: u64 = 16 * 1024 * 1024;
    /// Sealed records that one step of a rotation of the root key looks at: a millisecond of work.
    pub const REWRAP_RECORDS_MAX: u64 = 128;
    /// Bytes of records at which such a step ends early: one commit, as small as an operator's.
    pub const REWRAP_BYTES_MAX: usize = 1024 * 1024;
    /// Between two steps, so that a rotation leaves the disk to those who wait for it.
    pub const REWRAP_PAUSE: Duration = Duration::from_millis(20);
    /// Before a step is tried again that the store refused.
    pub const REWRAP_RETRY_WAIT: Duration = Duration::from_secs(5);
    /// Restarts of one child within [`RESTART_WINDOW`] before its supervisor gives up on it.
    pub const RESTARTS_MAX: usize = 10;
    /// See [`RESTARTS_MAX`].
    pub const RESTART_WINDOW: Duration = Duration::from_secs(60);
    /// Wait before the second restart in a row; the first is immediate.
    pub const RESTART_WAIT: Duration = Duration::from_millis(100);
}

/// Operator tokens.
pub mod token {
    use super::Duration;

    /// Life of a token when none is asked for.
    pub const TTL_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
    /// Longest life of a token.
    pub const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
    /// Bytes of a bearer header's value: a token of 16 KiB (contract of the secret federation API, A.2) and its
    /// scheme.
    pub const BEARER_BYTES_MAX: usize = 16 * 1024 + 8;
    /// Leeway for clocks when a token's times are judged (threat-model, Time).
    pub const LEEWAY: Duration = Duration::from_secs(60);
    /// Verified tokens remembered, so that a signature is checked once and not per request.
    pub const VERIFIED_MAX: usize = 4_096;
}

/// Local users, their logins and API keys.
pub mod access {
    use super::Duration;

    /// Longest e-mail address (RFC 5321 4.5.3.1.3, without its brackets).
    pub const USERID_BYTES_MAX: usize = 254;
    /// Shortest password: the only guard besides the rate, so longer than the 8 of old habit.
    pub const PASSWORD_CHARS_MIN: usize = 12;
    /// Longest password. A bound, so that a login cannot bring a megabyte to hash.
    pub const PASSWORD_BYTES_MAX: usize = 1_024;
    /// Users of one node; a list is sorted in memory.
    pub const USERS_MAX: usize = 4_096;
    /// API keys of one node; the same.
    pub const API_KEYS_MAX: usize = 4_096;
    /// Bytes of an API key's name.
    pub const API_KEY_NAME_BYTES_MAX: usize = 64;
    /// Sites that one grant names: a token of a login carries them all, and 128 ids leave a bearer below
    /// its bound. Whoever needs more sites than that sees all.
    pub const GRANT_SITES_MAX: usize = 128;
    /// Between two notes of when an API key was last used. Each costs a commit.
    pub const LAST_USED_STEP: Duration = Duration::from_secs(3_600);
    /// Memory of one argon2id hash in KiB, passes and lanes: OWASP's first choice, about 30 ms. They are
    /// stored with each hash, so a later version may raise them.
    pub const HASH_COST: (u32, u32, u32) = (19_456, 2, 1);
    /// Passwords hashed at once; each takes 19 MiB. A further login waits.
    pub const HASHES_AT_ONCE: usize = 2;
    /// Logins of one user that may come at once ...
    pub const LOGIN_USER_BURST: u32 = 10;
    /// ... and the wait from then on: 360 guesses an hour do not find twelve characters.
    pub const LOGIN_USER_INTERVAL: Duration = Duration::from_secs(10);
    /// Logins of all users that may come at once ...
    pub const LOGIN_ALL_BURST: u32 = 50;
    /// ... and the wait from then on: a third of one processor for hashes, and ten audit entries a second.
    pub const LOGIN_ALL_INTERVAL: Duration = Duration::from_millis(100);
    /// Slots in which logins are counted by user. Names that nobody has count as well, so memory must not
    /// depend on how many are tried.
    pub const LOGIN_SLOTS: u16 = 4_096;
    /// Life of a token that a login or refresh gives. Short: its holder can get the next one.
    pub const LOGIN_TOKEN_TTL: Duration = Duration::from_secs(900);
    /// A login that is not refreshed for this long has ended: a working day.
    pub const LOGIN_IDLE_MAX: Duration = Duration::from_secs(12 * 3_600);
    /// A login ends after this long, however often it is refreshed.
    pub const LOGIN_LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
    /// How long the refresh token before the present one is still answered: browsers refresh in several
    /// tabs at once. After it, the old one's use ends the login.
    pub const REFRESH_GRACE: Duration = Duration::from_secs(10);
    /// Bytes of a login's body, or of another with a passphrase: an address and a password, and room.
    pub const LOGIN_BODY_BYTES_MAX: usize = 4 * 1024;
    /// Bytes of a refresh token that is looked at; ours have 87.
    pub const REFRESH_TOKEN_BYTES_MAX: usize = 256;
    /// Ended logins that a new one clears away; at more than one they cannot pile up.
    pub const LOGINS_SWEPT: usize = 16;
}

/// Reads of the past.
pub mod past {
    /// Reads at once. Each walks the kept log with one processor; more would take them from ingest.
    pub const READS_MAX: usize = 2;
    /// Bytes of log that are read before other work may go on; about 10 ms.
    pub const SLICE_BYTES: usize = 16 * 1024 * 1024;
    /// Changes of one answer when no number is asked for.
    pub const LIMIT_DEFAULT: usize = 100;
    /// Changes of one answer at most; each names at most 14 members with two values.
    pub const LIMIT_MAX: usize = 1_000;
}

/// Issuers of operator tokens beside the node itself.
pub mod issuer {
    use super::Duration;

    /// Issuers of one node; each holds its keys in memory.
    pub const ISSUERS_MAX: usize = 32;
    /// Keys taken from one issuer; some publish a dozen while they rotate.
    pub const KEYS_MAX: usize = 64;
    /// Bytes of a key set or discovery document; a set of 64 keys with certificates has about 200 kB.
    pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
    /// Bits of an RSA key at least (NIST SP 800-131A).
    pub const RSA_BITS_MIN: usize = 2_048;
    /// Bytes of a key's id in a token.
    pub const KID_BYTES_MAX: usize = 256;
    /// Age from which keys are fetched again: a key that its issuer withdrew is accepted so long.
    pub const KEYS_AGE_MAX: Duration = Duration::from_secs(3_600);
    /// Age up to which keys are used while their issuer does not answer.
    pub const KEYS_STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// Between two tries to fetch keys: a stranger's unknown key ids must not become requests to the issuer.
    pub const FETCH_INTERVAL: Duration = Duration::from_secs(30);
    /// Time for discovery and key set together. Tokens of this issuer wait for it, no others.
    pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(5);
    /// How long a verified signature of another issuer is remembered.
    pub const REMEMBERED_MAX: Duration = Duration::from_secs(600);
    /// Bytes of a shared secret at least: as many as the hash has (RFC 7518 3.2).
    pub const SHARED_SECRET_BYTES_MIN: usize = 32;
    /// Bytes of a name that another issuer gives its user; it stands in the audit log.
    pub const USERID_BYTES_MAX: usize = 255;
}

/// Secrets and their backends (contract of the secret federation API, parts A to D).
pub mod secrets {
    use std::time::Duration;

    /// Characters of a path: contract A.6.
    pub const PATH_BYTES_MAX: usize = 512;
    /// Segments of a path: contract A.6.
    pub const PATH_SEGMENTS_MAX: usize = 10;
    /// Bytes of one value: larger than any backend takes (AWS and Google 64 KiB, Azure 25 kB), small enough
    /// that a hostile one costs little.
    pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
    /// Nesting of a value: contract C.2.
    pub const VALUE_DEPTH_MAX: usize = 32;
    /// Bytes of a backend's answer to one call: a value, and what is around it; a listing's page likewise.
    pub const ANSWER_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
    /// Bytes of a backend's listing page: 1,000 names of AWS with their versions have about 400 KiB.
    pub const LISTING_BYTES_MAX: usize = 4 * 1024 * 1024;
    /// Names of one backend that a sync takes; beyond it the run is partial and says so.
    pub const NAMES_MAX: usize = 1_000_000;
    /// Bytes of a backend's name: contract B.1.
    pub const BACKEND_NAME_BYTES_MAX: usize = 128;
    /// Mappings of one backend: contract B.1.
    pub const MAPPINGS_MAX: usize = 256;
    /// Bytes of a name at a backend: AWS takes 512, Vault more than a path can hold.
    pub const REMOTE_NAME_BYTES_MAX: usize = 1_024;
    /// Bytes of a pattern's segment that has wildcards inside: two of them are compared letter by letter with
    /// each other, and a name that needs more is written out.
    pub const WILDCARD_SEGMENT_BYTES_MAX: usize = 64;
    /// Bytes of a name at AWS: contract D.5.
    pub const AWS_NAME_BYTES_MAX: usize = 512;
    /// Bytes of a name at Google: contract D.5.
    pub const GOOGLE_NAME_BYTES_MAX: usize = 255;
    /// Bytes of a name at Azure: contract D.5.
    pub const AZURE_NAME_BYTES_MAX: usize = 127;
    /// Warnings of one tenant about two paths that reach one name: an operator reads the first few.
    pub const SHADOWS_MAX: usize = 16;
    /// Steps that the search for such names takes in all, a tenth of a second at most: they are warnings only.
    pub const SHADOW_STEPS_MAX: usize = 1_000_000;
    /// Pairs of places that the comparison of two templates or segments keeps: two of 255 characters, which
    /// is more than templates have, and under 3 MiB.
    pub const COMMON_PLACES_MAX: usize = 65_536;
    /// Bytes of any text in a configuration; ARNs are the longest with 2,048.
    pub const CONFIG_TEXT_BYTES_MAX: usize = 2_048;
    /// One question to the machine's own metadata service: it is on the machine, or there is none.
    pub const MACHINE_TIMEOUT: Duration = Duration::from_secs(2);
    /// Bytes of its answer, and of a token file beside it: tokens have a few thousand.
    pub const MACHINE_BYTES_MAX: usize = 64 * 1024;
    /// One call to a backend: contract B.3.
    pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
    /// The longest that one may be configured to take.
    pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(30);
    /// Calls to one backend at a time: contract B.3.
    pub const CONCURRENCY_DEFAULT: u32 = 8;
    /// The most that may be configured; vendors throttle long before.
    pub const CONCURRENCY_MAX: u32 = 64;
    /// Failures in a row after which a backend is left alone. Fewer would let one lost packet, tried three
    /// times, cost everybody their reads; more would keep callers waiting for time-outs.
    pub const BREAKER_FAILURES: u32 = 5;
    /// How long it is left alone at first; doubles. Short, because a leader election of Vault takes no longer.
    pub const BREAKER_REST_FIRST: Duration = Duration::from_secs(2);
    /// The longest rest: a backend that comes back is used again within a minute.
    pub const BREAKER_REST_MAX: Duration = Duration::from_secs(60);
    /// How long the one call that may find out is waited for before another may: longer than any call takes
    /// with its further tries.
    pub const BREAKER_TRIAL_MAX: Duration = Duration::from_secs(90);
    /// Buckets of callers kept at a time. Each is full again, and forgotten, a minute after its last call, so
    /// this is callers a minute; at some 200 bytes each they stay under 16 MiB.
    pub const BUCKETS_MAX: usize = 65_536;
    /// Complete listings in a row that do not name a copy before it counts as gone: contract C.3, because
    /// AWS lists lag by minutes.
    pub const ABSENCES_MIN: u8 = 2;
    /// Copies that a sync may delete without asking, whatever their share: contract C.3.
    pub const GUARDED_DELETIONS_MIN: u64 = 10;
    /// A sync deletes more than a fifth of the copies only when somebody confirms it.
    pub const GUARDED_DELETIONS_SHARE: u64 = 5;
    /// How long the entry of a call to a backend waits for another call's commit to take it along. It is as long
    /// as a busy disk takes for one commit, and what a crash leaves of such a call is its beginning.
    pub const ENTRY_WAIT: Duration = Duration::from_millis(20);
    /// Before entries that could not be stored are tried again.
    pub const ENTRY_RETRY_WAIT: Duration = Duration::from_secs(1);
    /// Entries that one commit takes along: at some 400 bytes each they stay small beside a value.
    pub const ENTRIES_OWED_MAX: usize = 256;
    /// Before a failed sync is tried again; doubles up to [`SYNC_RETRY_MAX`]: contract C.3.
    pub const SYNC_RETRY_FIRST: Duration = Duration::from_secs(30);
    /// See [`SYNC_RETRY_FIRST`].
    pub const SYNC_RETRY_MAX: Duration = Duration::from_secs(900);
    /// Clocks further apart than this are named in a refused login: signatures bear 5 minutes at best.
    pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(120);
    /// The longest wait that a store's `Retry-After` is believed: beyond it a broken clock is likelier.
    pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
    /// After a refused login the next one waits this long, doubled each time: role locks and counted uses.
    pub const LOGIN_PAUSE_MIN: Duration = Duration::from_secs(1);
    /// See [`LOGIN_PAUSE_MIN`]. A mended credential works within this time.
    pub const LOGIN_PAUSE_MAX: Duration = Duration::from_secs(60);
    /// Between two syncs: contract B.1.
    pub const SYNC_INTERVAL_MIN: Duration = Duration::from_secs(60);
    /// See [`SYNC_INTERVAL_MIN`].
    pub const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// Between two probes of one backend: contract B.2.
    pub const PROBE_INTERVAL: Duration = Duration::from_secs(10);
    /// Further tries of a read inside its deadline: contract C.2.
    pub const READ_RETRIES_MAX: u32 = 2;
    /// Before the first further try; doubles, with jitter.
    pub const RETRY_WAIT: Duration = Duration::from_millis(100);
    /// Callers that wait for one backend; beyond it the node says so at once instead of filling its memory.
    pub const CALLERS_WAITING_MAX: usize = 20_000;
    /// Listing calls of one sync: a store whose pages never end, or are empty, ends here.
    pub const LISTINGS_MAX: usize = 100_000;
    /// Names whose values a sync gathers before it fetches them: enough to keep every permitted call busy.
    pub const WANTED_MAX: usize = 1_000;
    /// Backends of one node: each has an actor, and each path asks all mappings of its tenant.
    pub const BACKENDS_MAX: usize = 256;
    /// Versions of a secret that are kept when nothing is said: contract C.3.
    pub const VERSIONS_KEPT_DEFAULT: u32 = 10;
    /// The most that may be asked for; each is a record.
    pub const VERSIONS_KEPT_MAX: u32 = 100;
    /// How long a deleted secret's values are kept, and its path is taken.
    pub const DELETED_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
    /// Rows of a page of secrets, versions, backends, conflicts when none is asked for: contract A.7.
    pub const PAGE_DEFAULT: usize = 100;
    /// Rows of a page at most: contract A.7.
    pub const PAGE_MAX: usize = 1_000;
    /// Paths of one batch read: contract C.1.
    pub const BATCH_PATHS_MAX: usize = 100;
    /// Pages of rows that one list call looks at when the caller may see none of them.
    pub const UNSHOWN_PAGES_MAX: usize = 100;
    /// Backend pages that one list call asks for; a folder with more names pages on.
    pub const LIST_PAGES_MAX: usize = 4;
    /// Policies of one tenant, and rules and identities of each.
    pub const POLICIES_MAX: usize = 1_000;
    /// See [`POLICIES_MAX`].
    pub const POLICY_RULES_MAX: usize = 100;
    /// Bytes of names and descriptions of policies, tenants and AppRoles.
    pub const NAME_BYTES_MAX: usize = 128;
    /// Bytes of a secret's metadata as JSON.
    pub const METADATA_BYTES_MAX: usize = 16 * 1024;
    /// Tenants of one node.
    pub const TENANTS_MAX: usize = 10_000;
    /// Life of a token of the Vault surface when the AppRole says nothing.
    pub const VAULT_TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3_600);
    /// The longest life of one.
    pub const VAULT_TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
}
