//! Reading images between their pixels, compared with the definitions, pixel by pixel.

use kiln::dsl::layers::{GridSample, Interpolation, Outside, RoiAlign, RoiPooling, affine_grid};
use kiln::prelude::*;
use kiln_ir::{Graph, Tensor as TensorData, interp};

/// Numbers in −1…1 that look random.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(dims: &[usize], values: &[f32]) -> TensorData {
    TensorData::from_slice(dims, values).expect("as many values as the dims say")
}

/// By the interpreter and compiled, which must agree.
fn run(graph: &Graph, feeds: &[(&str, TensorData)]) -> Vec<f32> {
    let found = interp::run::<f32>(graph, feeds, None).expect("it runs").remove(0).1;
    let mut session = Session::fire(graph, &CompileOptions::default()).expect("it compiles");
    let feeds: Vec<(&str, &dyn ToTensor)> = feeds.iter().map(|(name, t)| (*name, t as &dyn ToTensor)).collect();
    let results = session.run(&feeds, &["y"]).expect("it runs");
    let compiled = results.get::<f32>("y").expect("f32");
    let found = found.to_vec::<f32>().expect("f32");
    assert_close(&compiled.into_iter().collect::<Vec<f32>>(), &found);
    found
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= 2e-4 || (f.is_nan() && e.is_nan()), "element {i}: {f}, expected {e}");
    }
}

/// The element of an image [H, W] or [D, H, W] at integer coordinates that may lie outside.
fn pixel(image: &[f32], extents: &[usize], at: &[i64], how: GridSample) -> f64 {
    let mut place = 0;
    for (&i, &extent) in at.iter().zip(extents) {
        let (n, last) = (extent as i64, extent as i64 - 1);
        let inside = match how.outside {
            Outside::Zeros if i < 0 || i > last => return 0.0,
            Outside::Zeros => i,
            Outside::Border => i.clamp(0, last),
            // mirrored about the centres of the outermost pixels, or about their edges
            Outside::Reflection if how.align_corners && last == 0 => 0,
            Outside::Reflection if how.align_corners => last - (i.rem_euclid(2 * last) - last).abs(),
            Outside::Reflection => {
                let i = i.rem_euclid(2 * n);
                if i < n { i } else { 2 * n - 1 - i }
            }
        };
        place = place * extent + inside as usize;
    }
    f64::from(image[place])
}

/// Integer coordinates and weights around a coordinate.
fn taps(x: f64, how: GridSample) -> Vec<(i64, f64)> {
    let (low, t) = (x.floor() as i64, x - x.floor());
    let keys = |distance: f64| {
        let (s, a) = (distance.abs(), -0.75);
        if s <= 1.0 {
            (a + 2.0) * s.powi(3) - (a + 3.0) * s.powi(2) + 1.0
        } else {
            a * s.powi(3) - 5.0 * a * s.powi(2) + 8.0 * a * s - 4.0 * a
        }
    };
    match how.interpolation {
        Interpolation::Nearest => vec![(x.round_ties_even() as i64, 1.0)],
        Interpolation::Linear => vec![(low, 1.0 - t), (low + 1, t)],
        Interpolation::Cubic => (-1..=2).map(|k| (low + k, keys(t - k as f64))).collect(),
    }
}

/// `point` is (x, y) or (x, y, z).
fn sampled(image: &[f32], extents: &[usize], point: &[f32], how: GridSample) -> f64 {
    let mut combinations = vec![(Vec::new(), 1.0)];
    for (axis, &extent) in extents.iter().enumerate() {
        let (g, n) = (f64::from(point[point.len() - 1 - axis]), extent as f64);
        let x = if how.align_corners { (g + 1.0) / 2.0 * (n - 1.0) } else { ((g + 1.0) * n - 1.0) / 2.0 };
        let more = |(at, weight): (Vec<i64>, f64)| {
            taps(x, how).into_iter().map(move |(i, w)| ([&at[..], &[i]].concat(), weight * w)).collect::<Vec<_>>()
        };
        combinations = combinations.into_iter().flat_map(more).collect();
    }
    combinations.iter().map(|(at, weight)| weight * pixel(image, extents, at, how)).sum()
}

