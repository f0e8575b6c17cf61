//! The instruction path, and how a kernel is compiled once for each.

use std::sync::OnceLock;

/// Environment variable that forces a path.
const FORCE: &str = "SSL_BACKDOOR_KERNELS";

/// Instructions a kernel may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// AVX-512 F, VL, DQ, BW with FMA.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// Whatever the target has without asking.
    Portable,
    /// No kernels: plain Burn.
    Off,
}

/// The path of this process: the best the machine has, or the forced one if the machine has it.
pub(crate) fn path() -> Path {
    static PATH: OnceLock<Path> = OnceLock::new();
    *PATH.get_or_init(|| {
        let forced = std::env::var(FORCE).unwrap_or_default();
        match forced.as_str() {
            "off" => Path::Off,
            "portable" => Path::Portable,
            "avx2" if has(Path::Avx2) => Path::Avx2,
            "avx512" if has(Path::Avx512) => Path::Avx512,
            _ if has(Path::Avx512) => Path::Avx512,
            _ if has(Path::Avx2) => Path::Avx2,
            _ => Path::Portable,
        }
    })
}

/// The instructions that the CPU's kernels of this process use.
pub fn instruction_path() -> &'static str {
    match path() {
        Path::Avx512 => "AVX-512",
        Path::Avx2 => "AVX2 with FMA",
        Path::Portable => "portable",
        Path::Off => "off: plain Burn",
    }
}

/// Does this machine have the instructions of `path`?
pub(crate) fn has(path: Path) -> bool {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && has(Path::Avx2)
        }
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Path::Portable | Path::Off => true,
        #[cfg(not(target_arch = "x86_64"))]
        _ => false,
    }
}

/// `a · b + c`: fused where the path has the instruction (elsewhere a fused one would be a slow
/// library call).
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `kernel!(name(arg: Type, …) = body)` defines `fn name(path: Path, arg: Type, …)` that runs
/// `body::<FMA>` compiled for the path. `body` is `#[inline(always)]`, so it takes on the caller's
/// instructions.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(path: $crate::path::Path, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                match path {
                    // SAFETY: `path::path` and the tests give a path only if `path::has` found its
                    // instructions on this machine.
                    $crate::path::Path::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::path::Path::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            let _ = path;
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use kernel;
