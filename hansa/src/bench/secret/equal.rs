//! Ten thousand equal reads at once, and what they cost the backend.
//!
//! They travel over HTTP/2: a hundred connections with the hundred streams that the node allows on each, so
//! that all of them are on their way before the last has been taken in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::AUTHORIZATION;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, all, median, name, wrong};
use crate::bench::{failed, quantiles, round};
use crate::cli::failure::Failure;

/// Connections.
const CONNECTIONS: usize = 100;
/// Reads of each at once: what the node allows.
const STREAMS: usize = 100;
/// Repetitions.
const ROUNDS: usize = 5;

pub(super) async fn run(bench: &Bench) -> Result<Value, Failure> {
    let reads = CONNECTIONS * STREAMS;
    let backend_path = format!("secret/data/reads/{}", name(0));
    let (mut calls, mut whole, mut sent, mut p50s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mark = bench.bao.mark()?;
        let (took, mut answered, last_sent) = crowd(bench).await?;
        let asked = bench.bao.asked_since(mark)?;
        calls.push(asked.iter().filter(|asked| asked.path == backend_path).count() as f64);
        whole.push(took.as_secs_f64() * 1e3);
        sent.push(last_sent.as_secs_f64() * 1e3);
        p50s.push(quantiles(&mut answered).0);
    }
    let most = calls.iter().copied().fold(0.0, f64::max);
    let calls = median(&mut calls);
    Ok(json!({
        "what": format!("{reads} equal proxied reads at once"),
        "connections": CONNECTIONS,
        "streams_each": STREAMS,
        "backend_calls": calls,
        "backend_calls_most": most,
        "percent_of_reads": round(calls * 100.0 / reads as f64),
        "handed_to_the_sockets_within_ms": round(median(&mut sent)),
        "answered_p50_ms": round(median(&mut p50s)),
        "all_answered_ms": round(median(&mut whole)),
        "rounds": ROUNDS,
    }))
}

/// All reads at once: how long until the last was answered, until each was, and until the last was sent.
async fn crowd(bench: &Bench) -> Result<(Duration, Vec<Duration>, Duration), Failure> {
    let authority = bench.node.ready.url.trim_start_matches("http://").to_owned();
    let start = Arc::new(Barrier::new(CONNECTIONS + 1));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let sender = connect(&authority).await?;
        let uri = format!("http://{authority}/v1/secrets/proxied/{}", name(0));
        let (bearer, start) = (format!("Bearer {}", bench.token), Arc::clone(&start));
        clients.spawn(async move {
            start.wait().await;
            let mut sender = sender;
            sender.ready().await.map_err(|error| failed(&error))?;
            let answers: Vec<_> = (0..STREAMS)
                .map(|_| {
                    let request = Request::get(&uri).header(AUTHORIZATION, &bearer).body(Empty::new());
                    request.map(|request| sender.send_request(request)).map_err(|error| failed(&error))
                })
                .collect::<Result<_, _>>()?;
            let sent = Instant::now();
            let answered = join_all(answers.into_iter().map(async |answer| {
                let answer = answer.await.map_err(|error| failed(&error))?;
                let status = answer.status();
                answer.into_body().collect().await.map_err(|error| failed(&error))?;
                let at = Instant::now();
                if status.is_success() { Ok(at) } else { Err(wrong(format!("a read answered {status}"))) }
            }))
            .await;
            Ok((sent, answered.into_iter().collect::<Result<Vec<_>, Failure>>()?))
        });
    }
    start.wait().await;
    let begun = Instant::now();
    let results = all(clients).await?;
    let took = begun.elapsed();
    let sent = results.iter().map(|(sent, _)| sent.duration_since(begun)).max().unwrap_or_default();
    let answered = results.iter().flat_map(|(_, times)| times.iter().map(|at| at.duration_since(begun)));
    Ok((took, answered.collect(), sent))
}

async fn connect(authority: &str) -> Result<SendRequest<Empty<Bytes>>, Failure> {
    let stream = TcpStream::connect(authority).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    Ok(sender)
}