#[test]
fn points_of_a_grid_are_interpolated_in_every_mode_with_every_kind_of_border() {
    for (extents, places) in [(&[3usize, 4][..], &[4usize, 2][..]), (&[1, 5], &[3, 3]), (&[2, 3, 4], &[2, 1, 4])] {
        let (images, channels) = (2, 3);
        let (pixels, count): (usize, usize) = (extents.iter().product(), places.iter().product());
        let dims = [&[images, channels], extents].concat();
        let points = [&[images], places, &[extents.len()]].concat();
        let x = noise(images * channels * pixels, 3);
        // well beyond both ends
        let grid: Vec<f32> = noise(images * count * extents.len(), 5).iter().map(|v| v * 2.5).collect();
        for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
            for outside in [Outside::Zeros, Outside::Border, Outside::Reflection] {
                for align_corners in [false, true] {
                    let how = GridSample { interpolation, outside, align_corners };
                    let scope = Scope::new("grid");
                    let fixed = |dims: &[usize]| dims.iter().map(|&d| Dim::Fixed(d)).collect::<Vec<_>>();
                    let image = scope.placeholder::<f32>("x", fixed(&dims));
                    let y = how.apply(image, scope.placeholder::<f32>("grid", fixed(&points)));
                    assert_eq!(y.dims(), fixed(&[&[images, channels], places].concat()));
                    scope.output("y", y);
                    let graph = scope.finish().expect("a well-formed graph");
                    let found = run(&graph, &[("x", tensor(&dims, &x)), ("grid", tensor(&points, &grid))]);
                    let mut expected = Vec::new();
                    for image in 0..images {
                        for channel in 0..channels {
                            let x = &x[(image * channels + channel) * pixels..][..pixels];
                            let points = grid[image * count * extents.len()..].chunks(extents.len()).take(count);
                            expected.extend(points.map(|p| sampled(x, extents, p, how) as f32));
                        }
                    }
                    assert_close(&found, &expected);
                }
            }
        }
    }
}

#[test]
fn what_lies_beyond_the_border_is_zero_even_next_to_an_infinite_pixel() {
    let scope = Scope::new("infinite");
    let x = scope.placeholder::<f32>("x", dims![1, 1, 1, 2]);
    let grid = scope.placeholder::<f32>("grid", dims![1, 1, 3, 2]);
    scope.output("y", GridSample::default().apply(x, grid));
    let graph = scope.finish().expect("a well-formed graph");
    // in pixels: −0.25, which is three quarters the infinite one; −9; and NaN
    let points = [-0.75, 0.0, -9.5, 0.0, f32::NAN, 0.0];
    let feeds = [("x", tensor(&[1, 1, 1, 2], &[f32::INFINITY, 1.0])), ("grid", tensor(&[1, 1, 3, 2], &points))];
    let found = interp::run::<f32>(&graph, &feeds, None).expect("it runs").remove(0).1;
    let found = found.to_vec::<f32>().expect("f32");
    assert_eq!(found[..2], [f32::INFINITY, 0.0]);
    assert_eq!(found[2], 0.0, "no pixel is near a point that is nowhere");
}

