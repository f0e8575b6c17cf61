//! The job scripts of a sweep: an array with one process per task, and the job that collects the figures.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::job::SweepJob;
use super::plan::SweepSource;
use crate::config::ConfigError;
use crate::run::{GRACE, TRY_AGAIN};
use crate::shell::{is_safe, word};

/// Options of the jobs.
#[derive(Debug, Clone, Default)]
pub struct SlurmOptions {
    /// Options of `sbatch` for every job, such as `--partition=main`.
    pub all: Vec<String>,
    /// Options only for the tasks that train, such as `--gres=gpu:1`.
    pub tasks: Vec<String>,
    /// Largest number of an array's tasks that run at the same time; none = all that the cluster has room for.
    pub max_parallel: Option<usize>,
    /// Seconds before the end of the time limit at which a task is told to save.
    pub grace: u32,
    /// Only print the scripts; nothing is written or submitted.
    pub print: bool,
}

/// A job script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// Name of its file, without `.sh`.
    pub name: &'static str,
    pub text: String,
}

/// The data that all scripts of a sweep share. Paths are absolute.
pub(super) struct Scripts<'a> {
    /// Name of the sweep.
    pub sweep: &'a str,
    /// This program.
    pub program: PathBuf,
    /// The folder that paths in configs are relative to.
    pub here: PathBuf,
    /// The folder of the logs.
    pub logs: PathBuf,
    pub options: &'a SlurmOptions,
}

/// The commands of a task, after `$folder`, `$option` and `$value` are set. The shell passes on signals to the
/// program. A task that ended because the scheduler asked for it, or that the signal killed before it listened, is
/// requeued unless the job was cancelled. The task has to be named: the id of an array's last task is the array's.
const TASK: &str = r#"threads=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}
export RAYON_NUM_THREADS=$threads @variable=@seconds
srun --ntasks=1 --cpus-per-task="$threads" @program run "$folder/config.toml" --out "$folder" \
    "$option" "$value" --set "workers=$threads" >> "$folder/log.txt" 2>&1 &
step=$!
# The program saves a checkpoint when it gets a signal.
trap 'kill -USR1 "$step"' USR1
trap 'kill -TERM "$step"' TERM
wait "$step"
status=$?
while kill -0 "$step" 2> /dev/null; do
    wait "$step"
    status=$?
done
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
case $status in
@again | 138 | 143) # asked to make room
    if scontrol show job "$task" | grep -q JobState=RUNNING; then
        echo "$folder: back into the queue"
        scontrol requeue "$task"
    fi
    ;;
0) echo "$folder: done" ;;
*)
    echo "$folder: FAILED with status $status; the end of $folder/log.txt:"
    tail -n 6 "$folder/log.txt"
    ;;
esac
exit "$status"
"#;

