//! Grey pictures in a terminal: two pixels above each other in each character.

use std::fmt::Write;

/// Draws `pixels` (rows of `width`, 0 black to 255 white). With `colour`, in the 24 greys of a 256-colour terminal
/// (xterm's palette, entries 232 to 255); without, black and white.
pub fn draw(pixels: &[u8], width: usize, colour: bool) -> Vec<String> {
    let rows: Vec<&[u8]> = pixels.chunks(width.max(1)).collect();
    let pairs = rows.chunks(2).map(|pair| {
        let (top, bottom) = (pair.first().copied().unwrap_or_default(), pair.get(1).copied().unwrap_or_default());
        let pixel = |row: &[u8], x: usize| row.get(x).copied().unwrap_or(0);
        let mut line = String::new();
        for x in 0..width {
            let (above, below) = (pixel(top, x), pixel(bottom, x));
            if colour {
                let grey = |p: u8| 232 + u32::from(p) * 23 / 255;
                // Writing to a string cannot fail.
                let _ = write!(line, "\x1b[38;5;{};48;5;{}m▀", grey(above), grey(below));
            } else {
                line.push(match (above >= 128, below >= 128) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
        }
        if colour {
            line.push_str("\x1b[0m");
        }
        line
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_share_a_line() {
        assert_eq!(draw(&[0, 255, 0, 255, 0, 0, 255, 255, 200, 1, 2, 130], 4, false), [" ▀▄█", "▀  ▀"]);
    }

    #[test]
    fn greys_are_those_of_the_palette() {
        assert_eq!(draw(&[0, 255], 1, true), ["\x1b[38;5;232;48;5;255m▀\x1b[0m"]);
    }
}
