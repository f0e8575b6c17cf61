//! Arrays and objects as PyTorch writes them with each protocol, and hostile pickles. Every one gives arrays or a
//! reason, quickly, and without more memory than the file justifies.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreign").join(name)
}

/// A checkpoint of the older format around `pickle`, with a single storage "0" of the numbers 0 to 7.
pub(super) fn around(pickle: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    let version = b"\x80\x02M\xe9\x03.";
    let system = b"\x80\x02}.";
    let keys = b"\x80\x02]U\x010a.";
    let mut bytes = [magic.as_slice(), version, system, pickle, keys].concat();
    bytes.extend(8u64.to_le_bytes());
    bytes.extend((0..8u8).flat_map(|number| f32::from(number).to_le_bytes()));
    bytes
}

/// The instructions that leave a tensor on the stack. Its storage has `class` and `count` numbers. `count`, `first`,
/// `shape` and `strides` are instructions themselves.
fn tensor(class: &str, count: &[u8], first: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let storage =
        [b"(U\x07storagectorch\n".as_slice(), class.as_bytes(), b"\nU\x010U\x03cpu", count, b"tQ"]
            .concat();
    let call = b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice();
    [call, &storage, first, shape, strides, b"\x89NtR"].concat()
}

/// A tensor of two rows of three.
fn good() -> Vec<u8> {
    tensor("FloatStorage", b"K\x08", b"K\x01", b"K\x02K\x03\x86", b"K\x03K\x01\x86")
}

/// `{"w": value}`.
fn under_w(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}U\x01w".as_slice(), value, b"s."].concat()
}

fn open(bytes: Vec<u8>) -> Result<StateDict, String> {
    StateDict::parse(bytes, Path::new("x.pth")).map_err(|e| e.to_string())
}

fn reason(pickle: &[u8]) -> String {
    let file = open(around(pickle)).unwrap();
    assert!(file.shapes.is_empty(), "{:?}", file.shapes);
    file.unreadable.values().next().cloned().unwrap_or_default()
}

#[test]
fn field_f10_arrays_are_read_by_every_protocol_and_format() {
    for name in ["arrays.pt", "arrays1.pt", "arrays2.pt", "arrays3.pt", "arrays4.pt", "arrays5.pt"]
    {
        let file = StateDict::open(&fixture(name)).unwrap();
        let values = |array: &str| file.read(array).unwrap().values;
        let whole = |numbers: &[u8]| numbers.iter().map(|&n| f32::from(n)).collect::<Vec<f32>>();
        assert_eq!(file.read("plain").unwrap().shape, [2, 3], "{name}");
        assert_eq!(values("plain"), whole(&[0, 1, 2, 3, 4, 5]), "{name}");
        assert_eq!(file.read("turned").unwrap().shape, [6, 4]);
        assert_eq!(values("turned")[..5], [0.0, 6.0, 12.0, 18.0, 1.0]);
        assert_eq!(values("part"), whole(&[6, 8, 10, 12, 14, 16]));
        for kind in ["half", "bfloat", "double"] {
            assert_eq!(values(kind), whole(&[0, 1, 2, 3]), "{name} {kind}");
        }
        assert_eq!((values("scalar"), file.read("scalar").unwrap().shape), (vec![7.0], vec![]));
        assert_eq!((values("empty"), file.read("empty").unwrap().shape), (vec![], vec![0, 3]));
        assert_eq!(values("expanded"), [5.0; 3]);
        assert_eq!(values("parameter"), [0.0, 1.0]);
        assert_eq!(file.shapes.len(), 10, "{name}: {:?}", file.shapes);
        // Unreadable arrays are named and do not affect the rest.
        let unread: Vec<&str> = file.unreadable.keys().map(String::as_str).collect();
        assert_eq!(unread, ["complex", "integers", "quantized", "sparse", "truth"], "{name}");
        assert!(file.unreadable["sparse"].contains("_rebuild_sparse_tensor"));
        assert!(file.unreadable["quantized"].contains("_rebuild_qtensor"));
    }
    // With protocol 0, PyTorch writes the names of its storages as texts, and cannot read them itself.
    let file = StateDict::open(&fixture("arrays0.pt")).unwrap();
    assert!(file.shapes.is_empty() && file.unreadable["plain"].contains("not named as PyTorch"));
}

