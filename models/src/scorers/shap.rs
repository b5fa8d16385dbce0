//! What each input adds to a sum of trees: path-dependent TreeSHAP (Lundberg, Erion and Lee, "Consistent individualized
//! feature attribution for tree ensembles", 2018, algorithm 2).
//!
//! What a tree says without an input is the mean over both ways of its questions, weighted by how much of the training
//! rows went each way. For every row the shares of all inputs and the mean of the tree over its training rows add up to
//! the value of the leaf. A tree of L leaves and depth D takes L D² steps a row.

use super::walk::{Kind, PlainTree};

/// Trees that are deeper are not explained.
pub(crate) const DEPTH_MAX: usize = 128;

/// An input on the path from the root.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// The input; the root has none.
    input: Option<u32>,
    /// The share of training rows that goes this way when the input is not known.
    zero: f64,
    /// 1 where the row goes this way, 0 where it does not.
    one: f64,
    /// The weight of the subsets of so many known inputs.
    weight: f64,
}

/// Where the walk is to go on.
struct Visit {
    node: usize,
    /// Length of the parent's path.
    length: usize,
    input: Option<u32>,
    zero: f64,
    one: f64,
    /// The share of all training rows that comes to the node.
    share: f64,
}

/// Adds to `inputs` what each adds to the value of `tree` for `row`, and returns the tree's mean over its training rows.
/// All nodes have covers.
pub(crate) fn explain(tree: &PlainTree, row: &[f64], inputs: &mut [f64]) -> f64 {
    let mut mean = 0.0;
    // The paths of the node and of those above it that are still needed, end to end.
    let mut paths: Vec<Step> = Vec::new();
    let mut path: Vec<Step> = Vec::new();
    let mut visits = vec![Visit {
        node: 0,
        length: 0,
        input: None,
        zero: 1.0,
        one: 1.0,
        share: 1.0,
    }];
    let mut depths = vec![0_usize];
    let mut starts: Vec<(usize, usize)> = Vec::new();
    while let (Some(visit), Some(depth)) = (visits.pop(), depths.pop()) {
        // The parent's path stands at its depth.
        starts.truncate(depth);
        path.clear();
        if let Some((start, end)) = starts.last() {
            paths.truncate(*end);
            path.extend_from_slice(paths.get(*start..*end).unwrap_or_default());
        } else {
            paths.clear();
        }
        debug_assert_eq!(path.len(), visit.length);
        extend(&mut path, visit.zero, visit.one, visit.input);
        let Some(node) = tree.nodes.get(visit.node) else {
            continue;
        };
        let (input, threshold, missing_left, left) = match node.kind {
            Kind::Leaf(value) => {
                mean += value * visit.share;
                for place in 1..path.len() {
                    let (Some(step), weight) = (path.get(place), unwound_sum(&path, place)) else {
                        continue;
                    };
                    let to = step.input.and_then(|input| inputs.get_mut(input as usize));
                    if let Some(to) = to {
                        *to += weight * (step.one - step.zero) * value;
                    }
                }
                continue;
            }
            Kind::Split {
                input,
                threshold,
                missing_left,
                left,
            } => (input, threshold, missing_left, left as usize),
        };
        let x = row.get(input as usize).copied().unwrap_or(f64::NAN);
        let goes_left = if x.is_nan() { missing_left } else { x <= threshold };
        // An input that was asked before counts once.
        let (mut zero, mut one) = (1.0, 1.0);
        if let Some(place) = path.iter().position(|step| step.input == Some(input)) {
            if let Some(step) = path.get(place) {
                (zero, one) = (step.zero, step.one);
            }
            unwind(&mut path, place);
        }
        let start = paths.len();
        paths.extend_from_slice(&path);
        starts.push((start, paths.len()));
        let cover = |child: usize| tree.nodes.get(child).map_or(0.0, |child| f64::from(child.cover));
        // Covers are rounded: their own sum, and not the cover of the node, makes shares of them.
        let both = cover(left) + cover(left + 1);
        for (child, taken) in [(left + 1, !goes_left), (left, goes_left)] {
            let share = cover(child) / both;
            visits.push(Visit {
                node: child,
                length: path.len(),
                input: Some(input),
                zero: zero * share,
                one: if taken { one } else { 0.0 },
                share: visit.share * share,
            });
            depths.push(depth + 1);
        }
    }
    mean
}

/// Grows the path by a step.
fn extend(path: &mut Vec<Step>, zero: f64, one: f64, input: Option<u32>) {
    let length = path.len();
    path.push(Step {
        input,
        zero,
        one,
        weight: if length == 0 { 1.0 } else { 0.0 },
    });
    let all = (length + 1) as f64;
    for place in (0..length).rev() {
        let weight = path[place].weight;
        path[place + 1].weight += one * weight * (place + 1) as f64 / all;
        path[place].weight = zero * weight * (length - place) as f64 / all;
    }
}

