//! The command `doctor`: what this machine and this binary provide, and whether each device computes correctly.

mod deep;
mod depth;
mod growth;
mod layers;
mod machine;
mod methods;

use anyhow::Result;
use serde_json::json;

use self::depth::Depth;
use self::machine::Machine;
use crate::ConfigError;
use crate::device;
use crate::record::{SCHEMA, json_text};

/// Show devices, data sets, disk space and versions, and try a training step on each device.
///
/// With --deep, compares every device with the CPU: each layer forward and backward at the shapes of real trainings, the
/// first steps of each method, and the memory of a long training. The exit status is 1 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor doctor\n  ssl-backdoor doctor --deep                   # a few minutes\n  \
                  ssl-backdoor doctor --deep small --device wgpu:0"
)]
pub struct DoctorArgs {
    /// Compare each device with the CPU: `full` with the shapes of trainings, `small` with tiny ones.
    #[arg(long, value_name = "DEPTH", num_args = 0..=1, default_missing_value = "full")]
    deep: Option<Depth>,
    /// Compare only this device, such as wgpu:1 or cuda:0.
    #[arg(long, value_name = "NAME", requires = "deep")]
    device: Option<String>,
    /// Compare only `layers`, `methods` or `memory`, or what contains this in its name, such as `conv` or `moco-v3`.
    #[arg(long, value_name = "TEXT", requires = "deep")]
    only: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Prints the state of the machine.
    ///
    /// # Errors
    /// A device failed or does not exist.
    pub fn run(&self) -> Result<()> {
        let Some(depth) = self.deep else { return self.look() };
        if let Some(name) = &self.device {
            device::open(name).map_err(|error| ConfigError(error.to_string()))?;
        }
        let wanted = |name: &str| match &self.device {
            None => device::backend(name) != "flex",
            Some(wanted) => name == wanted || name == format!("{wanted}:0"),
        };
        let (mut compared, mut off) = (Vec::new(), Vec::new());
        for found in device::found().into_iter().flatten().filter(|found| wanted(&found.name)) {
            let device = deep::deep(depth, &found, self.only.as_deref().unwrap_or(""), self.json)?;
            if !device.is_sound() {
                off.push(found.name);
            }
            compared.push(device);
        }
        if self.json {
            print!("{}", json_text(&json!({ "schema": SCHEMA, "devices": compared }))?);
        } else if compared.is_empty() {
            println!("There is no device other than the CPU to compare.");
        }
        anyhow::ensure!(off.is_empty(), "do not use for training: {}", off.join(", "));
        Ok(())
    }

    /// Without `--deep`.
    fn look(&self) -> Result<()> {
        let machine = Machine::look();
        match self.json {
            true => print!("{}", json_text(&machine)?),
            false => machine.print(),
        }
        let broken = machine.broken();
        anyhow::ensure!(broken == 0, "{broken} devices failed their self-test");
        Ok(())
    }
}
