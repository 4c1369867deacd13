//! Each promise is broken once by hand; a naive twin says the same of random histories; a correct store breaks none.
#![allow(clippy::unwrap_used)]

mod arbitrary;
mod lines;
mod naive;
mod planted;
mod script;
mod store;
