//! Checks of the `[poison]` table.

use std::sync::Arc;

use ssl_backdoor_fields::OutOfRange;

use super::PoisonConfig;
use crate::{Perturbation, Phase, Setup, TriggerError};

impl PoisonConfig {
    /// Checks everything that needs no data, for views and evaluation images of `view` pixels a side; triggers from
    /// files are read.
    ///
    /// # Errors
    /// Names the field, the value and what is allowed.
    pub fn check(&self, view: u32) -> Result<(), TriggerError> {
        self.selection(&[])?.check()?;
        self.check_select()?;
        let setup = Setup::new(view);
        let train = self.recipe(Phase::Training).build(Phase::Training, &setup)?;
        let patched = self.recipe(Phase::Evaluation).build(Phase::Evaluation, &setup);
        let fits = |patched: Arc<dyn Perturbation>| {
            patched.check(view, "the evaluation images").map(|()| patched)
        };
        let patched = patched.and_then(fits).map_err(|error| match self.val_width {
            Some(_) => error.of("val_width"),
            None => error,
        })?;
        self.check_patch()?;
        self.check_compose()?;
        if self.recompress && !(train.survives_jpeg() && patched.survives_jpeg()) {
            let allowed = "JPEG erases this trigger, it is exported as PNG: allowed is false";
            return Err(OutOfRange::new("recompress", true, allowed).into());
        }
        Ok(())
    }

    /// Checks the keys of patches.
    fn check_patch(&self) -> Result<(), TriggerError> {
        let given = [
            ("place", self.place.is_some()),
            ("val_place", self.val_place.is_some()),
            ("alpha", self.alpha.is_some()),
            ("val_alpha", self.val_alpha.is_some()),
            ("val_width", self.val_width.is_some()),
        ];
        if let (false, Some((field, _))) =
            (self.trigger.is_patch(), given.into_iter().find(|(_, given)| *given))
        {
            return Err(TriggerError::NotPasted { field });
        }
        for (field, place) in [("place", self.place), ("val_place", self.val_place)] {
            place.map_or(Ok(()), |place| place.check(field))?;
        }
        for (field, alpha) in [("alpha", self.alpha), ("val_alpha", self.val_alpha)] {
            if let Some(alpha) = alpha.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
                return Err(OutOfRange::new(field, alpha, "allowed are 0 to 1").into());
            }
        }
        Ok(())
    }

    /// Checks the rule that chooses the images.
    pub(super) fn check_select(&self) -> Result<(), TriggerError> {
        let Some(select) = &self.select else { return Ok(()) };
        if let Some(list) = &self.list {
            let allowed = "select chooses the images: set rate, dataset_rate or count";
            let list = format!("{:?}", list.display().to_string());
            return Err(OutOfRange::new("list", list, allowed).into());
        }
        select.check(self.target.is_some())
    }

    /// Checks the other settings that a composition depends on: `target` and `place`.
    fn check_compose(&self) -> Result<(), TriggerError> {
        let Some(compose) = &self.compose else { return Ok(()) };
        let kind = format!("\"{}\"", compose.kind());
        if self.target.is_none() {
            let allowed = "it uses images of the target class: set target";
            return Err(OutOfRange::new("compose.kind", kind, allowed).into());
        }
        if compose.places() && self.place.is_some() {
            let allowed = "it places the trigger beside the object: remove place";
            return Err(OutOfRange::new("compose.kind", kind, allowed).into());
        }
        Ok(())
    }

    /// Checks that training images of `native` pixels a side can be poisoned, where views have `view` pixels.
    ///
    /// # Errors
    /// Names the field, the value and what is allowed.
    pub fn check_native(&self, native: u32, view: u32) -> Result<(), TriggerError> {
        let train = self.recipe(Phase::Training).build(Phase::Training, &Setup::new(view))?;
        train.check(native, "the training images in their native size")
    }
}