impl Scripts<'_> {
    /// The array job `name` of `jobs`: one task for each.
    ///
    /// # Errors
    /// A path or an option cannot be written in a script.
    pub fn array(&self, name: &'static str, jobs: &[&SweepJob]) -> Result<Script, ConfigError> {
        let mut text = self.head(name, &format!("{name}-%A_%a.log"), &self.options.tasks)?;
        let last = jobs.len().saturating_sub(1);
        let throttle = self.options.max_parallel.map_or(String::new(), |most| format!("%{most}"));
        text += &format!("#SBATCH --array=0-{last}{throttle}\n#SBATCH --requeue\n");
        text += &format!("#SBATCH --signal=USR1@{}\n", self.options.grace);
        text += "\ncase $SLURM_ARRAY_TASK_ID in\n";
        for (task, job) in jobs.iter().enumerate() {
            let words =
                [&job.folder, &job.option[0], &job.option[1]].map(|word| quoted(plain(word)?));
            let [folder, option, value] = words;
            text += &format!("{task}) folder={} option={} value={} ;;\n", folder?, option?, value?);
        }
        text += "*) echo \"there is no task $SLURM_ARRAY_TASK_ID\"; exit 2 ;;\nesac\n";
        let program = quoted(plain(&self.program)?)?;
        // Some seconds are left for the shell to put the task back into the queue.
        let seconds = self.options.grace.saturating_sub(30).max(1);
        text += &TASK
            .replace("@program", &program)
            .replace("@again", &TRY_AGAIN.to_string())
            .replace("@variable", GRACE)
            .replace("@seconds", &seconds.to_string());
        Ok(Script { name, text })
    }

    /// The job that collects the figures of the sweep `source`.
    ///
    /// # Errors
    /// A path or an option cannot be written in a script.
    pub fn collect(&self, source: &SweepSource) -> Result<Script, ConfigError> {
        let mut text = self.head("collect", "collect-%j.log", &[])?;
        let program = quoted(plain(&self.program)?)?;
        text += &format!("\n{program} sweep {} --collect", quoted(plain(&source.file)?)?);
        for set in &source.sets {
            text += &format!(" --set {}", quoted(set)?);
        }
        for (option, folder) in source.folders() {
            text += &format!(" {option} {}", quoted(plain(folder)?)?);
        }
        text.push('\n');
        Ok(Script { name: "collect", text })
    }

    /// The first lines of a script, whose output goes to `log`, with the options of all jobs and `more`.
    fn head(&self, name: &str, log: &str, more: &[String]) -> Result<String, ConfigError> {
        // In the name of a log, % starts a field.
        let log = format!("{}/{log}", plain(&self.logs)?.replace('%', "%%"));
        let here = plain(&self.here)?;
        let mut text = String::from("#!/bin/bash\n");
        let own = [
            format!("--job-name={}-{name}", self.sweep),
            format!("--output={log}"),
            format!("--chdir={here}"),
            "--open-mode=append".into(),
            "--nodes=1".into(),
            "--ntasks=1".into(),
        ];
        for option in own.iter().chain(&self.options.all).chain(more) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let value =
                if value.is_empty() { String::new() } else { format!("={}", argument(value)?) };
            // Writing to a string does not fail.
            let _ = writeln!(text, "#SBATCH {key}{value}");
        }
        Ok(text)
    }
}

/// A path as text.
fn plain(path: &Path) -> Result<&str, ConfigError> {
    path.to_str().ok_or_else(|| {
        let shown = path.display();
        ConfigError(format!("{shown}: a job script can hold only paths that are UTF-8"))
    })
}

/// `text` as one word of a shell, quoted if necessary.
fn quoted(text: &str) -> Result<String, ConfigError> {
    one_line(text)?;
    Ok(word(text))
}

/// `text` as the value of an option in a line that `sbatch` reads, quoted if necessary.
fn argument(text: &str) -> Result<String, ConfigError> {
    one_line(text)?;
    let escaped = || text.replace('\\', r"\\").replace('"', "\\\"");
    Ok(if is_safe(text) { text.into() } else { format!("\"{}\"", escaped()) })
}

fn one_line(text: &str) -> Result<(), ConfigError> {
    if text.contains(char::is_control) {
        return Err(ConfigError(format!("{text:?}: a job script can hold no control characters")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_meaning_in_a_shell() {
        for word in ["plain", "a b", "it's", "$HOME `id` \"x\" \\", "*?[a]", "", "ü"] {
            let line = format!("printf %s {}", quoted(word).unwrap());
            let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert!(quoted("a\nb").unwrap_err().to_string().contains("control characters"));
    }

    #[test]
    fn an_option_stays_on_its_line() {
        assert_eq!(argument("gpu:a100:1").unwrap(), "gpu:a100:1");
        assert_eq!(argument("node[1-3]").unwrap(), "node[1-3]");
        assert_eq!(argument(r#"a "b" \c"#).unwrap(), r#""a \"b\" \\c""#);
        assert!(argument("x\n#SBATCH --uid=0").is_err());
    }
}
