//! The claims of the paper as hypotheses, each with a figure, an interval, a p-value and a verdict.
//!
//! The unit is the pair of target and trigger: its figure is the mean over its training seeds. `docs/claims.md`
//! states what each claim tests and by which rule.

mod attack;
mod claim;
mod defence;
mod gate;
mod pairs;
#[cfg(test)]
mod tests;

pub(super) use claim::Claim;

use super::group::Group;

/// The claims about the paper's attack (the patch) that the runs of `groups` can test: those about the attack if
/// every method has one setting, those about the defence for each setting with a defence.
pub(super) fn claims(groups: &[Group<'_>]) -> Vec<Claim> {
    let of_paper = |g: &&Group<'_>| g.setting.targeted && g.setting.is_of_paper();
    let attacked: Vec<&Group<'_>> =
        groups.iter().filter(of_paper).filter(|g| g.defended().is_empty()).collect();
    let mut seen = Vec::new();
    let one_each = attacked.iter().all(|group| {
        let new = !seen.contains(&&group.setting.method);
        seen.push(&group.setting.method);
        new
    });
    let mut claims = Vec::new();
    if one_each {
        claims.extend(gate::claim(&attacked));
        claims.extend(attack::claims(&attacked));
    }
    let defended: Vec<&Group<'_>> =
        groups.iter().filter(of_paper).filter(|g| !g.defended().is_empty()).collect();
    claims.extend(defence::claims(&defended));
    claims
}
