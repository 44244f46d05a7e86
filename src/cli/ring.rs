//! `lictor ring`: where a key belongs.
//!
//! With `-n` the question is arithmetic and needs no cluster; without, the ordinals are the
//! cluster's members sorted by name.

use super::client::{self, Client, Failure};
use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
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
    /// Print where a key belongs, for class "cache": xxh3_64, then jump hash
    Lookup(Lookup),
}

#[derive(clap::Args, Debug)]
struct Lookup {
    /// The key, as its bytes
    key: std::ffi::OsString,
    /// Among how many ordinals [default: the cluster's members, sorted by name]
    #[arg(short = 'n', long = "of", value_name = "N", value_parser = ordinals)]
    of: Option<NonZeroU32>,
    #[command(flatten)]
    config: ConfigArgs,
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
    /// The member of that ordinal, where members were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
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
    let question = Question { key: lookup.key, json: lookup.json };
    match lookup.of {
        Some(of) => question.answer(of, None),
        None => client::with(lookup.config, move |client| async move {
            let names = members(&client).await?;
            let count = u32::try_from(names.len()).ok().and_then(NonZeroU32::new);
            let none = || Failure("the cluster has no members yet".into(), Exit::Failed);
            Ok(question.answer(count.ok_or_else(none)?, Some(&names)))
        }),
    }
}

/// The members' names, sorted.
async fn members(client: &Client) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> =
        client.look().await?.members.iter().map(|member| member.node.to_string()).collect();
    names.sort_unstable();
    Ok(names)
}

struct Question {
    key: std::ffi::OsString,
    json: bool,
}

impl Question {
    fn answer(&self, of: NonZeroU32, names: Option<&[String]>) -> Exit {
        let hash = key_hash(self.key.as_encoded_bytes());
        let ordinal = jump(hash, of);
        let node = names.and_then(|names| names.get(ordinal as usize)).cloned();
        if !self.json {
            return match node {
                Some(node) => output::answer(node, Exit::Done),
                None => output::answer(ordinal, Exit::Done),
            };
        }
        let key = self.key.to_string_lossy();
        let hash = format!("{hash:016x}");
        output::json(&Found { v: 1, key, hash, ordinal, of, node }, Exit::Done)
    }
}
