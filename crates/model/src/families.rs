//! Tests that every family of encoders must pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

use crate::{
    Conv4Config, Encoder, EncoderConfig, EncoderHeader, ImportOptions, Imported, Interpolation,
    Positions, Preprocessing, RegNetConfig, RegNetShape, RegNetSize, RegNetStem, Stem, StemShape,
    load_encoder, save_encoder,
};

/// Side of the images in pixels.
const SIZE: u32 = 32;

/// Small networks of each kind.
fn networks() -> Vec<EncoderConfig> {
    let custom = StemShape { kernel: 3, stride: 1, padding: 2, maxpool: true };
    let shape = RegNetShape { depths: [1, 2, 1, 1], widths: [8, 8, 16, 24], group: 8 };
    let regnet = |size, stem| EncoderConfig::RegnetY(RegNetConfig { size, stem });
    let vit = |positions| EncoderConfig::Vit { dim: 8, depth: 2, heads: 2, patch: 8, positions };
    vec![
        EncoderConfig::Resnet18 { width: 2, stem: Stem::Custom(custom) },
        EncoderConfig::Resnet34 { width: 1, stem: Stem::Imagenet },
        EncoderConfig::Resnet50 { width: 1, stem: Stem::Small },
        EncoderConfig::Resnet101 { width: 1, stem: Stem::Small },
        EncoderConfig::Resnet152 { width: 1, stem: Stem::Small },
        vit(Positions::Fixed),
        vit(Positions::Learned(4)),
        EncoderConfig::Conv4(Conv4Config { width: 3 }),
        regnet(RegNetSize::Custom(shape), RegNetStem::Small),
        regnet(RegNetSize::Mf400, RegNetStem::Imagenet),
    ]
}

fn built(config: &EncoderConfig) -> Encoder {
    config.init(&mut ChaCha8Rng::seed_from_u64(1), &Device::flex()).valid()
}

fn header(config: EncoderConfig) -> EncoderHeader {
    let interpolation = Interpolation::Bilinear;
    let preprocessing = Preprocessing { size: SIZE, mean: [0.5; 3], std: [0.2; 3], interpolation };
    EncoderHeader::new(config, preprocessing)
}

fn images() -> Tensor<4> {
    let size = i64::from(SIZE);
    Tensor::<1, Int>::arange(0..6 * size * size, &Device::flex())
        .float()
        .sin()
        .reshape([2, 3, size, size])
}

/// Shapes by name in a file.
fn held(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.into(), view.shape().into())).collect()
}

#[test]
fn every_kind_is_tried_here_and_has_its_name_in_configs() {
    let unknown = serde_json::from_str::<EncoderConfig>(r#"{"kind":"x"}"#).unwrap_err().to_string();
    let (_, known) = unknown.split_once("expected one of ").unwrap();
    let known: BTreeSet<&str> = known.split('`').skip(1).step_by(2).collect();
    assert_eq!(known, networks().iter().map(EncoderConfig::kind).collect());
    for config in networks() {
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(&format!("{:?}", config.kind())), "{text}");
        assert_eq!(serde_json::from_str::<EncoderConfig>(&text).unwrap(), config);
        config.check().unwrap();
        config.check_size(SIZE).unwrap();
    }
}

#[test]
fn the_last_stage_is_the_output() {
    for config in networks() {
        let (encoder, images) = (built(&config), images());
        let stages = encoder.stages(images.clone());
        assert_eq!(stages.len(), config.stage_count(), "{config:?}");
        let output = encoder.forward(images.clone());
        assert_eq!(output.dims(), [2, config.dim()], "{config:?}");
        let values =
            |features: &Tensor<2>| -> Vec<f32> { features.clone().into_data().iter().collect() };
        let through = |map: fn(Tensor<4>) -> Tensor<4>| {
            values(&encoder.forward_through_map(images.clone(), map))
        };
        assert_eq!(through(|map| map), values(&output), "{config:?}");
        assert_ne!(through(|map| map.mul_scalar(2.0)), values(&output), "{config:?}");
        assert_eq!(stages.last().map(values), Some(values(&output)), "{config:?}");
        assert_ne!(values(&stages[0]), values(&stages[1]), "{config:?}");
        assert_eq!(encoder.maps(self::images()).is_some(), config.has_maps(), "{config:?}");
    }
}

/// The list of arrays and the network agree.
#[test]
fn the_list_of_arrays_is_the_networks_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    for config in networks() {
        save_encoder(&built(&config), &header(config), &path).unwrap();
        assert_eq!(config.arrays(), held(&path), "{config:?}");
        assert!(config.arrays().keys().all(|name| config.inside(name)), "{config:?}");
    }
}

#[test]
fn an_encoder_goes_out_and_comes_in_again() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(format!("{name}.safetensors"));
    for config in networks() {
        let (encoder, images) = (built(&config), images());
        let output = encoder.forward(images.clone()).into_data();
        save_encoder(&encoder, &header(config), &file("own")).unwrap();
        let loaded = load_encoder(&header(config), &file("own"), &device).unwrap();
        assert_eq!(loaded.forward(images.clone()).into_data(), output, "{config:?}");

        let imported = Imported::read(&file("own"), &ImportOptions::default()).unwrap();
        assert_eq!(imported.header, header(config));
        imported.write(&file("out"), true, &device).unwrap();
        let loaded = load_encoder(&header(config), &file("out"), &device).unwrap();
        assert_eq!(loaded.forward(images.clone()).into_data(), output, "{config:?}");

        // A file of another tool describes the network by its arrays alone.
        let bytes = std::fs::read(file("own")).unwrap();
        let arrays = SafeTensors::deserialize(&bytes).unwrap();
        let nothing_said = safetensors::serialize(arrays.iter(), None).unwrap();
        std::fs::write(file("silent"), nothing_said).unwrap();
        let options = ImportOptions { size: Some(SIZE), ..config.hidden() };
        let imported = Imported::read(&file("silent"), &options).unwrap();
        assert_eq!((imported.header.encoder, imported.left.len()), (config, 0));
        let found = imported.encoder(&device).unwrap();
        assert_eq!(found.forward(images).into_data(), output, "{config:?}");
    }
}
