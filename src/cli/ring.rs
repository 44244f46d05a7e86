//! `lictor ring`: where a key belongs.

use super::exit::Exit;
use super::output;
use crate::decide::ring::hash::{jump, key_hash};
use serde::Serialize;
use std::num::NonZeroU32;

/// Ask the data ring
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Print the ordinal a key belongs to, for class "cache": xxh3_64, then jump hash
    Lookup(Lookup),
}

#[derive(clap::Args, Debug)]
struct Lookup {
    /// The key, as its bytes
    key: std::ffi::OsString,
    /// Among how many ordinals
    #[arg(short = 'n', long = "of", value_name = "N", value_parser = ordinals)]
    of: NonZeroU32,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    v: u32,
    key: std::borrow::Cow<'a, str>,
    /// As hexadecimal text: a number of 64 bits is more than JSON readers keep.
    hash: String,
    ordinal: u32,
    of: NonZeroU32,
}

fn ordinals(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<u32>().map(NonZeroU32::new) {
        Ok(Some(count)) => Ok(count),
        Ok(None) => Err("a ring of 0 ordinals holds no key; write 1 or more".to_owned()),
        Err(_) => Err(format!("write a whole number from 1 to {}", u32::MAX)),
    }
}

pub fn run(args: Args) -> Exit {
    let Command::Lookup(lookup) = args.command;
    let hash = key_hash(lookup.key.as_encoded_bytes());
    let ordinal = jump(hash, lookup.of);
    if !lookup.json {
        return output::answer(ordinal, Exit::Done);
    }
    let key = lookup.key.to_string_lossy();
    let hash = format!("{hash:016x}");
    output::json(&Found { v: 1, key, hash, ordinal, of: lookup.of }, Exit::Done)
}
