//! PID 1: guard, spawn, the one reaper, signals, kill of a whole tree, hooks.
