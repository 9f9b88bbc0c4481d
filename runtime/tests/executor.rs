//! The executor, on kernels written in Rust.

mod common;

use bytes::Bytes;
use common::{N, Placed, executable, input};
use kiln_ir::{DType, Tensor};
use kiln_runtime::*;

fn expected(x: &[f32]) -> Vec<f32> {
    x.iter().enumerate().map(|(i, &x)| (x + i as f32) * (x + i as f32)).collect()
}

#[test]
fn any_number_of_threads_and_any_alignment_give_the_same_bits() {
    let x = input();
    for threads in [1, 2, 3, 5] {
        let mut executor = Executor::new(executable(), PoolHandle::new(threads)).unwrap();
        for misalignment in [0, 4, 1, 3] {
            let fed = Placed::new(&x, misalignment);
            let (mut y, mut copy) = (Placed::new(&[0.0; N], misalignment), Placed::new(&[0.0; N], 0));
            executor.run(&[fed.get()], &mut [y.get_mut(), copy.get_mut()]).unwrap();
            assert_eq!(y.values(), expected(&x), "{threads} threads, misaligned by {misalignment}");
            assert_eq!(copy.values(), x);
        }
    }
}

#[test]
fn tensors_bind_by_name_and_results_carry_their_names() {
    let x = Tensor::from_slice(&[10, 100], &input()).unwrap();
    let mut executor = Executor::new(executable(), PoolHandle::new(2)).unwrap();
    let results = executor.run_named(&[("x", &x)]).unwrap();
    assert_eq!(results[0].0, "y");
    assert_eq!(results[0].1.to_vec::<f32>().unwrap(), expected(&input()));
    assert_eq!((results[1].0.as_str(), &results[1].1), ("copy", &x));
}

#[test]
fn every_wrong_feed_is_reported_at_once() {
    let mut executor = Executor::new(executable(), PoolHandle::new(1)).unwrap();
    let wrong = Tensor::zeros(DType::I64, &[3]).unwrap();
    let Err(RunError::Feed(error)) = executor.run_named(&[("z", &wrong), ("x", &wrong), ("x", &wrong)]) else {
        panic!("expected a feed error")
    };
    let text = error.to_string();
    assert_eq!(error.problems.len(), 4, "{text}");
    for part in ["no input `z`", "`x` is fed twice", "was fed i64 elements", "was fed a tensor of [3]"] {
        assert!(text.contains(part), "{text}");
    }
    let missing = executor.run_named(&[]).unwrap_err().to_string();
    assert!(missing.contains("input `x` f32[10, 100] is missing"), "{missing}");
}

#[test]
fn wrong_slices_are_reported_at_once_and_nothing_is_written() {
    let mut executor = Executor::new(executable(), PoolHandle::new(1)).unwrap();
    let mut short = [7u8; 12];
    let error = executor.run(&[&[0; 3], &[0; 3]], &mut [&mut short]).unwrap_err();
    assert_eq!(error.problems.len(), 4, "{error}");
    assert_eq!(short, [7; 12]);
}

#[test]
fn a_variable_keeps_its_value_between_runs_and_can_be_read_set_and_reset() {
    let x = Tensor::from_slice(&[10, 100], &[1.5f32; N]).unwrap();
    let mut executor = Executor::new(executable(), PoolHandle::new(2)).unwrap();
    for _ in 0..3 {
        executor.run_tensors(&[&x]).unwrap();
    }
    assert_eq!(executor.state("total").unwrap().to_vec::<f32>().unwrap(), vec![4.5; N]);
    executor.set_state("total", &Tensor::from_slice(&[N], &[10.0f32; N]).unwrap()).unwrap();
    executor.run_tensors(&[&x]).unwrap();
    assert_eq!(executor.state("total").unwrap().to_vec::<f32>().unwrap(), vec![11.5; N]);
    executor.reset_states();
    assert_eq!(executor.state("total").unwrap().to_vec::<f32>().unwrap(), vec![0.0; N]);
    assert!(executor.set_state("total", &x).unwrap_err().to_string().contains("f32[1000]"));
    assert!(executor.state("sum").unwrap_err().to_string().contains("those that the graph assigns are `total`"));
}

