//! What this crate draws by keyed chance. The numbers are part of every result: they never change.

use ssl_backdoor_rng::Purpose;

/// Which images of the target class are poisoned.
pub const PLAN: Purpose = Purpose::new(1);

/// Where the trigger goes on a training image.
pub const TRAIN_SPOT: Purpose = Purpose::new(2);

/// Where the trigger goes on a validation image.
pub const VAL_SPOT: Purpose = Purpose::new(3);

/// The colours of a trigger made from a seed.
pub const TRIGGER_COLORS: Purpose = Purpose::new(4);
