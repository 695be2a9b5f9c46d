//! A page of headings, tables and plots, as HTML and as Markdown.

use std::fmt::Write as _;

use super::plot::Plot;

/// What stands on a page, from top to bottom.
#[derive(Debug)]
pub(super) struct Page {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// One thing on it.
#[derive(Debug)]
pub(super) enum Block {
    /// A heading of level 2 or 3.
    Heading(u8, String),
    /// A paragraph; text between back-ticks is code.
    Text(String),
    /// A table.
    Table(Table),
    /// Plots side by side, as many as there is room for.
    Plots(Vec<Plot>),
}

/// What stands in a place of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub text: String,
    /// In small letters behind it: an interval.
    pub note: String,
    /// The best of its row or column.
    pub best: bool,
    /// Whether it is a number, to the right.
    pub number: bool,
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A number.
    pub fn number(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: true, ..Self::default() }
    }
}

/// A table; its first column says what each row is about.
#[derive(Debug)]
pub(super) struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new<T: AsRef<str>>(caption: &str, head: &[T]) -> Self {
        let head = head.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { caption: caption.to_owned(), head, rows: Vec::new() }
    }

    /// Adds a row of words.
    pub fn push_text(&mut self, row: &[String]) {
        self.rows.push(row.iter().map(Cell::text).collect());
    }
}

/// Ink and ground by the reader's choice; a table that is wider than the page is moved by itself.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --ground: #ffffff; --faint: #d0d7de; --quiet: #59636e; --mark: #ddf4e4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --ground: #0d1117; --faint: #30363d; --quiet: #9198a1; --mark: #12402a; }
}
body { color: var(--ink); background: var(--ground); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--faint); } h3 { margin-top: 2rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--faint); text-align: left; vertical-align: baseline; }
thead th { border-bottom: 2px solid var(--faint); vertical-align: bottom; max-width: 10rem; }
tbody th { font-weight: normal; min-width: 10rem; }
td { white-space: nowrap; }
.number { text-align: right; }
.number small { display: block; }
.best { background: var(--mark); font-weight: 600; }
small { color: var(--quiet); font-weight: normal; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: 1rem 0; }
figure { margin: 0; border: 1px solid var(--faint); border-radius: 6px; padding: .3rem; }
figure svg { max-width: 100%; height: auto; display: block; }
code { font-size: .92em; }
";

/// A plot as a file has no text around it whose colour it could take.
const FILE_STYLE: &str =
    "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Paragraphs: what stands between back-ticks is code.
fn paragraph(text: &str) -> String {
    let parts = text
        .split('`')
        .enumerate()
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) });
    parts.collect()
}

/// The opening tag of a picture, with its name for those who do not see it.
fn titled(plot: &Plot, style: &str) -> String {
    match plot.svg.split_once('>') {
        Some((open, rest)) => {
            let title = escape(&plot.title);
            format!("{open} role=\"img\" aria-label=\"{title}\"><title>{title}</title>{style}{rest}")
        }
        None => plot.svg.clone(),
    }
}

impl Page {
    /// One file that needs no other.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
             <body>\n<h1>{title}</h1>\n"
        );
        for block in &self.blocks {
            let _ = match block {
                Block::Heading(level, text) => writeln!(html, "<h{level}>{}</h{level}>", escape(text)),
                Block::Text(text) => writeln!(html, "<p>{}</p>", paragraph(text)),
                Block::Table(table) => writeln!(html, "{}", table.html()),
                Block::Plots(plots) => {
                    let figures = plots.iter().map(|plot| format!("<figure>{}</figure>\n", titled(plot, "")));
                    writeln!(html, "<div class=\"plots\">\n{}</div>", figures.collect::<String>())
                }
            };
        }
        html.push_str("</body>\n</html>\n");
        html
    }

    /// Markdown whose plots are files in `folder`, and these files.
    pub fn markdown(&self, folder: &str) -> (String, Vec<(String, String)>) {
        let mut text = format!("# {}\n", prose(&self.title));
        let mut files = Vec::new();
        for block in &self.blocks {
            text.push('\n');
            match block {
                Block::Heading(level, heading) => {
                    let _ = writeln!(text, "{} {}", "#".repeat(usize::from(*level)), prose(heading));
                }
                Block::Text(paragraph) => {
                    let _ = writeln!(text, "{}", prose(paragraph));
                }
                Block::Table(table) => text.push_str(&table.markdown()),
                Block::Plots(plots) => {
                    for plot in plots {
                        let words: String = plot
                            .title
                            .chars()
                            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' })
                            .collect();
                        let words: Vec<&str> = words.split_whitespace().collect();
                        let name = format!("{:02}-{}.svg", files.len() + 1, words.join("-"));
                        let title = prose(&plot.title.replace(['[', ']'], ""));
                        let _ = writeln!(text, "![{title}](<{folder}/{name}>)");
                        files.push((name, titled(plot, FILE_STYLE)));
                    }
                }
            }
        }
        (text, files)
    }
}

