//! Checkpoints of other tools: the import takes the network that the tool evaluates, and gives PyTorch's features.
//! The fixtures and their script are in `fixtures/` (`foreign.py`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use ssl_backdoor_model::{
    Basis, EncoderConfig, EncoderHeader, ImportOptions, Imported, Stem, StemShape, load_encoder,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreign").join(name)
}

fn import(name: &str, options: &ImportOptions) -> Result<Imported, String> {
    Imported::read(&fixture(name), options).map_err(|e| e.to_string())
}

fn sized() -> ImportOptions {
    ImportOptions { size: Some(32), ..ImportOptions::default() }
}

/// Shape and values of PyTorch's array `name`.
fn golden(name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(fixture("features.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let numbers = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (view.shape().to_vec(), numbers)
}

/// The largest relative difference between the features of `imported`, written and reread, and PyTorch's `name`.
#[track_caller]
fn worst(imported: &Imported, images: &str, name: &str) -> f32 {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let path = folder.path().join("encoder.safetensors");
    imported.write(&path, true, &device).unwrap();
    let header = EncoderHeader::read(&path).unwrap().unwrap();
    assert_eq!(header, imported.header);
    let encoder = load_encoder(&header, &path, &device).unwrap();
    let (shape, values) = golden(images);
    let shape: [usize; 4] = shape.try_into().unwrap();
    let images = Tensor::<4>::from_data(TensorData::new(values, shape), &device);
    let found: Vec<f32> = encoder.forward(images).into_data().try_to_vec().unwrap();
    let (_, expected) = golden(&format!("{name}.features"));
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().map(|v| v.abs()).fold(1.0, f32::max);
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

fn shape(imported: &Imported) -> StemShape {
    match imported.header.encoder {
        EncoderConfig::Resnet18 { stem, .. } => stem.shape(),
        other => panic!("{other:?} is no ResNet-18"),
    }
}

fn heads(imported: &Imported) -> usize {
    match imported.header.encoder {
        EncoderConfig::Vit { heads, .. } => heads,
        other => panic!("{other:?} is no transformer"),
    }
}

fn basis(imported: &Imported, of: &str) -> Option<Basis> {
    let found = imported.header.findings.iter().find(|finding| finding.of == of);
    found.map(|finding| finding.basis)
}

#[test]
fn field_f05_transformers_have_the_heads_of_their_tool() {
    for (file, name, heads, known) in [
        ("mocov3.pth.tar", "mocov3", 12, Basis::Known),
        // Recognised by its positions, without any of MoCo v3's names.
        ("mocov3_deit.pth", "mocov3", 12, Basis::Known),
        ("solo_vit.ckpt", "solo vit", 12, Basis::Known),
        ("timm.pth.tar", "timm", 3, Basis::Known),
        ("dino.pth", "dino", 3, Basis::Known),
        ("guess.pth", "timm", 3, Basis::Guess),
    ] {
        let imported = import(file, &ImportOptions::default()).unwrap();
        assert_eq!(self::heads(&imported), heads, "{file}");
        assert_eq!(basis(&imported, "heads"), Some(known), "{file}");
        let difference = worst(&imported, "images.vit", name);
        assert!(difference < 1e-4, "{file}: {difference}");
    }
    // A given number takes precedence, and another number makes another network.
    let options = |heads| ImportOptions { heads: Some(heads), ..ImportOptions::default() };
    let given = import("guess.pth", &options(12)).unwrap();
    assert_eq!(basis(&given, "heads"), Some(Basis::Given));
    assert!(worst(&given, "images.vit", "timm") > 1e-2);
    let given = import("mocov3.pth.tar", &options(3)).unwrap();
    assert!(worst(&given, "images.vit", "mocov3") > 1e-2);
    let said = import("pooled.pth", &ImportOptions { heads: Some(3), ..sized() }).err().unwrap();
    assert!(said.contains("is a ResNet"), "{said}");
    let pool = ImportOptions { max_pool: Some(true), ..ImportOptions::default() };
    assert!(import("guess.pth", &pool).err().unwrap().contains("is a transformer"));
    for heads in [0, 5, 7, 193] {
        let said = import("timm.pth.tar", &options(heads)).err().unwrap();
        assert!(said.contains(&format!("heads = {heads} is out of range")), "{said}");
    }
}

#[test]
fn field_f06_stems_that_look_alike_compute_what_their_tool_computes() {
    let known = |file: &str, name: &str, wanted: StemShape, on: Basis| {
        let imported = import(file, &sized()).unwrap();
        assert_eq!(shape(&imported), wanted, "{file}");
        assert_eq!(basis(&imported, "stem"), Some(on), "{file}");
        let difference = worst(&imported, "images", name);
        assert!(difference < 1e-4, "{file}: {difference}");
    };
    let stem = |kernel, stride, padding, maxpool| StemShape { kernel, stride, padding, maxpool };
    known("solo.ckpt", "solo", stem(3, 1, 2, false), Basis::Known);
    known("bolts.ckpt", "bolts", stem(7, 2, 3, false), Basis::Stated);
    known("lightly.ckpt", "lightly", stem(7, 2, 3, true), Basis::Assumed);
    known("sequential.pth", "sequential", stem(3, 1, 1, false), Basis::Known);
    known("shortcut.pth", "shortcut", stem(3, 1, 1, false), Basis::Known);
    // Only the options tell these three apart; without them the features differ.
    let options = |padding, stride, pool| ImportOptions {
        stem_padding: padding,
        stem_stride: stride,
        max_pool: pool,
        ..sized()
    };
    for (file, name, given, wanted) in [
        ("padded.pth", "padded", options(Some(2), None, Some(true)), stem(3, 1, 2, true)),
        ("pooled.pth", "pooled", options(None, None, Some(true)), stem(3, 1, 1, true)),
        ("strided.pth", "strided", options(None, Some(2), None), stem(3, 2, 1, false)),
    ] {
        let imported = import(file, &given).unwrap();
        assert_eq!((shape(&imported), basis(&imported, "stem")), (wanted, Some(Basis::Given)));
        let difference = worst(&imported, "images", name);
        assert!(difference < 1e-4, "{file}: {difference}");
        let assumed = import(file, &sized()).unwrap();
        assert_eq!(basis(&assumed, "stem"), Some(Basis::Assumed));
        assert!(worst(&assumed, "images", name) > 1e-3, "{file}");
    }
    let padding = |padding| options(Some(padding), None, None);
    for (given, word) in [
        (padding(0), "stem_padding = 0"),
        (padding(3), "stem_padding = 3"),
        (options(None, Some(0), None), "stem_stride = 0"),
        (options(None, Some(9), None), "stem_stride = 9"),
    ] {
        let said = import("pooled.pth", &given).err().unwrap();
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn field_f06_the_stems_of_configs_and_files_stay_as_they_were() {
    let read = |text: &str| serde_json::from_str::<EncoderConfig>(text);
    for (text, stem) in [
        (r#"{"kind":"resnet18","width":4,"stem":"small"}"#, Stem::Small),
        (r#"{"kind":"resnet18","width":4,"stem":"imagenet"}"#, Stem::Imagenet),
        (
            r#"{"kind":"resnet18","width":4,"stem":{"custom":{"kernel":3,"stride":1,"padding":2,"maxpool":false}}}"#,
            Stem::Custom(StemShape { kernel: 3, stride: 1, padding: 2, maxpool: false }),
        ),
    ] {
        let config = read(text).unwrap();
        assert_eq!(config, EncoderConfig::Resnet18 { width: 4, stem });
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert!(config.check().is_ok());
        // A shape with a name gets that name.
        assert_eq!(Stem::from(stem.shape()), stem);
    }
    for (kernel, stride, padding, key) in [
        (4, 1, 2, "kernel"),
        (17, 1, 8, "kernel"),
        (3, 0, 1, "stride"),
        (3, 1, 3, "padding"),
        (3, 1, 0, "padding"),
    ] {
        let stem = Stem::Custom(StemShape { kernel, stride, padding, maxpool: false });
        let said = EncoderConfig::Resnet18 { width: 4, stem }.check().unwrap_err().to_string();
        assert!(said.starts_with(&format!("stem.custom.{key} = ")), "{said}");
    }
}

/// Checkpoint, prefix of the chosen encoder, prefixes of the others, PyTorch's images and features.
type Taken = (&'static str, &'static str, Vec<&'static str>, &'static str, &'static str);

fn taken() -> [Taken; 11] {
    [
        (
            "solo.ckpt",
            "state_dict.backbone.",
            vec!["state_dict.momentum_backbone."],
            "images",
            "solo",
        ),
        (
            "bolts.ckpt",
            "state_dict.online_network.encoder.",
            vec!["state_dict.target_network.encoder."],
            "images",
            "bolts",
        ),
        (
            "lightly.ckpt",
            "state_dict.backbone.",
            vec!["state_dict.backbone_momentum."],
            "images",
            "lightly",
        ),
        ("ema.pth", "state_dict.", vec!["state_dict_ema."], "images", "ema"),
        ("dino.pth", "teacher.backbone.", vec!["student.module.backbone."], "images.vit", "dino"),
        (
            "mocov3.pth.tar",
            "state_dict.module.base_encoder.",
            vec!["state_dict.module.momentum_encoder."],
            "images.vit",
            "mocov3",
        ),
        (
            "vissl.torch",
            "classy_state_dict.base_model.model.trunk._feature_blocks.",
            vec![],
            "images",
            "vissl",
        ),
        ("shortcut.pth", "net.module.", vec![], "images", "shortcut"),
        ("module.pt", "", vec![], "images", "module"),
        ("objects2.pth", "model.", vec![], "images", "objects"),
        ("objects4.pth", "model.", vec![], "images", "objects"),
    ]
}

#[test]
fn field_f11_the_network_that_its_tool_evaluates_is_taken() {
    for (file, prefix, left, images, name) in taken() {
        let options = if images == "images" { sized() } else { ImportOptions::default() };
        let imported = import(file, &options).unwrap();
        assert_eq!(
            (imported.prefix.as_str(), &imported.left),
            (prefix, &left.iter().map(|s| s.to_string()).collect()),
            "{file}"
        );
        assert_eq!(imported.reason.is_empty(), left.is_empty(), "{file}");
        let difference = worst(&imported, images, name);
        assert!(difference < 1e-4, "{file}: {difference}");
        // The other network is available by its name.
        for other in left {
            let options = ImportOptions { prefix: Some(other.into()), ..options.clone() };
            let imported = import(file, &options).unwrap();
            assert_eq!(imported.prefix, other);
            if file == "ema.pth" {
                assert!(worst(&imported, images, "ema average") < 1e-4);
            }
        }
    }
}

#[test]
fn field_f11_a_prefix_may_lack_its_dot_its_module_and_its_table() {
    for (file, prefix, found) in [
        ("dino.pth", "student.module.backbone.", "student.module.backbone."),
        ("dino.pth", "student.module.backbone", "student.module.backbone."),
        ("dino.pth", "student.backbone", "student.module.backbone."),
        ("dino.pth", "student", "student.module.backbone."),
        ("dino.pth", "module.teacher.backbone.", "teacher.backbone."),
        ("mocov3.pth.tar", "module.base_encoder.", "state_dict.module.base_encoder."),
        ("mocov3.pth.tar", "base_encoder", "state_dict.module.base_encoder."),
        ("mocov3.pth.tar", "momentum_encoder.", "state_dict.module.momentum_encoder."),
        ("mocov3.pth.tar", "state_dict.base_encoder", "state_dict.module.base_encoder."),
        ("ema.pth", "state_dict_ema", "state_dict_ema."),
        ("ema.pth", "state_dict", "state_dict."),
        ("solo.ckpt", "backbone", "state_dict.backbone."),
        ("solo.ckpt", "momentum_backbone.", "state_dict.momentum_backbone."),
        ("padded.pth", "", ""),
    ] {
        let options = ImportOptions { prefix: Some(prefix.into()), ..sized() };
        let options = if file.contains("dino") || file.contains("moco") {
            ImportOptions { size: None, ..options }
        } else {
            options
        };
        assert_eq!(import(file, &options).unwrap().prefix, found, "{file} {prefix}");
    }
    for (file, prefix, words) in [
        ("dino.pth", "back", vec!["no encoder under \"back\"", "\"teacher.backbone.\""]),
        (
            "dino.pth",
            "backbone",
            vec!["several encoders under \"backbone\"", "\"student.module.backbone.\""],
        ),
        (
            "solo.ckpt",
            "encoder_q.",
            vec!["\"state_dict.backbone.\", \"state_dict.momentum_backbone.\""],
        ),
        ("solo.ckpt", "", vec!["no encoder under \"\""]),
    ] {
        let options = ImportOptions { prefix: Some(prefix.into()), ..sized() };
        let said = import(file, &options).err().unwrap();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn field_f11_parts_that_no_network_here_has_are_refused_by_name() {
    for (file, words) in [
        ("layerscale.pth", ["blocks.0.ls1.gamma", "LayerScale"]),
        ("registers.pth", ["register_tokens", "register tokens"]),
        ("relative.pth", ["blocks.0.attn.relative_position_bias_table", "relative positions"]),
    ] {
        let said = import(file, &ImportOptions::default()).err().unwrap();
        assert!(said.contains(file), "{said}");
        for word in words {
            assert!(said.contains(word), "{said}");
        }
    }
}

#[test]
fn field_f12_values_out_of_range_are_refused_with_what_is_allowed() {
    let size = |size| ImportOptions { size: Some(size), ..ImportOptions::default() };
    let scaled = |mean, std| ImportOptions { mean_std: Some([[mean; 3], [std; 3]]), ..sized() };
    for (options, words) in [
        (size(0), ["size = 0", "8 to 1024"]),
        (size(7), ["size = 7", "8 to 1024"]),
        (size(1025), ["size = 1025", "8 to 1024"]),
        (scaled(123.675, 0.2), ["mean = 123.675", "divide those of 0 to 255 by 255"]),
        (scaled(-0.1, 0.2), ["mean = -0.1", "0 to 1"]),
        (scaled(f32::NAN, 0.2), ["mean = NaN", "0 to 1"]),
        (scaled(0.5, 58.395), ["std = 58.395", "divide those of 0 to 255 by 255"]),
        (scaled(0.5, 0.0), ["std = 0", "above 0"]),
        (scaled(0.5, -1.0), ["std = -1", "above 0"]),
        (scaled(0.5, f32::INFINITY), ["std = inf", "above 0"]),
    ] {
        let said = import("pooled.pth", &options).err().unwrap();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}