#[test]
fn an_affine_grid_is_the_matrix_times_every_point() {
    let grid = |extents: &[usize], align_corners: bool, theta: &[f32]| {
        let (scope, axes) = (Scope::new("affine"), extents.len());
        let t = scope.placeholder::<f32>("theta", dims![1, axes, axes + 1]);
        scope.output("y", affine_grid(t, extents, align_corners));
        run(&scope.finish().expect("a well-formed graph"), &[("theta", tensor(&[1, axes, axes + 1], theta))])
    };
    // x' = y, y' = 10x + 1: columns at −1, 0, 1 and rows at −1, 1
    let turned = [0.0, 1.0, 0.0, 10.0, 0.0, 1.0];
    assert_eq!(grid(&[2, 3], true, &turned), [-1.0, -9.0, -1.0, 1.0, -1.0, 11.0, 1.0, -9.0, 1.0, 1.0, 1.0, 11.0]);
    // centres of the pixels: ±2/3 and 0, and ±1/2
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let third = 2.0 / 3.0;
    assert_close(
        &grid(&[2, 3], false, &identity),
        &[-third, -0.5, 0.0, -0.5, third, -0.5, -third, 0.5, 0.0, 0.5, third, 0.5],
    );
    // an axis of one point is at 0
    let shift = [1.0, 0.0, 0.0, 5.0, 0.0, 1.0, 0.0, 6.0, 0.0, 0.0, 1.0, 7.0];
    assert_eq!(grid(&[1, 1, 2], true, &shift), [4.0, 6.0, 7.0, 6.0, 6.0, 7.0]);
}

/// The definition, sample by sample.
fn pooled(x: &[f32], extents: [usize; 2], region: &[f32], how: &RoiAlign) -> Vec<f32> {
    let half = if how.half_pixel { 0.5 } else { 0.0 };
    let corner = |i: usize| f64::from(region[i]) * how.scale - half;
    let (start, end) = ([corner(1), corner(0)], [corner(3), corner(2)]);
    let bins = [how.bins.0 as f64, how.bins.1 as f64];
    let samples = [how.samples.0, how.samples.1];
    let bin = [0, 1].map(|i| {
        let length = end[i] - start[i];
        (if how.half_pixel { length } else { length.max(1.0) }) / bins[i]
    });
    let place = |i: usize, number: usize, sample: usize| {
        start[i] + (number as f64 + (sample as f64 + 0.5) / samples[i] as f64) * bin[i]
    };
    let mut all = Vec::new();
    for row in 0..how.bins.0 {
        for column in 0..how.bins.1 {
            let (mut sum, mut largest) = (0.0, f64::NEG_INFINITY);
            for (v, h) in (0..samples[0]).flat_map(|v| (0..samples[1]).map(move |h| (v, h))) {
                let at = [place(0, row, v), place(1, column, h)];
                let outside = (0..2).any(|i| at[i] < -1.0 || at[i] > extents[i] as f64);
                let inside = [0, 1].map(|i| at[i].clamp(0.0, extents[i] as f64 - 1.0));
                let mut pixels = Vec::new();
                for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let weight = |i: usize, d: i32| 1.0 - (inside[i] - (inside[i].floor() + f64::from(d))).abs();
                    let index = |i: usize, d: usize| (inside[i].floor() as usize + d).min(extents[i] - 1);
                    let value = x[index(0, dy as usize) * extents[1] + index(1, dx as usize)];
                    pixels.push(if outside { 0.0 } else { weight(0, dy) * weight(1, dx) * f64::from(value) });
                }
                sum += pixels.iter().sum::<f64>();
                largest = pixels.iter().copied().fold(largest, f64::max);
            }
            let count = (samples[0] * samples[1]) as f64;
            all.push(if how.pooling == RoiPooling::Max { largest } else { sum / count } as f32);
        }
    }
    all
}

