//! The meaning of the calls and persistent ids in PyTorch's pickles.

use super::pickle::{Call, Item, Node, Pickle};

/// Largest number of dimensions of an array.
const RANK: usize = 16;

/// Type of the numbers in an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F16,
    BF16,
    F32,
    F64,
    /// Any type that weights do not have: the size of a number in bytes.
    Other(usize),
}

impl Kind {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(size) => size,
        }
    }

    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "ShortStorage" => Self::Other(2),
            "IntStorage" | "QInt32Storage" => Self::Other(4),
            "LongStorage" | "ComplexFloatStorage" => Self::Other(8),
            "ComplexDoubleStorage" => Self::Other(16),
            "ByteStorage" | "CharStorage" | "BoolStorage" | "UntypedStorage" | "QInt8Storage"
            | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => Self::Other(1),
            _ => return None,
        })
    }
}

/// The position of an array's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The storage.
    pub key: String,
    pub kind: Kind,
    /// The first number in the storage.
    pub first: usize,
    pub shape: Vec<usize>,
    /// Numbers from one index to the next, for each axis.
    pub strides: Vec<usize>,
}

impl Place {
    /// The count of its numbers, and the count of the storage's numbers that they span.
    ///
    /// # Errors
    /// A message if a count overflows.
    pub fn extent(&self) -> Result<[usize; 2], String> {
        let too_large = || format!("its shape {:?} is too large", self.shape);
        let count = self.shape.iter().try_fold(1usize, |all, &side| all.checked_mul(side));
        let count = count.ok_or_else(too_large)?;
        if count == 0 {
            return Ok([0, 0]);
        }
        let last = self.shape.iter().zip(&self.strides).try_fold(0usize, |at, (side, stride)| {
            at.checked_add((side - 1).checked_mul(*stride)?)
        });
        let span = last.and_then(|last| last.checked_add(1)).ok_or_else(too_large)?;
        Ok([count, span])
    }

    /// Whether its numbers are contiguous in index order.
    pub fn is_contiguous(&self) -> bool {
        let mut wanted = 1usize;
        let sides = self.shape.iter().zip(&self.strides).rev();
        self.shape.contains(&0)
            || sides.fold(true, |all, (&side, &stride)| {
                let fits = side == 1 || stride == wanted;
                wanted = wanted.saturating_mul(side);
                all && fits
            })
    }

    /// Its `count` numbers in index order, from the bytes `part` that they span.
    pub fn gathered(&self, part: &[u8], count: usize) -> Vec<u8> {
        let size = self.kind.size();
        let mut out = Vec::with_capacity(count * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            out.extend(part.get(at * size..(at + 1) * size).unwrap_or_default());
            for (i, side) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *side {
                    break;
                }
                *i = 0;
            }
        }
        out
    }
}

/// A storage that a persistent id names.
pub(super) struct Storage {
    pub key: String,
    pub kind: Kind,
    /// Numbers in it.
    pub count: usize,
    /// The first number of the view that the id describes, as early versions wrote them.
    first: usize,
}

/// A pickle together with the bytes that its texts refer to.
pub(super) struct Graph<'a> {
    pub pickle: &'a Pickle,
    pub bytes: &'a [u8],
}

