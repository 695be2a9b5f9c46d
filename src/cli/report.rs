//! `report RUN_DIR [EVAL_JSON...]`: a run and what networks are worth, as a page to look at.

use std::path::PathBuf;

use serde_json::json;

use super::{Failure, Format, Outcome, text};
use crate::train::report::{Report, ReportError};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of a training run, with its recipe.toml and log.jsonl
    run: PathBuf,
    /// What `eval -o` wrote: of this run, and of others that stand beside it, one column each
    evaluations: Vec<PathBuf>,
    /// The HTML file; Markdown goes beside it [default: RUN/report.html]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let html = arguments.output.clone().unwrap_or_else(|| arguments.run.join("report.html"));
    if html.extension().is_none_or(|extension| extension != "html") {
        let found = html.display();
        return Err(Failure::Usage(format!(
            "--output: found `{found}`, allowed is a name that ends with .html"
        )));
    }
    let report = Report::of(&arguments.run, &arguments.evaluations).map_err(|error| match error {
        ReportError::Plot { .. } => Failure::failed(error),
        _ => Failure::usage(error),
    })?;
    let markdown = report.write(&html).map_err(Failure::failed)?;
    match format {
        Format::Text => {
            text::result(format!("page      {}", html.display()));
            text::result(format!("markdown  {}", markdown.display()));
        }
        Format::Json => text::result(json!({ "type": "report", "html": html, "markdown": markdown })),
    }
    Ok(Outcome::Done)
}