#[test]
fn field_f10_objects_without_tensors_are_passed_over() {
    for name in ["objects2.pth", "objects4.pth"] {
        let file = StateDict::open(&fixture(name)).unwrap();
        assert!(file.shapes.keys().all(|name| name.starts_with("model.")), "{:?}", file.shapes);
        assert_eq!(file.shapes["model.conv1.weight"], [1, 3, 3, 3]);
        let counters = file.unreadable.keys().all(|name| name.ends_with("num_batches_tracked"));
        assert!(counters, "{name}: {:?}", file.unreadable);
        assert!(file.numpy && file.facts.text("arch").as_deref() == Some("resnet18"), "{name}");
    }
}

#[test]
fn field_f10_a_whole_module_has_the_names_of_its_state_dict() {
    let file = StateDict::open(&fixture("module.pt")).unwrap();
    assert_eq!(file.shapes["layer2.0.downsample.1.running_mean"], [2]);
    // A non-persistent buffer: PyTorch's own `state_dict()` omits it.
    assert!(!file.shapes.keys().any(|name| name.contains("passing")));
}

#[test]
fn field_f10_tensors_lie_in_containers_of_any_class_and_key() {
    let good = good();
    let of = |parts: &[&[u8]]| -> Vec<String> {
        let file = open(around(&[b"\x80\x02".as_slice(), &parts.concat(), b"."].concat())).unwrap();
        assert!(file.unreadable.is_empty(), "{:?}", file.unreadable);
        for name in file.shapes.keys() {
            assert_eq!(file.read(name).unwrap().values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        }
        file.shapes.into_keys().collect()
    };
    // A subclass of dict with an attribute, by `__newobj__`; a subclass of list; an `OrderedDict` called with pairs.
    let node: &[&[u8]] = &[b"cyacs.config\nCfgNode\n)\x81U\x01a", &good, b"s}U\x01bNsb"];
    assert_eq!(of(node), ["a"]);
    assert_eq!(of(&[b"cmy\nList\n)\x81", &good, b"a"]), ["0"]);
    assert_eq!(of(&[b"ccollections\nOrderedDict\n]]U\x01a", b"a", &good, b"aa\x85R"]), ["a"]);
    // The same with protocol 0: `copy_reg._reconstructor(cls, dict, {…})`.
    let old = b"ccopy_reg\n_reconstructor\n(cmy\nDict\nc__builtin__\ndict\n}U\x01a".as_slice();
    assert_eq!(of(&[old, &good, b"stR"]), ["a"]);
    // Attributes of an object, in `__dict__` and in slots; keys of all types.
    assert_eq!(of(&[b"cmy\nState\n)\x81}U\x05model}U\x01a", &good, b"ssb"]), ["model.a"]);
    assert_eq!(of(&[b"cmy\nState\n)\x81N}U\x01a", &good, b"s\x86b"]), ["a"]);
    for (key, name) in [
        (b"N".as_slice(), "None"),
        (b"K\x07", "7"),
        (b"\x88", "True"),
        (b"G?\xe0\x00\x00\x00\x00\x00\x00", "0.5"),
        (b"C\x02ab", "ab"),
        (b"K\x01K\x02\x86", "(a key that is not text)"),
    ] {
        assert_eq!(of(&[b"}", key, &good, b"s"]), [name]);
    }
    // The same array as a value and as an attribute, as in an `EasyDict`.
    let easy: &[&[u8]] = &[b"ceasydict\nEasyDict\n)\x81U\x01a", &good, b"q\x01s}U\x01ah\x01sb"];
    assert_eq!(of(easy), ["a"]);
}

#[test]
fn field_f10_nothing_is_called_and_what_carries_tensors_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("called");
    let touch = format!("touch {}", mark.display());
    let call = |global: &str, argument: &[u8]| {
        let text =
            [b"X".as_slice(), &(touch.len() as u32).to_le_bytes(), touch.as_bytes()].concat();
        [b"c".as_slice(), global.as_bytes(), b"\n(", &text, argument, b"tR"].concat()
    };
    for global in ["os\nsystem", "posix\nsystem", "builtins\nexec", "builtins\neval", "nt\nsystem"]
    {
        let file = open(around(&under_w(&call(global, b"")))).unwrap();
        assert!(file.shapes.is_empty() && file.unreadable.is_empty());
        // A call with a tensor among its arguments is named.
        let said = reason(&under_w(&call(global, &good())));
        assert_eq!(said, format!("it is made by {}", global.replace('\n', ".")));
    }
    // As the class of an object, by the instructions of protocols 0 and 4, and by `getattr`.
    for pickle in [
        b"\x80\x02cos\nsystem\n)\x81U\x01ab.".as_slice(),
        b"(ios\nsystem\n.",
        b"(cos\nsystem\nS'touch x'\no.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01a\x85R.",
        b"\x80\x02c__builtin__\ngetattr\n(cos\nU\x00U\x06systemtRU\x01a\x85R.",
    ] {
        let _ = open(around(pickle));
    }
    assert!(!mark.exists());
}

