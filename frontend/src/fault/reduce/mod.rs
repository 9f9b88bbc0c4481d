//! Shrinking a graph that shows a fault to a small one that still shows it.
//!
//! Reductions take turns until none helps: fewer outputs and effects, fewer nodes (delta debugging: Zeller & Hildebrandt
//! 2002; what is cut off becomes inputs, or constants), nodes that their operands stand for, smaller extents,
//! simpler constants. Each candidate is verified and must be smaller by a fixed measure before anybody asks whether it still shows the fault; so the
//! search ends, and every step of it is a valid graph. Equal candidates are asked about once.

mod constants;
mod delta;
mod extents;
mod fault;
mod rebuild;

use std::collections::HashSet;

use kiln_ir::text::{PrintOptions, print};
use kiln_ir::{Graph, Op, Stage, verify};

pub use constants::corner;
pub use fault::{Command, CommandError, Fault, class_of, fitting};

use rebuild::{Boundary, Rebuild};

/// How a reduction is coming along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Nodes of the graph so far that compute something.
    pub nodes: usize,
    /// Graphs that were asked about.
    pub tried: usize,
    /// Those that showed the fault.
    pub kept: usize,
}

/// A reduced graph.
#[derive(Clone, Debug)]
pub struct Reduction {
    /// The graph.
    pub graph: Graph,
    /// What it took.
    pub progress: Progress,
}

/// Shrinks `graph`, whose dims are numbers, as long as `shows` says that the fault is still there; `None` where it is not there to begin
/// with. An error of `shows` ends the reduction.
pub fn reduce<E>(
    graph: &Graph,
    shows: &mut dyn FnMut(&Graph) -> Result<bool, E>,
    observe: &mut dyn FnMut(Progress),
) -> Result<Option<Reduction>, E> {
    let mut progress = Progress { nodes: computing(graph), tried: 1, kept: 0 };
    observe(progress);
    if !shows(graph)? {
        return Ok(None);
    }
    let mut tried = HashSet::new();
    let mut shows = |candidate: &Graph, nodes: usize| -> Result<bool, E> {
        let text = print(candidate, &PrintOptions::default());
        if !tried.insert(blake3::hash(text.as_bytes())) || verify(candidate, Stage::Lowered).is_err() {
            return Ok(false);
        }
        progress.tried += 1;
        progress.nodes = nodes;
        let shown = shows(candidate)?;
        progress.kept += usize::from(shown);
        if shown {
            progress.nodes = computing(candidate);
        }
        observe(progress);
        Ok(shown)
    };
    let mut search = Search { size: Size::of(graph), graph: graph.clone(), shows: &mut shows };
    loop {
        let before = search.size;
        search.outputs()?;
        search.nodes(Boundary::Inputs)?;
        search.nodes(Boundary::Constants)?;
        search.bypasses()?;
        search.extents()?;
        search.constants()?;
        if search.size == before {
            break;
        }
    }
    let graph = search.graph;
    Ok(Some(Reduction { graph, progress }))
}

/// Nodes that compute something: not inputs, constants and reads of variables.
fn computing(graph: &Graph) -> usize {
    graph.node_ids().filter(|&id| !is_source(&graph.node(id).op)).count()
}

/// Whether a node has no operands and names a tensor.
fn is_source(op: &Op) -> bool {
    matches!(op, Op::Placeholder { .. } | Op::Constant { .. } | Op::ReadVar { .. })
}

/// What a reduction makes smaller: the first difference decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    computing: usize,
    outputs: usize,
    variables: usize,
    nodes: usize,
    /// Elements of all results.
    elements: u128,
    /// Bytes of text, which simple constants take few of.
    text: usize,
}

impl Size {
    fn of(graph: &Graph) -> Size {
        let types = graph.node_ids().flat_map(|id| graph.node(id).types.iter());
        Size {
            computing: computing(graph),
            outputs: graph.outputs().len() + graph.effects().len(),
            variables: graph.variables().len(),
            nodes: graph.len(),
            elements: types.filter_map(|ty| ty.element_count()).map(|n| n as u128).sum(),
            text: print(graph, &PrintOptions::default()).len(),
        }
    }
}

/// Says whether a graph shows the fault; the number is how many nodes the graph has that is smallest so far.
type Shows<'s, E> = dyn FnMut(&Graph, usize) -> Result<bool, E> + 's;

/// The smallest graph so far.
struct Search<'s, E> {
    graph: Graph,
    size: Size,
    shows: &'s mut Shows<'s, E>,
}

impl<E> Search<'_, E> {
    /// Takes `candidate`, if it is smaller and still shows the fault.
    fn offer(&mut self, candidate: Option<Graph>) -> Result<bool, E> {
        let Some(candidate) = candidate else { return Ok(false) };
        let size = Size::of(&candidate);
        let taken = size < self.size && (self.shows)(&candidate, self.size.computing)?;
        if taken {
            (self.graph, self.size) = (candidate, size);
        }
        Ok(taken)
    }

    /// Drops outputs and effects.
    fn outputs(&mut self) -> Result<(), E> {
        let count = |graph: &Graph| graph.outputs().len() + graph.effects().len();
        delta::minimise(self, count, |graph, keep| Rebuild::of(graph).with_outputs(keep).build())
    }

    /// Drops nodes that compute something.
    fn nodes(&mut self, boundary: Boundary) -> Result<(), E> {
        delta::minimise(self, computing, |graph, keep| Rebuild::of(graph).with_nodes(keep, boundary).build())
    }

    /// Puts an operand, or an earlier input, in a node's place.
    fn bypasses(&mut self) -> Result<(), E> {
        let count = |graph: &Graph| rebuild::bypasses(graph).len();
        delta::minimise(self, count, |graph, keep| {
            let all = rebuild::bypasses(graph).into_iter().zip(keep);
            Rebuild::of(graph).with_bypasses(all.filter(|(_, keep)| !**keep).map(|(bypass, _)| bypass)).build()
        })
    }

    /// Makes extents smaller: all that are equal together, then one axis of one source alone.
    fn extents(&mut self) -> Result<(), E> {
        for cut in extents::cuts(&self.graph) {
            // Least first, then by halves: whether a fault needs an extent is monotone in most cases.
            let (mut too_small, mut enough) = (0, cut.extent(&self.graph));
            while enough - too_small > 1 {
                let extent = if too_small == 0 { 1 } else { too_small.midpoint(enough) };
                let mut taken = false;
                for groups in [false, true] {
                    taken = taken || self.offer(extents::apply(&self.graph, cut, enough, extent, groups))?;
                }
                *(if taken { &mut enough } else { &mut too_small }) = extent;
            }
        }
        Ok(())
    }

    /// Makes constants simple.
    fn constants(&mut self) -> Result<(), E> {
        let mut at = 0;
        while at < self.graph.len() {
            for simpler in constants::simpler(&self.graph, at) {
                if self.offer(constants::replaced(&self.graph, at, simpler))? {
                    break;
                }
            }
            at += 1;
        }
        let plain = constants::without_metadata(&self.graph);
        self.offer(plain)?;
        Ok(())
    }
}
