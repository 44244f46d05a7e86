//! The life of a lictor process:
//!
//! * parse the arguments; wrong ones end it with code 64;
//! * read and check the configuration: defaults, file, environment, flags; wrong ones end it with
//!   code 64;
//! * commands that only ask: ask, print, end;
//! * `run`: fork. The parent is the guard and stays one small process without threads, allocations
//!   or I/O; the child is the sidecar. All of the above happens before the first thread exists, so
//!   that the fork copies no lock;
//! * the sidecar starts its log, then its one-threaded runtime;
//! * without a cluster it starts and supervises the application until that ends;
//! * with one it reads `state/config` from Consul, checks again, joins, and leads or follows until
//!   it is told to stop;
//! * it ends when the last process of the application's tree is gone, with the application's own
//!   exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lictor::cli::main()
}
