//! Fuzzes the checkpoint reader with random and mutated bytes: it must not panic, hang or take more memory than they
//! could fill. 100,000 inputs; the seeds are checkpoints written by PyTorch and hostile ones.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::StateDict;
use super::hostile::{around, fixture};

const INPUTS: u32 = 100_000;
/// Instructions of a pickle; their arguments are left to chance.
const OPCODES: &[u8] = b".NKJMGIFSVXUTBC)]}tldaeusc\x93R\x81\x92iobPQ(012ghjpqr\x94\x80\x82\x85\x86\x87\x88\x89\x8a\x8b\
    \x8c\x8d\x8e\x8f\x90\x91\x95\x96\x97\x98";

/// A change of a seed: sets bytes, cuts or copies a piece, or replaces the seed by a pickle of random instructions.
#[derive(Debug, Clone)]
enum Change {
    Set(Vec<(prop::sample::Index, u8)>),
    Cut(prop::sample::Index, prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index, prop::sample::Index),
    Program(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let instruction = prop_oneof![4 => prop::sample::select(OPCODES), 1 => any::<u8>()];
    prop_oneof![
        6 => prop::collection::vec((at(), any::<u8>()), 1..6).prop_map(Change::Set),
        2 => (at(), at()).prop_map(|(a, b)| Change::Cut(a, b)),
        2 => (at(), at(), at()).prop_map(|(a, b, c)| Change::Copy(a, b, c)),
        3 => prop::collection::vec(instruction, 0..120).prop_map(Change::Program),
    ]
}

fn apply(seed: &[u8], change: Change) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let range = |a: prop::sample::Index, b: prop::sample::Index| {
        let (a, b) = (a.index(seed.len() + 1), b.index(seed.len() + 1));
        a.min(b)..a.max(b)
    };
    match change {
        Change::Set(changes) => {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        Change::Cut(a, b) => {
            bytes.drain(range(a, b));
        }
        Change::Copy(a, b, at) => {
            let (piece, at) = (bytes[range(a, b)].to_vec(), at.index(seed.len()));
            bytes.splice(at..at, piece);
        }
        Change::Program(program) => bytes = around(&program),
    }
    bytes
}

#[test]
fn field_f10_no_bytes_make_the_reader_panic_or_hang() {
    let of_file = |name| std::fs::read(fixture(name)).unwrap();
    let tensor =
        b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n\
        U\x010U\x03cpuK\x08tQK\x01K\x02K\x03\x86K\x03K\x01\x86\x89NtRs.";
    let seeds = [
        of_file("arrays0.pt"),
        of_file("arrays2.pt"),
        of_file("arrays4.pt"),
        of_file("arrays.pt"),
        around(tensor),
    ];
    let config = Config { cases: INPUTS, failure_persistence: None, ..Config::default() };
    let strategy = (0..seeds.len(), change());
    TestRunner::new(config)
        .run(&strategy, |(seed, change)| {
            let bytes = apply(&seeds[seed], change);
            let length = bytes.len();
            if let Ok(file) = StateDict::parse(bytes, "x.pth".as_ref()) {
                for name in file.shapes.keys() {
                    if file.check_size(std::iter::once(name)).is_ok()
                        && let Ok(array) = file.read(name)
                    {
                        prop_assert!(array.values.len() <= 2 * length + (1 << 24));
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}
