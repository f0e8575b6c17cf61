//! Devices: the same config gives the same losses wherever it runs. The tests on a GPU backend need `--features wgpu`
//! and any Vulkan device; Debian's `mesa-vulkan-drivers` brings one that is software.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::process::Command;

use common::{Lab, stderr};

#[test]
fn doctor_tries_every_device_and_finds_the_data() {
    let doctor = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor")).arg("doctor").output().unwrap();
    let text = String::from_utf8(doctor.stdout.clone()).unwrap();
    assert!(doctor.status.success(), "{text}{}", stderr(&doctor));
    for word in ["Burn 0.22.1", "flex", "one step ok", "shapes", "fashion-mnist", "GB free"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let lab = Lab::new();
    let absent = if cfg!(feature = "wgpu") { "wgpu:99" } else { "wgpu" };
    let run = lab.run("run", &[&format!("device={absent}")]);
    assert_eq!(run.status.code(), Some(2));
    let said = stderr(&run);
    assert!(said.contains(&format!("device = \"{absent}\" is not")), "{said}");
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use std::process::Command;

    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, Tensor, TensorData};
    use ssl_backdoor::Experiment;
    use ssl_backdoor_compress::{CompressConfig, distill};
    use ssl_backdoor_probe::{LinearProbe, ProbeConfig, extract, knn};
    use ssl_backdoor_ssl::{
        PretrainError, TrainObserver, Training, after_each_epoch, initial_encoder, pretrain,
    };

    use super::Lab;

    /// Each method with its smallest network: overrides of the tiny experiment.
    const METHODS: [&[&str]; 15] = [
        &["pretrain.method={kind=\"moco-v2\", queue=16, dim=4, bn_groups=1}"],
        &["pretrain.method={kind=\"byol\", hidden=8, dim=4}"],
        &["pretrain.method={kind=\"msf\", queue=16, top_k=2, hidden=8, dim=4}"],
        &["pretrain.method={kind=\"jigsaw\", permutations=8, resize=25, tile=6}", "data.size=24"],
        &["pretrain.method={kind=\"rotnet\"}"],
        &["pretrain.method={kind=\"simclr-v2\", dim=4}"],
        &["pretrain.method={kind=\"simsiam\", dim=8, hidden=4}"],
        &["pretrain.method={kind=\"barlow-twins\", hidden=8, dim=4}"],
        &["pretrain.method={kind=\"vicreg\", hidden=8, dim=4}"],
        &["pretrain.method={kind=\"moco-v3\", hidden=8, dim=4}"],
        &[
            "pretrain.method={kind=\"swav\", prototypes=8, frozen_steps=1, queue=16, queue_from=0, hidden=8, dim=4, small=2}",
        ],
        &[
            "pretrain.method={kind=\"dino\", outputs=8, hidden=8, bottleneck=4, teacher_warmup=1, small=2}",
        ],
        &["pretrain.method={kind=\"deepcluster-v2\", prototypes=[4, 5], hidden=8, dim=4, small=2}"],
        &[
            "pretrain.method={kind=\"moco-v3\", hidden=8, dim=4}",
            "pretrain.encoder={kind=\"vit\", dim=8, depth=1, heads=2, patch=4}",
        ],
        &[
            "pretrain.method={kind=\"mae\", decoder_dim=8, decoder_depth=1, decoder_heads=2}",
            "pretrain.encoder={kind=\"vit\", dim=8, depth=1, heads=2, patch=4}",
        ],
    ];

    /// Encoders of other families.
    const ENCODERS: [&[&str]; 1] = [&[
        "pretrain.method={kind=\"rotnet\"}",
        "pretrain.encoder={kind=\"regnet-y\", stem=\"small\", size={custom={depths=[1,1,1,1], widths=[8,8,16,24], group=8}}}",
    ]];

    /// The losses of two steps.
    fn losses(experiment: &Experiment, device: &Device) -> Vec<f64> {
        let splits = experiment.data.load(&|_, _, _| {}).unwrap();
        let training = Training::new(splits.pretrain_set().clone(), 1, device);
        let size = experiment.data.size();
        watched(|observer| pretrain(&experiment.pretrain, None, size, &training, observer)).1
    }

    /// What `train` gives, and the loss of each epoch.
    fn watched<T>(
        train: impl FnOnce(&mut dyn TrainObserver) -> Result<T, PretrainError>,
    ) -> (T, Vec<f64>) {
        let mut losses = Vec::new();
        let out = train(&mut after_each_epoch(|epoch, _| {
            losses.push(epoch.loss);
            Ok(())
        }));
        (out.unwrap(), losses)
    }

    fn tiny(sets: &[&str]) -> Experiment {
        // Each epoch is one step.
        let own = ["data.per_class=1", "pretrain.batch=8", "pretrain.epochs=2", "pretrain.lr=0.01"];
        let own = own.iter().chain(&["pretrain.encoder.width=2", "probe.curve_every=0"]);
        let other = sets.iter().any(|set| set.starts_with("pretrain.encoder="));
        let sets = own.filter(|set| !other || !set.contains("width")).chain(sets);
        let sets: Vec<String> = sets.map(|set| set.to_string()).collect();
        Experiment::read(&Lab::new().path("tiny.toml"), &sets).unwrap()
    }

    #[test]
    fn every_method_has_the_losses_of_the_cpu() {
        let (flex, wgpu) = (Device::flex(), ssl_backdoor::device::open("wgpu").unwrap());
        for sets in METHODS.into_iter().chain(ENCODERS) {
            let experiment = tiny(sets);
            let name = experiment.pretrain.method.settings().name();
            let (expected, got) = (losses(&experiment, &flex), losses(&experiment, &wgpu));
            assert_eq!((expected.len(), got.len()), (2, 2));
            for (a, b) in expected.iter().zip(&got) {
                assert!((a - b).abs() < 1e-3, "{name}: {expected:?} on flex, {got:?} on wgpu");
            }
            println!("{name}: {expected:?} on flex, {got:?} on wgpu");
        }
    }

    /// Burn chooses a kernel for each shape of a convolution by trying them all; without its feature `autotune` it
    /// takes the slowest, and there is nothing to choose.
    #[test]
    fn review_2_07_convolutions_and_their_gradients_are_tuned() {
        let folder = tempfile::tempdir().unwrap();
        let settings = "[autotune.decisions]\nfile = \"decisions.jsonl\"\n";
        std::fs::write(folder.path().join("cubecl.toml"), settings).unwrap();
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        // What an earlier process found is not looked up.
        doctor.arg("doctor").current_dir(folder.path()).env("CUBECL_AUTOTUNE_CACHE", "0");
        assert!(doctor.output().unwrap().status.success());
        let decisions = std::fs::read_to_string(folder.path().join("decisions.jsonl")).unwrap();
        for word in ["Conv"] {
            assert!(decisions.contains(word), "{word}: {decisions}");
        }
    }

    /// Output and both gradients of a convolution, from values that its size decides.
    fn convolution(device: &Device, kernel: usize, stride: usize) -> [Vec<f32>; 3] {
        let (batch, channels, out, side) = (4, 16, 24, 9);
        let tensor = |shape: [usize; 4], seed: usize| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> =
                (seed..seed + count).map(|i| ((i * i % 1009) as f32 / 504.0) - 1.0).collect();
            Tensor::<4>::from_data(TensorData::new(values, shape), &device.clone().autodiff())
        };
        let images = tensor([batch, channels, side, side], 1).require_grad();
        let weight = tensor([out, channels, kernel, kernel], 2).require_grad();
        let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1, 1], 1);
        let y = conv2d(images.clone(), weight.clone(), None, options);
        let grads = (y.clone() * tensor(y.dims(), 3)).sum().backward();
        let found = [y.inner(), images.grad(&grads).unwrap(), weight.grad(&grads).unwrap()];
        found.map(|tensor| tensor.into_data().iter::<f32>().collect())
    }

    #[test]
    fn convolutions_of_every_kind_have_the_values_of_the_cpu() {
        let (flex, wgpu) = (Device::flex(), ssl_backdoor::device::open("wgpu").unwrap());
        for (kernel, stride) in [(3, 1), (3, 2), (1, 1), (1, 2), (7, 2)] {
            let [expected, got] = [&flex, &wgpu].map(|device| convolution(device, kernel, stride));
            for (name, (a, b)) in
                ["output", "images", "weight"].iter().zip(expected.iter().zip(&got))
            {
                let scale = a.iter().fold(0f32, |most, v| most.max(v.abs()));
                let worst = a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(
                    a.len() == b.len() && worst < 1e-4 * scale,
                    "{name} of {kernel}x{kernel}, stride {stride}: off by {worst} at a scale of {scale}"
                );
            }
        }
    }

    #[test]
    fn the_defence_and_the_probes_have_the_figures_of_the_cpu() {
        let experiment = tiny(&[]);
        let splits = experiment.data.load(&|_, _, _| {}).unwrap();
        let eval = splits.prepared(&splits.eval);
        let run = |device: &Device| {
            let teacher = initial_encoder(&experiment.pretrain, 1, device);
            // All ten images in one batch: batch norm over a last batch of two would enlarge every rounding.
            let config = CompressConfig { epochs: 2, batch: 10, ..CompressConfig::default() };
            let (encoder, size) = (&experiment.pretrain.encoder, experiment.data.size());
            let training = Training::new(splits.pretrain_set().clone(), 1, device);
            let (student, losses) =
                watched(|observer| distill(&config, encoder, teacher, size, &training, observer));
            let features = extract(&student, &eval, device).unwrap();
            let config = ProbeConfig { epochs: 2, ..ProbeConfig::default() };
            let probe = LinearProbe::fit(&config, &features, 10, 1, device).unwrap();
            let probe = probe.predict(&features).unwrap();
            let nearest =
                knn(&features, &features, 10, &[3], config.vote(), device).unwrap().concat();
            (losses, features.values, probe, nearest)
        };
        let (flex, wgpu) =
            (run(&Device::flex()), run(&ssl_backdoor::device::open("wgpu").unwrap()));
        let worst =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst(&flex.0, &wgpu.0) < 1e-3, "{:?} {:?}", flex.0, wgpu.0);
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let apart = worst(&wide(&flex.1), &wide(&wgpu.1));
        assert!(apart < 1e-3, "features differ by {apart}");
        let same = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a == b).count();
        // A prediction on the line between two classes may fall to either side.
        assert!(same(&flex.2, &wgpu.2) >= 48 && same(&flex.3, &wgpu.3) >= 48, "of 50");
    }
}

/// Sixteen bits keep two to three digits: the losses of a few steps stay close, and the weights stay in 32 bits.
#[test]
fn bf16_trains_close_to_f32_where_the_device_has_it() {
    let lab = Lab::new();
    let few =
        ["pretrain.epochs=1", "data.per_class=8", "probe.curve_every=0", "data.eval_per_class=2"];
    let loss = |out: &str, precision: &str| -> f64 {
        let precision = format!("pretrain.precision={precision}");
        let sets: Vec<&str> = few.iter().copied().chain([precision.as_str()]).collect();
        let run = lab.command(out, &sets).args(["--until", "twin"]).output().unwrap();
        assert!(run.status.success(), "{}", stderr(&run));
        let log = std::fs::read_to_string(lab.path(out).join("clean/metrics.jsonl")).unwrap();
        serde_json::from_str::<serde_json::Value>(&log).unwrap()["loss"].as_f64().unwrap()
    };
    let (full, half) = (loss("full", "f32"), loss("half", "bf16"));
    assert!(full != half && (full - half).abs() < 0.03 * full, "{full} {half}");
}