impl Table {
    fn html(&self) -> String {
        let mut html = format!(
            "<div class=\"wide\"><table>\n<caption>{}</caption>\n<thead><tr>",
            paragraph(&self.caption)
        );
        for (column, name) in self.head.iter().enumerate() {
            let is_number = self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.number));
            let class = if is_number { " class=\"number\"" } else { "" };
            let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", escape(name));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let classes: Vec<&str> = [("number", cell.number), ("best", cell.best)]
                    .into_iter()
                    .filter_map(|(name, is)| is.then_some(name))
                    .collect();
                let class = if classes.is_empty() {
                    String::new()
                } else {
                    format!(" class=\"{}\"", classes.join(" "))
                };
                let note = if cell.note.is_empty() {
                    String::new()
                } else {
                    format!(" <small>{}</small>", escape(&cell.note))
                };
                let (open, close) = if column == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
                let _ = write!(html, "<{open}{class}>{}{note}</{close}>", paragraph(&cell.text));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n</table></div>");
        html
    }

    fn markdown(&self) -> String {
        let bar = |text: &str| prose(text).replace('|', "\\|");
        let mut text = format!("**{}**\n\n|", prose(&self.caption));
        for name in &self.head {
            let _ = write!(text, " {} |", bar(name));
        }
        text.push_str("\n|");
        for column in 0..self.head.len() {
            let is_number = self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.number));
            text.push_str(if is_number { "---:|" } else { "---|" });
        }
        text.push('\n');
        for row in &self.rows {
            text.push('|');
            for cell in row {
                let mark = if cell.best { "**" } else { "" };
                let note = if cell.note.is_empty() { String::new() } else { format!(" {}", cell.note) };
                let _ = write!(text, " {mark}{}{mark}{} |", bar(&cell.text), bar(&note));
            }
            text.push('\n');
        }
        text
    }
}

/// Markdown in which nothing is HTML: between back-ticks nothing is, elsewhere it is escaped.
fn prose(text: &str) -> String {
    let escape = |part: &str| part.replace('&', "&amp;").replace('<', "&lt;");
    if text.matches('`').count() % 2 == 1 {
        return escape(text);
    }
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 1 { format!("`{part}`") } else { escape(part) });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut table = Table::new("A `caption` & more", &["what", "a|b"]);
        let best = Cell { best: true, note: "(1 to 3)".to_owned(), ..Cell::number("2") };
        table.rows.push(vec![Cell::text("<row>"), best]);
        let plot = Plot { title: "Loss, \"beam\"".to_owned(), svg: "<svg width=\"1\"><g/></svg>".to_owned() };
        Page {
            title: "A < B".to_owned(),
            blocks: vec![
                Block::Heading(2, "Part".to_owned()),
                Block::Text("say `a < b`".to_owned()),
                Block::Table(table),
                Block::Plots(vec![plot]),
            ],
        }
    }

    #[test]
    fn html_stands_alone_and_escapes_what_it_is_given() {
        let html = page().html();
        assert!(html.contains("<h1>A &lt; B</h1>") && html.contains("<code>a &lt; b</code>"));
        assert!(html.contains("<th scope=\"row\">&lt;row&gt;</th>"));
        assert!(html.contains("<td class=\"number best\">2 <small>(1 to 3)</small></td>"));
        assert!(html.contains("aria-label=\"Loss, &quot;beam&quot;\""));
        for outside in ["<script", "src=", "href=", "url(", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn markdown_has_the_same_and_its_plots_in_files() {
        let (text, files) = page().markdown("report");
        assert!(text.contains("| what | a\\|b |\n|---|---:|\n| &lt;row> | **2** (1 to 3) |"), "{text}");
        assert!(text.starts_with("# A &lt; B\n") && text.contains("say `a < b`\n"), "{text}");
        assert!(text.contains("![Loss, \"beam\"](<report/01-loss-beam.svg>)"), "{text}");
        assert_eq!(files.len(), 1);
        assert!(files[0].1.contains("prefers-color-scheme") && files[0].1.ends_with("<g/></svg>"));
    }
}
