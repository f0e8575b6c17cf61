//! Malicious checkpoints: a pickle that names code, headers with false sizes, and random changes of good files. No
//! code runs, nothing huge is allocated, nothing panics.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use ssl_backdoor_model::{EncoderHeader, ImportOptions, Imported};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/model/tests/fixtures");
    std::fs::read(folder.join(name)).unwrap()
}

/// Reads `bytes` as a checkpoint called `name`.
fn read(name: &str, bytes: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let options = ImportOptions { size: Some(32), heads: Some(2), ..ImportOptions::default() };
    let header = EncoderHeader::read(&path).map_err(|e| e.to_string());
    let imported = Imported::read(&path, &options).map_err(|e| e.to_string());
    imported.map(|_| ()).and(header.map(|_| ()))
}

#[test]
fn a_pickle_that_names_code_does_not_run_it() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("it-ran");
    // pickle.loads would run this as os.system("touch …").
    let command = format!("touch {}", trace.display());
    let mut pickle = b"\x80\x02cposix\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    assert!(read("evil.pth", &pickle).is_err());
    assert!(!trace.exists());
}

#[test]
fn a_header_that_lies_about_its_size_allocates_nothing() {
    // The first eight bytes state a wrong length of the header.
    for length in [u64::MAX, 1 << 40, 100_000_000, 0] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert!(read("lie.safetensors", &bytes).is_err(), "{length}");
    }
    // An array declared with 2^62 numbers, of which the file has eight bytes.
    let header =
        br#"{"conv1.weight":{"dtype":"F32","shape":[2147483648,2147483648],"data_offsets":[0,8]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 8]);
    assert!(read("lie.safetensors", &bytes).is_err());
    // A header of a huge network: the size is refused before anything is allocated.
    let huge = r#"{"encoder":{"kind":"resnet50","width":4000000000,"stem":"small"},"preprocessing":
        {"size":32,"mean":[0,0,0],"std":[1,1,1]}}"#;
    let json = serde_json::json!({ "__metadata__": { "ssl_backdoor": huge } }).to_string();
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.write_all(json.as_bytes()).unwrap();
    let said = read("huge.safetensors", &bytes).unwrap_err();
    assert!(said.contains("width") || said.contains("no known encoder"), "{said}");
}

/// Number of inputs for each property; CI's share of a hundred thousand over all readers.
const CASES: u32 = 4000;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Good files, changed in a few bytes or truncated: an error or an encoder, never a panic.
    #[test]
    fn mutated_checkpoints_are_refused_or_read(
        which in 0..3usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        front in any::<bool>(),
    ) {
        let name = ["timm.safetensors", "mae.pth", "byol.pt"][which];
        let mut bytes = fixture(name);
        // Half of the cases change the head, where the structure is.
        let reach = if front { bytes.len().min(4096) } else { bytes.len() };
        for (place, value) in changes {
            let place = place.index(reach);
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read(name, &bytes);
    }

    #[test]
    fn random_bytes_are_no_checkpoint(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read("random.pth", &bytes).is_err());
        prop_assert!(read("random.safetensors", &bytes).is_err());
    }
}
