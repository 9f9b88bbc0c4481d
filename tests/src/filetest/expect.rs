//! Errors that a file expects, at their lines.

/// Checks that the errors `found` (line, text) are those that `text` expects: each `//~ ERROR part` has an error on
/// its line, and each of `unplaced` one without a line (line 0); each error is expected.
pub(super) fn check_errors(text: &str, unplaced: &[String], found: &[(u32, String)]) -> Result<(), String> {
    let mut expected: Vec<(u32, &str)> = unplaced.iter().map(|e| (0, e.as_str())).collect();
    for (line, number) in text.lines().zip(1u32..) {
        expected.extend(line.split("//~ ERROR").skip(1).map(|part| (number, part.trim())));
    }
    let mut problems = Vec::new();
    for (line, part) in &expected {
        if !found.iter().any(|(l, e)| l == line && e.contains(part)) {
            problems.push(format!("expected at line {line}, but not reported: {part}"));
        }
    }
    for (line, error) in found {
        if !expected.iter().any(|(l, part)| l == line && error.contains(part)) {
            problems.push(format!("reported at line {line}, but not expected: {error}"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::check_errors;

    #[test]
    fn each_error_must_be_expected_and_each_expected_one_must_come() {
        let text = "a //~ ERROR x //~ ERROR y\nb";
        let error = |line: u32, e: &str| (line, e.to_owned());
        assert_eq!(check_errors(text, &[], &[error(1, "the x"), error(1, "a y")]), Ok(()));
        let missing = check_errors(text, &["z".into()], &[error(1, "the x, the y")]).unwrap_err();
        assert_eq!(missing, "expected at line 0, but not reported: z");
        let both = check_errors(text, &[], &[error(2, "x"), error(1, "y")]).unwrap_err();
        assert_eq!(both, "expected at line 1, but not reported: x\nreported at line 2, but not expected: x");
    }
}