#[test]
fn regions_of_interest_are_pooled_as_their_definition_says() {
    let (images, channels, extents) = (2, 2, [5, 7]);
    let x = noise(images * channels * extents[0] * extents[1], 11);
    // within the image; beyond two of its sides; empty; turned around
    let regions = [2.0, 1.0, 11.0, 8.0, -6.0, -5.0, 20.0, 16.0, 4.0, 4.0, 4.0, 4.0, 9.0, 8.0, 3.0, 2.0];
    let image_of = [1i64, 0, 1, 0];
    for pooling in [RoiPooling::Average, RoiPooling::Max] {
        for half_pixel in [false, true] {
            let how = RoiAlign { pooling, half_pixel, samples: (2, 3), ..RoiAlign::new(3, 2).scale(0.5) };
            let scope = Scope::new("roi");
            let image = scope.placeholder::<f32>("x", dims![images, channels, extents[0], extents[1]]);
            let y = how.apply(
                image,
                scope.placeholder::<f32>("regions", dims![4, 4]),
                scope.placeholder::<i64>("images", dims![4]),
            );
            assert_eq!(y.dims(), dims![4, channels, 3, 2]);
            scope.output("y", y);
            let feeds = [
                ("x", tensor(&[images, channels, extents[0], extents[1]], &x)),
                ("regions", tensor(&[4, 4], &regions)),
                ("images", TensorData::from_slice(&[4], &image_of).expect("4 values")),
            ];
            let found = run(&scope.finish().expect("a well-formed graph"), &feeds);
            let pixels = extents[0] * extents[1];
            let mut expected = Vec::new();
            for (region, &image) in regions.chunks(4).zip(&image_of) {
                for channel in 0..channels {
                    let x = &x[(image as usize * channels + channel) * pixels..][..pixels];
                    expected.extend(pooled(x, extents, region, &how));
                }
            }
            assert_close(&found, &expected);
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_errors_that_name_what_was_built() {
    let scope = Scope::new("wrong");
    let x = scope.placeholder::<f32>("x", dims![2, 3, 8, 8]);
    let batch = scope.placeholder::<f32>("batch", dims!["n", 3, 8, 8]);
    let whole = scope.placeholder::<i32>("whole", dims![2, 3, 8, 8]);
    let grid = scope.placeholder::<f32>("grid", dims![2, 4, 4, 2]);
    let regions = scope.placeholder::<f32>("regions", dims![5, 4]);
    let images = scope.placeholder::<i64>("images", dims![6]);
    let sample = GridSample::default();
    sample.apply(scope.scalar(1f32), grid);
    sample.apply(batch, grid);
    sample.apply(x, regions);
    sample.apply(whole, grid);
    affine_grid(regions, &[4, 4], false);
    affine_grid(grid.reshape(dims![2, 8, 4]), &[4, 4], false);
    RoiAlign::new(2, 2).apply(x, grid, images);
    RoiAlign::new(2, 2).apply(x, regions, images);
    RoiAlign::new(2, 0).apply(x, regions, images.slice(0, 0, 5));
    // fits: nearest pixels are not computed with
    let nearest = GridSample { interpolation: Interpolation::Nearest, ..sample }.apply(whole, grid);
    assert_eq!(nearest.dims(), dims![2, 3, 4, 4]);
    let text: Vec<String> = scope.finish().expect_err("nine mistakes").0.iter().map(ToString::to_string).collect();
    let expected = [
        "the image of `grid_sample` takes [N, C, H, W] or [N, C, D, H, W], found f32[]",
        "the image of `grid_sample`",
        "the grid of `grid_sample` takes [N, h, w, 2], of x's N, found f32[5, 4]",
        "the image of `grid_sample` takes a float tensor, to interpolate, found i32[2, 3, 8, 8]",
        "theta of `affine_grid` takes [N, 2, 3] or [N, 3, 4], found f32[5, 4]",
        "theta of `affine_grid` takes float [N, 2, 3] for two extents, [N, 3, 4] for three, found f32[2, 8, 4]",
        "`regions` of `roi_align` takes float [R, 4], found f32[2, 4, 4, 2]",
        "`images` of `roi_align` takes as many integers as regions, found i64[6]",
        "`roi_align` of no bins or no samples takes at least one of each, found f32[2, 3, 8, 8]",
    ];
    assert_eq!(text.len(), expected.len(), "{text:#?}");
    for (found, part) in text.iter().zip(expected) {
        assert!(found.contains(part) && found.contains("sampling.rs:"), "{part}: {found}");
    }
}
