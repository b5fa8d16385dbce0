//! A toy tree that grows online: it splits a leaf at a category or a number when that makes its classes purer. Its
//! nodes lie in blocks behind `Arc`s: a publication copies no node, learning copies a block when it first touches it
//! after one, and a snapshot writes the blocks that changed.

use std::sync::Arc;

use driftmill_config::{Component, Field, Problems, Section};

use super::{finished, within};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Form, Input, Labelled, Learner, LearnerContext, LearnerKind, Scorer, Task};
use crate::encoders::ColumnsEncoder;
use crate::learners::usable;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

const BLOCK: usize = 2;
const NODES_MAX: usize = 31;
/// Rows of a leaf that fix its questions, and after which it may split.
const SETTLE: f64 = 50.0;
const GRACE: f64 = 300.0;

pub(super) struct ToyTreeKind;

impl Component for ToyTreeKind {
    fn name(&self) -> &'static str {
        "toy-tree"
    }
    fn summary(&self) -> &'static str {
        "A tree."
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn example(&self) -> &'static str {
        ""
    }
}

impl LearnerKind<dyn Learner> for ToyTreeKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let encoder = context.encoder(Form::Native, section, problems)?;
        let classes = match context.task {
            Task::Binary => 2,
            Task::Multiclass { classes } => classes as usize,
            Task::Regression | Task::Anomaly => return None,
        };
        within(ToyTree::new(context.task, classes, encoder), context)
    }
}

/// What a leaf may ask of an input: is it this category, is it at most that number? Missing values answer no.
#[derive(Clone, PartialEq, Debug)]
struct Question {
    input: Input,
    value: f64,
    seen: f64,
    /// Weight of each class where the answer is yes, and where it is no.
    yes: Vec<f64>,
    no: Vec<f64>,
}

impl Question {
    fn answer(&self, x: f64) -> bool {
        match self.input {
            Input::Category { .. } => x == self.value,
            Input::Number => x <= self.value,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Node {
    Split { place: u32, question: Question, yes: u32 },
    Leaf { counts: Vec<f64>, questions: Vec<Question> },
}

#[derive(Clone)]
struct Block {
    nodes: Vec<Node>,
    /// The row that changed it last: its stamp.
    changed: u64,
}

/// The nodes, shared between learner and models.
#[derive(Clone)]
struct Nodes {
    classes: usize,
    binary: bool,
    width: usize,
    blocks: Vec<Arc<Block>>,
}

impl Nodes {
    fn get(&self, node: usize) -> &Node {
        &self.blocks[node / BLOCK].nodes[node % BLOCK]
    }

    fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.nodes.len()).sum()
    }

    fn leaf(&self, row: &[f64]) -> usize {
        let mut node = 0;
        while let Node::Split { place, question, yes } = self.get(node) {
            node = *yes as usize + usize::from(!question.answer(row[*place as usize]));
        }
        node
    }

    /// Probabilities with a row of each class beforehand.
    fn probabilities(&self, row: &[f64], out: &mut Vec<f64>) {
        let Node::Leaf { counts, .. } = self.get(self.leaf(row)) else {
            return;
        };
        let total: f64 = counts.iter().sum::<f64>() + self.classes as f64;
        if self.binary {
            out.push((counts[1] + 1.0) / total);
        } else {
            out.extend(counts.iter().map(|count| (count + 1.0) / total));
        }
    }
}

impl Scorer for Nodes {
    fn format(&self) -> &'static str {
        "toy-tree"
    }
    fn width(&self) -> usize {
        self.width
    }
    fn outputs(&self) -> usize {
        if self.binary { 1 } else { self.classes }
    }
    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        x.iter().for_each(|row| self.probabilities(row, out));
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.blocks.iter().for_each(|block| write_block(block, out));
    }
    fn bytes(&self) -> usize {
        self.len() * 1024
    }
}

