//! Code for a feature level runs on every CPU of that level: it has no instruction beyond.

use crate::random::random_kernel;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind, Register};
use kiln_codegen::kir::*;
use kiln_codegen::native::{self, Target};
use kiln_ir::DType;
use proptest::prelude::*;

/// The instructions of a kernel; after the last, a return, come constants.
fn instructions(kernel: &Kernel, target: &Target) -> Vec<Instruction> {
    let compiled = native::compile_kernel(kernel, target).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let mut found = Vec::new();
    for instruction in Decoder::new(64, compiled.code(), DecoderOptions::NONE) {
        found.push(instruction);
        if instruction.mnemonic() == Mnemonic::Ret {
            return found;
        }
    }
    panic!("the code of a kernel returns")
}

/// What x86-64-v3 has, of what compiled kernels use.
fn in_v3(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(
        feature,
        INTEL8086
            | INTEL186
            | INTEL286
            | INTEL386
            | X64
            | CMOV
            | FPU
            | SSE
            | SSE2
            | SSE3
            | SSSE3
            | SSE4_1
            | SSE4_2
            | POPCNT
            | AVX
            | AVX2
            | FMA
            | F16C
            | BMI1
            | BMI2
            | LZCNT
            | MOVBE
            | PREFETCHW
            | MULTIBYTENOP
    )
}

/// The registers of an instruction's operands, those of addresses among them.
fn registers(instruction: &Instruction) -> impl Iterator<Item = Register> + '_ {
    let operands = (0..instruction.op_count()).map(|i| match instruction.op_kind(i) {
        OpKind::Register => instruction.op_register(i),
        _ => Register::None,
    });
    operands.chain([instruction.memory_base(), instruction.memory_index(), instruction.op_mask()])
}

/// Why an instruction is none of x86-64-v3, if it is none.
fn beyond_v3(instruction: &Instruction) -> Option<String> {
    let foreign = instruction.cpuid_features().iter().find(|&&feature| !in_v3(feature));
    let wide =
        registers(instruction).find(|reg| reg.is_zmm() || reg.is_k() || reg.is_vector_register() && reg.number() > 15);
    let why = match (instruction.encoding(), foreign, wide) {
        (EncodingKind::Legacy | EncodingKind::VEX, None, None) => return None,
        (encoding, foreign, wide) => format!("{encoding:?}, {foreign:?}, {wide:?}"),
    };
    Some(format!("{:?}: {why}", instruction.code()))
}

fn v3() -> Target {
    Target::named("x86-64-v3").expect("a level that is known")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn code_for_x86_64_v3_needs_nothing_beyond_it(words in prop::collection::vec(any::<u32>(), 0..400)) {
        let kernel = random_kernel(words);
        let beyond: Vec<String> = instructions(&kernel, &v3()).iter().filter_map(beyond_v3).collect();
        prop_assert!(beyond.is_empty(), "{beyond:#?}\n{kernel}");
    }
}

/// Sums products of 16 columns and 6 rows in registers.
fn tile() -> Kernel {
    let (rows, depth) = (6i64, 64i64);
    let mut b = KernelBuilder::new("tile");
    let x = b.input("x", DType::F32, rows * depth);
    let w = b.input("w", DType::F32, depth * 16);
    let y = b.output("y", DType::F32, rows * 16);
    let zero = b.constant(VType::new(DType::F32, 16), 0.0);
    let sums = b.loop_of(LoopKind::Serial, depth, &vec![zero; rows as usize], |b, k, sums| {
        let columns = b.load(w, k * 16, 16);
        let row = |(row, &sum): (usize, &Value)| {
            let element = b.load_splat(x, k + row as i64 * depth, 16);
            b.fma(element, columns, sum)
        };
        sums.iter().enumerate().map(row).collect()
    });
    for (row, &sum) in (0i64..).zip(&sums) {
        b.store(y, row * 16, sum);
    }
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_tile_of_6_rows_and_16_columns_stays_in_the_registers_of_x86_64_v3() {
    let all = instructions(&tile(), &v3());
    let fma: Vec<&Instruction> = all.iter().filter(|i| i.mnemonic() == Mnemonic::Vfmadd231ps).collect();
    assert_eq!(fma.len(), 12, "one for each row and register of columns");
    assert!(fma.iter().all(|i| i.op0_register().is_ymm()), "256 bits each");
    // spilled registers lie in the frame
    let spills: Vec<&Instruction> = all.iter().filter(|i| i.memory_base() == Register::RSP).collect();
    assert!(spills.is_empty(), "{spills:?}");
    let broadcasts = all.iter().filter(|i| i.mnemonic() == Mnemonic::Vpbroadcastd).count();
    assert_eq!(broadcasts, 6, "one load of each row's element");
    assert_eq!(all.iter().filter_map(beyond_v3).collect::<Vec<_>>(), Vec::<String>::new());
    let v4 = instructions(&tile(), &Target::named("x86-64-v4").expect("a level that is known"));
    assert!(v4.iter().any(|i| beyond_v3(i).is_some()), "what is looked for is found where it is");
}

#[test]
fn a_constant_that_is_added_is_an_operand_of_the_multiply_add() {
    let mut b = KernelBuilder::new("polynomial");
    let (x, y) = (b.input("x", DType::F32, 16), b.output("y", DType::F32, 16));
    let value = b.load(x, 0, 16);
    let mut sum = value;
    for coefficient in [2.0, 3.0, 4.0] {
        let coefficient = b.constant(VType::new(DType::F32, 16), coefficient);
        sum = b.fma(sum, value, coefficient);
    }
    b.store(y, 0, sum);
    let kernel = b.finish().unwrap_or_else(|e| panic!("{e}"));
    for (level, registers) in [("x86-64-v3", 2), ("x86-64-v4", 1)] {
        let all = instructions(&kernel, &Target::named(level).expect("a level that is known"));
        let named = |mnemonic| all.iter().filter(|i| i.mnemonic() == mnemonic).count();
        assert_eq!(named(Mnemonic::Vfmadd213ps), 3 * registers, "{level}");
        // x comes, a copy of it becomes the sum, y goes
        assert_eq!(named(Mnemonic::Vmovups), 3 * registers, "{level}");
        assert_eq!(named(Mnemonic::Vbroadcastss), 0, "{level}");
    }
}
