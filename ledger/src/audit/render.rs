//! An audit's rows for people and for programs, written as they come.

use super::{AuditError, Delivery, Event, Row};
use std::io::{self, Write};

/// Writes rows as a table: a line per batch, under it a line per organisation that anything is told of. Returns how
/// many batches there were.
pub fn write_table(rows: impl Iterator<Item = Result<Row, AuditError>>, out: &mut dyn Write) -> Result<u64, io::Error> {
    let mut count = 0;
    for row in rows {
        let row = row.map_err(io::Error::other)?;
        if count == 0 {
            writeln!(out, "{:<24} {:>17}  {:<24}  STORY", "TOPIC-PARTITION", "OFFSETS", "TIME (UTC)")?;
        }
        count += 1;
        write_row(&row, out)?;
    }
    if count == 0 {
        writeln!(out, "nothing was sent")?;
    }
    Ok(count)
}

/// Writes rows as JSON, one object per line. Returns how many there were.
pub fn write_json(rows: impl Iterator<Item = Result<Row, AuditError>>, out: &mut dyn Write) -> Result<u64, io::Error> {
    let mut count = 0;
    for row in rows {
        let row = row.map_err(io::Error::other)?;
        serde_json::to_writer(&mut *out, &row)?;
        out.write_all(b"\n")?;
        count += 1;
    }
    Ok(count)
}

fn write_row(row: &Row, out: &mut dyn Write) -> io::Result<()> {
    let place = format!("{}-{}", row.topic, row.partition);
    let offsets = format!("{}-{}", row.first_offset, row.last_offset);
    // As many digits as tell batches apart; JSON has all of them.
    let commitment = row.commitment.get(..16).unwrap_or(&row.commitment);
    writeln!(
        out,
        "{place:<24} {offsets:>17}  {:<24}  sent by {}: {} record(s), {} bytes, commitment {commitment}",
        row.sent, row.sender, row.record_count, row.size_bytes
    )?;
    for (org, delivery) in &row.organisations {
        for (verb, event) in told(delivery) {
            write!(out, "{:<24} {:>17}  {:<24}  {verb} {org}", "", "", event.time)?;
            if !event.complete {
                write!(out, ", partly: {} of {} records", event.records, row.record_count)?;
            }
            match &event.reason {
                Some(reason) => writeln!(out, ": {reason}")?,
                None => writeln!(out)?,
            }
        }
    }
    Ok(())
}

fn told(delivery: &Delivery) -> impl Iterator<Item = (&'static str, &Event)> {
    let events = [
        ("retrieved by", &delivery.retrieved),
        ("received by", &delivery.received),
        ("committed by", &delivery.committed),
        ("refused to", &delivery.refused),
    ];
    events.into_iter().filter_map(|(verb, event)| Some((verb, event.as_ref()?)))
}
