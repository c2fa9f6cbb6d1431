//! `knockx journal show` prints what the journal's files hold; `knockx journal verify` checks that they are
//! whole. Both only read, beside a running gateway too, and need no database.

use super::session::{CommonArgs, print_json};
use anyhow::Context;
use clap::Subcommand;
use domain::charge::{Adjustment, Charge, Lease};
use journal::disk::{Disk, Folder};
use journal::leases::OpenLeases;
use journal::reader::{Ending, Reader};
use journal::record::Record;
use journal::recovery::{self, SegmentList};
use journal::segment::{self, HEAD, LogId};
use journal::tail::Segment;
use serde::Serialize;
use std::process::ExitCode;

/// Show and verify the journal of leases and charges.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: knockx journal verify")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every record with its position, and bytes that are not valid records.
    #[command(after_help = "Example: knockx journal show --from 1048576 --json")]
    Show {
        /// First position to print, in bytes from the start of the log.
        #[arg(long, value_name = "POSITION", default_value_t = 0)]
        from: u64,
    },
    /// Check the whole journal. Exit code 1 if a record is corrupt or a file in the middle is missing. A folder
    /// without a journal is not an error: only `serve` compares it with the database.
    #[command(after_help = "Example: knockx journal verify --json")]
    Verify,
}

/// A line of `show --json`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Record {
        position: u64,
        record: &'a Record,
    },
    /// Bytes that are no record.
    Bad {
        position: u64,
        bytes: u64,
        file: &'a str,
        offset: u64,
        why: String,
    },
}

