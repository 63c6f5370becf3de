//! The operators' port of a node, asked as Prometheus would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What `GET path` answers at `address`: the status code and the body. `None` when nobody answers.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The sum of all samples of the metrics whose name contains `name_part`, whatever their labels.
pub fn metric(address: &str, name_part: &str) -> Option<f64> {
    let (status, body) = get(address, "/metrics")?;
    assert_eq!(status, 200, "{body}");
    let samples: Vec<f64> = body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| line.split(['{', ' ']).next().is_some_and(|name| name.contains(name_part)))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!samples.is_empty()).then(|| samples.iter().sum())
}
