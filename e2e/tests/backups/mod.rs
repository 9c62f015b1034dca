//! Backups in an S3 server and in a folder: what is restored of them is what there was, whatever happened meanwhile to who made
//! them.

mod common;
mod continuous;
mod single;