#[test]
fn field_f10_persistent_ids_that_lie_are_named() {
    let shape = |shape: &[u8], strides: &[u8]| {
        reason(&under_w(&tensor("FloatStorage", b"K\x08", b"K\x00", shape, strides)))
    };
    // Larger than the storage by its size, offset or strides; too large to count; no sizes at all.
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let fits = "does not fit a storage of 8";
    assert!(shape(b"K\x09\x85", b"K\x01\x85").contains(fits));
    assert!(shape(b"K\x02K\x02\x86", b"K\x08K\x01\x86").contains(fits));
    let [both, ones] = [[huge.as_slice(), huge, b"\x86"].concat(), b"K\x01K\x01\x86".to_vec()];
    assert!(shape(&both, &ones).contains("too large"));
    assert!(shape(b"K\x02\x85", &[huge.as_slice(), b"\x85"].concat()).contains(fits));
    assert!(shape(b"K\x02\x85", b"K\x01K\x01\x86").contains("1 sides and 2 strides"));
    assert!(shape(b"J\xff\xff\xff\xff\x85", b"K\x01\x85").contains("not a list of sizes"));
    assert!(shape(b"N", b"N").contains("not a list of sizes"));
    let place = tensor("FloatStorage", b"K\x08", huge, b"K\x01\x85", b"K\x01\x85");
    assert!(reason(&under_w(&place)).contains("does not fit"));
    // The file has 8 numbers, whatever the id says.
    let lie = tensor("FloatStorage", huge, b"K\x07", b"K\x02\x85", b"K\x01\x85");
    let file = open(around(&under_w(&lie))).unwrap();
    assert!(file.read("w").unwrap_err().to_string().contains("storage 0 is truncated"));
    // A storage of unknown class, without a size or without a tensor; an id that is not a tuple; missing arguments.
    for (pickle, word) in [
        (tensor("FooStorage", b"K\x08", b"K\x00", b"K\x01\x85", b"K\x01\x85"), "a FooStorage"),
        (tensor("FloatStorage", b"N", b"K\x00", b"K\x01\x85", b"K\x01\x85"), "no size"),
        (b"K\x01Q".to_vec(), "a storage without a tensor"),
        (b"Pid\n".to_vec(), "a storage without a tensor"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01QK\x00)))NtR".to_vec(), "not named as"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01QtR".to_vec(), "too few arguments"),
        (b"ctorch._utils\n_rebuild_parameter\n(K\x01Q\x89NtR".to_vec(), "without a tensor"),
    ] {
        let said = reason(&under_w(&pickle));
        assert!(said.contains(word), "{said}");
    }
    // A wider number type than the file's: the numbers would end beyond the file.
    let double = tensor("DoubleStorage", b"K\x08", b"K\x00", b"K\x08\x85", b"K\x01\x85");
    assert!(open(around(&under_w(&double))).is_err_and(|e| e.contains("truncated")));
}

/// Forty lists, each of ten references to the one before: few nodes, but 10⁴⁰ paths.
fn laughs(bottom: &[u8]) -> Vec<u8> {
    let mut pickle = [b"\x80\x02".as_slice(), bottom, b"q\x00"].concat();
    for level in 0..40u8 {
        pickle.push(b'(');
        pickle.extend([b'h', level].repeat(10));
        pickle.extend([b'l', b'q', level + 1]);
    }
    pickle.push(b'.');
    pickle
}

