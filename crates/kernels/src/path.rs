//! The instruction paths, and the macro that compiles a kernel once for each.

use std::fmt;
use std::sync::OnceLock;

/// Environment variable that forces a path.
const FORCE: &str = "SSL_BACKDOOR_KERNELS";

/// Instructions a kernel may use. A value proves that this machine has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// AVX-512 F, VL, DQ, BW with FMA, and the products of pairs of bf16 (AVX512-BF16).
    Avx512Bf16(Found),
    /// AVX-512 F, VL, DQ, BW with FMA.
    Avx512(Found),
    /// AVX2 with FMA.
    Avx2(Found),
    /// The baseline instructions of the target.
    Portable,
    /// No kernels: plain Burn.
    Off,
}

/// Proof that this machine was checked and has the instructions: only this module makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found(());

impl Path {
    /// The paths with kernels that this machine supports, fastest first.
    pub fn found() -> impl Iterator<Item = Self> {
        let bf16 = (has_avx512() && has_bf16()).then_some(Self::Avx512Bf16(Found(())));
        let avx512 = has_avx512().then_some(Self::Avx512(Found(())));
        let avx2 = has_avx2().then_some(Self::Avx2(Found(())));
        [bf16, avx512, avx2, Some(Self::Portable)].into_iter().flatten()
    }

    /// All paths that this machine supports, the default first.
    fn all() -> impl Iterator<Item = Self> {
        Self::found().chain([Self::Off])
    }

    /// The path of this name, if this machine supports it.
    fn named(name: &str) -> Option<Self> {
        Self::all().find(|path| path.name() == name)
    }

    /// Its name in the environment variable.
    fn name(self) -> &'static str {
        match self {
            Self::Avx512Bf16(_) => "avx512bf16",
            Self::Avx512(_) => "avx512",
            Self::Avx2(_) => "avx2",
            Self::Portable => "portable",
            Self::Off => "off",
        }
    }
}

/// The path of this process: the best the machine has, or the forced one if the machine has it.
pub(crate) fn path() -> Path {
    static PATH: OnceLock<Path> = OnceLock::new();
    *PATH.get_or_init(|| {
        let named = forced().and_then(|name| Path::named(&name));
        named.or_else(|| Path::found().next()).unwrap_or(Path::Portable)
    })
}

/// The value of [`FORCE`], unless it is empty.
fn forced() -> Option<String> {
    std::env::var_os(FORCE)
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !name.is_empty())
}

/// The values of `SSL_BACKDOOR_KERNELS` that this machine allows, the default first.
pub fn instruction_paths() -> impl Iterator<Item = &'static str> {
    Path::all().map(Path::name)
}

/// `SSL_BACKDOOR_KERNELS` has a value that this machine does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPath(String);

impl fmt::Display for UnknownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed: Vec<&str> = instruction_paths().collect();
        write!(f, "{FORCE}={}: allowed on this machine are {}", self.0, allowed.join(", "))
    }
}

impl std::error::Error for UnknownPath {}

/// Checks the value of `SSL_BACKDOOR_KERNELS`. Without this check, a value that this machine does not allow has no effect.
///
/// # Errors
/// It is not one of [`instruction_paths`].
pub fn check_instruction_path() -> Result<(), UnknownPath> {
    match forced() {
        Some(name) if Path::named(&name).is_none() => Err(UnknownPath(name)),
        _ => Ok(()),
    }
}

/// The instructions that the CPU kernels of this process use in 32 bits.
pub fn instruction_path() -> &'static str {
    match path() {
        Path::Avx512Bf16(_) | Path::Avx512(_) => "AVX-512",
        Path::Avx2(_) => "AVX2 with FMA",
        Path::Portable => "portable",
        Path::Off => "off: plain Burn",
    }
}

/// The instructions that the CPU kernels of this process use to multiply in bf16.
pub fn bf16_instruction_path() -> &'static str {
    match path() {
        Path::Avx512Bf16(_) => "AVX512-BF16",
        Path::Avx512(_) => "bf16 by AVX-512",
        Path::Avx2(_) => "bf16 by AVX2 with FMA",
        Path::Portable => "bf16, portable",
        Path::Off => "off: plain Burn in 32 bits",
    }
}

/// Whether this machine has the products of pairs of bf16.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this machine has all instructions of the functions compiled for AVX-512.
fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && has_avx2();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this machine has all instructions of the functions compiled for AVX2.
fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `a · b + c`: fused if the path has the instruction (otherwise a fused one would be a slow library
/// call).
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `kernel!(name(arg: Type, …) = body)` defines `fn name(path: Path, arg: Type, …)` that runs
/// `body::<FMA>` compiled for the path; `kernel!(name<'a>(…) -> Type = body)` one that returns a value.
/// `body` is `#[inline(always)]`, so it is compiled for the caller's instructions.
macro_rules! kernel {
    (
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? = $body:ident
    ) => {
        $(#[$doc])*
        pub(crate) fn $name $(<$life>)? (
            path: $crate::path::Path,
            $($arg: $ty),*
        ) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512 $(<$life>)? ($($arg: $ty),*) $(-> $out)? {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$life>)? ($($arg: $ty),*) $(-> $out)? {
                    $body::<true>($($arg),*)
                }
                match path {
                    // SAFETY: the path proves the machine has the instructions (`Found`).
                    $crate::path::Path::Avx512Bf16(_) | $crate::path::Path::Avx512(_) => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::path::Path::Avx2(_) => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            let _ = path;
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use kernel;
