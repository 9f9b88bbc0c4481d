//! Class names: one a line, the class's number being the line's, from 0.

use std::fs;
use std::path::Path;

use super::FileError;

/// Reads class names. Trailing blanks and empty lines at the end are dropped; an empty line between
/// names stays, since it holds a class's place. A byte-order mark and CR LF line ends are accepted.
pub fn read(path: &Path) -> Result<Vec<String>, FileError> {
    let text = fs::read_to_string(path).map_err(|e| FileError::read(path, e))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut labels: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    while labels.last().is_some_and(String::is_empty) {
        labels.pop();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_numbers_are_class_numbers() {
        assert_eq!(parse("\u{feff}tench\r\n\r\n  great white shark \n\n\n"), ["tench", "", "  great white shark"]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_missing_file_is_named() {
        let e = read(Path::new("no_such_labels.txt")).unwrap_err().to_string();
        assert!(e.contains("no_such_labels.txt"), "{e}");
    }
}
