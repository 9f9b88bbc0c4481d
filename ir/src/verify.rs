//! The verifier. What holds for every graph, at every stage:
//!
//! | | invariant |
//! |---|---|
//! | V1 | the level of every op is at most the stage's: L0, then L1, then L2 (only passes make L2 ops) |
//! | V2 | the operands of a node are results of nodes before it |
//! | V3 | the types of a node's results are those that inference gives for its operands: each constraint of the op holds |
//! | V4 | the inputs are the placeholders, each once, in node order; their names are unique |
//! | V5 | the outputs are values of the graph; their names are unique |
//! | V6 | the effects are the nodes with effects, each once, in node order |
//! | V7 | variables have unique names, fixed dims, and an initialiser that fits their type |
//! | V8 | `read_var` and `assign` name a variable of the graph, of their type; a variable is assigned at most once |
//! | V9 | the use edges of the graph are the operands of its nodes |
//!
//! [`Graph`] upholds V2 to V9 while it grows, so that a graph that breaks one of them shows a bug of Kiln's; V1 depends
//! on what made the graph. The constraints behind V3 are numbered per op (C1, C2 …) in `docs/ops.md`.

use std::collections::HashSet;

use crate::graph::{Graph, GraphError, Location, NodeId, Use};
use crate::infer::infer;
use crate::ops::{Level, Op};
use crate::text::Names;
use crate::types::TensorType;

/// Which ops a graph may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// L0: primitives only.
    Primitive,
    /// L0 and L1: what users and importers build.
    Composite,
    /// All: what passes hand to code generation.
    Lowered,
}

impl Stage {
    /// The highest level that the stage admits.
    pub const fn level(self) -> Level {
        match self {
            Stage::Primitive => Level::L0,
            Stage::Composite => Level::L1,
            Stage::Lowered => Level::L2,
        }
    }
}

/// A broken invariant: its label, the node, and what is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}{label}{}: {problem}", location.as_ref().map(|l| format!("{l}: ")).unwrap_or_default(), node.as_ref().map(|n| format!(" at {n}")).unwrap_or_default())]
pub struct VerifyError {
    /// The invariant, `V1` ….
    pub label: &'static str,
    /// The node's name and op as the text format writes them, where the problem is at a node.
    pub node: Option<String>,
    /// Where the node comes from.
    pub location: Option<Location>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// V1.
    #[error("an op of level {found} where ops up to {allowed} are allowed")]
    Level {
        /// The op's level.
        found: Level,
        /// The highest level of the stage.
        allowed: Level,
    },
    /// V2, V5: no value, or one that comes later.
    #[error("{what} is not a value defined before")]
    Value {
        /// The operand or output.
        what: String,
    },
    /// V3: inference fails, or a variable does not fit (V7, V8).
    #[error("{0}")]
    Graph(Box<GraphError>),
    /// V3: inference gives other types.
    #[error("the types are {found}, inference gives {expected}")]
    Types {
        /// The types that inference gives.
        expected: String,
        /// The node's types.
        found: String,
    },
    /// V4, V5, V7: a name that something else of its kind has.
    #[error("two {what} are named `{name}`")]
    Duplicate {
        /// `inputs`, `outputs` or `variables`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// V4, V6: a list of the graph is not what its nodes say.
    #[error("the {what} are nodes {found:?}, expected {expected:?}")]
    List {
        /// `inputs` or `effects`.
        what: &'static str,
        /// By the nodes.
        expected: Vec<u32>,
        /// In the list.
        found: Vec<u32>,
    },
    /// V7: a variable whose initialiser does not fit.
    #[error("variable `{name}` of type {ty} cannot start as {init}")]
    Initializer {
        /// The variable.
        name: String,
        /// Its type.
        ty: String,
        /// Its initialiser.
        init: String,
    },
    /// V8: no such variable, or another type.
    #[error("variable `{name}` is {found}, used as {expected}")]
    Variable {
        /// The variable.
        name: String,
        /// The type in use.
        expected: String,
        /// What the graph has.
        found: String,
    },
    /// V8: assigned twice.
    #[error("variable `{name}` is assigned a second time")]
    AssignedTwice {
        /// The variable.
        name: String,
    },
    /// V9.
    #[error("the use edges are not the node's operands")]
    Edges,
}

/// Checks every invariant of `graph`; all that are broken are reported, in node order.
pub fn verify(graph: &Graph, stage: Stage) -> Result<(), Vec<VerifyError>> {
    let mut v = Verifier { graph, names: Names::new(graph), errors: Vec::new() };
    let mut assigned = HashSet::new();
    for id in graph.node_ids() {
        v.level(id, stage);
        if v.operands(id) {
            v.types(id);
            v.state(id, &mut assigned);
        }
    }
    v.lists();
    v.outputs();
    v.variables();
    if v.errors.is_empty() { Ok(()) } else { Err(v.errors) }
}

struct Verifier<'a> {
    graph: &'a Graph,
    names: Names,
    errors: Vec<VerifyError>,
}