pub(super) struct ToyTree {
    task: Task,
    encoder: ColumnsEncoder,
    inputs: Vec<Input>,
    nodes: Nodes,
    seen: u64,
}

impl ToyTree {
    fn new(task: Task, classes: usize, encoder: ColumnsEncoder) -> Self {
        let inputs: Vec<Input> = encoder.inputs().collect();
        let mut nodes = Nodes {
            classes,
            binary: task == Task::Binary,
            width: encoder.width(),
            blocks: Vec::new(),
        };
        push(&mut nodes, leaf(classes, &inputs), 0);
        Self {
            task,
            encoder,
            inputs,
            nodes,
            seen: 0,
        }
    }

    fn step(&mut self, row: &[f64], class: usize, weight: f64) {
        self.seen += 1;
        let weight = weight.min(10.0);
        let node = self.nodes.leaf(row);
        let block = Arc::make_mut(&mut self.nodes.blocks[node / BLOCK]);
        block.changed = self.seen;
        let Node::Leaf { counts, questions } = &mut block.nodes[node % BLOCK] else {
            return;
        };
        counts[class] += weight;
        let total: f64 = counts.iter().sum();
        for (question, x) in questions.iter_mut().zip(row) {
            if question.seen < SETTLE {
                // The question is still being made: the first category, the mean of the first numbers.
                if x.is_finite() && x.abs() < 1e6 {
                    question.seen += 1.0;
                    match question.input {
                        Input::Category { .. } => {
                            question.value = if question.seen == 1.0 { *x } else { question.value }
                        }
                        Input::Number => question.value += (x - question.value) / question.seen,
                    }
                }
            } else if question.answer(*x) {
                question.yes[class] += weight;
            } else {
                question.no[class] += weight;
            }
        }
        if total > GRACE && self.nodes.len() + 2 <= NODES_MAX {
            self.split(node);
        }
    }

    fn split(&mut self, node: usize) {
        let Node::Leaf { counts, questions } = self.nodes.get(node).clone() else {
            return;
        };
        let impurity = |counts: &[f64]| {
            let total: f64 = counts.iter().sum();
            total - counts.iter().map(|count| count * count).sum::<f64>() / total.max(1.0)
        };
        let gain = |question: &Question| {
            let both: Vec<f64> = question
                .yes
                .iter()
                .zip(&question.no)
                .map(|(yes, no)| yes + no)
                .collect();
            impurity(&both) - impurity(&question.yes) - impurity(&question.no)
        };
        let best = (0..questions.len()).max_by(|&a, &b| gain(&questions[a]).total_cmp(&gain(&questions[b])));
        let Some(place) = best.filter(|&place| gain(&questions[place]) > 0.05 * GRACE) else {
            // Nothing to gain: begin again with other questions.
            let Node::Leaf { questions, .. } = leaf(self.nodes.classes, &self.inputs) else {
                return;
            };
            let block = Arc::make_mut(&mut self.nodes.blocks[node / BLOCK]);
            let counts = counts.iter().map(|count| count / 2.0).collect();
            block.nodes[node % BLOCK] = Node::Leaf { counts, questions };
            return;
        };
        let yes = self.nodes.len();
        for _ in 0..2 {
            let child = leaf(self.nodes.classes, &self.inputs);
            push(&mut self.nodes, child, self.seen);
        }
        let block = Arc::make_mut(&mut self.nodes.blocks[node / BLOCK]);
        block.nodes[node % BLOCK] = Node::Split {
            place: place as u32,
            question: questions[place].clone(),
            yes: yes as u32,
        };
    }
}

fn leaf(classes: usize, inputs: &[Input]) -> Node {
    let question = |input: &Input| Question {
        input: *input,
        value: 0.0,
        seen: 0.0,
        yes: vec![0.0; classes],
        no: vec![0.0; classes],
    };
    Node::Leaf {
        counts: vec![0.0; classes],
        questions: inputs.iter().map(question).collect(),
    }
}

