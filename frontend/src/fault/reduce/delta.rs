//! Delta debugging: dropping parts of a list, halves first, single ones last.

use kiln_ir::Graph;

use super::Search;

/// Drops as much as possible of the `count` parts of the graph. `build` makes the graph with those parts for which the list has `true`.
pub(super) fn minimise<E>(
    search: &mut Search<'_, E>,
    count: impl Fn(&Graph) -> usize,
    build: impl Fn(&Graph, &[bool]) -> Option<Graph>,
) -> Result<(), E> {
    let mut chunk = count(&search.graph);
    while chunk > 0 {
        let mut start = 0;
        // What comes last goes first: later parts need earlier ones, not the other way round.
        loop {
            let parts = count(&search.graph);
            if start >= parts {
                break;
            }
            let dropped = (parts - start).saturating_sub(chunk)..parts - start;
            let keep: Vec<bool> = (0..parts).map(|part| !dropped.contains(&part)).collect();
            if !search.offer(build(&search.graph, &keep))? {
                start += chunk;
            }
        }
        chunk /= 2;
    }
    Ok(())
}
