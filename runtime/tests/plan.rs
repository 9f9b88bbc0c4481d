//! The plan verifier: one negative test per rule, on a plan that is otherwise valid.

mod common;

use kiln_ir::DType::{self, F32};
use kiln_runtime::*;

/// Breaks the valid plan with `change` and returns what the verifier says.
fn breaking(change: impl FnOnce(&mut Plan)) -> Vec<PlanProblem> {
    let (mut plan, _) = common::plan();
    assert_eq!(plan.validate(), Ok(()));
    change(&mut plan);
    plan.validate().expect_err("the change breaks a rule").problems
}

fn arguments(plan: &mut Plan, step: usize) -> &mut Vec<Argument> {
    match &mut plan.steps[step].work {
        Work::Kernel { arguments, .. } => arguments,
        _ => panic!("step {step} is no kernel"),
    }
}

#[test]
fn each_broken_rule_is_named() {
    let cases: Vec<(&str, Vec<PlanProblem>)> = vec![
        ("two are called `y`", breaking(|p| p.signature.outputs[1].name = "y".to_owned())),
        ("more bytes than this machine", breaking(|p| p.signature.inputs[0].dims = vec![usize::MAX, 2])),
        ("buffer 0 is input 3", breaking(|p| p.buffers[0] = Buffer::Input(3))),
        ("of the arena, which has 64", breaking(|p| p.arena_bytes = 64)),
        ("of the weights, which has 64", breaking(|p| p.weight_bytes = 64)),
        ("expected a multiple of 64", breaking(|p| p.states[0].initial = 8)),
        ("buffer 99 of 6 does not exist", breaking(|p| arguments(p, 0)[0].buffer = 99)),
        ("bytes 4..4004 of buffer 0, which has 4000", breaking(|p| arguments(p, 0)[0].offset = 4)),
        ("offset 2 is not a multiple", breaking(|p| arguments(p, 0)[0].offset = 2)),
        ("writes to an input", breaking(|p| arguments(p, 0)[0].access = Access::Write)),
        ("writes to a weight", breaking(|p| arguments(p, 0)[1].access = Access::ReadWrite)),
        ("wider than those of the input", breaking(|p| arguments(p, 0)[0].dtype = DType::F64)),
        ("kernel 1 of 1 does not exist", breaking(|p| p.kernel_count = 1)),
        ("arguments 0 and 1 overlap", {
            breaking(|p| {
                arguments(p, 1)[0] = Argument::read(1, F32, 0, 8);
                arguments(p, 1)[1] = Argument::write(1, F32, 4, 8);
            })
        }),
        ("reads byte 0 of the arena, which no step has written", breaking(|p| drop(p.steps.remove(0)))),
        ("output 1 `copy` is written by no step", breaking(|p| drop(p.steps.pop()))),
        ("byte 3996 of output 0", breaking(|p| arguments(p, 1)[1].len -= 4)),
        ("buffer 6 has overwritten it", {
            breaking(|p| {
                p.buffers.push(Buffer::Arena { offset: 0, len: 64 });
                let to = Argument::write(6, F32, 0, 4);
                let step = Step {
                    label: "stray".to_owned(),
                    work: Work::Fill { to, element: 0 },
                    flops: 0,
                    bytes: 0,
                    scratch_bytes: 0,
                    note: String::new(),
                };
                p.steps.insert(1, step);
            })
        }),
        ("copies 4000 bytes to a place of 3996", {
            breaking(|p| {
                if let Work::Copy { to, .. } = &mut p.steps[3].work {
                    to.len -= 4;
                }
            })
        }),
        ("grain is 0", {
            breaking(|p| {
                if let Work::Kernel { split, .. } = &mut p.steps[0].work {
                    *split = Split::Parallel { grain: 0 };
                }
            })
        }),
    ];
    for (part, problems) in cases {
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|t| t.contains(part)), "expected `{part}` in {texts:#?}");
    }
}

#[test]
fn a_strided_write_beside_a_read_of_the_same_buffer_is_no_hazard() {
    let (mut plan, _) = common::plan();
    arguments(&mut plan, 1)[0] = Argument::read(4, F32, 0, 16).with_gaps();
    arguments(&mut plan, 1).push(Argument::write(4, F32, 8, 16).with_gaps());
    assert_eq!(plan.validate(), Ok(()));
}

#[test]
fn the_report_of_a_hopeless_plan_is_bounded() {
    let problems = breaking(|p| {
        let step = p.steps[0].clone();
        p.steps = vec![step; 10_000];
        p.kernel_count = 0;
    });
    assert_eq!(problems.len(), PlanError::MOST);
}

#[test]
fn a_plan_survives_serialisation() {
    let (plan, _) = common::plan();
    let bytes = postcard::to_stdvec(&plan).unwrap();
    assert_eq!(postcard::from_bytes::<Plan>(&bytes).unwrap(), plan);
}
