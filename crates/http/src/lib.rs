//! The public API: routes, headers and errors of the contract over hyper.
//!
//! What it keeps true: nothing that a client sends is believed before it is checked, and no request holds more memory
//! or time than its [`Limits`] say. It decides nothing about data: a request becomes an
//! [`annulus_coordinator::Request`], and the node's reply becomes a status, headers and a body.
//!
//! Everything runs on the one thread that calls [`serve`]: no locks, no hand-over between threads.

mod activity;
mod body;
mod conditions;
mod connection;
mod gate;
mod limits;
mod listing;
mod metrics;
mod parameters;
mod percent;
mod problem;
mod request_head;
mod response;
mod route;
mod routes;
mod server;
mod siblings;

pub use limits::Limits;
pub use server::{Service, serve};