fn push(nodes: &mut Nodes, node: Node, changed: u64) {
    match nodes.blocks.last_mut().filter(|block| block.nodes.len() < BLOCK) {
        Some(block) => {
            let block = Arc::make_mut(block);
            block.nodes.push(node);
            block.changed = changed;
        }
        None => nodes.blocks.push(Arc::new(Block {
            nodes: vec![node],
            changed,
        })),
    }
}

fn write_question(question: &Question, out: &mut Vec<u8>) {
    out.put_f64(question.value);
    out.put_f64(question.seen);
    out.put_f64s(&question.yes);
    out.put_f64s(&question.no);
}

fn write_block(block: &Block, out: &mut Vec<u8>) {
    out.put_u64(block.changed);
    out.put_u64(block.nodes.len() as u64);
    for node in &block.nodes {
        match node {
            Node::Split { place, question, yes } => {
                out.put_u8(0);
                out.put_u32(*place);
                out.put_u32(*yes);
                write_question(question, out);
            }
            Node::Leaf { counts, questions } => {
                out.put_u8(1);
                out.put_f64s(counts);
                questions.iter().for_each(|question| write_question(question, out));
            }
        }
    }
}

fn read_classes(reader: &mut Reader<'_>, classes: usize) -> Result<Vec<f64>, CodecError> {
    let numbers = reader.f64s()?;
    if numbers.len() == classes && numbers.iter().all(|number| *number >= 0.0) {
        return Ok(numbers);
    }
    Err(reader.error("these are no counts of classes"))
}

fn read_question(reader: &mut Reader<'_>, classes: usize, input: Input) -> Result<Question, CodecError> {
    Ok(Question {
        input,
        value: reader.finite()?,
        seen: reader.finite()?,
        yes: read_classes(reader, classes)?,
        no: read_classes(reader, classes)?,
    })
}

fn read_block(mut reader: Reader<'_>, classes: usize, inputs: &[Input], first: usize) -> Result<Block, CodecError> {
    let changed = reader.u64()?;
    let count = reader.count(1)?;
    if !(1..=BLOCK).contains(&count) {
        return Err(reader.error("so many nodes are in no block"));
    }
    let mut nodes = Vec::new();
    for index in 0..count {
        nodes.push(match reader.u8()? {
            0 => {
                let (place, yes) = (reader.u32()?, reader.u32()?);
                // Children stand behind their parent: every walk ends.
                let input = inputs.get(place as usize).filter(|_| yes as usize > first + index);
                let Some(input) = input else {
                    return Err(reader.error("a split leads nowhere"));
                };
                let question = read_question(&mut reader, classes, *input)?;
                Node::Split { place, question, yes }
            }
            1 => Node::Leaf {
                counts: read_classes(&mut reader, classes)?,
                questions: inputs
                    .iter()
                    .map(|input| read_question(&mut reader, classes, *input))
                    .collect::<Result<_, _>>()?,
            },
            other => return Err(reader.error(format!("{other} is no node"))),
        });
    }
    finished(reader, Block { nodes, changed })
}

impl Learner for ToyTree {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let count = rows.frame.rows();
        let pairs = rows.labels.iter().zip(rows.weights).take(count);
        let learn: Vec<bool> = pairs.map(|(y, w)| usable(self.task, *y, *w)).collect();
        let mut x = Matrix::new();
        x.reset(count, self.encoder.width());
        self.encoder.encode_then_observe(
            rows.frame,
            0..count,
            rows.dictionaries,
            rows.labels,
            &learn,
            x.values_mut(),
        );
        for (place, row) in x.iter().enumerate() {
            if let Some(predictions) = predictions.as_deref_mut() {
                self.nodes.probabilities(row, predictions);
            }
            if learn[place] {
                self.step(row, rows.labels[place] as usize, rows.weights[place]);
            }
        }
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        // Arcs of blocks are cloned, no node.
        let model = Model::new(self.task, self.encoder.publish(), Arc::new(self.nodes.clone()));
        model.ok().filter(|_| self.seen > 0).map(Arc::new)
    }

    fn bytes(&self) -> usize {
        let question = size_of::<Question>() + self.nodes.classes * 16;
        let node = size_of::<Node>() + self.nodes.classes * 8 + self.inputs.len() * question;
        size_of::<Self>() + NODES_MAX * node + self.encoder.bytes_max()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        each(Fact {
            name: "nodes",
            of: "",
            value: self.nodes.len() as f64,
        });
    }
}

