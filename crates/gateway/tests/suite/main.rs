//! A frontend's conversation with its build, over a real connection, with a build that is not one.

mod connection;
mod conversation;
mod fakes;
mod processes;
