//! What is left to do of a sweep, told from its folders.

use super::figures;
use super::plan::{Plan, Run};
use crate::run::RunState;

/// The runs that have no scores yet, and the clean twins that they need and nobody has trained.
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