#[test]
fn an_executor_moves_to_another_thread_between_runs() {
    let x = Tensor::from_slice(&[10, 100], &[1.0f32; N]).unwrap();
    let mut executor = Executor::new(executable(), PoolHandle::new(2)).unwrap();
    executor.run_tensors(&[&x]).unwrap();
    let moved = std::thread::spawn(move || {
        executor.run_tensors(&[&x]).unwrap();
        executor.state("total").unwrap().to_vec::<f32>().unwrap()
    });
    assert_eq!(moved.join().unwrap(), [2.0; N]);
}

#[test]
fn two_executors_of_one_program_share_a_pool_but_no_state() {
    let (program, pool) = (executable(), PoolHandle::new(2));
    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let handles: Vec<_> = [1.0f32, 2.0]
            .map(|value| {
                let (program, pool) = (program.clone(), pool.clone());
                scope.spawn(move || {
                    let x = Tensor::from_slice(&[10, 100], &[value; N]).unwrap();
                    let mut executor = Executor::new(program, pool).unwrap();
                    for _ in 0..100 {
                        executor.run_tensors(&[&x]).unwrap();
                    }
                    executor.state("total").unwrap().to_vec::<f32>().unwrap()
                })
            })
            .into_iter()
            .collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert_eq!(results, [vec![100.0; N], vec![200.0; N]]);
}

#[test]
fn the_profile_has_a_row_for_every_step_and_counts_its_calls() {
    let x = Tensor::from_slice(&[10, 100], &input()).unwrap();
    let mut executor = Executor::new(executable(), PoolHandle::new(2)).unwrap();
    executor.run_tensors(&[&x]).unwrap();
    assert!(executor.profile().is_none());
    executor.enable_profile();
    for _ in 0..5 {
        executor.run_tensors(&[&x]).unwrap();
    }
    let profile = executor.take_profile().unwrap();
    let labels: Vec<_> = profile.rows.iter().map(|r| (r.label.as_str(), r.calls)).collect();
    assert_eq!(labels, [("add x w", 5), ("square", 5), ("accumulate", 5), ("copy", 5)]);
    assert!(profile.rows[0].gflops() > 0.0 && profile.total_nanoseconds() > 0);
}

#[test]
fn fills_and_truth_values_reach_kernels_as_declared() {
    let fill = |dtype: DType, count: usize, element: u64, output: usize| Step {
        label: "fill".to_owned(),
        work: Work::Fill { to: Argument::write(output, dtype, 0, dtype.size() * count), element },
        flops: 0,
        bytes: 0,
        scratch_bytes: 0,
        note: String::new(),
    };
    let outputs = [(DType::U8, 0xab), (DType::F16, 0xfc00), (DType::F32, 0x3f80_0000), (DType::I64, u64::MAX - 1)];
    let mut plan = Plan::default();
    for (index, (dtype, element)) in outputs.into_iter().enumerate() {
        plan.signature.outputs.push(TensorSpec::new(format!("o{index}"), dtype, [3]));
        plan.buffers.push(Buffer::Output(index));
        plan.steps.push(fill(dtype, 3, element, index));
    }
    plan.signature.inputs.push(TensorSpec::new("truth", DType::Bool, [4]));
    plan.signature.outputs.push(TensorSpec::new("truth", DType::Bool, [4]));
    plan.buffers.extend([Buffer::Input(0), Buffer::Output(4)]);
    let (from, to) = (Argument::read(4, DType::Bool, 0, 4), Argument::write(5, DType::Bool, 0, 4));
    plan.steps.push(Step {
        label: "copy".to_owned(),
        work: Work::Copy { from, to },
        flops: 0,
        bytes: 8,
        scratch_bytes: 0,
        note: String::new(),
    });
    let kernels = KernelTable::new(Vec::new(), std::sync::Arc::new(()));
    // SAFETY: there are no kernels.
    let program = unsafe { Executable::new(plan, kernels, Weights::default()) }.unwrap();
    let mut executor = Executor::new(program, PoolHandle::new(1)).unwrap();
    let truth = Tensor::from_bytes(DType::Bool, &[4], Bytes::from_static(&[0, 1, 2, 255])).unwrap();
    let results = executor.run_tensors(&[&truth]).unwrap();
    let bytes: Vec<&[u8]> = results.iter().map(|t| &t.bytes()[..]).collect();
    assert_eq!(bytes[0], [0xab; 3]);
    assert_eq!(bytes[1], [0, 0xfc, 0, 0xfc, 0, 0xfc]);
    assert_eq!(results[2].to_vec::<f32>().unwrap(), [1.0; 3]);
    assert_eq!(results[3].to_vec::<i64>().unwrap(), [-2; 3]);
    assert_eq!(bytes[4], [0, 1, 1, 1]);
}

