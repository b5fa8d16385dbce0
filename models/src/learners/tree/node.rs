//! The splits of a tree: one array of nodes, walked by index.

use super::split::Question;

/// Marks a leaf; `next` is the place of what it has counted.
const LEAF: u32 = 1 << 31;
/// The question is whether the input is that category.
const CATEGORY: u32 = 1 << 30;
/// A missing value goes left.
const MISSING_LEFT: u32 = 1 << 29;
/// Two trees for one place: the present one on the left, one that may replace it on the right.
const FORK: u32 = 1 << 28;
/// The input that is looked at.
const INPUT: u32 = FORK - 1;

/// A node. Children stand side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// The number or category that the input is compared with.
    value: f64,
    /// The input and the marks above.
    head: u32,
    /// The left child, the right one follows; in a leaf the place of what it has counted.
    next: u32,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// A leaf, and the place of what it has counted.
    Leaf(u32),
    /// Children at `next` and `next + 1`.
    Split(u32),
    /// The present tree at `next`, one that may replace it at `next + 1`.
    Fork(u32),
}

impl Node {
    pub(crate) fn leaf(slot: u32) -> Self {
        Self {
            value: 0.0,
            head: LEAF,
            next: slot,
        }
    }

    pub(crate) fn fork(next: u32) -> Self {
        Self {
            value: 0.0,
            head: FORK,
            next,
        }
    }

    pub(crate) fn split(question: Question, missing_left: bool, next: u32) -> Self {
        let (place, category, value) = match question {
            Question::AtMost { place, threshold } => (place, 0, threshold),
            Question::Is { place, code } => (place, CATEGORY, f64::from(code)),
        };
        Self {
            value,
            head: place & INPUT | category | if missing_left { MISSING_LEFT } else { 0 },
            next,
        }
    }

    /// What it asks; nothing in leaves and forks.
    pub(crate) fn question(self) -> Option<Question> {
        let place = self.head & INPUT;
        match self.head & (LEAF | FORK | CATEGORY) {
            0 => Some(Question::AtMost {
                place,
                threshold: self.value,
            }),
            CATEGORY => Some(Question::Is {
                place,
                code: self.value as u32,
            }),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn step(self) -> Step {
        if self.head & LEAF != 0 {
            Step::Leaf(self.next)
        } else if self.head & FORK != 0 {
            Step::Fork(self.next)
        } else {
            Step::Split(self.next)
        }
    }

    /// The child that a row goes to; in a fork the present tree.
    #[inline]
    pub(crate) fn child(self, row: &[f64]) -> u32 {
        if self.head & FORK != 0 {
            return self.next;
        }
        let x = row.get((self.head & INPUT) as usize).copied().unwrap_or(f64::NAN);
        let yes = if self.head & CATEGORY != 0 {
            x == self.value
        } else {
            x <= self.value
        };
        let left = yes | (x.is_nan() & (self.head & MISSING_LEFT != 0));
        self.next + u32::from(!left)
    }

    /// The three parts, to be written.
    pub(crate) fn parts(self) -> (f64, u32, u32) {
        (self.value, self.head, self.next)
    }

    /// The other way round. `None` where no node is so: a number that is not finite, an input that is not there.
    pub(crate) fn of_parts(value: f64, head: u32, next: u32, width: usize) -> Option<Self> {
        let kind_fits = match head & (LEAF | FORK) {
            0 => ((head & INPUT) as usize) < width,
            LEAF => head == LEAF,
            FORK => head == FORK,
            _ => false,
        };
        (kind_fits && value.is_finite()).then_some(Self { value, head, next })
    }
}

/// All nodes, the root first. Children stand in pairs: at 1 and 2, 3 and 4, …
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Shape {
    pub(crate) nodes: Vec<Node>,
}

impl Shape {
    /// The place of what the leaf has counted to which a row goes, in the present tree.
    #[inline]
    pub(crate) fn slot(&self, row: &[f64]) -> u32 {
        let mut node = self.nodes[0];
        while node.head & LEAF == 0 {
            node = self.nodes[node.child(row) as usize];
        }
        node.next
    }

    /// The node at which the walk of a row ends.
    pub(crate) fn leaf_node(&self, row: &[f64]) -> usize {
        let mut at = 0;
        while let Step::Split(_) | Step::Fork(_) = self.nodes[at].step() {
            at = self.nodes[at].child(row) as usize;
        }
        at
    }

    /// Calls `each` with every node that can be reached and how deep it stands. Every node is reached once and every
    /// way ends: `false` where that is not so, and nothing may walk this.
    pub(crate) fn visit(&self, each: &mut dyn FnMut(usize, Node, usize)) -> bool {
        let mut reached = vec![false; self.nodes.len()];
        let mut open = vec![(0, 0)];
        while let Some((at, depth)) = open.pop() {
            let Some(node) = self.nodes.get(at) else { return false };
            if std::mem::replace(&mut reached[at], true) {
                return false;
            }
            each(at, *node, depth);
            if let Step::Split(next) | Step::Fork(next) = node.step() {
                let next = next as usize;
                if next.is_multiple_of(2) {
                    return false;
                }
                open.extend([(next + 1, depth + 1), (next, depth + 1)]);
            }
        }
        true
    }

    /// Pairs of nodes that cannot be reached, the last first.
    pub(crate) fn free_pairs(&self) -> Vec<u32> {
        let mut reached = vec![false; self.nodes.len()];
        self.visit(&mut |at, _, _| reached[at] = true);
        let pairs = (1..self.nodes.len()).step_by(2).filter(|&at| !reached[at]);
        let mut free: Vec<u32> = pairs.map(|at| at as u32).collect();
        free.reverse();
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_goes_where_its_answer_says_and_missing_values_where_the_split_says() {
        for missing_left in [false, true] {
            let question = Question::AtMost {
                place: 1,
                threshold: 2.0,
            };
            let node = Node::split(question, missing_left, 5);
            assert_eq!(node.question(), Some(question));
            assert_eq!((node.child(&[9.0, 2.0]), node.child(&[0.0, 2.1])), (5, 6));
            let missing = if missing_left { 5 } else { 6 };
            assert_eq!((node.child(&[0.0, f64::NAN]), node.child(&[0.0])), (missing, missing));
            let question = Question::Is { place: 0, code: 3 };
            let node = Node::split(question, missing_left, 5);
            assert_eq!(node.question(), Some(question));
            assert_eq!((node.child(&[3.0]), node.child(&[2.0]), node.child(&[4.0])), (5, 6, 6));
            assert_eq!(node.child(&[f64::NAN]), missing);
        }
    }

    #[test]
    fn nodes_that_lead_in_circles_or_nowhere_are_found() {
        let question = Question::AtMost {
            place: 0,
            threshold: 0.0,
        };
        let split = |next| Node::split(question, false, next);
        let ends = |nodes: &[Node]| Shape { nodes: nodes.to_vec() }.visit(&mut |_, _, _| {});
        let leaf = Node::leaf(0);
        assert!(ends(&[split(1), leaf, leaf]));
        assert!(!ends(&[split(0), leaf, leaf]), "back to itself");
        assert!(!ends(&[split(1), leaf]), "behind the end");
        assert!(!ends(&[split(1), split(1), leaf]), "in a circle");
        assert!(!ends(&[split(2), leaf, leaf, leaf]), "half of a pair");
        assert!(!ends(&[]));
        let shape = Shape {
            nodes: vec![split(3), leaf, leaf, leaf, leaf],
        };
        assert_eq!(shape.free_pairs(), [1]);
    }
}