#[test]
fn field_f10_bombs_end_soon() {
    let since = Instant::now();
    // Without a tensor they are skipped; with one they are refused.
    assert!(open(around(&laughs(b"K\x01"))).unwrap().shapes.is_empty());
    let said = open(around(&laughs(&good()))).err().unwrap();
    assert!(said.contains("in too many ways"), "{said}");
    // Deeply nested tuples, lists and calls, as data and as the path to a tensor.
    for wrap in [b"\x85".as_slice(), b"l", b"R"] {
        let open_mark = if wrap == b"l" { b"(".as_slice() } else { b"" };
        let call = if wrap == b"R" { b"cmy\nf\n".as_slice() } else { b"" };
        for inner in [b"N".to_vec(), good()] {
            let depth = 100_000;
            let before = [open_mark, call].concat().repeat(depth);
            let after = if wrap == b"R" { b"\x85R".repeat(depth) } else { wrap.repeat(depth) };
            let pickle = [b"\x80\x02".as_slice(), &before, &inner, &after, b"."].concat();
            let file = open(around(&pickle)).unwrap();
            assert!(file.shapes.is_empty() && file.unreadable.len() <= 1);
        }
    }
    // Cycles: through a list, a dict, the state of an object and the arguments of a call.
    for pickle in [
        b"\x80\x02]q\x00h\x00a.".as_slice(),
        b"\x80\x02}q\x00U\x01ah\x00s.",
        b"\x80\x02cmy\nA\n)\x81q\x00}U\x01ah\x00sb.",
        b"\x80\x02]q\x00ccollections\nOrderedDict\nh\x00\x85Ra.",
    ] {
        assert!(open(around(pickle)).unwrap().shapes.is_empty());
        let with = [&pickle[..pickle.len() - 1], b"q\x05](h\x05", &good(), b"e."].concat();
        let file = open(around(&with)).unwrap();
        assert_eq!(file.shapes.len(), 1, "{:?}", file.shapes);
    }
    // Lengths beyond the end of the file, and instructions without end.
    for pickle in [
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.".as_slice(),
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02\x8b\xff\xff\xff\xff.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN",
        b"\x80\x02T\xff\xff\xff\x7f.",
    ] {
        // The pickle ends the file, so that no bytes after it can count as part of it.
        let whole = around(pickle);
        let end = whole.windows(pickle.len()).position(|part| part == pickle).unwrap();
        let said = open(whole[..end + pickle.len()].to_vec()).err().unwrap();
        assert!(said.contains("truncated"), "{said}");
    }
    let many = [b"\x80\x02".as_slice(), &b"]".repeat(5_000_000), b"."].concat();
    let said = open(around(&many)).err().unwrap();
    assert!(said.contains("more than 4194304 objects"), "{said}");
    let many = [b"\x80\x02".as_slice(), &b"N0".repeat(5_000_000), b"N."].concat();
    assert!(open(around(&many)).err().unwrap().contains("instructions"));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

/// A small file that requests a large network: all elements of an array are the same number, by strides of 0.
#[test]
fn field_f10_arrays_that_share_their_numbers_cost_no_more_than_the_file_allows() {
    let shape = b"M\xff\xffM\xff\xff\x86";
    let wide = tensor("FloatStorage", b"K\x08", b"K\x00", shape, b"K\x00K\x00\x86");
    let file = open(around(&under_w(&wide))).unwrap();
    let names = ["w".to_owned()];
    let said = file.check_size(names.iter()).unwrap_err().to_string();
    assert!(said.contains("would take 17179344900 bytes"), "{said}");
}

#[test]
fn field_f10_damaged_files_say_what_is_wrong() {
    let good = around(&under_w(&good()));
    assert!(open(good.clone()).unwrap().read("w").is_ok());
    for length in 0..good.len() {
        // Every prefix of the file gives a reason, or arrays whose numbers are missing.
        if let Ok(file) = open(good[..length].to_vec()) {
            assert!(file.read("w").is_err(), "{length}");
        }
    }
    let archive = std::fs::read(fixture("arrays.pt")).unwrap();
    for length in (0..archive.len()).step_by(7) {
        assert!(open(archive[..length].to_vec()).is_err(), "{length}");
    }
    // The archive's checksum finds a flipped bit in an array.
    let numbers: Vec<u8> = (0..6u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let at = archive.windows(numbers.len()).position(|part| part == numbers).unwrap();
    let mut turned = archive;
    turned[at + 9] ^= 1;
    let file = open(turned).unwrap();
    assert!(file.read("plain").unwrap_err().to_string().contains("checksum"));
    for (bytes, word) in [
        (Vec::new(), "is empty"),
        (b"hello".to_vec(), "not a PyTorch checkpoint"),
        (b"\x80\x02}.".to_vec(), "not a PyTorch checkpoint"),
        (b"PK\x05\x06".to_vec(), "truncated ZIP archive"),
        (around(b"\x80\x02\xff."), "unknown instruction (0xff)"),
        (around(b"\x80\x020."), "a value is missing"),
        (around(b"\x80\x02h\x09."), "before it is written"),
        (around(b"\x80\x02t."), "a mark is missing"),
        (around(b"\x80\x02Nq\xffN\x86s."), "a value is missing"),
        (around(b"\x80\x02NNNs."), "not a dict"),
        (around(b"\x80\x02NNa."), "not a list"),
        (around(b"\x80\x02(NNNd."), "no value"),
    ] {
        let said = open(bytes).err().unwrap();
        assert!(said.contains(word), "no “{word}” in: {said}");
        for inner in ["burn", "candle", "pytorch_reader", "zip::", "Err("] {
            assert!(!said.contains(inner), "{said}");
        }
    }
}
