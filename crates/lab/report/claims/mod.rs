//! The claims of the paper as hypotheses, each with a figure, an interval, a p-value and a verdict.
//!
//! The unit is the pair of target and trigger: its figure is the mean over its training seeds. `docs/claims.md`
//! states what each claim tests and by which rule.

mod attack;
mod claim;
mod defence;
mod dose;
mod gate;
mod newer;
mod pairs;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_dose;

pub(super) use claim::Claim;

use super::group::Group;

/// Whether it is the paper's attack.
fn of_paper(group: &&Group<'_>) -> bool {
    group.setting.targeted && group.setting.is_of_paper()
}

/// The settings that the claims about the attack are about.
pub(super) fn attacked<'a>(groups: &'a [Group<'a>]) -> Vec<&'a Group<'a>> {
    groups.iter().filter(of_paper).filter(|group| group.defended().is_empty()).collect()
}

/// A method that was attacked in several settings, to which a claim about the method does not apply; none if there is
/// no such method.
pub(super) fn several_settings<'a>(groups: &'a [Group<'a>]) -> Option<&'a str> {
    let methods: Vec<&str> =
        attacked(groups).into_iter().map(|group| group.setting.method.as_str()).collect();
    let twice = |(i, method): (usize, &&str)| methods[..i].contains(method);
    methods.iter().enumerate().find(|place| twice(*place)).map(|(_, method)| *method)
}

/// The claims about the paper's attack (the patch) that the runs of `groups` can test: those about the attack if
/// every method has one setting, those about the dose if only the dose varies, those about newer methods if they are
/// there, and those about the defence for each setting with a defence.
pub(super) fn claims<'a>(groups: &'a [Group<'a>]) -> Vec<Claim> {
    let mut claims = Vec::new();
    let attacked = attacked(groups);
    if several_settings(groups).is_none() {
        claims.extend(gate::claim(&attacked));
        claims.extend(attack::claims(&attacked));
    }
    claims.extend(dose::claims(&attacked));
    claims.extend(newer::claims(&attacked));
    let defended: Vec<&Group<'_>> =
        groups.iter().filter(of_paper).filter(|g| !g.defended().is_empty()).collect();
    claims.extend(defence::claims(&defended));
    claims
}
