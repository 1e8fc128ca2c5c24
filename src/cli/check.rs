//! `check`: everything that can be found out about a container without changing it.

use std::{fmt::Write, path::Path};

use serde::Serialize;
use strongroom::{
    error::{ErrorKind, Result},
    format::{Finding, Header, HeaderInfo, Severity},
    volume::{Container, check, check_condition, check_data, check_file_system, check_pieces},
};

use super::{
    args::CheckOptions,
    ask,
    info::counted,
    interrupt,
    mounting::{is_only_viewed, use_of},
    output::Console,
    pin::PinInfo,
    progress::ByteProgress,
    report::exit_status,
    unlock::{cannot_open, open_to_look, settle_format, unlock_with},
};

/// Examines a container; gives the exit status.
pub(crate) fn run(console: Console, options: &CheckOptions) -> Result<u8> {
    let path = options.container.as_path();
    let mut container = open_to_look(path, options.unlock.header_file())?;
    settle_format(console, &mut container, &options.unlock)?;
    let found = interrupt::asking_at_liberty(path, || Ok((check(&container)?, use_of(path))));
    let (mut findings, usage) = found.map_err(|error| cannot_open(error, path))?;
    let is_in_use = usage.is_some() && !interrupt::asking_at_liberty(path, || Ok(is_only_viewed(path)))?;
    findings.extend(usage.map(|usage| Finding::info("container", usage.told)));
    if let Ok(header) = container.header() {
        findings.extend(PinInfo::of(path, &*header).and_then(|pin| pin.finding()));
        let (under_key, info) = check_under_key(console, options, (&container, is_in_use), &*header)?;
        // What keeps it from being opened may have been found before.
        let is_new = |finding: &Finding| findings.iter().all(|known| known.message != finding.message);
        let under_key: Vec<_> = under_key.into_iter().filter(is_new).collect();
        findings.extend(under_key);
        findings.extend(interrupt::asking_at_liberty(path, || check_pieces(&container))?);
        findings.extend(read_data(console, options, &container, &info)?);
    }

    let is_ok = findings.iter().all(|finding| finding.severity < Severity::Error);
    let report = Report { ok: is_ok, findings };
    console.result(&report, |report| describe(&report.findings))?;
    if !console.is_json() {
        console.note(&summary(path, &report.findings));
    }
    Ok(if is_ok { 0 } else { exit_status(ErrorKind::Damaged) })
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
}

/// What takes a password, and what the header says after that. Without one, a finding says that this was left out.
fn check_under_key(
    console: Console,
    options: &CheckOptions,
    (container, is_in_use): (&Container, bool),
    header: &dyn Header,
) -> Result<(Vec<Finding>, HeaderInfo)> {
    if let Err(error) = header.check_openable() {
        return Ok((vec![Finding::error("header", error.reason_with_way())], header.describe()));
    }
    let secrets = &options.unlock.secrets;
    let can_ask = ask::is_welcome();
    if options.no_unlock || (secrets.is_prompt(header.keyfile_role()) && !can_ask) {
        let more = header.told_by_key().map(|more| format!(", and {more}")).unwrap_or_default();
        let message = format!(
            "not unlocked: it takes a password to tell whether it is authentic and whether a keyslot opens{more}"
        );
        return Ok((vec![Finding::info("header", message)], header.describe()));
    }
    match unlock_with(console, &options.container, header, &options.unlock, options.keyslot.slot) {
        Ok((unlocked, _)) => {
            let opened = unlocked.keyslot.map(|slot| Finding::info(format!("keyslot {slot}"), "opens"));
            let mut findings: Vec<_> =
                opened.into_iter().chain(header.check_unlocked(&*container.storage(), &unlocked)).collect();
            if let Err(error) = container.unlock_pieces(&header.describe_unlocked(&unlocked), &unlocked) {
                findings.push(Finding::error("pieces", error.reason()));
            }
            // What cannot be read is told where the data are.
            findings.extend(check_file_system(container, &unlocked).ok().flatten());
            if !is_in_use {
                findings.extend(check_condition(container, &unlocked).ok().flatten());
            }
            Ok((findings, header.describe_unlocked(&unlocked)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Tampered | ErrorKind::Damaged) => {
            Ok((vec![Finding::error("header", error.reason())], header.describe()))
        }
        Err(error) => Err(error),
    }
}

fn read_data(
    console: Console,
    options: &CheckOptions,
    container: &Container,
    info: &HeaderInfo,
) -> Result<Vec<Finding>> {
    // Where nothing shows without a password, nothing says where the data are.
    if info.data_size == 0 {
        return Ok(Vec::new());
    }
    let progress = ByteProgress::start(console, "reading");
    interrupt::at_liberty(|| {
        check_data(container, info, options.read_data, &mut |done, total| progress.step(done, total))
    })
}

/// A line for each finding, the worst first.
fn describe(findings: &[Finding]) -> String {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut text = String::new();
    for finding in sorted {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<8} {}: {}", name(finding.severity), finding.object, finding.message);
    }
    text
}

fn summary(path: &Path, findings: &[Finding]) -> String {
    let count = |severity| {
        let found = findings.iter().filter(|finding| finding.severity == severity).count();
        u32::try_from(found).unwrap_or(u32::MAX)
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let (errors, warnings) = (counted(errors, "error", "errors"), counted(warnings, "warning", "warnings"));
    format!("checked {}: {errors}, {warnings}", path.display())
}

const fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
