//! The cheapest graph, as far as a greedy search finds it, in a time that grows with the e-graph and not with its square.
//!
//! A class is settled after all classes that any of its e-nodes needs, where there is such an order: it exists but for
//! cycles (x is a transpose of a transpose of x). Within a cycle classes are settled as Dijkstra would, by the cost of the
//! longest path below. Then a class takes the e-node with the cheapest graph below it, in which shared values count once.
//! To compare two e-nodes, only what one of them needs and the other does not is looked at: both graphs are walked from
//! the top, latest settled first, until they have met. Greedy: a class is settled by its own cost, not by what else its
//! choice might serve.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Choice, Dense, Settled};

/// Graphs that have not met after so many classes are compared by what was seen of them.
const WALK: usize = 4096;

/// Settles each class by its cheapest e-node.
pub(super) fn settle(dense: &Dense) -> Settled {
    let mut search = Search::new(dense);
    for component in components(dense) {
        match component.as_slice() {
            &[class] if !dense.choices[class].iter().any(|c| c.children.contains(&class)) => search.settle(class),
            _ => search.settle_cycle(&component),
        }
    }
    Settled { chosen: search.chosen, order: search.order }
}

/// The strongly connected components of the classes, what is needed first.
fn components(dense: &Dense) -> Vec<Vec<usize>> {
    let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(dense.ids.len(), dense.ids.len() * 2);
    dense.ids.iter().for_each(|_| {
        graph.add_node(());
    });
    for (class, choices) in dense.choices.iter().enumerate() {
        for &child in choices.iter().flat_map(|c| &c.children) {
            graph.add_edge(NodeIndex::new(class), NodeIndex::new(child), ());
        }
    }
    kosaraju_scc(&graph).into_iter().map(|c| c.into_iter().map(NodeIndex::index).collect()).collect()
}

struct Search<'d> {
    dense: &'d Dense,
    chosen: Vec<Option<usize>>,
    order: Vec<usize>,
    /// By class: its place in `order`.
    place: Vec<usize>,
    /// By class: the cost of the longest path below the e-node that was ready first.
    longest: Vec<u64>,
    walk: Walk,
}

impl<'d> Search<'d> {
    fn new(dense: &'d Dense) -> Search<'d> {
        let count = dense.ids.len();
        Search {
            dense,
            chosen: vec![None; count],
            order: Vec::with_capacity(count),
            place: vec![usize::MAX; count],
            longest: vec![0; count],
            walk: Walk { marks: vec![(0, 0); count], round: 0 },
        }
    }

    /// The cost of the longest path below an e-node whose children are settled.
    fn longest_below(&self, choice: &Choice) -> u64 {
        let deepest = choice.children.iter().map(|&c| self.longest[c]).max().unwrap_or(0);
        deepest.saturating_add(choice.cost)
    }

    /// Settles a class by the cheapest of its e-nodes whose children are settled.
    fn settle(&mut self, class: usize) {
        let choices = &self.dense.choices[class];
        let ready = |c: &Choice| c.children.iter().all(|&c| self.chosen[c].is_some());
        let mut best: Option<usize> = None;
        for n in (0..choices.len()).filter(|&n| ready(&choices[n])) {
            best = Some(match best {
                Some(m)
                    if self.walk.compare(
                        self.dense,
                        &self.chosen,
                        &self.place,
                        &self.order,
                        [&choices[m], &choices[n]],
                    ) != Ordering::Greater =>
                {
                    m
                }
                _ => n,
            });
        }
        let Some(n) = best else { return };
        self.longest[class] = self.longest_below(&choices[n]);
        self.chosen[class] = Some(n);
        self.place[class] = self.order.len();
        self.order.push(class);
    }

    /// Settles classes that need each other, the one with the shortest way down first.
    fn settle_cycle(&mut self, component: &[usize]) {
        let dense = self.dense;
        let mut queue = BinaryHeap::new();
        let ready = |search: &Search<'_>, class: usize| {
            let ready = |c: &&Choice| c.children.iter().all(|&c| search.chosen[c].is_some());
            let lengths = dense.choices[class].iter().filter(ready).map(|c| search.longest_below(c));
            lengths.min().map(|length| Reverse((length, class)))
        };
        let mut users: Vec<(usize, usize)> = Vec::new();
        for &class in component {
            let children = dense.choices[class].iter().flat_map(|c| &c.children);
            users.extend(children.map(|&child| (child, class)));
            queue.extend(ready(self, class));
        }
        users.sort_unstable();
        users.dedup();
        while let Some(Reverse((_, class))) = queue.pop() {
            if self.chosen[class].is_some() {
                continue;
            }
            self.settle(class);
            let first = users.partition_point(|&(child, _)| child < class);
            for &(_, user) in users[first..].iter().take_while(|&&(child, _)| child == class) {
                if self.chosen[user].is_none() {
                    queue.extend(ready(self, user));
                }
            }
        }
    }
}