impl Verifier<'_> {
    fn report(&mut self, label: &'static str, problem: Problem) {
        self.errors.push(VerifyError { label, node: None, location: None, problem });
    }

    fn report_at(&mut self, label: &'static str, id: NodeId, problem: Problem) {
        let node = self.graph.node(id);
        let shown = format!("{} = {}", self.names.node(self.graph, id), node.op.mnemonic());
        self.errors.push(VerifyError { label, node: Some(shown), location: node.location.clone(), problem });
    }

    fn level(&mut self, id: NodeId, stage: Stage) {
        let (found, allowed) = (self.graph.node(id).op.level(), stage.level());
        if found > allowed {
            self.report_at("V1", id, Problem::Level { found, allowed });
        }
    }

    /// V2 and V9; whether the operands are there.
    fn operands(&mut self, id: NodeId) -> bool {
        let graph = self.graph;
        let node = graph.node(id);
        let mut ok = true;
        for (i, v) in node.operands.iter().enumerate() {
            if v.node >= id || !graph.contains(*v) {
                self.report_at("V2", id, Problem::Value { what: format!("operand {i}") });
                ok = false;
            }
        }
        let mut edges = graph.operand_edges(id);
        edges.sort_by_key(|(_, u)| u.operand);
        let expected = node.operands.iter().enumerate();
        let expected = expected.map(|(i, v)| (v.node, Use { result: v.result, operand: i as u32 }));
        if ok && !edges.into_iter().eq(expected) {
            self.report_at("V9", id, Problem::Edges);
        }
        ok
    }

    fn types(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        match infer(&node.op, &self.operand_types(id)) {
            Err(error) => {
                let error = GraphError::Infer { error: Box::new(error), location: None };
                self.report_at("V3", id, Problem::Graph(Box::new(error)));
            }
            Ok(types) if types[..] != node.types[..] => {
                let (expected, found) = (show(&types), show(&node.types));
                self.report_at("V3", id, Problem::Types { expected, found });
            }
            Ok(_) => {}
        }
    }

    fn operand_types(&self, id: NodeId) -> Vec<TensorType> {
        self.graph.node(id).operands.iter().map(|&v| self.graph.ty(v).clone()).collect()
    }

    /// V8.
    fn state(&mut self, id: NodeId, assigned: &mut HashSet<String>) {
        let node = self.graph.node(id);
        let (name, ty) = match &node.op {
            Op::ReadVar { variable, .. } => (variable, node.types.first().cloned()),
            Op::Assign { variable } => (variable, self.operand_types(id).into_iter().next()),
            _ => return,
        };
        let have = self.graph.variable(name).map(|v| v.ty.clone());
        if have != ty {
            let found = have.map_or("not declared".to_owned(), |t| t.to_string());
            let expected = ty.map(|t| t.to_string()).unwrap_or_default();
            self.report_at("V8", id, Problem::Variable { name: name.clone(), expected, found });
        }
        if matches!(node.op, Op::Assign { .. }) && !assigned.insert(name.clone()) {
            self.report_at("V8", id, Problem::AssignedTwice { name: name.clone() });
        }
    }

    /// V4 and V6.
    fn lists(&mut self) {
        let graph = self.graph;
        let these = |keep: &dyn Fn(&Op) -> bool| -> Vec<u32> {
            graph.node_ids().filter(|&id| keep(&graph.node(id).op)).map(|id| id.0).collect()
        };
        let inputs = these(&|op| matches!(op, Op::Placeholder { .. }));
        let effects = these(&Op::has_effect);
        for (label, what, expected, list) in
            [("V4", "inputs", inputs, graph.inputs()), ("V6", "effects", effects, graph.effects())]
        {
            let found: Vec<u32> = list.iter().map(|id| id.0).collect();
            if found != expected {
                self.report(label, Problem::List { what, expected, found });
            }
        }
        self.unique("V4", "inputs", graph.input_types().map(|(n, _)| n));
    }

    fn outputs(&mut self) {
        for (name, v) in self.graph.outputs() {
            if !self.graph.contains(*v) {
                self.report("V5", Problem::Value { what: format!("output `{name}`") });
            }
        }
        self.unique("V5", "outputs", self.graph.outputs().iter().map(|(n, _)| n.as_str()));
    }

    fn variables(&mut self) {
        for v in self.graph.variables() {
            if v.ty.static_dims().is_none() || !v.init.fits(&v.ty) {
                let (name, ty, init) = (v.name.clone(), v.ty.to_string(), v.init.to_string());
                self.report("V7", Problem::Initializer { name, ty, init });
            }
        }
        self.unique("V7", "variables", self.graph.variables().iter().map(|v| v.name.as_str()));
    }

    fn unique<'n>(&mut self, label: &'static str, what: &'static str, names: impl Iterator<Item = &'n str>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name) {
                self.report(label, Problem::Duplicate { what, name: name.to_owned() });
            }
        }
    }
}

