//! Compiles a network of the zoo with weights from a file:
//!
//! ```text
//! cargo run --release -p kiln --example zoo -- resnet50 resnet50.safetensors resnet50.kiln
//! kiln run resnet50.kiln --input dog.jpg --preset imagenet --top-k 5
//! ```
//!
//! Without weights (`-`) it keeps those that layers start with; without arguments it lists what the zoo has.

use std::error::Error;
use std::path::Path;

use kiln::files::safetensors;
use kiln::prelude::*;
use kiln::{ArtifactOptions, compile, weights, zoo};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, file, artifact] = &arguments[..] else {
        print!("{}", zoo::summary()?);
        return Ok(());
    };
    let model = zoo::model(name).ok_or_else(|| format!("the zoo has no `{name}`: run without arguments for a list"))?;
    let mut graph = model.graph(&model.images())?;
    if file != "-" {
        weights::load(&mut graph, &safetensors::read(Path::new(file))?.tensors)?;
    }
    let compiled = compile(&graph, &CompileOptions::default().dim("batch", 1))?;
    compiled.artifact(&ArtifactOptions::default())?.write(Path::new(artifact))?;
    Ok(())
}
