//! smartcore's forests of values taken apart, and such trees for several classes.
//!
//! smartcore's trees of classes know one class in a leaf and not the shares of all, and are slow where inputs are many.
//! So trees of values tell one half of the classes, drawn at random for each group of trees, from the other (Dietterich
//! and Bakiri, "Solving multiclass learning problems via error-correcting output codes", Journal of Artificial
//! Intelligence Research 1995); then the shares of all classes are counted in their leaves.

use serde::{Deserialize, Serialize};

use super::rows::TrainingSet;
use crate::contracts::FitError;
use crate::random::{derived, of_row, uniform};
use crate::scorers::tree_means::{Node, Tree, leaf_of};

/// Groups of trees for several classes, at most: each sorts its inputs once.
const GROUPS_MAX: usize = 20;

/// Its random forest or extra trees as they serialise themselves: their fields are private. Names and order are
/// smartcore's.
#[derive(Deserialize)]
struct PlainRegressor {
    forest: Option<PlainForest>,
}

#[derive(Deserialize)]
struct PlainForest {
    trees: Option<Vec<PlainTree>>,
    _num_features: Option<usize>,
    samples: Option<Vec<Vec<bool>>>,
}

/// A tree of it. Markers of types, which take no bytes, follow.
#[derive(Deserialize)]
struct PlainTree {
    nodes: Vec<PlainNode>,
    _parameters: Option<PlainParameters>,
    _depth: u16,
    _root_mass: f64,
}

#[derive(Deserialize)]
struct PlainParameters {
    _max_depth: Option<u16>,
    _min_samples_leaf: usize,
    _min_samples_split: usize,
    _seed: Option<u64>,
    _splitter: PlainSplitter,
}

#[derive(Deserialize)]
enum PlainSplitter {
    Random,
    Best,
}

