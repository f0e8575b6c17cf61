//! Imported checkpoints of other tools give PyTorch's features, and exports have the names that PyTorch expects.
//! The fixtures and their script are in `fixtures/`.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use ssl_backdoor_model::{
    EncoderConfig, EncoderHeader, ImportOptions, Imported, Positions, Stem, load_encoder,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn array(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f32>) {
    let view = file.tensor(name).unwrap();
    let bytes = view.data().as_chunks::<4>().0;
    (view.shape().to_vec(), bytes.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Name, file, required options and network of each checkpoint.
fn checkpoints() -> Vec<(&'static str, &'static str, ImportOptions, EncoderConfig)> {
    let nothing = ImportOptions::default;
    let size = |size| ImportOptions { size: Some(size), ..ImportOptions::default() };
    let vit = |dim, depth, heads, positions| EncoderConfig::Vit {
        dim,
        depth,
        heads,
        patch: 8,
        positions,
    };
    vec![
        ("moco", "moco.pth.tar", size(32), EncoderConfig::Resnet18 { width: 2, stem: Stem::Small }),
        ("byol", "byol.pt", size(64), EncoderConfig::Resnet18 { width: 2, stem: Stem::Imagenet }),
        (
            "resnet50",
            "resnet50.pth",
            size(64),
            EncoderConfig::Resnet50 { width: 2, stem: Stem::Imagenet },
        ),
        (
            "timm",
            "timm.safetensors",
            ImportOptions { heads: Some(2), ..nothing() },
            vit(16, 2, 2, Positions::Learned(4)),
        ),
        ("mae", "mae.pth", nothing(), vit(64, 1, 1, Positions::Fixed)),
    ]
}

#[test]
fn features_are_pytorchs_and_survive_the_way_out_and_in_again() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let bytes = std::fs::read(fixture("interchange.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for (name, file, options, config) in checkpoints() {
        let imported = Imported::read(&fixture(file), &options).unwrap();
        assert_eq!(imported.header.encoder, config, "{name}");
        let (shape, images) = array(&golden, &format!("{name}.images"));
        let (_, expected) = array(&golden, &format!("{name}.features"));
        let images = Tensor::<4>::from_data(TensorData::new(images, shape), &device);
        let out = folder.path().join(format!("{name}.safetensors"));
        imported.write(&out, true, &device).unwrap();
        let again = load_encoder(&imported.header, &out, &device).unwrap();
        for encoder in [imported.encoder(&device).unwrap(), again] {
            let features: Vec<f32> =
                encoder.forward(images.clone()).into_data().try_to_vec().unwrap();
            let worst =
                features.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(features.len() == expected.len() && worst < 1e-4, "{name}: {worst}");
        }
        // The file keeps the contract, and a second conversion changes nothing.
        assert_eq!(EncoderHeader::read(&out).unwrap().as_ref(), Some(&imported.header));
        let second = folder.path().join("second.safetensors");
        Imported::read(&out, &ImportOptions::default())
            .unwrap()
            .write(&second, false, &device)
            .unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&second).unwrap(), "{name}");
    }
}

#[test]
fn an_export_has_the_names_and_shapes_that_pytorch_asks_for() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let text = std::fs::read_to_string(fixture("state_dicts.json")).unwrap();
    let wanted: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
        serde_json::from_str(&text).unwrap();
    for (name, file, options, _) in checkpoints() {
        let imported = Imported::read(&fixture(file), &options).unwrap();
        let names = |backbone| -> BTreeMap<String, Vec<usize>> {
            let out = folder.path().join("out.safetensors");
            imported.write(&out, backbone, &device).unwrap();
            let bytes = std::fs::read(&out).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
        };
        // A batch norm's counter may be absent: PyTorch adds it to a state dict of an earlier version.
        let mut wanted = wanted[name].clone();
        wanted.retain(|name, _| !name.ends_with("num_batches_tracked"));
        let head = |name: &str| name.starts_with("fc.") || name.starts_with("head.");
        let whole = names(false);
        let heads: Vec<&String> = wanted.keys().filter(|name| head(name)).collect();
        if name != "byol" {
            // The reference's BYOL removes the classifier before it trains.
            assert!(heads.iter().all(|head| whole.get(*head) == wanted.get(*head)), "{name}");
        }
        assert!(whole.keys().all(|name| !name.starts_with("optimizer")));
        wanted.retain(|name, _| !head(name));
        assert_eq!(names(true), wanted, "{name}");
    }
    let of = |name, file| {
        Imported::read(&fixture(file), &ImportOptions { size: Some(64), ..Default::default() })
            .unwrap()
            .others()
            .any(|other| other == name)
    };
    assert!(
        of("module.queue", "moco.pth.tar") && of("module.encoder_k.fc.0.weight", "moco.pth.tar")
    );
    assert!(of("head.0.weight", "byol.pt") && of("model_t.module.conv1.weight", "byol.pt"));
    assert!(of("decoder_embed.weight", "mae.pth"));
}

#[test]
fn what_cannot_be_known_or_used_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &Path, options: &ImportOptions| {
        Imported::read(path, options).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let nothing = ImportOptions::default();
    let says = |message: String, what: &str| assert!(message.contains(what), "{message}");
    says(read(&fixture("moco.pth.tar"), &nothing), "pass `size`");
    says(read(&fixture("timm.safetensors"), &nothing), "pass `heads`");
    says(read(&fixture("interchange.safetensors"), &nothing), "no known encoder");
    says(read(&folder.path().join("absent.pth"), &nothing), "absent.pth");
    let key = ImportOptions {
        prefix: Some("state_dict.module.encoder_k.".into()),
        size: Some(32),
        ..ImportOptions::default()
    };
    assert_eq!(Imported::read(&fixture("moco.pth.tar"), &key).unwrap().prefix, key.prefix.unwrap());
    // Options do not override a contract in the file.
    let (device, out) = (Device::flex(), folder.path().join("out.safetensors"));
    let small = ImportOptions { size: Some(32), ..ImportOptions::default() };
    let imported = Imported::read(&fixture("moco.pth.tar"), &small).unwrap();
    imported.write(&out, true, &device).unwrap();
    says(read(&out, &ImportOptions { size: Some(64), ..ImportOptions::default() }), "32 px");
    let mut header = imported.header.clone();
    header.preprocessing.mean[1] = 0.5;
    says(
        load_encoder(&header, &out, &device).unwrap_err().to_string(),
        "mean [0.485, 0.456, 0.406]",
    );
}
