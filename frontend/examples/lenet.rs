//! LeNet-5 (LeCun et al. 1998, with ReLU and max pooling) in the DSL: defined, fired and run on eight blank images.

use kiln::prelude::*;
use ndarray::Array4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scope = Scope::new("lenet");
    let x = scope.placeholder::<f32>("image", dims!["batch", 1, 28, 28]);
    let x = Pool::new(2).max(Conv2d::new(6, 5).padding(Padding::Same).apply("conv1", x).relu());
    let x = Pool::new(2).max(Conv2d::new(16, 5).apply("conv2", x).relu());
    let x = layers::dense("fc1", layers::flatten(x), 120).relu();
    let x = layers::dense("fc2", x, 84).relu();
    scope.output("probabilities", layers::dense("fc3", x, 10).softmax(-1));
    let graph = scope.finish()?; // every mistake at once; tensors cannot outlive this line

    let mut session = Session::fire(&graph, &CompileOptions::default().dim("batch", 8))?;
    let images = Array4::<f32>::zeros((8, 1, 28, 28));
    let results = session.run(&[("image", &images)], &["probabilities"])?;
    println!("{:.3}", results.get::<f32>("probabilities")?);
    Ok(())
}