/// Result of `verify`.
#[derive(Serialize)]
struct Findings {
    folder: String,
    /// `None` if there is no journal yet.
    log: Option<String>,
    segments: usize,
    from: u64,
    to: u64,
    records: u64,
    open_leases: usize,
    problems: Vec<String>,
    /// The end is not whole: it is being written, or a write was cut short.
    torn_bytes: u64,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.common.config.load()?;
    let path = &config.journal.folder;
    let is_json = args.common.json;
    let folder = match path.try_exists() {
        Ok(false) => None,
        _ => Some(
            Folder::existing(path)
                .with_context(|| format!("cannot read the journal in {}", path.display()))?,
        ),
    };
    let listed = match &folder {
        Some(folder) => recovery::list(folder)?,
        None => None,
    };
    match args.action {
        Action::Show { from } => {
            match (&folder, &listed) {
                (Some(folder), Some(listed)) => show(folder, listed, from, is_json)?,
                // Standard output has records alone.
                _ => eprintln!("{}", none_in(&path.display().to_string())),
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Verify => {
            let mut findings = Findings::none(path.display().to_string());
            if let (Some(folder), Some(listed)) = (&folder, &listed) {
                findings.verify(folder, listed)?;
            }
            if is_json {
                print_json(&findings)?;
            } else {
                findings.print();
            }
            let is_whole = findings.problems.is_empty();
            Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn none_in(folder: &str) -> String {
    format!("there is no journal in {folder}")
}

fn show(folder: &Folder, listed: &SegmentList, from: u64, is_json: bool) -> anyhow::Result<()> {
    let first = recovery::segment_of(&listed.segments, from);
    for segment in &listed.segments[first..] {
        let file = segment::file_name(segment.base);
        walk(folder, listed.log, *segment, |piece| {
            let line = match &piece {
                Piece::Record { position, record } => Line::Record { position: *position, record },
                Piece::Bad { offset, bytes, why, .. } => Line::Bad {
                    position: segment.base + offset,
                    bytes: *bytes,
                    file: &file,
                    offset: *offset,
                    why: why.clone(),
                },
            };
            if line.position() < from {
                return Ok(());
            }
            if is_json {
                return print_json(&line);
            }
            println!("{}", line.text());
            Ok(())
        })?;
    }
    Ok(())
}

/// A record, or bytes that are none.
enum Piece {
    Record { position: u64, record: Record },
    Bad { offset: u64, bytes: u64, is_end: bool, why: String },
}

/// Passes every piece of a segment to `take`, including those after a damaged one.
fn walk(
    folder: &Folder,
    log: LogId,
    segment: Segment,
    mut take: impl FnMut(Piece) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = segment::file_name(segment.base);
    let file = folder.open(&name).with_context(|| format!("cannot read {name}"))?;
    let mut bytes = vec![0; usize::try_from(segment.length)?];
    let read = file.read_at(&mut bytes, 0).with_context(|| format!("cannot read {name}"))?;
    bytes.truncate(read);
    let mut start = HEAD.min(bytes.len());
    loop {
        let mut records = Reader::new(&bytes[start..], log.seed());
        for framed in records.by_ref() {
            let position = segment.base + (start + framed.start) as u64;
            take(Piece::Record { position, record: framed.record })?;
        }
        let rest = bytes.len() - start;
        let ending = records.ending();
        let is_torn = matches!(ending, Ending::Torn { .. });
        let (at, end, why) = match ending {
            Ending::Whole => return Ok(()),
            Ending::Torn { at } => (at, rest, "incomplete record".to_owned()),
            Ending::Damaged { at, next } => (at, next, "corrupt record".to_owned()),
            Ending::Unreadable { at, end, why } => (at, end, why.to_string()),
        };
        let (offset, length) = ((start + at) as u64, (end - at) as u64);
        take(Piece::Bad { offset, bytes: length, is_end: is_torn, why })?;
        if end == rest {
            return Ok(());
        }
        start += end;
    }
}

impl Line<'_> {
    fn position(&self) -> u64 {
        match self {
            Self::Record { position, .. } | Self::Bad { position, .. } => *position,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Record { position, record } => format!("{position:>12}  {}", describe(record)),
            Self::Bad { position, bytes, file, offset, why } => {
                format!("{position:>12}  BAD       {bytes} bytes at byte {offset} of {file}: {why}")
            }
        }
    }
}

fn describe(record: &Record) -> String {
    match record {
        Record::Open(lease) => {
            let Lease { request, user, model, day, reserved, .. } = lease;
            format!("open      {request} user {user} {model} {day}: {reserved} tokens reserved")
        }
        Record::Extend { request, reserved } => {
            format!("extend    {request}: {reserved} tokens reserved")
        }
        Record::Withdraw { request } => format!("withdraw  {request}"),
        Record::Settle(charge) => {
            let Charge { request, user, model, day, tokens, status, .. } = charge;
            let (tokens, status) = (tokens.total(), status.as_str());
            let uncounted = match charge.uncounted {
                0 => String::new(),
                uncounted => format!(" ({uncounted} of them cached and not counted)"),
            };
            format!(
                "settle    {request} user {user} {model} {day}: {tokens} tokens{uncounted}, {status}"
            )
        }
        Record::Adjust(adjustment) => {
            let Adjustment { reset, user, key, day, tokens, requests, .. } = adjustment;
            format!(
                "adjust    {reset} user {user} key {key} {day}: {tokens} tokens, {requests} requests"
            )
        }
    }
}

impl Findings {
    fn none(folder: String) -> Self {
        Self {
            folder,
            log: None,
            segments: 0,
            from: 0,
            to: 0,
            records: 0,
            open_leases: 0,
            problems: Vec::new(),
            torn_bytes: 0,
        }
    }

    fn verify(&mut self, folder: &Folder, listed: &SegmentList) -> anyhow::Result<()> {
        self.log = Some(listed.log.to_string());
        self.segments = listed.segments.len();
        self.from = listed.segments.first().map_or(0, |first| first.base);
        let mut open = OpenLeases::default();
        for (place, segment) in listed.segments.iter().enumerate() {
            let is_last = place + 1 == listed.segments.len();
            if place > 0 && self.to != segment.base {
                self.problems
                    .push(format!("positions {} to {} are missing", self.to, segment.base));
            }
            self.to = segment.end();
            let file = segment::file_name(segment.base);
            walk(folder, listed.log, *segment, |piece| {
                match piece {
                    Piece::Record { record, .. } => {
                        self.records += 1;
                        open.apply(record);
                    }
                    Piece::Bad { bytes, is_end: true, .. } if is_last => self.torn_bytes = bytes,
                    Piece::Bad { offset, bytes, why, .. } => {
                        self.problems
                            .push(format!("{bytes} bytes at byte {offset} of {file}: {why}"));
                    }
                }
                Ok(())
            })?;
        }
        self.open_leases = open.count();
        Ok(())
    }

    fn print(&self) {
        let Some(log) = &self.log else {
            println!("{}", none_in(&self.folder));
            return;
        };
        for problem in &self.problems {
            println!("{problem}");
        }
        if self.torn_bytes > 0 {
            println!(
                "the last {} bytes are an incomplete record: a write is in progress, or was interrupted",
                self.torn_bytes
            );
        }
        let what = if self.problems.is_empty() { "is valid" } else { "is corrupt" };
        println!(
            "log {log} {what}: {} records in {} files, positions {} to {}, {} open leases",
            self.records, self.segments, self.from, self.to, self.open_leases
        );
    }
}