#[test]
fn an_arena_that_no_machine_has_is_an_error_that_says_so() {
    let plan = Plan { arena_bytes: 1 << 62, ..Plan::default() };
    let kernels = KernelTable::new(Vec::new(), std::sync::Arc::new(()));
    // SAFETY: there are no kernels.
    let program = unsafe { Executable::new(plan, kernels, Weights::default()) }.unwrap();
    let error = Executor::new(program, PoolHandle::new(1)).unwrap_err().to_string();
    assert!(error.contains("4611686018427387904 bytes for the arena"), "{error}");
}

#[test]
fn a_program_does_not_accept_too_few_kernels_or_weights() {
    let (plan, weights) = common::plan();
    let few = KernelTable::new(vec![common::add], std::sync::Arc::new(()));
    // SAFETY: refused before anything runs.
    let error = unsafe { Executable::new(plan.clone(), few, weights) }.unwrap_err();
    assert_eq!(error, ExecutableError::Kernels { expected: 2, found: 1 });
    // SAFETY: as above.
    let error = unsafe { Executable::new(plan, common::kernels(), Weights::default()) }.unwrap_err();
    assert!(matches!(error, ExecutableError::Weights { start: 0, found: 0, .. }), "{error}");
}

#[test]
fn outputs_for_which_there_is_no_memory_are_all_named() {
    // 2^53 bytes: more than any address space has, and no overflow.
    let extent = 1usize << 53;
    let (y, z) = (TensorSpec::new("y", DType::U8, [extent]), TensorSpec::new("z", DType::F64, [4, extent / 32]));
    let fill = |buffer, dtype| Step {
        label: "fill".to_owned(),
        work: Work::Fill { to: Argument::write(buffer, dtype, 0, extent), element: 0 },
        flops: 0,
        bytes: 0,
        scratch_bytes: 0,
        note: String::new(),
    };
    let plan = Plan {
        signature: Signature { inputs: Vec::new(), outputs: vec![y, z], metadata: Default::default() },
        buffers: vec![Buffer::Output(0), Buffer::Output(1)],
        steps: vec![fill(0, DType::U8), fill(1, DType::F64)],
        ..Plan::default()
    };
    // SAFETY: there are no kernels.
    let executable =
        unsafe { Executable::new(plan, KernelTable::new(Vec::new(), std::sync::Arc::new(())), Weights::default()) }
            .expect("a valid plan");
    let mut executor = Executor::new(executable, PoolHandle::new(1)).unwrap();
    let error = executor.run_named(&[]).unwrap_err();
    let text = error.to_string();
    for output in ["output `y` u8[9007199254740992]", "output `z` f64[4, 281474976710656]"] {
        assert!(text.contains(&format!("cannot get {extent} bytes for {output}")), "{text}");
    }
    assert!(matches!(error, RunError::Feed(FeedError { problems }) if problems.len() == 2));
}
