//! Two whole training steps of several encoders, and of all methods but SimCLR, against PyTorch
//! (`tests/fixtures/golden/golden.py`): losses, all gradients, and everything after the second step, including
//! running statistics, targets and queues. Errors are max|a − b| ÷ max|b| by tensor. In bf16 a part of
//! them is compared with PyTorch's products of bf16 (`tests/fixtures/golden/bf16.py`).

mod crops;
mod encoders;
mod fixture;
mod methods;
mod two_views;

use std::process::Command;

use ssl_backdoor_kernels::instruction_paths;

const KERNELS: &str = "SSL_BACKDOOR_KERNELS";

/// Runs tests again in a separate process with these kernels, unless this is such a process.
fn again(path: &str, set: impl FnOnce(&mut Command) -> &mut Command) {
    if std::env::var_os(KERNELS).is_some() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let run = set(command.env(KERNELS, path)).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && !text.contains(" 0 passed"), "{path}: {text}");
}

/// The other implementations of the kernels on this machine: plain Burn operations (`off`), `portable`, and those of
/// older CPUs.
#[test]
fn golden_without_the_default_kernels() {
    instruction_paths().skip(1).for_each(|path| again(path, |command| command.arg("golden::")));
}

/// All kernels in bf16. The methods differ in what follows the encoder, which computes in 32 bits, so one of them is enough,
/// and MAE with its decoder. Without rounding to bf16, each of them fails.
#[test]
fn golden_in_bf16() {
    let encoders = ["resnet50", "vit", "conv4", "regnet"];
    let methods = ["moco", "mae"].map(|name| format!("golden::methods::golden_{name}"));
    let tests = encoders.map(|name| format!("golden::encoders::golden_{name}"));
    for path in instruction_paths().filter(|&path| path != "off") {
        again(path, |command| {
            command.arg("--exact").args(&tests).args(&methods).env(fixture::BF16, "1")
        });
    }
}
