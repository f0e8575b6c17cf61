//! A chart on a page: its picture, a text alternative, and its figures as a table.

use base64::Engine;

/// A chart as inline SVG, and the data of a link that saves it as a file.
pub(super) struct Chart {
    pub svg: String,
    pub title: String,
    pub uri: String,
    pub table: Option<ChartTable>,
}

/// The figures of a chart.
pub(super) struct ChartTable {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl ChartTable {
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).into(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl Chart {
    /// `svg` has a fixed size; `alt` is its text alternative, for readers who cannot see it.
    pub(super) fn new(svg: &str, title: &str, alt: &str) -> Self {
        let svg = described(&scalable(svg), alt);
        let text = base64::engine::general_purpose::STANDARD.encode(&svg);
        let uri = format!("data:image/svg+xml;base64,{text}");
        Self { svg, title: title.into(), uri, table: None }
    }

    pub(super) fn with_table(self, table: ChartTable) -> Self {
        Self { table: Some(table), ..self }
    }

    /// The name of the saved file.
    pub(super) fn file(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        format!("{}.svg", self.title.chars().map(plain).collect::<String>())
    }
}

/// Gives the SVG a view box in place of its fixed size, so that the page can scale it.
fn scalable(svg: &str) -> String {
    let Some((tag, rest)) = svg.split_once('>') else { return svg.into() };
    let attribute = |name: &str| tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next();
    match (attribute("width"), attribute("height")) {
        (Some(width), Some(height)) if !tag.contains("viewBox") => {
            format!("{tag} viewBox=\"0 0 {width} {height}\">{rest}")
        }
        _ => svg.into(),
    }
}

/// Marks the SVG as one image with the text alternative `alt`.
fn described(svg: &str, alt: &str) -> String {
    let escaped = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")]
        .into_iter()
        .fold(alt.to_owned(), |text, (c, entity)| text.replace(c, entity));
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{escaped}\" "), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_scales_and_says_what_it_shows() {
        let chart = Chart::new("<svg width=\"6\" height=\"4\"><g/></svg>", "A b", "a < \"b\" & c");
        let tag = "<svg role=\"img\" aria-label=\"a &lt; &quot;b&quot; &amp; c\" width=\"6\" height=\"4\" \
                   viewBox=\"0 0 6 4\">";
        assert_eq!(chart.svg, format!("{tag}<g/></svg>"));
        assert_eq!(chart.file(), "a-b.svg");
    }
}
