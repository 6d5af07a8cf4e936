//! Cache volumes as builds see them: real clients, a real daemon, steps that meet at gates which the test
//! opens. Nothing here waits for a clock.

mod failure;
mod fresh;
mod limits;
mod names;
mod processes;
mod queue;
mod sharing;
mod warm;
