//! Devices by name: `flex`, `wgpu[:N]`, `cuda[:N]`, among those compiled in.

use burn::tensor::Device;

/// A device that a config may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flex,
    Wgpu,
    Cuda,
}

/// Opens the device called `name`.
///
/// # Errors
/// A message that names the value and what is allowed, if the name is unknown or its backend is
/// not compiled in.
pub fn open(name: &str) -> Result<Device, String> {
    let (kind, index) = parse(name)?;
    match kind {
        #[cfg(feature = "flex")]
        Kind::Flex => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => Ok(match index {
            None => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            Some(n) => Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(n)),
        }),
        #[cfg(feature = "cuda")]
        Kind::Cuda => Ok(Device::cuda(index.unwrap_or(0))),
        #[allow(unreachable_patterns, reason = "reached when a backend is not compiled in")]
        _ => {
            let feature = name.split(':').next().unwrap_or(name);
            let _ = index;
            Err(format!(
                "device = \"{name}\" is not compiled into this binary: build it with --features {feature}"
            ))
        }
    }
}

fn parse(name: &str) -> Result<(Kind, Option<usize>), String> {
    let (kind, index) = match name.split_once(':') {
        None => (name, None),
        Some((kind, index)) => (kind, Some(index)),
    };
    let unknown =
        || format!("device = \"{name}\" is unknown: allowed are flex, wgpu, wgpu:N, cuda, cuda:N");
    let index = index.map(|n| n.parse::<usize>().map_err(|_| unknown())).transpose()?;
    match (kind, index) {
        ("flex", None) => Ok((Kind::Flex, None)),
        ("wgpu", index) => Ok((Kind::Wgpu, index)),
        ("cuda", index) => Ok((Kind::Cuda, index)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices() {
        assert_eq!(parse("cuda:3"), Ok((Kind::Cuda, Some(3))));
        assert_eq!(parse("wgpu"), Ok((Kind::Wgpu, None)));
        for bad in ["", "tpu", "flex:1", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(parse(bad).unwrap_err().contains("allowed are"), "{bad}");
        }
    }
}
