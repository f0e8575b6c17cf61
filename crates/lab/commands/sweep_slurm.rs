//! The options of `sweep` for Slurm.

use clap::Args;

use crate::SlurmOptions;

/// How a sweep is handed to Slurm.
#[derive(Debug, Args)]
#[command(next_help_heading = "Slurm")]
pub struct SlurmArgs {
    /// Submit the sweep to Slurm in place of running it here: an array job with a task for each clean twin, one
    /// with a task for each run, and a job that writes the tables. A task that Slurm pre-empts, or whose time
    /// is up, saves a checkpoint and goes back into the queue.
    #[arg(long, conflicts_with_all = ["jobs", "devices", "dry_run"])]
    pub slurm: bool,
    /// Only print the job scripts.
    #[arg(long, requires = "slurm")]
    print: bool,
    /// Partition of the cluster.
    #[arg(long, value_name = "NAME", requires = "slurm")]
    partition: Option<String>,
    /// Time limit of a task, for example 8:00:00; a training may take several.
    #[arg(long, value_name = "LIMIT", requires = "slurm")]
    time: Option<String>,
    /// Generic resources of a task, for example gpu:1.
    #[arg(long, value_name = "LIST", requires = "slurm")]
    gres: Option<String>,
    /// Account that is charged.
    #[arg(long, value_name = "NAME", requires = "slurm")]
    account: Option<String>,
    /// Quality of service.
    #[arg(long, value_name = "NAME", requires = "slurm")]
    qos: Option<String>,
    /// Features that the nodes must have, for example avx512: a CPU with other instructions gives other bytes.
    #[arg(long, value_name = "LIST", requires = "slurm")]
    constraint: Option<String>,
    /// Cores of a task.
    #[arg(long, value_name = "N", requires = "slurm")]
    cpus_per_task: Option<usize>,
    /// Memory of a task, for example 16G.
    #[arg(long, value_name = "SIZE", requires = "slurm")]
    mem: Option<String>,
    /// Tasks of an array that run at the same time.
    #[arg(long, value_name = "N", requires = "slurm")]
    max_parallel: Option<usize>,
    /// Seconds before the time limit at which a task saves and goes back into the queue.
    #[arg(long, value_name = "SECONDS", default_value = "120", requires = "slurm")]
    grace: u32,
    /// Any other option of sbatch, for example --sbatch=--mail-type=FAIL; may be repeated.
    #[arg(long = "sbatch", value_name = "OPTION", requires = "slurm", allow_hyphen_values = true)]
    others: Vec<String>,
}

impl SlurmArgs {
    /// The options of `sbatch`.
    pub fn options(self) -> SlurmOptions {
        let named = |name: &str, value: Option<String>| Some(format!("--{name}={}", value?));
        let all = [
            named("partition", self.partition),
            named("account", self.account),
            named("qos", self.qos),
            named("constraint", self.constraint),
        ];
        let tasks = [
            named("time", self.time),
            named("gres", self.gres),
            named("cpus-per-task", self.cpus_per_task.map(|cores| cores.to_string())),
            named("mem", self.mem),
        ];
        SlurmOptions {
            all: all.into_iter().flatten().chain(self.others).collect(),
            tasks: tasks.into_iter().flatten().collect(),
            max_parallel: self.max_parallel,
            grace: self.grace,
            print: self.print,
        }
    }
}
