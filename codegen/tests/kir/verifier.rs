//! Each invariant of the verifier, broken on purpose.

use kiln_codegen::kir::verify::Rule;
use kiln_codegen::kir::*;

const F32X8: VType = VType::new(DType::F32, 8);

/// A kernel that reads and writes 64 elements, built further by `build`.
fn kernel(build: impl FnOnce(&mut KernelBuilder, Buffer, Buffer, Var)) -> Kernel {
    let mut b = KernelBuilder::new("broken");
    let x = b.input("x", DType::F32, 64);
    let y = b.output("y", DType::F32, 64);
    let i = b.parallel(8);
    build(&mut b, x, y, i);
    b.finish_unverified()
}

/// The verifier finds exactly these violations, and says this of the first.
#[track_caller]
fn refuses(kernel: &Kernel, rules: &[Rule], message: &str) {
    let errors = verify(kernel).expect_err("the kernel is broken");
    let found: Vec<Rule> = errors.errors.iter().map(|e| e.rule).collect();
    assert_eq!(found, rules, "{errors}");
    assert_eq!(errors.errors[0].to_string(), message);
    assert!(errors.to_string().starts_with("kernel `broken` is malformed"));
}

#[test]
fn a_well_formed_kernel_passes() {
    let k = kernel(|b, x, y, i| {
        let v = b.load(x, i * 8, 8);
        b.store(y, i * 8, v);
    });
    verify(&k).unwrap();
}

#[test]
fn k1_a_buffer_has_a_length() {
    let mut k = kernel(|_, _, _, _| {});
    k.buffers[0].len = -1;
    refuses(
        &k,
        &[Rule::K1],
        "K1 at the kernel: buffer `x` has -1 elements of f32: not between 0 and what memory can hold",
    );
}

#[test]
fn k2_a_variable_is_used_inside_its_loop() {
    let mut escaped = None;
    let k = kernel(|b, x, _, _| {
        b.for_each(2, |_, j| escaped = Some(j));
        b.load(x, escaped.unwrap() * 8, 8);
    });
    refuses(&k, &[Rule::K2], "K2 at %0: variable i1 is used outside its loop");
}

#[test]
fn k2_a_variable_belongs_to_one_loop() {
    let mut k = kernel(|b, _, _, _| b.for_each(2, |_, _| {}));
    let Statement::For(inner) = &mut k.body.statements[0] else { panic!("a loop was built") };
    inner.var = Var(0);
    refuses(&k, &[Rule::K2, Rule::K2], "K2 at loop i0: variable i0 belongs to two loops");
}

#[test]
fn k2_extents_are_not_negative() {
    let mut k = kernel(|b, _, _, _| b.for_each(2, |_, _| {}));
    k.vars[1] = -3;
    refuses(&k, &[Rule::K2], "K2 at loop i1: variable i1 has the negative extent -3");
}

#[test]
fn k3_a_value_is_used_where_it_is_defined() {
    let mut escaped = None;
    let k = kernel(|b, x, y, _| {
        b.for_each(2, |b, j| escaped = Some(b.load(x, j * 8, 8)));
        b.store(y, 0, escaped.unwrap());
    });
    refuses(&k, &[Rule::K3], "K3 at store of %0: value %0 is used where it is not defined");
}

#[test]
fn k3_a_branch_does_not_see_the_other() {
    let mut inside = None;
    let k = kernel(|b, x, y, i| {
        let condition = Condition::NonNegative(vec![i - 1]);
        b.if_else(
            condition,
            |b| {
                inside = Some(b.load(x, 0, 8));
                Vec::new()
            },
            |_| Vec::new(),
        );
        b.if_else(
            Condition::NonNegative(vec![i - 1]),
            |_| Vec::new(),
            |b| {
                b.store(y, 0, inside.unwrap());
                Vec::new()
            },
        );
    });
    refuses(&k, &[Rule::K3], "K3 at store of %0: value %0 is used where it is not defined");
}

#[test]
fn k3_a_value_is_defined_once() {
    let mut k = kernel(|b, _, _, _| {
        b.constant(F32X8, 0.0);
    });
    let again = k.body.statements[0].clone();
    k.body.statements.push(again);
    refuses(&k, &[Rule::K3], "K3 at %0: value %0 is defined twice");
}

#[test]
fn k4_values_have_1_to_64_lanes() {
    let k = kernel(|b, _, _, _| {
        b.constant(VType::new(DType::F32, 65), 0.0);
    });
    refuses(&k, &[Rule::K4], "K4 at %0: value %0 has 65 lanes, not 1 to 64");
}

#[test]
fn k5_operands_have_the_result_s_type() {
    let k = kernel(|b, x, _, i| {
        let (wide, narrow) = (b.load(x, i * 8, 8), b.load(x, i * 8, 4));
        b.add(wide, narrow);
    });
    refuses(&k, &[Rule::K5], "K5 at %2: operand %1 is f32x4, expected f32x8");
}

#[test]
fn k5_half_precision_is_for_storage() {
    let k = kernel(|b, x, _, i| {
        let v = b.load(x, i * 8, 8);
        let half = b.convert(v, DType::F16);
        b.add(half, half);
    });
    refuses(&k, &[Rule::K5], "K5 at %2: Add does not work on f16: convert to f32 first");
}

