//! The names of the arrays in a pickle: those in `state_dict()`, prefixed by the keys that lead there.

use std::collections::{BTreeMap, HashSet};

use super::pickle::{Call, Item, Node};
use super::torch::{Graph, Place};

/// Largest number of levels between the root of a checkpoint and an array.
const DEPTH: usize = 64;
/// Largest number of visited values: a checkpoint has some thousands, a bomb of shared lists any number.
const VALUES: usize = 1 << 22;
/// Largest number of bytes in all names.
const NAMES: usize = 1 << 26;

/// The arrays of a pickle by name; for unreadable tensor data, the reason.
pub(super) type Arrays = BTreeMap<String, Result<Place, String>>;

/// Names every array of `graph`. Values without arrays are skipped, whatever they are.
///
/// # Errors
/// A message if there are more than in any checkpoint.
pub(super) fn arrays(graph: &Graph<'_>) -> Result<Arrays, String> {
    let mut walk = Walk {
        graph,
        carries: carriers(graph),
        path: Vec::new(),
        name: String::new(),
        values: 0,
        names: 0,
        found: BTreeMap::new(),
    };
    walk.visit(graph.pickle.root)?;
    Ok(walk.found)
}

/// Which nodes lead to data outside the pickle.
fn carriers(graph: &Graph<'_>) -> Vec<bool> {
    let nodes = &graph.pickle.nodes;
    let mut parents: Vec<Vec<u32>> = vec![Vec::new(); nodes.len()];
    let mut open = Vec::new();
    for (at, node) in (0u32..).zip(nodes) {
        let mut child = |item: &Item| {
            if let Item::Node(child) = item
                && let Some(of) = parents.get_mut(*child as usize)
            {
                of.push(at);
            }
        };
        match node {
            Node::Global(..) => {}
            // A module's class with its source, as stored by the older format.
            Node::Persistent(id) if graph.tag(*id).as_deref() == Some("module") => {}
            Node::Persistent(_) => open.push(at),
            Node::Tuple(items) | Node::List(items) => items.iter().for_each(child),
            Node::Dict(pairs) => pairs.iter().for_each(|(_, value)| child(value)),
            Node::Call(call) => {
                [call.callable, call.args, call.state].iter().for_each(&mut child);
                call.items.iter().for_each(&mut child);
                call.entries.iter().for_each(|(_, value)| child(value));
            }
        }
    }
    let mut carries = vec![false; nodes.len()];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut carries[at as usize], true) {
            open.append(&mut parents[at as usize]);
        }
    }
    carries
}

struct Walk<'a> {
    graph: &'a Graph<'a>,
    carries: Vec<bool>,
    /// The nodes from the root to here.
    path: Vec<u32>,
    name: String,
    values: usize,
    names: usize,
    found: Arrays,
}

/// The tables of a `torch.nn.Module` that `state_dict()` lists.
const TABLES: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// Containers that are called with their contents.
const CONTAINERS: [[&str; 2]; 12] = [
    ["collections", "OrderedDict"],
    ["collections", "defaultdict"],
    ["collections", "Counter"],
    ["collections", "deque"],
    ["builtins", "dict"],
    ["builtins", "list"],
    ["builtins", "tuple"],
    ["builtins", "set"],
    ["builtins", "frozenset"],
    ["__builtin__", "dict"],
    ["__builtin__", "set"],
    ["__builtin__", "frozenset"],
];

type Done = Result<(), String>;

