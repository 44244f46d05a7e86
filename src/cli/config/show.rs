//! `lictor config show`: every setting as it is in force here, and where it comes from.

use super::write::Stands;
use crate::cli::client::{self, Client, Failure};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::settings::ConfigArgs;
use crate::config::{self, Config, Effective, Layers, Purpose};
use serde_json::{Value, json};

/// Show every setting in force here; secrets are not shown
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Say where each value comes from: default, KV, file, environment or flag
    #[arg(long)]
    origin: bool,
    /// The text of state/config in Consul as it stands, and nothing else
    #[arg(long, conflicts_with = "origin")]
    kv: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// What was found out about KV.
enum Kv {
    Text(Option<String>),
    /// Not asked for: no cluster is named.
    Apart,
    /// Not known, or not usable: what is shown is without it.
    Without(String),
}

pub fn run(args: Args) -> Exit {
    if args.kv {
        return client::with(
            args.config,
            move |client| async move { raw(&client, args.json).await },
        );
    }
    let load = args.config.clone().load_args(Purpose::Show, Vec::new());
    let loaded = Layers::read(&load).and_then(|layers| Ok((layers.config(None)?, layers)));
    let (config, layers) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return output::error(error, Exit::Usage),
    };
    let kv = if config.local.cluster.is_none() { Kv::Apart } else { ask(&config) };
    let (text, without) = match kv {
        Kv::Text(text) => (text, None),
        Kv::Apart => (None, None),
        Kv::Without(why) => (None, Some(why)),
    };
    // What does not hold together with KV is shown without it, and said.
    let (config, text, without) = match layers.config(text.as_deref()) {
        Ok(config) => (config, text, without),
        Err(error) => (config, None, Some(error.to_string())),
    };
    let rows = match layers.all(&config, text.as_deref()) {
        Ok(rows) => rows,
        Err(error) => return output::error(error, Exit::Usage),
    };
    let exit = if without.is_some() { Exit::Failed } else { Exit::Done };
    if args.json {
        let value = json!({"v": 1, "settings": rows, "without_kv": without});
        return output::json(&value, exit);
    }
    if let Some(why) = &without {
        output::error(format_args!("state/config is left out: {why}"), exit);
    }
    let lines: Vec<String> = rows.iter().map(|row| line(row, args.origin)).collect();
    output::answer(lines.join("\n"), exit)
}

/// As a line of a file: what is not set is a comment.
fn line(row: &Effective, origin: bool) -> String {
    let text = match &row.value {
        Some(value) => format!("{} = {}", row.name, toml_of(value)),
        None => format!("# {}: {}", row.name, row.shown().replace('`', "")),
    };
    if origin { format!("{text:<44} # {}", row.origin) } else { text }
}

fn toml_of(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}

fn ask(config: &Config) -> Kv {
    let found = client::ask_once(config, |client| async move {
        let stands = Stands::look(&client).await?;
        let text = (!stands.bytes.is_empty()).then(|| stands.text().map(str::to_owned));
        text.transpose()
    });
    match found {
        Ok(text) => Kv::Text(text),
        Err(Failure(why, _)) => Kv::Without(why),
    }
}

async fn raw(client: &Client, json: bool) -> Result<Exit, Failure> {
    let stands = Stands::look(client).await?;
    let text = String::from_utf8_lossy(&stands.bytes);
    if json {
        let there = stands.index.0 > 0;
        let text = there.then_some(text);
        return Ok(output::json(&json!({"v": 1, "index": stands.index, "text": text}), Exit::Done));
    }
    let verdict = config::kv_text(&stands.bytes);
    let exit = if verdict.is_ok() { Exit::Done } else { Exit::Failed };
    Ok(output::answer(text.trim_end_matches('\n'), exit))
}
