//! CompReSS distillation, the defence.