impl Walk<'_> {
    fn visit(&mut self, item: Item) -> Done {
        let Item::Node(at) = item else { return Ok(()) };
        // A node that contains itself was named on the way here.
        if !self.carries.get(at as usize).is_some_and(|carries| *carries) || self.path.contains(&at)
        {
            return Ok(());
        }
        let graph = self.graph;
        self.values += match graph.node(item) {
            Some(Node::Tuple(items) | Node::List(items)) => 1 + items.len(),
            Some(Node::Dict(pairs)) => 1 + pairs.len(),
            Some(Node::Call(call)) => 1 + call.items.len() + call.entries.len(),
            _ => 1,
        };
        if self.values > VALUES || self.names > NAMES {
            return Err("its objects contain each other in too many ways".into());
        }
        if self.path.len() == DEPTH {
            self.unreadable(format!("it is nested more than {DEPTH} levels deep"));
            return Ok(());
        }
        self.path.push(at);
        match graph.node(item) {
            None | Some(Node::Global(..)) => {}
            Some(Node::Persistent(_)) => self.unreadable("it is a storage without a tensor".into()),
            Some(Node::Tuple(items) | Node::List(items)) => self.numbered(items)?,
            Some(Node::Dict(pairs)) => self.keyed(pairs)?,
            Some(Node::Call(call)) => self.call(call)?,
        }
        self.path.pop();
        Ok(())
    }

    fn unreadable(&mut self, reason: String) {
        self.insert(Err(reason));
    }

    fn insert(&mut self, place: Result<Place, String>) {
        self.names += self.name.len();
        self.found.insert(self.name.clone(), place);
    }

    /// Visits `item` under `key`.
    fn under(&mut self, key: &str, item: Item) -> Done {
        let length = self.name.len();
        if length > 0 {
            self.name.push('.');
        }
        self.name.push_str(key);
        let done = self.visit(item);
        self.name.truncate(length);
        done
    }

    fn carrying(&self, item: Item) -> bool {
        match item {
            Item::Node(at) => self.carries.get(at as usize).is_some_and(|carries| *carries),
            _ => false,
        }
    }

    fn numbered(&mut self, items: &[Item]) -> Done {
        for (at, item) in items.iter().enumerate() {
            if self.carrying(*item) {
                self.under(&at.to_string(), *item)?;
            }
        }
        Ok(())
    }

    fn keyed(&mut self, pairs: &[(Item, Item)]) -> Done {
        for (key, value) in pairs {
            if self.carrying(*value) {
                let key = self.key(*key);
                self.under(&key, *value)?;
            }
        }
        Ok(())
    }

    /// The part of a name that stands for a key.
    fn key(&self, key: Item) -> String {
        match key {
            Item::Text(_) => self.graph.text(key).unwrap_or_default().chars().take(500).collect(),
            Item::Int(number) => number.to_string(),
            Item::Bool(value) => if value { "True" } else { "False" }.into(),
            Item::Float(number) => number.to_string(),
            Item::None => "None".into(),
            Item::Bytes(span) => {
                let text = String::from_utf8_lossy(span.of(self.graph.bytes)).into_owned();
                text.chars().take(500).collect()
            }
            Item::Opaque => "(a large number)".into(),
            Item::Node(_) => "(a key that is not text)".into(),
        }
    }

    fn call(&mut self, call: &Call) -> Done {
        if let Some(place) = self.graph.array(call) {
            let place = match self.found.get(&self.name) {
                // One array by two paths: an `EasyDict` holds it as a value and as an attribute.
                Some(before) if *before != place => Err("two arrays have this name".into()),
                _ => place,
            };
            self.insert(place);
            return Ok(());
        }
        let args = match self.graph.node(call.args) {
            Some(Node::Tuple(args)) => args.as_slice(),
            _ => &[],
        };
        let global = self.graph.global(call.callable);
        let [module, name] =
            global.as_ref().map_or(["", ""], |of| [of[0].as_str(), of[1].as_str()]);
        let container = CONTAINERS.contains(&[module, name]);
        if self.carrying(call.callable) {
            self.unreadable("it is made by an object".into());
        } else if name == "_reconstructor" && ["copyreg", "copy_reg"].contains(&module) {
            // Class, its base, and a value of the base: protocols 0 and 1.
            args.get(2).map_or(Ok(()), |base| self.visit(*base))?;
        } else if call.new {
            self.numbered(args)?;
        } else if container {
            args.iter().try_for_each(|arg| self.contents(*arg))?;
        } else if self.carrying(call.args) {
            self.unreadable(format!("it is made by {module}.{name}"));
        }
        self.numbered(&call.items)?;
        self.keyed(&call.entries)?;
        match self.graph.node(call.state) {
            // The attributes in `__dict__` and those in slots.
            Some(Node::Tuple(both)) => both.iter().try_for_each(|part| self.attributes(*part)),
            _ => self.attributes(call.state),
        }
    }

    /// The argument of a container's call: a dict, a list of values, or a list of pairs.
    fn contents(&mut self, arg: Item) -> Done {
        let graph = self.graph;
        let Some(Node::List(items) | Node::Tuple(items)) = graph.node(arg) else {
            return self.visit(arg);
        };
        let pair = |item: &Item| match graph.node(*item)? {
            Node::Tuple(pair) | Node::List(pair) => match pair[..] {
                [key @ Item::Text(_), value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        };
        match items.iter().map(pair).collect::<Option<Vec<_>>>() {
            Some(pairs) => self.keyed(&pairs),
            None => self.numbered(items),
        }
    }

    /// The attributes of an object; for a `torch.nn.Module`, the entries of its `state_dict()`.
    fn attributes(&mut self, state: Item) -> Done {
        let graph = self.graph;
        let Some(Node::Dict(pairs)) = graph.node(state) else { return self.visit(state) };
        if !self.carrying(state) {
            return Ok(());
        }
        self.values += pairs.len();
        let attribute = |name: &str| {
            let is = |(key, _): &&(Item, Item)| graph.text(*key).is_some_and(|key| key == name);
            pairs.iter().rev().find(is).map(|(_, value)| *value)
        };
        let [parameters, buffers, modules] = TABLES.map(attribute);
        let (Some(parameters), Some(buffers), Some(modules)) = (parameters, buffers, modules)
        else {
            return self.keyed(pairs);
        };
        let passing = attribute("_non_persistent_buffers_set");
        let passing: HashSet<String> = passing
            .and_then(|set| graph.sequence(set))
            .unwrap_or_default()
            .iter()
            .filter_map(|name| graph.text(*name))
            .collect();
        for table in [parameters, buffers, modules] {
            if !self.carrying(table) {
                continue;
            }
            let entries: Vec<(Item, Item)> = match graph.node(table) {
                Some(Node::Dict(pairs)) => pairs.clone(),
                Some(Node::Call(call)) => call.entries.clone(),
                _ => Vec::new(),
            };
            let kept = |key: Item| {
                table != buffers || graph.text(key).is_none_or(|key| !passing.contains(&key))
            };
            let kept: Vec<_> = entries.into_iter().filter(|(key, _)| kept(*key)).collect();
            self.keyed(&kept)?;
        }
        Ok(())
    }
}