#[derive(Deserialize)]
struct PlainNode {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    _split_score: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

/// smartcore's types are not those that are mirrored: a mistake of ours, found by tests.
fn unexpected(what: &str) -> FitError {
    FitError(format!(
        "smartcore's trees are not laid out as expected ({what}); this is a bug of Driftmill"
    ))
}

/// A node in our own layout, in which children stand side by side, as they do in smartcore's.
fn converted(node: &PlainNode) -> Option<Node> {
    match (node.true_child, node.false_child, node.split_value) {
        (None, None, _) => Some(Node::leaf()),
        (Some(left), Some(right), Some(threshold)) if right == left + 1 => Some(Node::split(
            u32::try_from(node.split_feature).ok()?,
            threshold,
            u32::try_from(left).ok()?,
        )),
        _ => None,
    }
}

/// A fitted `RandomForestRegressor` or `ExtraTreesRegressor`.
pub(super) struct Grown {
    /// With the means in their nodes.
    pub(super) trees: Vec<Tree>,
    /// For each tree the rows that it was grown on, where smartcore was told to keep them.
    pub(super) rows: Vec<Vec<bool>>,
}

impl Grown {
    /// Takes it apart.
    pub(super) fn of(fitted: &impl Serialize) -> Result<Self, FitError> {
        let bytes = postcard::to_stdvec(fitted).map_err(|error| unexpected(&error.to_string()))?;
        let plain: PlainRegressor = match postcard::take_from_bytes(&bytes) {
            Ok((plain, [])) => plain,
            Ok((_, rest)) => return Err(unexpected(&format!("{} bytes are left", rest.len()))),
            Err(error) => return Err(unexpected(&error.to_string())),
        };
        let forest = plain.forest.ok_or_else(|| unexpected("there is none"))?;
        let trees = forest.trees.ok_or_else(|| unexpected("it has no trees"))?;
        let convert = |tree: PlainTree| {
            Some(Tree {
                nodes: tree.nodes.iter().map(converted).collect::<Option<_>>()?,
                values: tree.nodes.iter().map(|node| node.output).collect(),
            })
        };
        let trees: Option<Vec<Tree>> = trees.into_iter().map(convert).collect();
        Ok(Self {
            trees: trees.ok_or_else(|| unexpected("a node has one child"))?,
            rows: forest.samples.unwrap_or_default(),
        })
    }
}

/// The questions of a tree, and the rows that it was grown on where they are kept.
pub(super) type Questions = (Box<[Node]>, Vec<bool>);

/// `count` trees that tell classes apart. `grow` makes so many trees, by a seed, for labels of 0 and 1.
pub(super) fn of_classes(
    set: &TrainingSet,
    classes: usize,
    count: usize,
    seed: u64,
    grow: impl Fn(&Vec<f64>, usize, u64) -> Result<Grown, FitError>,
) -> Result<Vec<Questions>, FitError> {
    let groups = count.min(GROUPS_MAX);
    let mut trees = Vec::with_capacity(count);
    for group in 0..groups {
        let seed = derived(seed, group as u64);
        let code = halves(classes, seed);
        let labels = set.y.iter().map(|class| code[*class as usize]).collect();
        let size = count / groups + usize::from(group < count % groups);
        let grown = grow(&labels, size, seed)?;
        let rows = grown.rows.into_iter().chain(std::iter::repeat_with(Vec::new));
        trees.extend(grown.trees.into_iter().map(|tree| tree.nodes).zip(rows));
    }
    Ok(trees)
}

/// 0 for one half of the classes, drawn at random, and 1 for the other.
fn halves(classes: usize, seed: u64) -> Vec<f64> {
    let mut random = of_row(seed, 0);
    let mut order: Vec<usize> = (0..classes).collect();
    for place in (1..classes).rev() {
        let other = (uniform(&mut random) * (place + 1) as f64) as usize;
        order.swap(place, other.min(place));
    }
    let mut code = vec![0.0; classes];
    order.iter().take(classes / 2).for_each(|class| code[*class] = 1.0);
    code
}

/// The shares of `classes` classes, by weight, among the rows that come to each node and that `learned` says the tree
/// was grown on; where none come, those of the node above.
pub(super) fn shares(nodes: Box<[Node]>, classes: usize, set: &TrainingSet, learned: impl Fn(usize) -> bool) -> Tree {
    let mut values = vec![0.0; nodes.len() * classes];
    let rows = set.x.iter().zip(set.y.iter().zip(&set.weights)).enumerate();
    for (_, (x, (class, weight))) in rows.filter(|(row, _)| learned(*row)) {
        values[leaf_of(&nodes, x) * classes + *class as usize] += weight;
    }
    // Children stand behind their parents: what they hold is added up from the end.
    for at in (0..nodes.len()).rev() {
        if let Some(left) = nodes[at].children() {
            for class in 0..classes {
                values[at * classes + class] = values[left * classes + class] + values[(left + 1) * classes + class];
            }
        }
    }
    for at in 0..nodes.len() {
        let total: f64 = values[at * classes..(at + 1) * classes].iter().sum();
        if total > 0.0 {
            let of_node = values[at * classes..(at + 1) * classes].iter_mut();
            of_node.for_each(|value| *value = (*value / total).min(1.0));
        }
        if let Some(left) = nodes[at].children() {
            for child in [left, left + 1] {
                if values[child * classes..(child + 1) * classes]
                    .iter()
                    .all(|value| *value == 0.0)
                {
                    // Divided once more, by a sum of 1.
                    values.copy_within(at * classes..(at + 1) * classes, child * classes);
                }
            }
        }
    }
    Tree { nodes, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learners::least_squares::tests::random;

    #[test]
    fn every_half_is_drawn_anew() {
        let one = halves(5, 7);
        assert_eq!(one.iter().sum::<f64>(), 2.0);
        assert!((8..20).any(|seed| halves(5, seed) != one));
        assert_eq!(halves(2, 3).iter().sum::<f64>(), 1.0);
    }

    #[test]
    fn a_node_without_rows_holds_the_shares_of_the_one_above() {
        let mut set = random(10, 1);
        set.y = vec![0, 1, 1, 2, 0, 0, 0, 0, 0, 0];
        let nodes = Box::new([
            Node::split(0, 100.0, 1),
            Node::leaf(),
            Node::split(1, 0.0, 3),
            Node::leaf(),
            Node::leaf(),
        ]);
        let tree = shares(nodes, 3, &set, |row| row < 4);
        let expected = [0.25, 0.5, 0.25].repeat(5);
        assert_eq!(tree.values, expected);
    }
}
