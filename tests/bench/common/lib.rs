//! What all benchmarks share: rounds that take turns, medians and ratios, the page the results are written to.
//! What is measured, and how, is the business of the program that measures it.

mod build;
mod goal;
mod machine;
mod page;
mod rounds;

pub use build::{artefact, compile};
pub use goal::{Bound, Goal, goals_table};
pub use machine::machine_line;
pub use page::{table, workspace, write_section};
pub use rounds::{Rounds, median};