impl<'a> Graph<'a> {
    pub fn node(&self, item: Item) -> Option<&'a Node> {
        let Item::Node(at) = item else { return None };
        self.pickle.nodes.get(at as usize)
    }

    pub fn text(&self, item: Item) -> Option<String> {
        match item {
            Item::Text(span) => Some(String::from_utf8_lossy(span.of(self.bytes)).into_owned()),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub fn global(&self, item: Item) -> Option<[String; 2]> {
        let Some(Node::Global(module, name)) = self.node(item) else { return None };
        let text = |span: &super::pickle::Span| {
            String::from_utf8_lossy(span.of(self.bytes)).chars().take(200).collect()
        };
        Some([text(module), text(name)])
    }

    /// The values of a tuple, a list or a `torch.Size`.
    pub fn sequence(&self, item: Item) -> Option<&'a [Item]> {
        match self.node(item)? {
            Node::Tuple(items) | Node::List(items) => Some(items),
            Node::Call(call) => match self.node(call.args)? {
                Node::Tuple(args) => match self.node(*args.first()?)? {
                    Node::Tuple(items) | Node::List(items) => Some(items),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// The first text of a persistent id, which gives its type.
    pub fn tag(&self, id: Item) -> Option<String> {
        match self.node(id)? {
            Node::Tuple(parts) => self.text(*parts.first()?),
            _ => None,
        }
    }

    /// The storage of the persistent id `id`: `('storage', class, key, place, count[, view])`.
    pub fn storage(&self, id: Item) -> Result<Storage, String> {
        let wrong = |what: &str| format!("its storage has no {what}");
        let Some([tag, class, key, _, count, view @ ..]) = self.sequence(id) else {
            return Err("its storage is not named as PyTorch does".into());
        };
        if self.text(*tag).as_deref() != Some("storage") {
            return Err("its storage is not named as PyTorch does".into());
        }
        let [_, class] = self.global(*class).ok_or_else(|| wrong("class"))?;
        let kind = Kind::of_storage(&class).ok_or_else(|| format!("its storage is a {class}"))?;
        let key = self.text(*key).ok_or_else(|| wrong("key"))?;
        let count = natural(*count).ok_or_else(|| wrong("size"))?;
        let first = match view {
            [] | [Item::None, ..] => 0,
            [view, ..] => {
                let first = self.sequence(*view).and_then(|view| natural(*view.get(1)?));
                first.ok_or_else(|| wrong("place in another"))?
            }
        };
        Ok(Storage { key, kind, count, first })
    }

    /// The array that `call` creates; `None` if it creates something else.
    pub fn array(&self, call: &Call) -> Option<Result<Place, String>> {
        let [module, name] = self.global(call.callable)?;
        let args = match self.node(call.args)? {
            Node::Tuple(args) => args.as_slice(),
            _ => &[],
        };
        match (module.as_str(), name.as_str()) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                Some(self.rebuilt(args, None))
            }
            ("torch._utils", "_rebuild_tensor_v3") => {
                Some(self.rebuilt(args, Some(args.get(6).copied().unwrap_or(Item::None))))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(self.inner(*args.first()?))
            }
            // A subclass of a tensor: function, class, arguments, attributes.
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let [callable, _, args, ..] = args else { return None };
                let (items, entries, state) = (Vec::new(), Vec::new(), Item::None);
                let (callable, args) = (*callable, *args);
                let inner = Call { callable, args, new: false, items, entries, state };
                // Not a subclass of a subclass, so that this ends.
                match self.global(callable)?[1].as_str() {
                    "_rebuild_from_type_v2" => Some(Err("it is wrapped twice".into())),
                    _ => self.array(&inner),
                }
            }
            _ => None,
        }
    }

    /// The array inside a parameter.
    fn inner(&self, item: Item) -> Result<Place, String> {
        let Some(Node::Call(call)) = self.node(item) else {
            return Err("it is a parameter without a tensor".into());
        };
        match self.global(call.callable) {
            Some([_, name]) if name.starts_with("_rebuild_parameter") => {
                Err("it is a parameter of a parameter".into())
            }
            Some([module, name]) => {
                let made = || Err(format!("it is made by {module}.{name}"));
                self.array(call).unwrap_or_else(made)
            }
            None => Err("it is a parameter without a tensor".into()),
        }
    }

    /// `(storage, first, shape, strides, …)`; `dtype` where it is not the storage's.
    fn rebuilt(&self, args: &[Item], dtype: Option<Item>) -> Result<Place, String> {
        let [storage, first, shape, strides, ..] = args else {
            return Err("it has too few arguments".into());
        };
        let Some(Node::Persistent(id)) = self.node(*storage) else {
            return Err("it has no storage".into());
        };
        let Storage { key, kind, count, first: of_view } = self.storage(*id)?;
        let kind = match dtype {
            None => kind,
            // The other types without a storage class of their own are not types of weights.
            Some(dtype) => match self.global(dtype).map(|[_, name]| name).as_deref() {
                Some("float32") => Kind::F32,
                Some("float64") => Kind::F64,
                Some("float16") => Kind::F16,
                Some("bfloat16") => Kind::BF16,
                _ => Kind::Other(kind.size()),
            },
        };
        let numbers = |item: &Item| -> Option<Vec<usize>> {
            let items = self.sequence(*item)?;
            (items.len() <= RANK).then(|| items.iter().map(|&item| natural(item)).collect())?
        };
        let shape = numbers(shape).ok_or("its shape is not a list of sizes")?;
        let strides = numbers(strides).ok_or("its strides are not a list of sizes")?;
        if shape.len() != strides.len() {
            return Err(format!("it has {} sides and {} strides", shape.len(), strides.len()));
        }
        let first = natural(*first).and_then(|first| first.checked_add(of_view));
        let place = Place { key, kind, first: first.ok_or("it has no place")?, shape, strides };
        let [_, span] = place.extent()?;
        // If the type is given separately, the storage counts bytes.
        let count = if dtype.is_some() { count / kind.size().max(1) } else { count };
        if span > 0 && place.first.checked_add(span).is_none_or(|end| end > count) {
            return Err(format!("its shape {:?} does not fit a storage of {count}", place.shape));
        }
        Ok(place)
    }
}

/// A count or position.
fn natural(item: Item) -> Option<usize> {
    match item {
        Item::Int(number) => number.try_into().ok(),
        _ => None,
    }
}