#[test]
fn k5_operations_have_their_dtypes() {
    let k = kernel(|b, x, _, i| {
        let v = b.load(x, i * 8, 8);
        b.and(v, v);
        b.not(v);
    });
    refuses(&k, &[Rule::K5, Rule::K5], "K5 at %1: And does not work on f32");
}

#[test]
fn k5_lanes_exist() {
    let k = kernel(|b, x, _, i| {
        let v = b.load(x, i * 8, 8);
        b.extract(v, 8);
    });
    refuses(&k, &[Rule::K5], "K5 at %1: lane 8 of f32x8 does not exist");
}

#[test]
fn k6_a_loop_yields_what_it_carries() {
    let k = kernel(|b, _, _, _| {
        let zero = b.constant(F32X8, 0.0);
        b.for_loop(2, &[zero], |_, _, _| Vec::new());
    });
    refuses(&k, &[Rule::K6], "K6 at loop i1: it yields (), expected (f32x8)");
}

#[test]
fn k6_branches_yield_values_of_equal_types() {
    let k = kernel(|b, x, _, i| {
        b.if_else(Condition::NonNegative(vec![i - 1]), |b| vec![b.load(x, 0, 8)], |b| vec![b.load(x, 0, 4)]);
    });
    refuses(&k, &[Rule::K6], "K6 at conditional, second branch: it yields (f32x4), expected (f32x8)");
}

#[test]
fn k7_buffers_are_used_as_declared() {
    let k = kernel(|b, x, y, i| {
        let v = b.load(x, i * 8, 8);
        b.store(x, i * 8, v);
        b.load(y, i * 8, 8);
        let integer = b.convert(v, DType::I32);
        b.store(y, i * 8, integer);
    });
    refuses(&k, &[Rule::K7, Rule::K7, Rule::K7], "K7 at store of %0: the buffer `x` must not be stored to");
}

#[test]
fn k7_only_bytes_are_read_as_words() {
    let bytes = |dtype: DType, len: i64, stride: i64| {
        let mut b = KernelBuilder::new("broken");
        let x = b.input("x", dtype, len);
        let y = b.output("y", DType::I32, 8);
        let v = b.load_words(x, 0, stride, 8);
        b.store(y, 0, v);
        b.finish_unverified()
    };
    verify(&bytes(DType::U8, 32, 4)).unwrap();
    verify(&bytes(DType::I8, 4, 0)).unwrap();
    refuses(&bytes(DType::Bool, 32, 4), &[Rule::K7], "K7 at %0: the buffer `x` holds bool, the value is i32");
    refuses(&bytes(DType::F16, 32, 4), &[Rule::K7], "K7 at %0: the buffer `x` holds f16, the value is i32");
    // the last lane has four bytes too
    let message = "K8 at %0: it touches elements 0..=31 of the buffer `x`, which has 31";
    refuses(&bytes(DType::U8, 31, 4), &[Rule::K8], message);
}

#[test]
fn k5_bytes_are_multiplied_in_words() {
    let k = kernel(|b, x, _, _| {
        let v = b.load(x, 0, 8);
        b.dot_bytes(v, v, v);
    });
    refuses(&k, &[Rule::K5], "K5 at %1: DotBytes does not work on f32");
}

#[test]
fn k7_a_store_has_a_stride() {
    let k = kernel(|b, x, y, i| {
        let v = b.load(x, i * 8, 8);
        b.store_strided(y, i * 8, 0, v);
    });
    refuses(&k, &[Rule::K7], "K7 at store of %0: a store's stride is 0");
}

#[test]
fn k8_accesses_stay_inside_their_buffers() {
    let k = kernel(|b, x, y, i| {
        let v = b.load(x, i * 8 + 1, 8);
        b.store_strided(y, i * 8, -1, v);
    });
    refuses(&k, &[Rule::K8, Rule::K8], "K8 at %0: it touches elements 1..=64 of the buffer `x`, which has 64");
}

#[test]
fn k8_knows_guards_and_run_time_ranges() {
    let padded = |guard: i64, extent: i64| {
        kernel(|b, x, _, i| {
            let row = b.index_value(i);
            b.when_non_negative(vec![i - 1, Index::constant(guard) - i], |b| {
                b.load(x, (i - 1) * 10, 10);
            });
            b.load(x, Index::dynamic(row, extent) * 8, 8);
        })
    };
    verify(&padded(6, 8)).unwrap();
    refuses(
        &padded(7, 9),
        &[Rule::K8, Rule::K8],
        "K8 at %1: it touches elements 0..=69 of the buffer `x`, which has 64",
    );
}

#[test]
fn k8_ignores_what_is_never_reached() {
    let k = kernel(|b, x, _, i| {
        b.for_each(0, |b, j| {
            b.load(x, j * 8 + 1000, 8);
        });
        b.when_non_negative(vec![i - 8], |b| {
            b.load(x, 1000, 8);
        });
    });
    verify(&k).unwrap();
}

#[test]
fn k9_conditions_are_affine_or_bool() {
    let k = kernel(|b, _, _, i| {
        let number = b.index_value(i);
        b.when(number, |_| {});
        b.when_non_negative(vec![Index::dynamic(number, 8)], |_| {});
    });
    refuses(&k, &[Rule::K9, Rule::K9], "K9 at conditional: %0 is no bool scalar");
}
