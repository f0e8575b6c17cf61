//! Devices: the same config gives the same losses on every device. The tests on a GPU backend need `--features wgpu`
//! and any Vulkan device; Debian's `mesa-vulkan-drivers` provides a software device.
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
    if cfg!(feature = "wgpu") {
        // A software GPU takes a minute for its step.
        return;
    }
    let doctor = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    let json = { doctor }.args(["doctor", "--json"]).output().unwrap();
    let machine: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let cpu = &machine["devices"][0];
    assert!(cpu["loss"].is_number() && cpu["error"].is_null(), "{machine}");
    assert!(machine["disk"][0]["free_bytes"].is_number(), "{machine}");
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

    use super::common::{line_count, until};
    use super::stderr;
    use burn::tensor::Device;
    use ssl_backdoor::Experiment;
    use ssl_backdoor_compress::{CompressConfig, distill};
    use ssl_backdoor_probe::{LinearProbe, ProbeConfig, extract, knn};
    use ssl_backdoor_ssl::{
        PretrainError, TrainObserver, Training, after_each_epoch, initial_encoder,
    };

    use super::Lab;

    /// The result of `train`, and the loss of each epoch.
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

    fn tiny() -> Experiment {
        // Each epoch is one step.
        let own = ["data.per_class=1", "pretrain.batch=8", "pretrain.epochs=2", "pretrain.lr=0.01"];
        let sets = own.iter().chain(&["pretrain.encoder.width=2", "probe.curve_every=0"]);
        let sets: Vec<String> = sets.map(|set| set.to_string()).collect();
        Experiment::read(&Lab::new().path("tiny.toml"), &sets).unwrap()
    }

    /// `doctor` with the comparisons `only` of the GPU.
    fn deep(only: &str) -> Command {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        doctor.args(["doctor", "--deep", "small", "--device", "wgpu", "--only", only]);
        doctor
    }

    /// All comparisons of `group` agree with the CPU, and the output contains `words`.
    fn agrees(group: &str, words: &[&str]) {
        let doctor = deep(group).output().unwrap();
        let text = String::from_utf8(doctor.stdout.clone()).unwrap();
        println!("{text}");
        assert!(doctor.status.success(), "{text}{}", stderr(&doctor));
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        // A software device computes only in 32 bits.
        assert!(text.contains("wgpu:0 agrees with the CPU."), "{text}");
    }

    #[test]
    fn every_layer_and_its_gradients_have_the_values_of_the_cpu() {
        agrees("layers", &["conv 1x1, stride 2", "attention"]);
    }

    // By far the longest; tests start in the order of their names, and this one starts early.
    #[test]
    fn all_methods_have_the_values_of_the_cpu() {
        agrees("methods", &["moco-v2", "mae", "dino"]);
    }

    #[test]
    fn memory_does_not_grow_in_a_long_training() {
        agrees("memory", &["memory after"]);
    }

    #[test]
    fn a_comparison_for_machines() {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        let only = ["doctor", "--deep", "small", "--only", "attention", "--json"];
        let found: serde_json::Value =
            serde_json::from_slice(&doctor.args(only).output().unwrap().stdout).unwrap();
        let device = &found["devices"][0];
        assert_eq!((&device["name"], &device["wrong"]), (&"wgpu:0".into(), &serde_json::json!([])));
        for row in device["compared"].as_array().unwrap() {
            assert!(row["error"].as_f64().unwrap() < 1e-4 && row["milliseconds"].is_number());
        }
    }

    /// Runs `doctor` in `folder`, where Burn records each choice of a kernel, and returns all records there.
    fn choices(folder: &std::path::Path, doctor: &mut Command) -> String {
        let settings = "[autotune.decisions]\nfile = \"decisions.jsonl\"\n";
        std::fs::write(folder.join("cubecl.toml"), settings).unwrap();
        let done = doctor.current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        std::fs::read_to_string(folder.join("decisions.jsonl")).unwrap()
    }

    /// Burn chooses a kernel for each shape of a convolution by trying them all. Without its feature `autotune`, it
    /// takes the slowest kernel and records no decision.
    #[test]
    fn review_2_07_convolutions_and_their_gradients_are_tuned() {
        let folder = tempfile::tempdir().unwrap();
        let mut doctor = deep("conv 3x3, stride 1");
        // Ignore the decisions of earlier processes.
        let decisions = choices(folder.path(), doctor.env("CUBECL_AUTOTUNE_CACHE", "0"));
        for kernel in [r#"{"Conv":"#, r#"{"ConvTranspose":"#] {
            assert!(decisions.contains(kernel), "{kernel}: {decisions}");
        }
    }

    /// Only the first process on a machine tries the kernels. Without its feature `persistence`, Burn forgets what it found.
    #[test]
    fn chosen_kernels_are_kept_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let decisions = || {
            let mut doctor = deep("conv 1x1, stride 1");
            doctor.env("XDG_CACHE_HOME", folder.path()).env_remove("CUBECL_AUTOTUNE_CACHE");
            choices(folder.path(), &mut doctor).lines().count()
        };
        let first = decisions();
        assert!(first > 0);
        assert_eq!(decisions(), first);
    }

    /// A run on the CPU needs no GPU, also when it resumes. Burn alone would load the optimiser's state on a GPU.
    #[test]
    fn a_run_on_the_cpu_resumes_without_a_gpu() {
        let lab = Lab::new();
        let sets = ["data.per_class=128", "pretrain.epochs=6", "device=flex"];
        let command = || {
            let mut command = lab.command("run", &sets);
            command.env("VK_DRIVER_FILES", "/dev/null").env("WGPU_BACKEND", "vulkan");
            command.env("__EGL_VENDOR_LIBRARY_FILENAMES", "/dev/null").env_remove("BURN_DEVICE");
            command
        };
        let mut killed = command().spawn().unwrap();
        // In the second epoch, the first one's checkpoint is there.
        let begun = || line_count(&lab.path("run/clean/metrics.jsonl")) > 1;
        assert!(until(&mut killed, begun), "it ended before it could be killed");
        killed.kill().unwrap();
        killed.wait().unwrap();
        let saved = std::fs::read_dir(lab.path("run/clean/checkpoint")).unwrap();
        assert!(saved.count() > 0);
        let resumed = command().output().unwrap();
        assert!(resumed.status.success(), "{}", stderr(&resumed));
    }

    #[test]
    fn the_defence_and_the_probes_have_the_figures_of_the_cpu() {
        let experiment = tiny();
        let splits = experiment.data.load(&|_, _, _| {}).unwrap();
        let eval = splits.prepared(&splits.eval);
        let run = |device: &Device| {
            let teacher = initial_encoder(&experiment.pretrain, 1, device);
            // All ten images in one batch: batch norm over a last batch of two would amplify every rounding error.
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
        // A prediction on the boundary between two classes may fall on either side.
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
