//! Two whole training steps of several encoders, and of all methods but SimCLR, against PyTorch
//! (`tests/fixtures/golden/golden.py`): losses, all gradients, and everything after the second step, including
//! running statistics, targets and queues. Errors are max|a − b| ÷ max|b| by tensor.

mod crops;
mod encoders;
mod fixture;
mod methods;
mod two_views;

use std::process::Command;

/// Runs the same tests, in separate processes, with each of the other implementations of the kernels on this machine:
/// plain Burn operations (`off`), `portable`, and those of older CPUs.
#[test]
fn golden_without_the_default_kernels() {
    const KERNELS: &str = "SSL_BACKDOOR_KERNELS";
    if std::env::var_os(KERNELS).is_some() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    for path in ssl_backdoor_kernels::instruction_paths().skip(1) {
        let run = Command::new(&this).arg("golden::").env(KERNELS, path).output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && !text.contains(" 0 passed"), "{path}: {text}");
    }
}
