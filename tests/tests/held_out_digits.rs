//! The embedded network on the digits that its last layer was not fitted to.

use kiln::classify::top_k;
use kiln::files::npz;
use kiln::{CompileOptions, Session, digits};
use kiln_ir::Tensor;
use kiln_tests::models::folder;
use kiln_tests::target::chosen;
use libtest_mimic::{Arguments, Failed, Trial};

/// Part of the held-out digits that must be read right; `frontend/assets/README.md` says how many are.
const TARGET: f64 = 0.97;
const BATCH: usize = 100;

fn main() {
    let data = folder().join("mnist.npz");
    let trial = if data.is_file() {
        Trial::test("at_least_97_of_100_held_out_digits_are_read_right", move || {
            let (right, all) = held_out(&data).map_err(|e| e.to_string())?;
            let part = right as f64 / all as f64;
            println!("{right} of {all} held-out digits");
            if part >= TARGET && all == 1996 { Ok(()) } else { Err(Failed::from(format!("{right} of {all}"))) }
        })
    } else {
        Trial::test("digits_fetched_with_python3_tests_models_fetch_py", || Ok(())).with_ignored_flag(true)
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

/// Digits read right and digits there are: of each class the fifth of every five, which the fitting leaves out.
fn held_out(data: &std::path::Path) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let mut arrays = npz::read(data)?;
    let images = arrays.remove("images").ok_or("no images")?.to_vec::<u8>()?;
    let labels = arrays.remove("labels").ok_or("no labels")?.to_vec::<u8>()?;
    let mut seen = [0usize; 256];
    let mut rows: Vec<usize> = (0..labels.len()).collect();
    rows.retain(|&i| {
        let count = &mut seen[usize::from(labels[i])];
        *count += 1;
        count.is_multiple_of(5)
    });
    let options = CompileOptions { target: chosen(), ..CompileOptions::default() };
    let mut session = Session::fire(&digits::graph()?, &options.dim("batch", BATCH))?;
    let mut right = 0;
    for batch in rows.chunks(BATCH) {
        let pixels = batch.iter().flat_map(|&i| &images[i * 784..][..784]).map(|&p| f32::from(p) / 255.0);
        let mut pixels: Vec<f32> = pixels.collect();
        pixels.resize(BATCH * 784, 0.0);
        let results = session.run(&[("image", &Tensor::from_slice(&[BATCH, 1, 28, 28], &pixels)?)], &[])?;
        let best = top_k(results.tensor("scores")?, 1);
        right += batch.iter().zip(&best).filter(|(i, row)| row[0].class == usize::from(labels[**i])).count();
    }
    Ok((right, rows.len()))
}
