//! Any graph that the e-graph holds: whichever e-node is ready is as good as another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Dense, Settled};

/// Settles each class by the e-node whose turn comes first, in a random order of those whose children are settled.
pub(super) fn settle(dense: &Dense, seed: u64) -> Settled {
    let count = dense.ids.len();
    let all: usize = dense.choices.iter().map(Vec::len).sum();
    // 32 random bits are enough: equal ones go by class and e-node.
    let mut turns = kiln_ir::random::uniform(seed, all).map(|u| (u * 4_294_967_296.0) as u32);
    let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    let mut waiting: Vec<Vec<(usize, u32)>> = Vec::with_capacity(count);
    let mut queue = BinaryHeap::new();
    for (class, choices) in dense.choices.iter().enumerate() {
        let mut list = Vec::with_capacity(choices.len());
        for (n, choice) in choices.iter().enumerate() {
            let turn = turns.next().unwrap_or_default();
            choice.children.iter().for_each(|&c| users[c].push((class, n)));
            if choice.children.is_empty() {
                queue.push(Reverse((turn, class, n)));
            }
            list.push((choice.children.len(), turn));
        }
        waiting.push(list);
    }
    let mut settled = Settled { chosen: vec![None; count], order: Vec::with_capacity(count) };
    while let Some(Reverse((_, class, n))) = queue.pop() {
        if settled.chosen[class].is_some() {
            continue;
        }
        settled.chosen[class] = Some(n);
        settled.order.push(class);
        for &(user, m) in &users[class] {
            let (missing, turn) = &mut waiting[user][m];
            *missing -= 1;
            if *missing == 0 {
                queue.push(Reverse((*turn, user, m)));
            }
        }
    }
    settled
}