impl State for ToyTree {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("head", self.seen, &mut |out| {
            out.put_u64(self.seen);
            out.put_u64(self.nodes.len() as u64);
        });
        for (index, block) in self.nodes.blocks.iter().enumerate() {
            chunks.chunk(&format!("block/{index:04}"), block.changed, &mut |out| {
                write_block(block, out)
            });
        }
        self.encoder.save(&mut Within::new("encoder/", chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut head = open(chunks, "head")?;
        let parse = (|| Ok((head.u64()?, head.u64()?)))();
        let (seen, count) = parse.map_err(|error: CodecError| StateError::of("head", error))?;
        finished(head, ()).map_err(|error| StateError::of("head", error))?;
        let mut blocks = Vec::new();
        let (mut nodes, mut children) = (0, 0);
        while (nodes as u64) < count.min(NODES_MAX as u64 + 1) {
            let name = format!("block/{:04}", blocks.len());
            let reader = open(chunks, &name)?;
            let block = read_block(reader, self.nodes.classes, &self.inputs, nodes)
                .map_err(|error| StateError::of(&name, error))?;
            nodes += block.nodes.len();
            let last = block.nodes.iter().filter_map(|node| match node {
                Node::Split { yes, .. } => Some(*yes as usize + 2),
                Node::Leaf { .. } => None,
            });
            children = children.max(last.max().unwrap_or(0));
            blocks.push(Arc::new(block));
        }
        let full = blocks.iter().rev().skip(1).all(|block| block.nodes.len() == BLOCK);
        if nodes as u64 != count || nodes > NODES_MAX || children > nodes || nodes == 0 || !full {
            return Err(StateError::of("head", "its nodes are not there"));
        }
        self.encoder
            .restore(&WithinSource::new("encoder/", chunks))
            .map_err(|error| error.within("encoder/"))?;
        (self.seen, self.nodes.blocks) = (seen, blocks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::world::{NATIVE, encoder_of, world};
    use super::*;
    use crate::detectors::memory::Memory;

    #[test]
    fn publishing_copies_no_node_and_a_snapshot_costs_what_changed() {
        let mut tree = ToyTree::new(Task::Binary, 2, encoder_of(NATIVE).in_form(Form::Native));
        let learned = world(8_000, 1);
        tree.learn(learned.rows(), None);
        assert!(tree.nodes.blocks.len() >= 3, "{} nodes", tree.nodes.len());
        let published = tree.nodes.clone();
        let shared = |tree: &ToyTree| {
            let pairs = tree.nodes.blocks.iter().zip(&published.blocks);
            pairs.filter(|(mine, theirs)| Arc::ptr_eq(mine, theirs)).count()
        };
        assert_eq!(shared(&tree), tree.nodes.blocks.len());
        let mut memory = Memory::default();
        memory.save(&tree);
        tree.learn(learned.part(0, 1).rows(), None);
        assert_eq!(shared(&tree), tree.nodes.blocks.len() - 1, "one row touches one block");
        memory.save(&tree);
        let columns = tree.encoder.columns().len();
        assert!(
            memory.written <= 2 + columns,
            "head, a block, encoders that moved: {}",
            memory.written
        );
        let categories = (0..tree.nodes.len()).filter(
            |&node| matches!(tree.nodes.get(node), Node::Split { question, .. } if question.input != Input::Number),
        );
        assert!(
            categories.count() > 0,
            "no split asks for a category: {:?}",
            tree.nodes.get(0)
        );
    }
}
