//! What was measured: `target/bench/report.json`, and a table.

use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use crate::Plan;
use crate::fleet::Cpu;
use crate::stats::median;

/// Everything that a run of the bench says.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Which rows were asked for.
    pub rows: String,
    /// For how long, and how often.
    pub plan: Option<Plan>,
    /// The machine, and what ran on it.
    pub machine: Vec<(String, String)>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What is promised of figures of one run.
    pub ratios: Vec<Ratio>,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The row of the bench.
    pub row: char,
    /// What it is of.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// The middle of the runs.
    pub median: f64,
    /// The runs, in their order.
    pub runs: Vec<f64>,
    /// Processor time, in microseconds a job: of each part the middle of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_job: Option<Cpu>,
}

/// A figure against another one.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// The row of the bench.
    pub row: char,
    /// Of what to what.
    pub what: String,
    /// The middle one of all rounds.
    pub value: f64,
    /// The ratio of each round.
    pub rounds: Vec<f64>,
    /// What it must be at least, or at most.
    pub bound: Bound,
}

/// What a ratio must be, and what it should.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bound {
    /// Whether the bounds are for small values.
    pub at_most: bool,
    /// What it must be.
    pub must: Option<f64>,
    /// What it should be.
    pub aim: Option<f64>,
}

impl Bound {
    /// At least so much.
    pub const fn at_least(must: Option<f64>, aim: Option<f64>) -> Self {
        Self { at_most: false, must, aim }
    }

    /// At most so much.
    pub const fn at_most(must: Option<f64>, aim: Option<f64>) -> Self {
        Self { at_most: true, must, aim }
    }

    fn holds(self, value: f64, bound: f64) -> bool {
        if self.at_most { value <= bound } else { value >= bound }
    }

    fn verdict(self, value: f64) -> &'static str {
        if self.must.is_some_and(|must| !self.holds(value, must)) {
            return "MISSED";
        }
        match self.aim {
            Some(aim) if !self.holds(value, aim) => "short of the aim",
            None if self.must.is_none() => "",
            _ => "ok",
        }
    }
}

impl Report {
    /// Adds the runs of one thing.
    pub fn figure(&mut self, row: char, what: &str, unit: &'static str, runs: &[f64]) {
        self.figure_with_cpu(row, what, unit, runs, None);
    }

    /// The same, with the processor time that it took.
    pub fn figure_with_cpu(
        &mut self,
        row: char,
        what: &str,
        unit: &'static str,
        runs: &[f64],
        cpu_us_per_job: Option<Cpu>,
    ) {
        let (what, runs) = (what.to_owned(), runs.to_vec());
        let figure = Figure { row, what, unit, median: median(&runs), runs, cpu_us_per_job };
        println!("{row}  {:<52} {:>12} {unit}", figure.what, readable(figure.median));
        self.figures.push(figure);
    }

    /// Adds a ratio: that of each round.
    pub fn ratio(&mut self, row: char, what: &str, rounds: &[f64], bound: Bound) {
        let (what, value, rounds) = (what.to_owned(), median(rounds), rounds.to_vec());
        self.ratios.push(Ratio { row, what, value, rounds, bound });
    }

    /// The runs of a figure.
    pub fn runs(&self, row: char, what: &str) -> &[f64] {
        let of = |figure: &&Figure| figure.row == row && figure.what == what;
        self.figures.iter().find(of).map_or(&[], |figure| &figure.runs)
    }

    /// Writes the report as it is so far.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(path, serde_json::to_string_pretty(self)?)?)
    }

    /// Writes the report, and prints its tables.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&self, path: &Path) -> anyhow::Result<()> {
        self.write(path)?;
        println!("\n{}\n\n{}\n", self.figures_table(), self.ratios_table());
        println!("everything else: {}", path.display());
        Ok(())
    }

    fn figures_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(["", "what", "median", "", "runs"]);
        for figure in &self.figures {
            let runs: Vec<String> = figure.runs.iter().map(|run| readable(*run)).collect();
            let row = [
                figure.row.to_string(),
                figure.what.clone(),
                readable(figure.median),
                figure.unit.to_owned(),
                runs.join(" "),
            ];
            table.add_row(row);
        }
        table
    }

    fn ratios_table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(ASCII_MARKDOWN)
            .set_header(["", "ratio", "value", "of", "must", "aim", ""]);
        for Ratio { row, what, value, rounds, bound } in &self.ratios {
            let sign = if bound.at_most { "≤" } else { "≥" };
            let said = |bound: Option<f64>| bound.map_or(String::new(), |b| format!("{sign} {b}"));
            table.add_row([
                row.to_string(),
                what.clone(),
                format!("{value:.2}"),
                rounds.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(" "),
                said(bound.must),
                said(bound.aim),
                bound.verdict(*value).to_owned(),
            ]);
        }
        table
    }
}

/// As many digits as mean something.
fn readable(value: f64) -> String {
    match value.abs() {
        of if of >= 100.0 => format!("{value:.0}"),
        of if of >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