/// Compares the graphs below two e-nodes.
struct Walk {
    /// By class: the comparison in which it was reached last, and from which of the two e-nodes.
    marks: Vec<(u32, u8)>,
    round: u32,
}

/// Reached from both.
const BOTH: u8 = 3;

/// What one of two graphs has and the other does not: cost, then number of e-nodes. Of equally cheap graphs the smaller is
/// better.
type Apart = [(u64, u64); 2];

impl Walk {
    fn compare(
        &mut self,
        dense: &Dense,
        chosen: &[Option<usize>],
        place: &[usize],
        order: &[usize],
        pair: [&Choice; 2],
    ) -> Ordering {
        self.round += 1;
        let mut apart: Apart = pair.map(|c| (c.cost, 1));
        let mut known: Vec<usize> = Vec::new();
        let mut frontier = Frontier { heap: BinaryHeap::new(), apart: 0 };
        for (choice, from) in pair.into_iter().zip([1, 2]) {
            for &child in &choice.children {
                self.reach(dense, place, child, from, &mut frontier, &mut known);
            }
        }
        for _ in 0..WALK {
            if frontier.apart == 0 {
                break;
            }
            let Some(class) = frontier.heap.pop().map(|at| order[at]) else { break };
            let (_, from) = self.marks[class];
            let Some(choice) = chosen[class].map(|n| &dense.choices[class][n]) else { continue };
            if from != BOTH {
                frontier.apart -= 1;
                count(&mut apart, from, choice.cost);
            }
            for &child in &choice.children {
                self.reach(dense, place, child, from, &mut frontier, &mut known);
            }
        }
        let [a, b] = apart;
        a.0.cmp(&b.0).then_with(|| {
            // What is known at compile time costs nothing: it is looked at only where all else is equal.
            let [a, b] = self.with_known(dense, chosen, known, apart);
            a.1.cmp(&b.1)
        })
    }

    /// Notes that `class` is needed by `from`.
    fn reach(
        &mut self,
        dense: &Dense,
        place: &[usize],
        class: usize,
        from: u8,
        frontier: &mut Frontier,
        known: &mut Vec<usize>,
    ) {
        let (round, before) = self.marks[class];
        let before = if round == self.round { before } else { 0 };
        self.marks[class] = (self.round, before | from);
        // What needs nothing and costs nothing, an input, makes no difference, and lies below everything.
        if dense.constant[class] {
            if before == 0 {
                known.push(class);
            }
        } else if !dense.choices[class].iter().any(|c| c.children.is_empty() && c.cost == 0) {
            frontier.note(place[class], before, before | from);
        }
    }

    /// `apart` with the e-nodes of the constants that were reached, and of all below them.
    fn with_known(
        &mut self,
        dense: &Dense,
        chosen: &[Option<usize>],
        mut stack: Vec<usize>,
        mut apart: Apart,
    ) -> Apart {
        // Marks first: what a constant of one graph needs may belong to both.
        let mut all = Vec::new();
        while let Some(class) = stack.pop() {
            all.push(class);
            let (_, from) = self.marks[class];
            let Some(choice) = chosen[class].map(|n| &dense.choices[class][n]) else { continue };
            for &child in &choice.children {
                let (round, before) = self.marks[child];
                let before = if round == self.round { before } else { 0 };
                if before | from != before {
                    self.marks[child] = (self.round, before | from);
                    stack.push(child);
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        for class in all {
            count(&mut apart, self.marks[class].1, 0);
        }
        apart
    }
}

/// Counts an e-node that only one of the two needs.
fn count(apart: &mut Apart, from: u8, cost: u64) {
    if from != BOTH
        && let Some((costs, nodes)) = apart.get_mut(usize::from(from) - 1)
    {
        *costs = costs.saturating_add(cost);
        *nodes += 1;
    }
}

/// Classes that were reached and not yet looked at, by their places.
struct Frontier {
    heap: BinaryHeap<usize>,
    /// How many of them only one of the two graphs has.
    apart: usize,
}

impl Frontier {
    /// `place` was reached from `before` (0: for the first time), and now is from `now`.
    fn note(&mut self, place: usize, before: u8, now: u8) {
        match (before, now) {
            (0, _) => {
                self.heap.push(place);
                self.apart += usize::from(now != BOTH);
            }
            (1 | 2, BOTH) => self.apart -= 1,
            _ => {}
        }
    }
}
