//! The work of a sweep that is left to do, determined from its folders.

use super::figures;
use super::plan::{Plan, Run};
use crate::run::RunState;

/// The runs without scores, and the untrained clean twins that they need.
pub(super) struct Left<'a> {
    pub runs: Vec<&'a Run>,
    pub twins: Vec<&'a str>,
}

impl<'a> Left<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let runs: Vec<&Run> =
            plan.runs.iter().filter(|run| figures::find(plan, run).is_none()).collect();
        let needed = |twin: &&str| {
            let trained = RunState::of_twin(&plan.out.join(twin)) == RunState::Done;
            !trained && runs.iter().any(|run| run.twin == **twin)
        };
        let twins = plan.twins().into_iter().filter(needed).collect();
        Self { runs, twins }
    }
}
