//! From the outputs of a model to the answer that people can check. `tests/models/answers.py` does the same.

/// Indices of the `k` largest values, largest first.
pub fn top_k(values: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(k);
    order
}

/// Greedy CTC (Graves et al. 2006): the best class of each step, repeats merged, blanks (class 0) dropped.
/// `probabilities` is [steps, classes]; class i is `alphabet[i − 1]`.
pub fn ctc_text(probabilities: &[f64], classes: usize, alphabet: &[String]) -> String {
    let mut text = String::new();
    let mut last = 0;
    for step in probabilities.chunks_exact(classes) {
        let best = top_k(step, 1)[0];
        if best != 0 && best != last {
            text.push_str(alphabet.get(best - 1).map_or("\u{fffd}", String::as_str));
        }
        last = best;
    }
    text
}

/// A detected box: corners in pixels, and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// x0, y0, x1, y1.
    pub corners: [f64; 4],
    /// Objectness times class probability.
    pub score: f64,
}

/// Boxes, best first, of YOLOX rows [cells, 6] (x, y, w, h, objectness, class) after non-maximum suppression
/// (Ge et al. 2021): the centre is an offset from the cell in cells, the extents are exponentials in cells.
pub fn yolox_boxes(rows: &[f64], extent: usize, strides: &[usize], at_least: f64, overlap: f64) -> Vec<Detection> {
    let cells = strides.iter().flat_map(|&stride| {
        let n = extent / stride;
        (0..n * n).map(move |i| ((i % n) as f64, (i / n) as f64, stride as f64))
    });
    let mut boxes: Vec<Detection> = rows
        .chunks_exact(6)
        .zip(cells)
        .map(|(r, (x, y, stride))| {
            let (cx, cy) = ((r[0] + x) * stride, (r[1] + y) * stride);
            let (w, h) = (r[2].exp() * stride / 2.0, r[3].exp() * stride / 2.0);
            Detection { corners: [cx - w, cy - h, cx + w, cy + h], score: r[4] * r[5] }
        })
        .filter(|b| b.score >= at_least)
        .collect();
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for b in boxes {
        if kept.iter().all(|k| intersection_over_union(&k.corners, &b.corners) < overlap) {
            kept.push(b);
        }
    }
    kept
}

fn intersection_over_union(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |c: &[f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let inner = side(0) * side(1);
    inner / (area(a) + area(b) - inner)
}

/// Score and centre (x, y as fractions of the picture) of the best anchor of BlazeFace's first layer (Bazarevsky et
/// al. 2019): two anchors a cell of a 16 × 16 grid, offsets in pixels of the 128 × 128 input.
pub fn best_face(scores: &[f64], boxes: &[f64]) -> (f64, [f64; 2]) {
    let best = top_k(scores, 1)[0];
    let width = boxes.len() / scores.len();
    let cell = best / 2;
    let centre = |axis: usize, position: usize| (position as f64 + 0.5) / 16.0 + boxes[best * width + axis] / 128.0;
    (1.0 / (1.0 + (-scores[best]).exp()), [centre(0, cell % 16), centre(1, cell / 16)])
}
