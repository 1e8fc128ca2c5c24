//! The table, `RESULTS.md` and the chart.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    bars::{Outcome, Samples, quartiles},
    machine::{self, Machine},
};

/// A line for each bar, as Markdown.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| what | against | ours | theirs | ratio | quartiles | rounds | bar | verdict |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for outcome in outcomes {
        let Outcome { what, peer, unit, ours, theirs, ratio: [low, median, high], rounds, .. } = outcome;
        writeln!(
            text,
            "| {what} | {peer} | {} {unit} | {} {unit} | **{median:.2}** | {low:.2} .. {high:.2} | {rounds} | {} | {} |",
            amount(*ours),
            amount(*theirs),
            outcome.bar(),
            outcome.verdict()
        )
        .unwrap();
    }
    text
}

/// Writes `RESULTS.md` and the chart beside it.
pub(super) fn write(machine: &Machine, outcomes: &[Outcome], all: &[(&str, Samples)], took: Duration) {
    let mut text = String::from(
        "# What `make bench` printed\n\nWritten by `benches/path`. Ours and the peers took turns in one run, everything lay on tmpfs, and only ratios count: \
         medians of the rounds, with their quartiles. Whatever else the machine did fell on all of them.\n\n",
    );
    for (name, value) in &machine.0 {
        writeln!(text, "- {name}: {value}").unwrap();
    }
    writeln!(text, "- load when it ended: {}\n- it took {} s\n", machine::load(), took.as_secs()).unwrap();
    writeln!(
        text,
        "## The data path and Argon2id\n\n{}\n![How far each bar was reached](results.svg)\n",
        table(outcomes)
    )
    .unwrap();
    writeln!(text, "## Everything that was measured\n\n{}", measured(all)).unwrap();
    if let Some(ciphers) =
        std::env::var_os("STRONGROOM_BENCH_CIPHERS").and_then(|path| fs::read_to_string(path).ok())
    {
        writeln!(text, "## The ciphers\n\n```text\n{}\n```\n", ciphers.trim_end()).unwrap();
    }
    if let Ok(analysis) = fs::read_to_string(folder().join("ANALYSIS.md")) {
        text.push_str(&analysis);
    }
    fs::write(folder().join("RESULTS.md"), text).unwrap();
    fs::write(folder().join("results.svg"), chart(outcomes)).unwrap();
}

fn measured(all: &[(&str, Samples)]) -> String {
    let mut text =
        String::from("| group | job | on | median | quartiles |\n| --- | --- | --- | --- | --- |\n");
    for (group, samples) in all {
        let mut rows: Vec<_> = samples.iter().collect();
        rows.sort_by_key(|((name, job), _)| (format!("{job:?}"), *name));
        for ((name, job), values) in rows {
            let [low, median, high] = quartiles(values.clone()).map(amount);
            writeln!(text, "| {group} | {job:?} | {name} | {median} {} | {low} .. {high} |", job.unit())
                .unwrap();
        }
    }
    text
}

/// Three digits that matter.
fn amount(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// One bar a line: its length is how far the median got, with a mark where it was to get.
fn chart(outcomes: &[Outcome]) -> String {
    let height = TOP + LINE * u32::try_from(outcomes.len()).unwrap() + 10;
    let mark = LEFT + UNIT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{mark}\" y=\"16\" text-anchor=\"middle\">the bar</text>\n"
    );
    for (index, outcome) in (0..).zip(outcomes) {
        let (y, score) = (TOP + LINE * index, outcome.score());
        let length = (score.min(MOST) * f64::from(UNIT)).round();
        let colour = if score >= 1.0 { "#2e7d32" } else { "#c62828" };
        let label = format!("{} / {}", outcome.what, outcome.peer);
        let value = format!("{:.2} ({})", outcome.ratio[1], outcome.bar());
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length}\" height=\"14\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{value}</text>",
            LEFT - 8,
            y + 12,
            f64::from(LEFT) + length + 6.0,
            y + 12
        )
        .unwrap();
    }
    writeln!(svg, "<line x1=\"{mark}\" x2=\"{mark}\" y1=\"20\" y2=\"{height}\" stroke=\"black\" stroke-dasharray=\"4\"/>\n</svg>").unwrap();
    svg
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches")
}

const WIDTH: u32 = 1000;
const LEFT: u32 = 430;
const TOP: u32 = 28;
const LINE: u32 = 22;
/// The length of a bar that is just reached.
const UNIT: u32 = 130;
/// Longer ones are cut off.
const MOST: f64 = 3.2;
