//! Text for people on standard output.

use nixply_documents::wording;

/// Lines of text. Escapes control characters and line breaks in inserted values.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(&wording::visible(line.as_ref()));
        self.0.push('\n');
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
