//! RegNetYs, checkpoints of SwAV and DeepCluster v2, and transformers for another image size give PyTorch's features.
//! The fixtures and their script are in `fixtures/` (`encoders.py`).

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use ssl_backdoor_model::{
    Basis, Encoder, EncoderConfig, EncoderHeader, ImportOptions, Imported, Positions, RegNetConfig,
    RegNetShape, RegNetSize, RegNetStem, load_encoder,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoders").join(name)
}

fn import(name: &str, options: &ImportOptions) -> Result<Imported, String> {
    Imported::read(&fixture(name), options).map_err(|e| e.to_string())
}

fn sized(size: u32) -> ImportOptions {
    ImportOptions { size: Some(size), ..ImportOptions::default() }
}

/// PyTorch's array `name`.
fn golden<const D: usize>(name: &str) -> Tensor<D> {
    let bytes = std::fs::read(fixture("features.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let dtype = if view.dtype() == Dtype::F16 { DType::F16 } else { DType::F32 };
    let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
    let values: Vec<f32> = data.iter::<f32>().collect();
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &Device::flex())
}

/// The largest difference between the features of `encoder` and PyTorch's `name`, relative to the largest feature.
fn off(encoder: &Encoder, size: u32, name: &str) -> f32 {
    let found = encoder.forward(golden::<4>(&format!("images.{size}")));
    let expected = golden::<2>(&format!("{name}.features"));
    assert_eq!(found.dims(), expected.dims());
    let scale: f32 = expected.clone().abs().max().into_scalar();
    (found - expected).abs().max().into_scalar::<f32>() / scale
}

/// The larger [`off`] of `imported` and of the file that it writes.
#[track_caller]
fn worst(imported: &Imported, name: &str) -> f32 {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let path = folder.path().join("encoder.safetensors");
    imported.write(&path, true, &device).unwrap();
    let header = EncoderHeader::read(&path).unwrap().unwrap();
    assert_eq!(header, imported.header);
    let written = load_encoder(&header, &path, &device).unwrap();
    let size = header.preprocessing.size;
    off(&imported.encoder(&device).unwrap(), size, name).max(off(&written, size, name))
}

fn basis(imported: &Imported, of: &str) -> Option<Basis> {
    let found = imported.header.findings.iter().find(|finding| finding.of == of);
    found.map(|finding| finding.basis)
}

fn regnet(depths: [usize; 4], widths: [usize; 4], stem: RegNetStem) -> EncoderConfig {
    let size = RegNetSize::Custom(RegNetShape { depths, widths, group: 8 });
    EncoderConfig::RegnetY(RegNetConfig { size, stem })
}

#[test]
fn a_regnet_has_torchvisions_features_and_names() {
    let imported = import("regnet.pth", &sized(40)).unwrap();
    let wanted = regnet([1, 2, 1, 1], [8, 8, 16, 24], RegNetStem::Imagenet);
    assert_eq!(imported.header.encoder, wanted);
    assert_eq!(basis(&imported, "stem"), Some(Basis::Assumed));
    let difference = worst(&imported, "regnet");
    assert!(difference < 1e-4, "{difference}");

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    imported.write(&out, false, &Device::flex()).unwrap();
    let bytes = std::fs::read(&out).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names: BTreeMap<String, Vec<usize>> =
        file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
    let text = std::fs::read_to_string(fixture("regnet.json")).unwrap();
    assert_eq!(names, serde_json::from_str(&text).unwrap());
}

#[test]
fn the_stride_of_a_regnets_stem_is_said_by_the_user() {
    let small = ImportOptions { stem_stride: Some(1), ..sized(40) };
    let imported = import("regnet.pth", &small).unwrap();
    assert_eq!(imported.header.encoder, regnet([1, 2, 1, 1], [8, 8, 16, 24], RegNetStem::Small));
    assert_eq!(basis(&imported, "stem"), Some(Basis::Given));
    let difference = worst(&imported, "regnet small");
    assert!(difference < 1e-4, "{difference}");
    assert!(worst(&import("regnet.pth", &sized(40)).unwrap(), "regnet small") > 1e-3);
    for (options, words) in [
        (ImportOptions { stem_stride: Some(3), ..sized(40) }, "stem_stride = 3 is out of range"),
        (ImportOptions { max_pool: Some(true), ..sized(40) }, "is a RegNet, which has no stem"),
        (ImportOptions { heads: Some(2), ..sized(40) }, "has no attention heads"),
    ] {
        let said = import("regnet.pth", &options).err().unwrap();
        assert!(said.contains(words), "{said}");
    }
    // Without a size the images are ImageNet's.
    let imported = import("regnet.pth", &ImportOptions::default()).unwrap();
    assert_eq!(imported.header.preprocessing.size, 224);
    let said = import("regnetx.pth", &sized(40)).err().unwrap();
    assert!(said.contains("a RegNetX; only RegNetYs are supported"), "{said}");
}

#[test]
fn seer_and_the_clustering_methods_come_in_without_their_heads() {
    let trunk = "classy_state_dict.base_model.model.trunk._feature_blocks.";
    for (file, name, prefix, head) in [
        ("seer.torch", "seer", trunk, "heads.0.prototypes0.weight"),
        ("swav.pth.tar", "swav", "state_dict.module.", "prototypes.weight"),
        ("swav.pth.tar", "swav", "state_dict.module.", "projection_head.1.running_mean"),
        ("deepclusterv2.pth.tar", "deepclusterv2", "module.", "prototypes.prototypes2.weight"),
        (
            "lightly_dino.ckpt",
            "lightly dino",
            "state_dict.teacher_backbone.",
            "student_head.layers.0.weight",
        ),
    ] {
        let imported = import(file, &sized(32)).unwrap();
        assert_eq!(imported.prefix, prefix, "{file}");
        let difference = worst(&imported, name);
        assert!(difference < 1e-4, "{file}: {difference}");
        let others: Vec<&str> = imported.others().collect();
        assert!(others.iter().any(|other| other.ends_with(head)), "{file}: {others:?}");
        assert!(others.iter().all(|other| !other.starts_with("optimizer")), "{file}: {others:?}");
    }
    let seer = import("seer.torch", &sized(32)).unwrap().header.encoder;
    assert_eq!(seer, regnet([1, 1, 2, 1], [8, 16, 16, 24], RegNetStem::Imagenet));
    let dino = import("lightly_dino.ckpt", &sized(32)).unwrap();
    assert_eq!(dino.left, ["state_dict.student_backbone."]);
    assert_eq!(dino.reason, "the teacher, which DINO and iBOT evaluate");
}

#[test]
fn learned_positions_are_interpolated_for_images_of_another_size() {
    let heads = ImportOptions { heads: Some(2), ..ImportOptions::default() };
    let own = import("dino_positions.pth", &heads).unwrap();
    let positions = Positions::Learned(4);
    let vit = EncoderConfig::Vit { dim: 16, depth: 2, heads: 2, patch: 8, positions };
    assert_eq!((own.header.encoder, own.header.preprocessing.size), (vit, 32));
    assert_eq!(basis(&own, "positions"), None);
    assert!(worst(&own, "vit 32") < 1e-4);
    for size in [16, 48] {
        let options = ImportOptions { size: Some(size), ..heads.clone() };
        let other = import("dino_positions.pth", &options).unwrap();
        assert_eq!(other.header.encoder, vit);
        assert_eq!(basis(&other, "positions"), Some(Basis::Given));
        let difference = worst(&other, &format!("vit {size}"));
        assert!(difference < 1e-4, "{size}: {difference}");
        // One encoder serves crops of every size.
        assert!(off(&own.encoder(&Device::flex()).unwrap(), size, &format!("vit {size}")) < 1e-4);
    }
    let options = ImportOptions { size: Some(36), ..heads };
    let said = import("dino_positions.pth", &options).err().unwrap();
    assert!(said.contains("patch = 8 is out of range"), "{said}");
}
