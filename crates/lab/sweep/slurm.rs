//! `sweep --slurm`: submits the runs of a sweep to Slurm: two array jobs, the clean twins and the runs that use them,
//! and a job that collects the figures; each begins when all of the one before has ended. Slurm does the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::counted::counted;
use super::job::SweepJob;
use super::plan::{Plan, Run, SweepSource};
use super::slurm_script::{Script, Scripts, SlurmOptions};
use super::submission::Submission;
use super::{figures, makers, on_each_device, split};
use crate::config::ConfigError;
use crate::device;
use crate::record::write_whole;

/// Submits the remaining work of the sweep `source`, or only prints the scripts.
///
/// # Errors
/// A [`ConfigError`] if the file, the config of a run or an option is wrong; the sweep is in the queue already, or Slurm
/// refuses a job.
pub fn submit_sweep(source: &SweepSource, options: &SlurmOptions) -> Result<()> {
    let plan = Plan::read(source)?;
    if options.max_parallel == Some(0) {
        return Err(
            ConfigError("--max-parallel 0 runs nothing: allowed are 1 or more".into()).into()
        );
    }
    on_each_device(&plan, device::check_compiled)?;
    warn_of_unused_gpus(&plan, options);
    let absolute = |path: &Path| {
        std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
    };
    let out = absolute(&plan.out)?;
    let folder = Submission::folder(&out);
    let scripts = Scripts {
        sweep: &plan.name,
        program: std::env::current_exe().context("cannot find the path of this program")?,
        here: absolute(Path::new("."))?,
        logs: folder.clone(),
        options,
    };
    let todo = plan.runs.iter().filter(|run| figures::find(&plan, run).is_none());
    let todo: Vec<&Run> = todo.collect();
    if todo.is_empty() {
        println!("Every run is done. Write the tables: ssl-backdoor sweep {source} --collect");
        return Ok(());
    }
    let jobs = SweepJob::all(&plan, &todo, &out)?;
    let scripts =
        all(&scripts, &jobs, &SweepSource { file: absolute(&source.file)?, ..source.clone() })?;
    if options.print {
        for Script { name, text } in scripts {
            println!("# {}\n{text}", folder.join(format!("{name}.sh")).display());
        }
        return Ok(());
    }
    let (_, done) = split(&plan)?;
    // The nodes of a cluster may have other CPU instructions than this machine.
    makers::check(&plan, &todo, &done, true)?;
    if let Some(before) = Submission::read(&out).filter(is_in_queue) {
        let ids = before.ids(" ");
        bail!(
            "the sweep {} is in the queue already as jobs {ids}: wait for them, or end them with `scancel {ids}`",
            plan.name
        );
    }
    jobs.iter().try_for_each(SweepJob::prepare)?;
    let submitted = submit(&scripts, &out)?;
    say(source, &submitted, jobs.len() - todo.len(), todo.len());
    Ok(())
}

/// Whether an option of `sbatch` reserves GPUs.
fn reserves_gpus(option: &str) -> bool {
    let (name, value) = option.split_once(['=', ' ']).unwrap_or((option, ""));
    // `gpu`, `gpu:2`, `gpu:a100:2`, or only `2` and `a100:2`.
    let some = |resource: &str| !resource.is_empty() && resource.rsplit(':').next() != Some("0");
    let among = |prefix: &str| {
        value
            .split(',')
            .filter_map(|resource| resource.strip_prefix(prefix))
            .any(|rest| rest.is_empty() || rest.strip_prefix([':', '=']).is_some_and(some))
    };
    match name {
        "--gres" => among("gpu"),
        "--tres-per-task" => among("gres/gpu") || among("gres:gpu"),
        "-G" | "--gpus" | "--gpus-per-node" | "--gpus-per-task" | "--gpus-per-socket" => {
            some(value)
        }
        short => short.strip_prefix("-G").is_some_and(some),
    }
}

