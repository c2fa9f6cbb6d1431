//! Everything that needs a file, a socket or a second process.

mod backends;
