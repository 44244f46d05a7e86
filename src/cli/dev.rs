//! `lictor dev`: a store that speaks Consul's HTTP and keeps nothing.

use super::exit::Exit;
use super::output;
use crate::dev::{Dev, Error};
use crate::http::BindError;
use crate::process::clock;
use crate::process::signals::Signals;
use std::net::SocketAddr;

/// Serve what lictor needs of Consul from memory, for trying and testing; it keeps nothing
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8500")]
    listen: SocketAddr,
    /// The name of its one node, as the catalog tells it
    #[arg(long, value_name = "NAME", default_value = "dev", value_parser = node)]
    node: String,
}

fn node(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let good = !text.is_empty() && text.len() <= 63 && text.chars().all(plain);
    let bad = || "1 to 63 letters, digits and dashes, as in a host name".to_owned();
    good.then(|| text.to_owned()).ok_or_else(bad)
}

pub fn run(args: Args) -> Exit {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            return output::error(
                format_args!("cannot start the event loop: {error}"),
                Exit::Failed,
            );
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, serve(args))
}

async fn serve(args: Args) -> Exit {
    let mut signals = match Signals::of_stop() {
        Ok(signals) => signals,
        Err(error) => {
            return output::error(format_args!("cannot receive signals: {error}"), Exit::Failed);
        }
    };
    let dev = match Dev::bind(args.listen, &args.node, clock::now).await {
        Ok(dev) => dev,
        Err(error) => {
            let exit = match &error {
                Error::Bind(BindError::Other { .. }) | Error::NoRandom(_) => Exit::Failed,
                Error::Bind(_) => Exit::Usage,
            };
            return output::error(error, exit);
        }
    };
    let addr = dev.addr();
    for line in [
        "WARNING: this is no Consul. It keeps NOTHING: all keys, sessions and services are in",
        "WARNING: the memory of this process and are gone when it ends, and there is only one of",
        "WARNING: it. For trying and testing lictor; never for data that anybody wants back.",
    ] {
        output::error(line, Exit::Done);
    }
    output::error(format_args!("speaks Consul's HTTP at {addr}"), Exit::Done);
    tokio::select! {
        () = dev.run() => Exit::Failed,
        stopped = signals.next() => match stopped {
            Ok(_) => output::error("stopped; what it held is gone", Exit::Done),
            Err(error) => {
                output::error(format_args!("cannot receive signals: {error}"), Exit::Failed)
            }
        }
    }
}
