//! `lictor config set`: one setting of the cluster, in Consul.

use super::write::{Stands, TRIES, Wrote, bad};
use crate::cli::client::{self, Client, Failure};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::settings::ConfigArgs;
use crate::config;
use serde_json::json;

/// Set or remove one setting of the cluster in Consul (state/config)
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The setting, such as lease, timeouts.sync or priorities.n1
    #[arg(value_name = "KEY")]
    key: String,
    /// Its value; lists and tables as in TOML
    #[arg(value_name = "VALUE", required_unless_present = "unset", allow_hyphen_values = true)]
    value: Option<String>,
    /// Remove it: the default holds again
    #[arg(long, conflicts_with = "value")]
    unset: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Exit {
    let (key, value, json) = (args.key, args.value, args.json);
    client::with(args.config, move |client| async move {
        let done = change(&client, &key, value.as_deref()).await?;
        Ok(if json {
            output::json(&json!({"v": 1, "key": key, "changed": done}), Exit::Done)
        } else if done {
            output::answer(
                format_args!("{key} is written; nodes take it within moments"),
                Exit::Done,
            )
        } else {
            output::answer(format_args!("{key} is so already"), Exit::Done)
        })
    })
}

/// Whether anything had to be written.
async fn change(client: &Client, key: &str, value: Option<&str>) -> Result<bool, Failure> {
    for _ in 0..TRIES {
        let stands = Stands::look(client).await?;
        let old = stands.text()?;
        let new = match value {
            Some(value) => config::set(old, key, value),
            None => config::unset(old, key),
        };
        let new = new.map_err(bad)?;
        stands.judge(&new)?;
        if new == old {
            return Ok(false);
        }
        if stands.write(client, &new).await? == Wrote::Done {
            return Ok(true);
        }
    }
    let text = format!("state/config changed {TRIES} times meanwhile; try again");
    Err(Failure(text, Exit::Failed))
}