fn show(types: &[TensorType]) -> String {
    format!("({})", types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Value, Variable};
    use crate::initializer::Initializer;
    use crate::text::parse;
    use crate::{DType, Dim};

    const TEXT: &str = "kiln 1\ngraph @g(%x: f32[2], %y: f32[2]) -> (a = %a: f32[2], b = %b) {\n  variable \"v\": f32[2] = fill(0)\n  \
                        variable \"w\": f32[2] = fill(0)\n  %v = read_var {variable = \"v\"} : f32[2]\n  %a = add %x, %v\n  %b = relu %a\n  \
                        assign %a {variable = \"v\"}\n  assign %b {variable = \"w\"}\n}";

    fn good() -> Graph {
        parse(TEXT, "t").unwrap_or_else(|e| panic!("{e}"))
    }

    /// The errors of the graph after `damage`.
    fn after(damage: impl FnOnce(&mut Graph)) -> Vec<String> {
        let mut g = good();
        damage(&mut g);
        verify(&g, Stage::Lowered)
            .map_or_else(|errors| errors.iter().map(ToString::to_string).collect(), |()| Vec::new())
    }

    #[test]
    fn a_graph_built_by_its_own_methods_is_valid() {
        assert_eq!(after(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn ops_above_the_stage_are_refused_by_name_and_place() {
        let errors = verify(&good(), Stage::Primitive).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "t:7:3: V1 at %b = relu: an op of level L1 where ops up to L0 are allowed");
        assert_eq!(verify(&good(), Stage::Composite), Ok(()));
    }

    #[test]
    fn operands_that_come_later_break_v2() {
        let errors = after(|g| g.node_mut(NodeId(3)).operands[0] = Value { node: NodeId(4), result: 0 });
        assert_eq!(errors, ["t:6:3: V2 at %a = add: operand 0 is not a value defined before"]);
        let errors = after(|g| g.node_mut(NodeId(3)).operands[1].result = 7);
        assert_eq!(errors, ["t:6:3: V2 at %a = add: operand 1 is not a value defined before"]);
    }

    #[test]
    fn types_that_inference_does_not_give_break_v3() {
        let errors = after(|g| g.node_mut(NodeId(4)).types[0].dims = vec![Dim::Fixed(3)]);
        // Both the node and what uses it are wrong.
        assert!(errors[0].contains("V3 at %b = relu: the types are (f32[3]), inference gives (f32[2])"), "{errors:?}");
        let errors = after(|g| g.node_mut(NodeId(4)).op = Op::Softmax { axis: 1 });
        assert!(errors[0].contains("V3 at %b = softmax") && errors[0].contains("C1: axis < rank"), "{errors:?}");
    }

    #[test]
    fn lists_that_disagree_with_the_nodes_break_v4_and_v6() {
        assert_eq!(after(|g| g.parts_mut().inputs.reverse()), ["V4: the inputs are nodes [1, 0], expected [0, 1]"]);
        assert_eq!(after(|g| g.parts_mut().effects.truncate(1)), ["V6: the effects are nodes [5], expected [5, 6]"]);
        let renamed = after(|g| {
            let Op::Placeholder { name, .. } = &mut g.node_mut(NodeId(1)).op else { unreachable!() };
            *name = "x".into();
        });
        assert_eq!(renamed, ["V4: two inputs are named `x`"]);
    }

    #[test]
    fn outputs_that_are_no_values_break_v5() {
        let errors = after(|g| g.parts_mut().outputs[0] = ("b".into(), Value { node: NodeId(99), result: 0 }));
        assert_eq!(errors, ["V5: output `b` is not a value defined before", "V5: two outputs are named `b`"]);
    }

    #[test]
    fn variables_that_do_not_fit_break_v7_and_v8() {
        let errors = after(|g| g.parts_mut().variables[0].ty.dtype = DType::I32);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("V8 at %v = read_var: variable `v` is i32[2], used as f32[2]"));
        let errors =
            after(|g| g.parts_mut().variables[0].init = Initializer::Value(crate::Tensor::scalar(1f32).into()));
        assert!(errors[0].starts_with("V7: variable `v` of type f32[2] cannot start as value(@"), "{errors:?}");
        let errors = after(|g| {
            let again: Variable = g.variables()[0].clone();
            g.parts_mut().variables.push(again);
        });
        assert_eq!(errors, ["V7: two variables are named `v`"]);
        let errors = after(|g| g.node_mut(NodeId(6)).op = Op::Assign { variable: "v".into() });
        assert_eq!(errors, ["t:9:3: V8 at %1 = assign: variable `v` is assigned a second time"]);
    }

    #[test]
    fn edges_that_are_not_the_operands_break_v9() {
        let errors = after(|g| g.node_mut(NodeId(3)).operands.swap(0, 1));
        assert_eq!(errors, ["t:6:3: V9 at %a = add: the use edges are not the node's operands"]);
    }
}
