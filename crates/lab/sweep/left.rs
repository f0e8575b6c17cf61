//! The work of a sweep that is left to do, determined from its folders.

use super::figures;
use super::plan::{Plan, Run};
use crate::record::RunScores;
use crate::run::RunState;

/// The runs without scores, the untrained clean twins that they need, and the runs that are done.
pub(super) struct Left<'a> {
    pub runs: Vec<&'a Run>,
    pub twins: Vec<&'a str>,
    pub done: Vec<(&'a Run, RunScores)>,
}

impl<'a> Left<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let (mut runs, mut done) = (Vec::new(), Vec::new());
        for run in &plan.runs {
            match figures::find(plan, run) {
                Some(scores) => done.push((run, scores)),
                None => runs.push(run),
            }
        }
        let needed = |twin: &&str| {
            let trained = RunState::of_twin(&plan.out.join(twin)) == RunState::Done;
            !trained && runs.iter().any(|run| run.twin == **twin)
        };
        let twins = plan.twins().into_iter().filter(needed).collect();
        Self { runs, twins, done }
    }
}
