//! The printed form, and kernels modulo names.

use kiln_codegen::kir::*;

/// A kernel with one statement of every kind.
fn everything(name: &str) -> Kernel {
    let mut b = KernelBuilder::new(name);
    let x = b.input(format!("{name}_x"), DType::F32, 4096);
    let table = b.input("table", DType::I64, 16);
    let y = b.output("y", DType::F32, 4096);
    let sums = b.scratch("sums", DType::F32, 8);
    let (i, j) = (b.parallel(4), b.parallel(8));
    let f32x8 = VType::new(DType::F32, 8);
    let zero = b.constant(f32x8, 0.0);
    let total = b.for_loop(16, &[zero], |b, k, sum| {
        let value = b.load(x, i * 1024 + j * 128 + k * 8, 8);
        let weight = b.load_splat(x, k - 1 + 1, 8);
        let sum = b.fma(value, weight, sum[0]);
        vec![b.max(zero, sum)]
    });
    b.unrolled(2, |b, u| {
        let row = b.load_strided(x, u * 4 + i, 3, 4);
        b.store_strided(sums, u, 2, row);
    });
    let place = b.load(table, i * 4, 1);
    let offsets = b.iota(j - 3, -2, 8);
    let low = b.constant_int(VType::new(DType::I64, 8), 0);
    let offsets = b.max(low, offsets);
    let picked = b.gather(x, 5, offsets, 100);
    let mask = b.compare(CompareOp::Lt, picked, total[0]);
    let chosen = b.select(mask, picked, total[0]);
    let results = b.if_else(
        Condition::NonNegative(vec![i - 1, Index::constant(6) - j]),
        |b| vec![b.exp(chosen)],
        |_| vec![chosen],
    );
    let halves = b.convert(results[0], DType::BF16);
    let wide = b.convert(halves, DType::F32);
    let reversed = b.shuffle(wide, vec![7, 6, 5, 4, 3, 2, 1, 0]);
    let sum = b.reduce(ReduceOp::Add, reversed);
    let bits = b.bitcast(sum, DType::I32);
    let nan = b.constant(VType::scalar(DType::F32), f64::NAN);
    let splat = b.splat(nan, 4);
    let joined = b.concat(&[splat, splat]);
    let positive = b.constant_int(VType::scalar(DType::I32), 7);
    let large = b.compare(CompareOp::Ge, bits, positive);
    b.when(large, |b| b.scatter(y, 0, offsets, 100, joined));
    b.store(y, Index::dynamic(place, 8) * 8 + i * 1024 + 64, reversed);
    b.finish().unwrap()
}

#[test]
fn a_kernel_prints_as_readable_text() {
    insta::assert_snapshot!(everything("everything").to_string());
}

#[test]
fn kernels_that_differ_in_names_and_numbering_only_are_equal() {
    let first = everything("first");
    let mut second = everything("second");
    assert_ne!(first, second);
    assert_eq!(first.canonical(), second.canonical());
    // renumbered: the values of a second, unused type list entry shift nothing
    second.values.insert(0, VType::scalar(DType::U8));
    let shift = |v: &mut Value| v.0 += 1;
    renumber(&mut second.body, &shift);
    assert_eq!(first.canonical(), second.canonical());
    verify(&first.canonical()).unwrap();
}

#[test]
fn kernels_that_differ_in_a_constant_are_not() {
    let relu = |limit: f64| {
        let mut b = KernelBuilder::new("relu");
        let y = b.output("y", DType::F32, 4);
        let value = b.constant(VType::new(DType::F32, 4), limit);
        b.store(y, 0, value);
        b.finish().unwrap().canonical()
    };
    assert_ne!(relu(0.0), relu(-0.0));
    assert_eq!(relu(6.0), relu(6.0));
}

/// Applies `f` to every value that a block mentions.
fn renumber(block: &mut Block, f: &impl Fn(&mut Value)) {
    for statement in &mut block.statements {
        statement.operands_mut(f);
        match statement {
            Statement::Let(value, _) => f(value),
            Statement::Store { .. } | Statement::Scatter { .. } | Statement::Prefetch { .. } => {}
            Statement::For(inner) => {
                inner.carried.iter_mut().flat_map(|c| [&mut c.param, &mut c.result]).for_each(f);
                renumber(&mut inner.body, f);
            }
            Statement::If(inner) => {
                inner.results.iter_mut().for_each(f);
                renumber(&mut inner.then, f);
                renumber(&mut inner.otherwise, f);
            }
        }
    }
    block.yields.iter_mut().for_each(f);
}
