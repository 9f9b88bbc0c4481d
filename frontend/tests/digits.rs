//! The embedded network, compiled: the committed weights are those that the fitting program's accuracy speaks of.

#[path = "../../tests/src/target.rs"]
mod target;

use kiln::classify::top_k;
use kiln::digits;
use kiln::{CompileOptions, Session};
use kiln_ir::Tensor;

#[test]
fn the_committed_weights_read_29_of_the_30_embedded_digits_in_one_batch() {
    let samples = digits::samples().expect("the embedded digits");
    let pixels: Vec<f32> = samples.iter().flat_map(|s| &s.pixels).map(|&p| f32::from(p) / 255.0).collect();
    let images = Tensor::from_slice(&[samples.len(), 1, 28, 28], &pixels).expect("a tensor");
    let options = CompileOptions { target: target::chosen(), ..CompileOptions::default() };
    let options = options.dim("batch", samples.len());
    let mut session = Session::fire(&digits::graph().expect("the network"), &options).expect("a session");
    let results = session.run(&[("image", &images)], &[]).expect("results");
    let best = top_k(results.tensor("scores").expect("scores"), 1);
    let right = samples.iter().zip(&best).filter(|(s, row)| row[0].class == usize::from(s.digit)).count();
    assert_eq!((right, best.len()), (29, 30));
}
