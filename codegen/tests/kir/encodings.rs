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

    #[test]
    fn code_for_x86_64_v4_needs_nothing_beyond_it(words in prop::collection::vec(any::<u32>(), 0..400)) {
        let kernel = random_kernel(words);
        let v4 = Target::named("x86-64-v4").expect("a level that is known");
        let beyond: Vec<String> = instructions(&kernel, &v4).iter().filter_map(beyond_v4).collect();
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

/// Sums products of bytes of 32 columns and 4 rows in registers.
fn tile_of_bytes() -> Kernel {
    let (rows, depth, lanes) = (4i64, 64i64, 32i64);
    let mut b = KernelBuilder::new("tile_of_bytes");
    let x = b.input("x", DType::U8, rows * depth);
    let w = b.input("w", DType::I8, depth * lanes);
    let y = b.output("y", DType::I32, rows * lanes);
    let zero = b.constant_int(VType::new(DType::I32, lanes as u32), 0);
    let sums = b.loop_of(LoopKind::Serial, depth / 4, &vec![zero; rows as usize], |b, k, sums| {
        let columns = b.load_words(w, k * (4 * lanes), 4, lanes as u32);
        let row = |(row, &sum): (usize, &Value)| {
            let bytes = b.load_words(x, k * 4 + row as i64 * depth, 0, lanes as u32);
            b.dot_bytes(bytes, columns, sum)
        };
        sums.iter().enumerate().map(row).collect()
    });
    for (row, &sum) in (0i64..).zip(&sums) {
        b.store(y, row * lanes, sum);
    }
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn products_of_bytes_are_one_instruction_where_the_cpu_has_it() {
    let kernel = tile_of_bytes();
    let of = |level: &str| instructions(&kernel, &Target::named(level).expect("a level that is known"));
    let count = |all: &[Instruction], mnemonic| all.iter().filter(|i| i.mnemonic() == mnemonic).count();
    let vnni = of("x86-64-v4+vnni");
    let dots: Vec<&Instruction> = vnni.iter().filter(|i| i.mnemonic() == Mnemonic::Vpdpbusd).collect();
    assert_eq!(dots.len(), 8, "one for each row and register of columns");
    let loads = |mnemonic| vnni.iter().filter(move |i| i.mnemonic() == mnemonic && i.op1_kind() == OpKind::Memory);
    let unsigned: Vec<Register> = loads(Mnemonic::Vbroadcastss).map(|i| i.op0_register()).collect();
    for dot in dots {
        assert_eq!(dot.cpuid_features(), [CpuidFeature::AVX512_VNNI], "{dot}");
        assert!(dot.op0_register().is_zmm(), "{dot}");
        // rows, which are broadcast, are the unsigned operand
        assert!(unsigned.contains(&dot.op1_register()), "{dot}");
    }
    let others: Vec<String> =
        vnni.iter().filter(|i| i.mnemonic() != Mnemonic::Vpdpbusd).filter_map(beyond_v4).collect();
    assert!(others.is_empty(), "{others:?}");
    for (level, registers) in [("x86-64-v4", 2), ("x86-64-v3", 4)] {
        let all = of(level);
        assert_eq!(all.iter().filter_map(beyond_v4).collect::<Vec<_>>(), Vec::<String>::new(), "{level}");
        assert_eq!(count(&all, Mnemonic::Vpmaddwd), 2 * 4 * registers, "{level}: even and odd bytes");
        // each operand is extended once, for all products that it is in
        assert_eq!(count(&all, Mnemonic::Vpsraw), 2 * registers, "{level}");
        assert_eq!(count(&all, Mnemonic::Vpsrlw), 4, "{level}");
        assert_eq!(count(&all, Mnemonic::Vpmaddubsw), 0, "{level}: it saturates");
    }
}

/// What of an instruction is beyond x86-64-v4.
fn beyond_v4(instruction: &Instruction) -> Option<String> {
    use CpuidFeature::*;
    let in_v4 = |feature| in_v3(feature) || matches!(feature, AVX512F | AVX512BW | AVX512DQ | AVX512VL | AVX512CD);
    let foreign = instruction.cpuid_features().iter().find(|&&feature| !in_v4(feature));
    foreign.map(|foreign| format!("{:?}: {foreign:?}", instruction.code()))
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
