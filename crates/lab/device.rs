//! Devices by name: `flex`, `wgpu[:N]`, `cuda[:N]`, among those compiled in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;

/// A device that a config may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flex,
    Wgpu,
    Cuda,
}

impl Kind {
    /// The backends compiled into this binary; the first is the default.
    fn compiled() -> Vec<Self> {
        let all = [
            cfg!(feature = "flex").then_some(Self::Flex),
            cfg!(feature = "wgpu").then_some(Self::Wgpu),
            cfg!(feature = "cuda").then_some(Self::Cuda),
        ];
        all.into_iter().flatten().collect()
    }

    /// Its name in a config and among cargo's features.
    fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The devices of this kind on this machine, none if it is not compiled in.
    fn devices(self) -> Result<Vec<Device>, String> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(vec![Device::flex()]),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => attempt(|| Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec()),
            #[cfg(feature = "cuda")]
            Self::Cuda => attempt(|| Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec()),
            #[allow(unreachable_patterns, reason = "reached when a backend is not compiled in")]
            _ => Ok(Vec::new()),
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No device has this name.
    #[error("device = \"{name}\" is unknown: allowed are flex, wgpu, wgpu:N, cuda, cuda:N")]
    Unknown {
        /// The requested name.
        name: String,
    },
    /// Its backend is not in this binary.
    #[error(
        "device = \"{name}\" is not compiled into this binary: build it with --features {feature}"
    )]
    NotCompiled {
        /// The requested name.
        name: String,
        /// The cargo feature that adds the backend.
        feature: &'static str,
    },
    /// Its backend failed.
    #[error("device = \"{name}\" cannot be opened: {reason}")]
    Closed {
        /// The requested name.
        name: String,
        /// The backend's message.
        reason: String,
    },
    /// This machine has fewer devices of the kind, or none.
    #[error(
        "device = \"{name}\" is not in this machine, which has {count} {kind} device{}",
        if *count == 1 { "" } else { "s" }
    )]
    Absent {
        /// The requested name.
        name: String,
        /// The kind of device.
        kind: &'static str,
        /// How many of them there are.
        count: usize,
    },
}

/// A kind of device that is compiled in but does not exist on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct NoDevice {
    /// The kind.
    pub kind: &'static str,
    /// Why there is none.
    pub reason: String,
}

/// A device of this machine.
pub struct Found {
    /// Its name in a config.
    pub name: String,
    /// The name that it reports, or the CPU's number of threads if it reports none.
    pub what: String,
    /// The device.
    pub device: Device,
}

/// Starts this program again with the CPU as Burn's default device, unless the environment names one. Burn loads the
/// state of an optimiser on its default device and moves it to the device of the parameters in the next step; of
/// several backends it takes a GPU, also for a run that uses none, on a machine that has none. With one
/// backend, or without the CPU among several, the program goes on as it is.
///
/// # Errors
/// The program cannot be started again.
pub fn load_on_cpu() -> std::io::Result<()> {
    /// Burn's default device, by name.
    const DEFAULT: &str = "BURN_DEVICE";
    let chosen = std::env::var_os(DEFAULT).is_some();
    if chosen || !matches!(Kind::compiled()[..], [Kind::Flex, _, ..]) {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(DEFAULT, Kind::Flex.name());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // The same process goes on, so its number and its signals stay.
        Err(again.arg0(std::env::args_os().next().unwrap_or_default()).exec())
    }
    #[cfg(not(unix))]
    std::process::exit(again.status()?.code().unwrap_or(1))
}

/// Checks that `name` can be the name of a device, on this machine or on another.
///
/// # Errors
/// [`DeviceError::Unknown`].
pub fn check_name(name: &str) -> Result<(), DeviceError> {
    parse(name).map(drop)
}

/// Checks that this program can use the device called `name`, on a machine that has it.
///
/// # Errors
/// The name is unknown, or its backend is not compiled in.
pub fn check_compiled(name: &str) -> Result<(), DeviceError> {
    let (kind, _) = parse(name)?;
    if !Kind::compiled().contains(&kind) {
        return Err(DeviceError::NotCompiled { name: name.to_owned(), feature: kind.name() });
    }
    Ok(())
}

/// Opens the device called `name`.
///
/// # Errors
/// The name is unknown, its backend is not compiled in, or this machine has no such device.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    check_compiled(name)?;
    let (kind, index) = parse(name)?;
    let name = || name.to_owned();
    let all = kind.devices().map_err(|reason| DeviceError::Closed { name: name(), reason })?;
    let (kind_name, count) = (kind.name(), all.len());
    let one = all.into_iter().nth(index.unwrap_or(0));
    let one = one.ok_or_else(|| DeviceError::Absent { name: name(), kind: kind_name, count })?;
    // Of several, the one that the system considers the fastest.
    #[cfg(feature = "wgpu")]
    if (kind, index) == (Kind::Wgpu, None) {
        return Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice));
    }
    Ok(one)
}

/// Opens a device for work that any device can do: the CPU if it is compiled in.
///
/// # Errors
/// This machine has none of the devices compiled in.
pub fn first() -> Result<Device, DeviceError> {
    let kind = Kind::compiled().first().map_or("flex", |kind| kind.name());
    open(kind)
}

/// Every device of this machine whose backend is compiled in, or an error for a kind without a device.
pub fn found() -> Vec<Result<Found, NoDevice>> {
    let none = |kind: Kind, reason| vec![Err(NoDevice { kind: kind.name(), reason })];
    let of = |kind: Kind| match kind.devices() {
        Err(reason) => none(kind, reason),
        Ok(devices) if devices.is_empty() => {
            none(kind, "compiled in, but this machine has no such device".into())
        }
        Ok(devices) => {
            let one = |(i, device): (usize, Device)| {
                let name = match kind {
                    Kind::Flex => kind.name().to_owned(),
                    _ => format!("{}:{i}", kind.name()),
                };
                Ok(Found { name, what: what(&device), device })
            };
            devices.into_iter().enumerate().map(one).collect()
        }
    };
    Kind::compiled().into_iter().flat_map(of).collect()
}

fn what(device: &Device) -> String {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if let Ok(Some(identity)) = attempt(|| device.identity()) {
        return identity.name;
    }
    let _ = device;
    format!("CPU, {} threads", std::thread::available_parallelism().map_or(1, usize::from))
}

/// The result of `work`, or its panic message: a missing driver makes a backend panic.
pub(crate) fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it failed").to_owned()
    })
}

/// Whether the device `name` is the CPU.
pub(crate) fn is_cpu(name: &str) -> bool {
    backend(name) == Kind::Flex.name()
}

/// The backend of the device called `name`: `cuda` for `cuda:3`. Devices of one backend share results.
pub fn backend(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

fn parse(name: &str) -> Result<(Kind, Option<usize>), DeviceError> {
    let (kind, index) = match name.split_once(':') {
        None => (name, None),
        Some((kind, index)) => (kind, Some(index)),
    };
    let unknown = || DeviceError::Unknown { name: name.into() };
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
        assert_eq!((backend("cuda:3"), backend("flex")), ("cuda", "flex"));
        assert_eq!((is_cpu("flex"), is_cpu("cuda:3")), (true, false));
        for bad in ["", "tpu", "flex:1", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(parse(bad).unwrap_err().to_string().contains("allowed are"), "{bad}");
        }
    }

    #[test]
    fn a_device_that_is_found_can_be_opened() {
        for found in found() {
            assert!(open(&found.unwrap().name).is_ok());
        }
    }
}
