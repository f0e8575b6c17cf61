//! Values in a checkpoint besides its arrays that identify the network and the tool that wrote it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::pickle::{Item, Node};
use super::torch::Graph;

/// Number of levels of a checkpoint that are searched.
const DEPTH: usize = 6;
/// Largest number of values that are searched.
const VALUES: usize = 1 << 16;
/// Keys whose values are recorded.
const KEYS: [&str; 12] = [
    "arch",
    "model",
    "name",
    "backbone",
    "encoder",
    "method",
    "model_name",
    "num_heads",
    "first_conv",
    "maxpool1",
    "patch_size",
    "pytorch-lightning_version",
];

/// A value of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    Text(String),
    Int(i64),
    Bool(bool),
}

/// The recorded values of a checkpoint, besides its arrays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Its outermost keys.
    pub keys: BTreeSet<String>,
    /// Values by the keys that lead to them, joined by dots.
    values: BTreeMap<String, Fact>,
}

impl Facts {
    /// Values under the key `key`, at any depth, the outermost first.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Fact> {
        let mut found: Vec<_> = self
            .values
            .iter()
            .filter(move |(path, _)| path.rsplit('.').next() == Some(key))
            .collect();
        found.sort_by_key(|(path, _)| path.matches('.').count());
        found.into_iter().map(|(_, fact)| fact)
    }

    /// The outermost text under `key`.
    pub fn text(&self, key: &str) -> Option<String> {
        self.all(key).find_map(|fact| match fact {
            Fact::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    pub(super) fn of(graph: &Graph<'_>) -> Self {
        let mut facts = Self::default();
        let (mut open, mut seen) = (VecDeque::from([(graph.pickle.root, String::new(), 0)]), 0);
        while let Some((item, path, depth)) = open.pop_front() {
            let (entries, state): (&[(Item, Item)], Item) = match graph.node(item) {
                Some(Node::Dict(pairs)) => (pairs, Item::None),
                Some(Node::Call(call)) => (&call.entries, call.state),
                _ => continue,
            };
            if depth <= DEPTH && state != Item::None {
                open.push_back((state, path.clone(), depth + 1));
            }
            for (key, value) in entries {
                seen += 1;
                if seen > VALUES {
                    return facts;
                }
                let Some(key) = graph.text(*key).filter(|key| key.len() <= 100) else { continue };
                if path.is_empty() {
                    facts.keys.insert(key.clone());
                }
                let fact = match *value {
                    Item::Text(_) => graph.text(*value).map(Fact::Text),
                    Item::Int(number) => Some(Fact::Int(number)),
                    Item::Bool(value) => Some(Fact::Bool(value)),
                    Item::Node(_) if depth < DEPTH => {
                        open.push_back((*value, format!("{path}{key}."), depth + 1));
                        None
                    }
                    _ => None,
                };
                if let Some(fact) = fact.filter(|_| KEYS.contains(&key.as_str())) {
                    facts.values.entry(format!("{path}{key}")).or_insert(fact);
                }
            }
        }
        facts
    }
}