/// Takes step `place` out of the path again.
fn unwind(path: &mut Vec<Step>, place: usize) {
    let Some(last) = path.len().checked_sub(1) else {
        return;
    };
    let (one, zero) = (path[place].one, path[place].zero);
    let mut next = path[last].weight;
    let all = (last + 1) as f64;
    for at in (0..last).rev() {
        if one != 0.0 {
            let weight = path[at].weight;
            path[at].weight = next * all / ((at + 1) as f64 * one);
            next = weight - path[at].weight * zero * (last - at) as f64 / all;
        } else {
            path[at].weight = path[at].weight * all / (zero * (last - at) as f64);
        }
    }
    for at in place..last {
        let step = path[at + 1];
        path[at] = Step {
            weight: path[at].weight,
            ..step
        };
    }
    path.pop();
}

/// The sum of the weights that would be left with step `place` taken out.
fn unwound_sum(path: &[Step], place: usize) -> f64 {
    let last = path.len() - 1;
    let (one, zero) = (path[place].one, path[place].zero);
    let (mut next, mut total) = (path[last].weight, 0.0);
    let all = (last + 1) as f64;
    for at in (0..last).rev() {
        if one != 0.0 {
            let weight = next * all / ((at + 1) as f64 * one);
            total += weight;
            next = path[at].weight - weight * zero * (last - at) as f64 / all;
        } else {
            total += path[at].weight * all / (zero * (last - at) as f64);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use rand_pcg::Pcg64;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    use super::super::walk::Plain;
    use super::*;
    use crate::random::uniform;

    /// A random tree over `width` inputs, its covers adding up.
    fn random_tree(random: &mut Pcg64, width: u64, depth: usize) -> PlainTree {
        let mut nodes = vec![Plain {
            kind: Kind::Leaf(0.0),
            cover: 64.0,
        }];
        let mut ends = vec![0];
        for level in 0..depth {
            for at in std::mem::take(&mut ends) {
                if level > 0 && random.next_u64().is_multiple_of(4) {
                    continue;
                }
                let left = nodes.len();
                nodes[at].kind = Kind::Split {
                    input: (random.next_u64() % width) as u32,
                    threshold: uniform(random),
                    missing_left: random.next_u64().is_multiple_of(2),
                    left: left as u32,
                };
                let share = (0.1 + 0.8 * uniform(random)) as f32;
                for share in [share, 1.0 - share] {
                    nodes.push(Plain {
                        kind: Kind::Leaf(uniform(random) - 0.5),
                        cover: nodes[at].cover * share,
                    });
                }
                ends.extend([left, left + 1]);
            }
        }
        PlainTree { output: 0, nodes }
    }

    /// What the tree says when only the inputs of `known` are.
    fn partial(tree: &PlainTree, at: usize, row: &[f64], known: u32) -> f64 {
        match tree.nodes[at].kind {
            Kind::Leaf(value) => value,
            Kind::Split {
                input,
                threshold,
                missing_left,
                left,
            } => {
                let (left, x) = (left as usize, row[input as usize]);
                if known & (1 << input) != 0 {
                    let goes_left = if x.is_nan() { missing_left } else { x <= threshold };
                    return partial(tree, left + usize::from(!goes_left), row, known);
                }
                let part = |child: usize| f64::from(tree.nodes[child].cover) * partial(tree, child, row, known);
                (part(left) + part(left + 1)) / f64::from(tree.nodes[at].cover)
            }
        }
    }

    #[test]
    fn shares_are_shapley_values_by_their_definition() {
        const WIDTH: u32 = 4;
        let seed = 17;
        let mut random = Pcg64::seed_from_u64(seed);
        let factorial = |n: u32| f64::from((1..=n).product::<u32>());
        for round in 0..40 {
            let tree = random_tree(&mut random, u64::from(WIDTH), 1 + round % 6);
            let row: Vec<f64> = (0..WIDTH)
                .map(|place| {
                    if round % 5 == 0 && place == 1 {
                        f64::NAN
                    } else {
                        uniform(&mut random)
                    }
                })
                .collect();
            let mut found = vec![0.0; WIDTH as usize];
            let mean = explain(&tree, &row, &mut found);
            assert!(
                (mean - partial(&tree, 0, &row, 0)).abs() < 1e-6,
                "seed {seed}, round {round}"
            );
            for input in 0..WIDTH {
                let others = (0..1_u32 << WIDTH).filter(|known| known & (1 << input) == 0);
                let expected: f64 = others
                    .map(|known| {
                        let size = known.count_ones();
                        let weight = factorial(size) * factorial(WIDTH - size - 1) / factorial(WIDTH);
                        weight * (partial(&tree, 0, &row, known | (1 << input)) - partial(&tree, 0, &row, known))
                    })
                    .sum();
                let found = found[input as usize];
                assert!(
                    (found - expected).abs() < 1e-6,
                    "seed {seed}, round {round}, input {input}: {found}, {expected}"
                );
            }
        }
    }
}
