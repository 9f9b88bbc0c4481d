//! The GEMM generator against a plain triple loop.

use kiln_codegen::clif::Target;
use kiln_codegen::kernels::gemm::{Gemm, Rows, Tile, pack, packed_len};
use kiln_codegen::kir::*;
use proptest::prelude::*;

use crate::run::run_jit;

/// C = A · B + bias through ReLU, by generated code.
fn generated(gemm: &Gemm, a: &[f32], b: &[f32], bias: &[f32]) -> Vec<f32> {
    let Gemm { m, n, k, tile, .. } = *gemm;
    let mut builder = KernelBuilder::new("gemm");
    let packed_a = match gemm.rows {
        Rows::Strided { .. } => a.to_vec(),
        Rows::Packed => {
            let transposed: Vec<f32> = (0..m * k).map(|i| a[(i % m * k + i / m) as usize]).collect();
            pack(&transposed, m as usize, k as usize, tile.rows as usize)
        }
    };
    let packed_b = pack(b, n as usize, k as usize, tile.columns as usize);
    assert_eq!(packed_b.len() as i64, packed_len(n, k, tile.columns));
    let a = builder.input("a", DType::F32, packed_a.len() as i64);
    let b = builder.input("b", DType::F32, packed_b.len() as i64);
    let bias_buffer = builder.input("bias", DType::F32, n);
    let c = builder.output("c", DType::F32, m * n);
    gemm.emit(&mut builder, a, b, &mut |b, sums, row, column| {
        let lanes = b.type_of(sums).lanes;
        let bias = b.load(bias_buffer, column.clone(), lanes);
        let sum = b.add(sums, bias);
        let zero = b.constant(b.type_of(sum), 0.0);
        let activated = b.max(zero, sum);
        b.store(c, row * n + column, activated);
    });
    let kernel = builder.finish().unwrap();
    let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut buffers = vec![bytes(&packed_a), bytes(&packed_b), bytes(bias), bytes(&vec![f32::NAN; (m * n) as usize])];
    run_jit(&kernel, &Target::host().unwrap(), &mut buffers);
    buffers[3].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_shape_tile_and_blocking_gives_the_products(
        (m, n, k) in (1i64..40, 1i64..40, 0i64..70),
        (rows, columns, unroll) in (1i64..7, prop::sample::select(vec![4i64, 8, 12]), 1i64..9),
        (m_tiles, n_panels, k_block) in (1i64..5, 1i64..4, prop::sample::select(vec![7i64, 16, 30, 512])),
        packed in any::<bool>(),
    ) {
        let gemm = Gemm {
            m, n, k, m_tiles, n_panels, k_block,
            rows: if packed { Rows::Packed } else { Rows::Strided { stride: k } },
            tile: Tile { rows, columns, unroll },
        };
        // small integers: every sum is exact, so that the order of the additions does not matter
        let value = |i: i64| ((i * 7919) % 13 - 6) as f32;
        let a: Vec<f32> = (0..m * k).map(value).collect();
        let b: Vec<f32> = (0..k * n).map(|i| value(i + 5)).collect();
        let bias: Vec<f32> = (0..n).map(|i| value(i + 3)).collect();
        let found = generated(&gemm, &a, &b, &bias);
        for row in 0..m {
            for column in 0..n {
                let sum: f32 = (0..k).map(|i| a[(row * k + i) as usize] * b[(i * n + column) as usize]).sum();
                let expected = (sum + bias[column as usize]).max(0.0);
                prop_assert_eq!(found[(row * n + column) as usize], expected, "row {} column {}", row, column);
            }
        }
    }
}

#[test]
fn a_target_s_tile_fits_its_registers_and_the_rows() {
    let host = Target::host().unwrap();
    for m in 1..300 {
        let Tile { rows, columns, .. } = Tile::for_target(&host, m);
        assert!(rows <= m && rows * columns / 4 + columns / 4 < i64::from(host.vector_registers()), "{m}");
    }
}
