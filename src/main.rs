//! Parse, run, exit code.

use lictor::cli::run_alone;
use lictor::decide::time::Span;
use std::ffi::OsString;
use std::time::Duration;

const STOP_TIMEOUT: Duration = Duration::from_secs(10);

fn main() {
    std::process::exit(dispatch(std::env::args_os().skip(1).collect()));
}

/// `run [--stop-timeout-ms N] -- CMD..` and, for tests, `debug-fence --kill-in-ms N -- CMD..`.
fn dispatch(args: Vec<OsString>) -> i32 {
    let split = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let command = args.iter().skip(split + 1).cloned().collect();
    let flag = |name: &str| {
        let at = args[..split].iter().position(|arg| arg == name)?;
        args.get(at + 1)?.to_str()?.parse().ok()
    };
    let stop_timeout = flag("--stop-timeout-ms").map_or(STOP_TIMEOUT, Duration::from_millis);
    match args.first().and_then(|arg| arg.to_str()) {
        Some("run") => run_alone::run(command, stop_timeout),
        Some("debug-fence") => {
            let kill_in = Span(flag("--kill-in-ms").unwrap_or(0));
            run_alone::debug_fence(command, stop_timeout, kill_in)
        }
        Some(_) | None => {
            eprintln!("usage: lictor run -- CMD");
            64
        }
    }
}