/// Warns if the tasks reserve GPUs and a run does not use them.
fn warn_of_unused_gpus(plan: &Plan, options: &SlurmOptions) {
    let Some(option) = options.tasks.iter().chain(&options.all).find(|o| reserves_gpus(o)) else {
        return;
    };
    if let Some(run) = plan.runs.iter().find(|run| device::is_cpu(&run.experiment.device)) {
        eprintln!(
            "warning: {option} reserves GPUs, but {} has device = \"{}\", which computes on the CPU; \
             --set device=cuda uses a GPU",
            run.name, run.experiment.device
        );
    }
}

/// Prints what was submitted, and how to watch and end it.
fn say(source: &SweepSource, submitted: &Submission, twins: usize, runs: usize) {
    println!(
        "Submitted: {} as job {}, {} as job {}, the tables as job {}.",
        counted(twins, "clean twin"),
        submitted.twins,
        counted(runs, "run"),
        submitted.runs,
        submitted.collect
    );
    println!("Watch: ssl-backdoor sweep {source} --status");
    println!("Queue: squeue --jobs={}", submitted.ids(","));
    println!("End:   scancel {}", submitted.ids(" "));
}

/// The three scripts of `jobs`, in the order in which they are submitted.
fn all(
    scripts: &Scripts<'_>,
    jobs: &[SweepJob],
    source: &SweepSource,
) -> Result<[Script; 3], ConfigError> {
    let (runs, twins): (Vec<&SweepJob>, Vec<&SweepJob>) =
        jobs.iter().partition(|job| job.needs.is_some());
    Ok([scripts.array("twins", &twins)?, scripts.array("runs", &runs)?, scripts.collect(source)?])
}

/// Writes and submits the scripts. Each begins when the one before has ended, successfully or not: a run whose twin
/// failed reports that, and the others continue.
fn submit(scripts: &[Script; 3], out: &Path) -> Result<Submission> {
    let folder = Submission::folder(out);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut ids: Vec<String> = Vec::new();
    for Script { name, text } in scripts {
        let path = folder.join(format!("{name}.sh"));
        write_whole(&path, text.as_bytes())?;
        let after = ids.last().map(|id| format!("--dependency=afterany:{id}"));
        match sbatch(&path, after.as_deref()) {
            Ok(id) => ids.push(id),
            Err(error) => {
                if !ids.is_empty() {
                    // Jobs that cannot be cancelled are still visible in the queue.
                    let _ = Command::new("scancel").args(&ids).status();
                }
                return Err(error);
            }
        }
    }
    let [twins, runs, collect] = <[String; 3]>::try_from(ids)
        .map_err(|ids| anyhow::anyhow!("{} jobs in place of three", ids.len()))?;
    let submission = Submission { twins, runs, collect };
    submission.write(out)?;
    Ok(submission)
}

/// Submits one script and returns the job's id.
fn sbatch(script: &PathBuf, after: Option<&str>) -> Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(after).arg(script);
    let output = command.output().context(
        "cannot start `sbatch`: is this a machine of a Slurm cluster? `--print` shows the scripts without it",
    )?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("Slurm refuses {}: {}", script.display(), said.trim());
    }
    // `ID`, or `ID;CLUSTER`.
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_owned())
}

/// Whether a job of `submission` is waiting or running. Slurm soon forgets those that have ended.
fn is_in_queue(submission: &Submission) -> bool {
    let mut command = Command::new("squeue");
    command.args(["--noheader", "--format=%i"]).arg(format!("--jobs={}", submission.ids(",")));
    command.output().is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_reserve_gpus_are_known() {
        for option in [
            "--gres=gpu:1",
            "--gres=shard:2,gpu",
            "--gres=gpu:a100:2",
            "--tres-per-task=cpu=2,gres/gpu:1",
            "--tres-per-task=gres/gpu=1",
            "--gpus=2",
            "--gpus-per-node=a100:4",
            "-G 1",
            "-G1",
        ] {
            assert!(reserves_gpus(option), "{option}");
        }
        for option in [
            "--gres=shard:2",
            "--gres=gpumem:1",
            "--gres=gpu:0",
            "--gpus=0",
            "-G0",
            "-G 0",
            "--gpu-bind=none",
            "--partition=gpu",
            "--mem=4G",
        ] {
            assert!(!reserves_gpus(option), "{option}");
        }
    }
}
